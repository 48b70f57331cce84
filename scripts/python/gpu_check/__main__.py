"""`python -m gpu_check pack` where the repository is, `python -m gpu_check run FOLDER` on the machine with the GPU."""

import argparse
import os
import pathlib
import sys
import tempfile
import time

from common.errors import UserError, run_main
from gpu_check import checks, table
from gpu_check.node import Node


def pack_main(given):
    from gpu_check import pack  # only where the repository is
    if given.dry_run:
        total = 0
        for source, place, _ in pack.files_to_copy(given.build, given.torch, given.digits):
            size = source.resolve().stat().st_size
            total += size
            print(f"{size / 1e6:8.2f} MB  {place}")
        print(f"{total / 1e6:8.2f} MB  before stripping, without the models")
        return 0
    size = pack.pack(given.build.resolve(), given.torch.resolve(), given.digits, given.out.resolve())
    print(f"{given.out}: {size:.1f} MB; on the machine with the GPU: {given.out}/gpu-check")
    return 0


def report_of(node, rows, minutes):
    return "\n".join([
        "# GPU against CPU", "",
        f"Commit {node.pack['commit']}, torch {node.version}, {node.device_name()}, {node.threads} CPU threads; "
        f"{minutes:.1f} minutes. {table.summary(rows)}.", "", table.markdown_of(rows), ""])


def run_main_part(given):
    folder = given.folder.resolve()
    if not (folder / "pack.json").is_file():
        raise UserError(given.folder, found="no pack.json", expected="a folder of scripts/gpu-check pack")
    begin = time.perf_counter()
    node = Node(folder, given.device, given.threads or min(16, len(os.sched_getaffinity(0))))
    print(f"== {node.device_name()}, torch {node.version}, {node.threads} CPU threads", file=sys.stderr, flush=True)

    def say(what):
        print(f"== {time.perf_counter() - begin:5.0f} s  {what}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        rows = checks.run_all(node, pathlib.Path(scratch), say)
    minutes = (time.perf_counter() - begin) / 60
    print(table.text_of(rows))
    print(f"\n{table.summary(rows)}; {minutes:.1f} minutes")
    if given.report is not None:
        given.report.parent.mkdir(parents=True, exist_ok=True)
        given.report.write_text(report_of(node, rows, minutes), encoding="utf-8")
        print(f"report: {given.report}", file=sys.stderr)
    return 0 if table.succeeded(rows) else 1


def main():
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__)
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--build", type=pathlib.Path, required=True, help="folder with the built programs")
    packing.add_argument("--torch", type=pathlib.Path, required=True, help="the package torch they were built against")
    packing.add_argument("--digits", type=pathlib.Path, required=True, help="folder with digits.h5 and digits_cnn.pt")
    packing.add_argument("--out", type=pathlib.Path, required=True)
    packing.add_argument("--dry-run", action="store_true", help="only list what would be copied")
    packing.set_defaults(main=pack_main)
    running = commands.add_parser("run")
    running.add_argument("folder", type=pathlib.Path)
    running.add_argument("--device", default=os.environ.get("HARNESS_GPU_CHECK_DEVICE", "cuda"))
    running.add_argument("--threads", type=int, default=0, help="0: as many as there are cores, at most 16")
    running.add_argument("--report", type=pathlib.Path, metavar="FILE.md", help="also write the table there")
    running.set_defaults(main=run_main_part)
    given = parser.parse_args()
    return given.main(given)


if __name__ == "__main__":
    run_main(main)
