# Finds LibTorch without a CUDA toolkit: Torch's own package demands one for CUDA builds, although code that
# calls only ATen needs no CUDA header. Sets LibTorch_ROOT, LibTorch_VERSION, LibTorch_HAS_CUDA and the target
# LibTorch::LibTorch. Looked for in this order: Torch_DIR (cache or environment, the folder of
# TorchConfig.cmake), the `torch` package of the active Python, the one of ./.venv.

function(_libtorch_from_python interpreter result)
  execute_process(
    COMMAND "${interpreter}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    set(folder "")
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

set(_libtorch_root "")
if(NOT Torch_DIR AND DEFINED ENV{Torch_DIR})
  set(Torch_DIR "$ENV{Torch_DIR}")
endif()
if(Torch_DIR)
  get_filename_component(_libtorch_root "${Torch_DIR}/../../.." ABSOLUTE)
  set(_libtorch_origin "Torch_DIR")
else()
  find_program(_libtorch_python NAMES python3 python NO_CACHE)
  if(_libtorch_python)
    _libtorch_from_python("${_libtorch_python}" _libtorch_root)
    set(_libtorch_origin "the active Python")
  endif()
  if(NOT _libtorch_root AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
    _libtorch_from_python("${PROJECT_SOURCE_DIR}/.venv/bin/python" _libtorch_root)
    set(_libtorch_origin ".venv")
  endif()
endif()

set(LibTorch_VERSION "")
foreach(_libtorch_file version.py build-version)  # a wheel has the first, a LibTorch archive the second
  if(NOT LibTorch_VERSION AND EXISTS "${_libtorch_root}/${_libtorch_file}")
    file(STRINGS "${_libtorch_root}/${_libtorch_file}" _libtorch_line LIMIT_COUNT 1 REGEX "[0-9]+[.][0-9]+[.][0-9]+")
    string(REGEX MATCH "[0-9]+[.][0-9]+[.][0-9]+" LibTorch_VERSION "${_libtorch_line}")
  endif()
endforeach()

foreach(name torch torch_cpu c10)
  find_library(_libtorch_${name} NAMES ${name} PATHS "${_libtorch_root}/lib" NO_DEFAULT_PATH NO_CACHE)
endforeach()
foreach(name torch_cuda c10_cuda)
  find_library(_libtorch_${name} NAMES ${name} PATHS "${_libtorch_root}/lib" NO_DEFAULT_PATH NO_CACHE)
endforeach()
set(LibTorch_ROOT "${_libtorch_root}")
set(LibTorch_HAS_CUDA FALSE)
if(_libtorch_torch_cuda)
  set(LibTorch_HAS_CUDA TRUE)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_ROOT _libtorch_torch _libtorch_torch_cpu _libtorch_c10
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup, activate a Python that has torch, or pass -DTorch_DIR=.../share/cmake/Torch")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  message(STATUS "LibTorch ${LibTorch_VERSION} from ${_libtorch_origin}, CUDA build: ${LibTorch_HAS_CUDA}")
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch INTERFACE
    "${LibTorch_ROOT}/include" "${LibTorch_ROOT}/include/torch/csrc/api/include")
  set(_libtorch_libraries "${_libtorch_torch}" "${_libtorch_torch_cpu}" "${_libtorch_c10}")
  if(LibTorch_HAS_CUDA)
    list(APPEND _libtorch_libraries "${_libtorch_torch_cuda}" "${_libtorch_c10_cuda}")
  endif()
  # CUDA kernels register themselves from a library nobody names a symbol of: as-needed would drop it. The
  # CUDA libraries' own dependencies lie in other wheels and are found at run time only.
  list(JOIN _libtorch_libraries "," _libtorch_joined)
  target_link_libraries(LibTorch::LibTorch INTERFACE
    "-Wl,--push-state,--no-as-needed,${_libtorch_joined},--pop-state")
  target_link_options(LibTorch::LibTorch INTERFACE
    "LINKER:-rpath,${LibTorch_ROOT}/lib" "LINKER:--allow-shlib-undefined")
endif()
