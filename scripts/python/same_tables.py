"""Whether two runs of one configuration came to the same results: their tables, without what differs between any two
runs. That is time and what depends on it, the device, and how often a fix was interrupted."""

import argparse
import csv
import difflib
import io
import pathlib

from common.errors import run_main
from common.files import existing_file

TABLES = ("rq1", "rq2", "rq3", "rq1_wide", "rq2_wide", "rq3_wide", "rq4_wide", "runs", "summary")
# pareto_optimal: TIME is one of the objectives
OF_A_RUN = {"device", "threads", "concurrent_workers", "interruptions", "pareto_optimal"}


def is_time(name):
    return name.split(" [")[0].split(" ")[-1].split("_")[0] == "TIME"  # wide tables: "SUBJECT METRIC [DEVICE]"


def comparable(path):
    """The lines of a table, without rows and columns of time and of OF_A_RUN."""
    with open(existing_file(path, "a table of a finished run"), newline="") as stream:
        header, *rows = csv.reader(stream)
    keep = [i for i, name in enumerate(header) if name not in OF_A_RUN and not is_time(name)]
    if "metric" in header:
        rows = [row for row in rows if not is_time(row[header.index("metric")])]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row[i] for i in keep] for row in [header, *rows])
    return text.getvalue().splitlines(keepends=True)


def main():
    parser = argparse.ArgumentParser(prog="same_tables", description=__doc__)
    parser.add_argument("one", type=pathlib.Path, help="results tree")
    parser.add_argument("other", type=pathlib.Path, help="results tree")
    options = parser.parse_args()
    different = 0
    for name in TABLES:
        paths = [folder / "tables" / f"{name}.csv" for folder in (options.one, options.other)]
        difference = list(difflib.unified_diff(*map(comparable, paths), *map(str, paths), n=0))
        print("".join(difference), end="")
        different += bool(difference)
    print(f"{len(TABLES) - different} of {len(TABLES)} tables are the same")
    return 1 if different else 0


if __name__ == "__main__":
    run_main(main)
