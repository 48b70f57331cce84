"""Two results trees of one configuration, made on two devices: what must be equal, and what may part."""

import csv
import json

from gpu_check.table import DIFFERS, FAILED, INFO, OK, Row


def records(tree):
    """{(subject, approach, run): record}"""
    found = {}
    for file in sorted((tree / "cells").glob("*/*/*/record.json")):
        subject, approach, run = file.parts[-4:-1]
        found[subject, approach.replace(".", ":", 1), run] = json.loads(file.read_text(encoding="utf-8"))
    return found


def flips(tree, cell):
    """Classes that the fixed model of a cell gives the test images; None where there are none."""
    subject, approach, run = cell
    file = tree / "cells" / subject / approach.replace(":", ".") / run / "predictions.csv"
    if not file.is_file():
        return None
    with open(file, newline="", encoding="utf-8") as stream:
        return [row["fixed"] for row in csv.DictReader(stream)]


def code_of(record):
    """"ok", "FAILURE no_fix": a status with the code of its reason."""
    if record["status"] == "ok":
        return "ok"
    return f"{record['status']} {record['reason'].split(':', 1)[0]}"


def broken(record):
    return [one["name"] for one in record["invariants"] if not one["holds"]]


def seconds(record):
    return record["phases"].get("fix")


def compare(check, first, second, expected=()):
    """Rows for the cells of two trees, the CPU's first; `expected`: cells that must be there."""
    here, there = records(first), records(second)
    rows = []
    for cell in sorted({*here, *there, *expected}):
        subject, approach, _ = cell
        what = f"{subject} {approach}"
        if cell not in here or cell not in there:
            lacks = " and ".join(name for name, tree in (("the CPU", here), ("the device", there)) if cell not in tree)
            rows.append(Row(check, what, FAILED, note=f"no record on {lacks}", excess=2))
            continue
        a, b = here[cell], there[cell]
        trouble = []
        if code_of(a) != code_of(b):
            trouble.append("another status: " + b["reason"])
        if broken(b):
            trouble.append("invariants that do not hold: " + ", ".join(broken(b)))
        if "crashed" in code_of(b):
            trouble.append(b["reason"])
        x, y = flips(first, cell), flips(second, cell)
        note = ""
        if x and y:
            note = f"{sum(p != q for p, q in zip(x, y))} of {len(x)} predictions part"
        times = seconds(a), seconds(b)
        ratio = times[1] / times[0] if all(times) and code_of(a) == code_of(b) == "ok" else None
        rows.append(Row(check, what, DIFFERS if trouble else OK, code_of(a), code_of(b), None,
                        "; ".join(dict.fromkeys(trouble)) or note, float(len(trouble))))
        if ratio is not None and times[0] >= 0.01:
            rows.append(Row("TIME", what, INFO, f"{times[0]:.2f} s", f"{times[1]:.2f} s", ratio))
    if not rows:
        rows.append(Row(check, "cells", FAILED, note="no records at all", excess=3))
    return rows
