"""scripts/bench: the performance figures on this machine, beside what is asked of them."""

import argparse
import json
import os
import pathlib
import platform
import sys
import tempfile
import time

from common.errors import UserError, nearest, run_main

NAMES = ("evaluation", "attack-lenet5", "attack-resnet20", "overhead", "search", "evaluator", "predict")
ROOT = pathlib.Path(__file__).resolve().parents[3]


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Load:
    """How many cores other processes kept busy meanwhile: figures of a busy machine are worth little."""

    def __init__(self):
        self.start, self.all, self.own = time.perf_counter(), self._all(), self._own()

    @staticmethod
    def _all():
        try:
            fields = pathlib.Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, fields)
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own():
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def cores(self):
        if self.all is None:
            return None
        return max(0.0, (self._all() - self.all - self._own() + self.own) / (time.perf_counter() - self.start))


def measure(tasks, repeat):
    """{task: {variant: [value]}}, one repetition of everything after the other."""
    variants = {task: task.variants() for task in tasks}
    samples = {task: {label: [] for label in variants[task]} for task in tasks}
    for turn in range(repeat):
        for task in tasks:
            for label, run in variants[task].items():
                value = run()
                samples[task][label].append(value)
                shown = label if isinstance(label, str) else ", ".join(label)
                print(f"[{turn + 1}/{repeat}] {task.name}, {shown}: {value:.3f}", file=sys.stderr)
    return samples


def number(value, unit):
    if value is None:
        return ""
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def text_of(rows):
    verdicts = {True: "met", False: "MISSED", None: ""}
    table = [("figure", "ours", "against", "theirs", "ratio", "asked", "", "remarks")]
    for row in rows:
        table.append((row.what, number(row.ours, row.unit), row.against, number(row.theirs, row.unit),
                      f"{row.ratio:.2f} x" if row.ratio else "", row.asked, verdicts[row.met], row.note))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", default=[],
                        help="one of " + ", ".join(NAMES) + "; may be given more than once")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="the table has medians of N (default 5)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of every program (default 2)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--install-foolbox", action="store_true", help="first install foolbox into .cache/foolbox, once")
    given = parser.parse_args()
    for name in given.only:
        if name not in NAMES:
            raise UserError("scripts/bench", "--only", f'"{name}"', "one of " + ", ".join(NAMES), nearest(name, NAMES))
    for option, value in (("--repeat", given.repeat), ("--threads", given.threads)):
        if value < 1:
            raise UserError("scripts/bench", option, str(value), "1 or more")
    import torch  # only now: it takes seconds
    from bench import reference
    from bench.tasks import TASKS, Row, Setting
    torch.set_num_threads(given.threads)
    foolbox = ROOT / ".cache" / "foolbox"
    if given.install_foolbox and not reference.has_foolbox(foolbox):
        reference.install_foolbox(foolbox)
    rows, load, before = [], Load(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(ROOT, pathlib.Path(folder), given.threads, foolbox)
        tasks = [task(setting) for task in TASKS if not given.only or task.name in given.only]
        samples = measure([task for task in tasks if not task.missing()], given.repeat)
    for task in tasks:
        if task.missing():
            rows.append(Row(task.name, task.title, note=task.missing()))
        else:
            rows += task.rows(samples[task])
    others = load.cores()
    machine = {"processor": processor(), "cores": os.cpu_count(), "threads": given.threads, "torch": torch.__version__,
               "load_before": before, "cores_used_by_others": others}
    if given.format == "json":
        print(json.dumps({"machine": machine, "repeat": given.repeat, "rows": [vars(row) for row in rows]}, indent=2))
        return 0
    print(f"{machine['processor']}, {machine['cores']} cores, {given.threads} threads, torch {torch.__version__}; medians "
          f"of {given.repeat}; load before {before:.1f}" +
          ("" if others is None else f", other processes used {others:.2f} cores meanwhile") + "\n")
    print(text_of(rows))
    return 0


if __name__ == "__main__":
    run_main(main)
