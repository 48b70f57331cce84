"""The machine a packed folder is run on: its torch, and how the packed programs are started on its libraries."""

import importlib.util
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

from common.errors import UserError

NEEDS_NEWER = re.compile(r"version `(GLIBCXX|CXXABI|GCC)_[0-9.]+' not found")
NEEDS_GLIBC = re.compile(r"version `GLIBC_([0-9.]+)' not found")


def torch_folder():
    """Of the running Python's package; torch itself, which takes seconds to start, is not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(sys.executable, found="a Python without torch", expected="one that has it",
                        remedy="activate it, or name it in HARNESS_PYTHON")
    return pathlib.Path(spec.submodule_search_locations[0])


def torch_version(folder):
    """("2.11.0", True for a CUDA build)"""
    text = (folder / "version.py").read_text(encoding="utf-8")
    number = re.search(r"\d+\.\d+\.\d+", text)
    return number.group(0) if number else "unknown", (folder / "lib" / "libtorch_cuda.so").is_file()


class Node:
    def __init__(self, folder, device, threads):
        self.folder, self.device, self.threads = folder, device, threads
        self.pack = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        self.torch = torch_folder()
        self.version, self.cuda = torch_version(self.torch)
        if self.version != self.pack["torch"]:
            raise UserError(self.torch, found=f"torch {self.version}",
                            expected=f"{self.pack['torch']}, as in the folder",
                            remedy=f"scripts/gpu-check pack, with HARNESS_GPU_CHECK_TORCH={self.version}")
        if device != "cpu" and not (self.cuda and self.pack["cuda"]):
            raise UserError(self.torch if self.pack["cuda"] else folder, found="a torch for the CPU alone",
                            expected="a CUDA build of it")
        self.libraries = [self.torch / "lib", *sorted(self.torch.parent.glob("nvidia/*/lib")), folder / "lib"]
        self.probe()

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        paths = [str(path) for path in self.libraries] + [path for path in (kept.get("LD_LIBRARY_PATH"),) if path]
        return {**kept, "LD_LIBRARY_PATH": ":".join(paths), "OMP_NUM_THREADS": str(self.threads),
                "MKL_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "passive"}

    def command(self, program, *words):
        return [str(self.folder / "bin" / program), *map(str, words)]

    def start(self, program, *words):
        return subprocess.Popen(self.command(program, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=self.environment())

    def run(self, program, *words, timeout=600):
        """(code, standard output, the last lines of standard error, seconds)"""
        begin = time.perf_counter()
        try:
            done = subprocess.run(self.command(program, *words), capture_output=True, text=True, check=False,
                                  env=self.environment(), timeout=timeout)
        except subprocess.TimeoutExpired:
            return 124, "", f"not done after {timeout} s", timeout
        tail = " / ".join(done.stderr.strip().splitlines()[-3:])
        return done.returncode, done.stdout, tail, time.perf_counter() - begin

    def probe(self):
        """Whether the program starts; with the packed C++ runtime where the machine's own is too old."""
        code, _, error, _ = self.run("harness", "list", "metrics")
        if code != 0 and NEEDS_NEWER.search(error) and (self.folder / "newer").is_dir():
            self.libraries.insert(0, self.folder / "newer")
            code, _, error, _ = self.run("harness", "list", "metrics")
        if code == 0:
            return
        glibc = NEEDS_GLIBC.search(error)
        if glibc:
            raise UserError(self.folder, found=f"a program for glibc {glibc.group(1)}",
                            expected=f"one for this machine's {platform.libc_ver()[1]}",
                            remedy="pack on a machine whose system is not newer than this one's")
        raise UserError(self.folder / "bin" / "harness", found=f"exit code {code}: {error}",
                        expected="a program that starts")

    def device_name(self):
        if self.device == "cpu":
            return "the CPU once more"
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
                              capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        index = int(self.device.partition(":")[2] or 0)
        return lines[index] if index < len(lines) else "a CUDA device"
