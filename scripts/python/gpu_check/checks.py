"""What is checked on a machine with a packed folder; every function gives the rows of its part."""

import contextlib
import json
import subprocess
import sys

from gpu_check import brief, trees
from gpu_check.table import DIFFERS, FAILED, INFO, LEFT_OUT, OK, Row, judged

IMPORT_MOST, LOGITS_MOST, GRADIENTS_MOST = 1e-4, 1e-4, 1e-4  # relative to the largest value
FLAGS_MOST = 0.02  # share of attacked images
LEFT_FOR_OTHERS = 3 << 30  # bytes of a GPU, beside what the memory check takes
GRID = "every approach"
# Subject: approaches with parameters beside the small budgets.
SPECIAL = {"dropout": {"CT": {}, "IR": {"learning_rate": 0.001}},
           "batchnorm": {"IR": {"learning_rate": 0.001}, "IN": {}, "CT": {}}, "constant": {"NONE": {}}}
HISTORY = {"digits": ["digits_earlier.pt", "digits.pt"]}  # checkpoints of the training, for who needs them


class Trouble(Exception):
    """A part that could not be done; it becomes a row."""


def lines_of(node, program, *words):
    code, out, error, _ = node.run(program, *words, "--threads", node.threads)
    if code != 0:
        raise Trouble(f"{program}: exit code {code}: {error}")
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def models(node, _):
    """Import, logits, gradients and masks of every packed model."""
    rows, masks = [], None
    for folder, shape in node.pack["models"].items():
        files = sorted((node.folder / folder).glob("*.pt"))
        for line in lines_of(node, "bench_import", "--shape", shape, "--device", node.device, *files):
            name = line["model"].rsplit("/", 1)[-1].removesuffix(".pt")
            masks = line["mask_differences"]
            if "error" in line:
                rows.append(Row("import", name, FAILED, note=line["error"].splitlines()[0], excess=1))
            elif "refused" in line:
                on_device = "a model that runs on" in line["refused"]
                text = line["refused"].split(": ", 1)[-1]
                verdict = DIFFERS if on_device else OK
                rows.append(Row("import", name, verdict, note=f"refused: {text}", excess=on_device))
            else:
                rows += of_one_model(name, line)
    if masks is None:
        raise Trouble("no model was read")
    rows.append(Row("dropout masks", "bits", OK if masks == 0 else DIFFERS, device=f"{masks} differ", excess=masks))
    return rows


def of_one_model(name, line):
    note = "" if line["importable"] else f"black box: {line['unknown_operator']}"
    rows = [judged("logits", name, line["logits_difference"], LOGITS_MOST, note)]
    if line["importable"]:
        rows.append(judged("import", name, line["import_difference"], IMPORT_MOST))
    rows += [judged("first gradients", f"{name}, of {who}", value, GRADIENTS_MOST)
             for who, value in line["gradient_differences"].items()]
    return rows


def configure(node, folder, name, subjects, approaches, **others):
    """A configuration in `folder`, of packed models on the packed data."""
    models, data = node.folder / "subjects", str(node.folder / "data" / "digits.h5")
    config = {"name": name, "runs": 1, "approaches": approaches, **others, "subjects": []}
    for subject in subjects:
        entry = {"name": subject, "model": str(models / f"{subject}.pt"), "data": data,
                 "attack": {"epsilon": 0.15, "sample": 100, "steps": 10}}
        if subject in HISTORY:
            entry["history"] = [str(models / file) for file in HISTORY[subject]]
        config["subjects"].append(entry)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return file


def run_config(node, config, device, tree, *words):
    code, _, error, seconds = node.run("harness", config, "--device", device, "--threads", node.threads, "--results",
                                       tree, "--quiet", *words)
    if code not in (0, 1):  # 1: some cell has no fix, which its record says
        raise Trouble(f"{config.stem} on {device}: exit code {code}: {error}")
    return seconds


def both_trees(node, folder, config):
    made = []
    for side, device in (("cpu", "cpu"), ("device", node.device)):
        tree = folder / f"{config.stem}-{side}"
        run_config(node, config, device, tree)
        made.append(tree)
    return made


def listed(node):
    code, out, error, _ = node.run("harness", "list", "approaches", "--format", "json")
    if code != 0:
        raise Trouble(f"harness list approaches: exit code {code}: {error}")
    return json.loads(out)


def every_approach(node, folder):
    entries = brief.approaches(listed(node))
    config = configure(node, folder, "grid", ["digits"], entries, budget={"seconds": 60})
    names = [entry if isinstance(entry, str) else entry["key"] for entry in entries]
    return trees.compare(GRID, *both_trees(node, folder, config), expected=[("digits", name, "1") for name in names])


def special_networks(node, folder):
    """Training with dropout and with batch norm; a black box whose code holds a constant."""
    rows = []
    known = {one["key"]: one for one in listed(node)}
    for subject, keys in SPECIAL.items():
        entries = [{"key": key, "parameters": {**brief.parameters(known[key], known), **more}}
                   for key, more in keys.items()]
        config = configure(node, folder, subject, [subject], entries, budget={"seconds": 60})
        rows += trees.compare("networks", *both_trees(node, folder, config),
                              expected=[(subject, key, "1") for key in keys])
    return rows


def attack_flags(node, _):
    words = ["--model", node.folder / "subjects" / "digits.pt", "--inputs", node.folder / "data" / "digits.inputs",
             "--labels", node.folder / "data" / "digits.labels", "--shape", node.pack["attacked"], "--epsilon", 0.15,
             "--low", node.pack["low"], "--high", node.pack["high"], "--repeat", 3]
    here, there = (lines_of(node, "bench_attack", *words, "--device", device)[0] for device in ("cpu", node.device))
    count = len(here["success"])
    different = sum(a != b for a, b in zip(here["success"], there["success"]))
    times = [min(side["seconds"][1:]) for side in (here, there)]
    share = [f"ASR {100 * side['success'].count('1') / count:.1f} %" for side in (here, there)]
    return [Row("PGD flags", f"digits, {count} images", OK if different <= FLAGS_MOST * count else DIFFERS, *share,
                note=f"{different} differ, at most {FLAGS_MOST:.0%}", excess=different / count),
            Row("TIME", "PGD on digits", INFO, f"{times[0]:.3f} s", f"{times[1]:.3f} s", times[1] / times[0])]


def evaluations(node, _):
    words = ["--model", node.folder / "subjects" / "digits.pt", "--data", node.folder / "data" / "digits.h5",
             "--approach", "AR", "--runs", 1, "--parameters", '{"generations": 20, "negatives": "all"}']
    rates = []
    for device in ("cpu", node.device):
        line = lines_of(node, "bench_approach", *words, "--device", device)[0]
        if "counters" not in line:
            raise Trouble(f"AR on {device}: {line}")
        rates.append(line["counters"]["evaluations"] / line["phases"]["search"])
    return [Row("AR evaluations/s", "digits", INFO, *(f"{rate:,.0f}" for rate in rates), rates[1] / rates[0])]


def expect_out_of_memory(name, tree):
    found = {record["status"] + " " + record["reason"].split(":", 1)[0] for record in trees.records(tree).values()}
    good = found == {"FAILURE out_of_memory"}
    return Row("out of memory", name, OK if good else DIFFERS, device=", ".join(sorted(found)) or "no record",
               note="expected FAILURE out_of_memory", excess=0 if good else 1)


def out_of_memory(node, folder):
    """A fix that exceeds its budget; and, on a GPU, one that the GPU has no memory for."""
    entry = {"key": "CT", "parameters": {"steps": 20000}}
    config = configure(node, folder, "budget", ["digits"], [entry], budget={"megabytes": 0.001, "seconds": 60})
    run_config(node, config, node.device, folder / "budget-device")
    rows = [expect_out_of_memory("budget", folder / "budget-device")]
    if node.device == "cpu":
        note = "needs a GPU: it would take the host's memory"
        return [*rows, Row("out of memory", "huge batch", LEFT_OUT, note=note)]
    config = configure(node, folder, "huge", ["wide"], [{"key": "CT", "parameters": {"steps": 3}}])
    value = json.loads(config.read_text(encoding="utf-8"))
    value["subjects"][0]["training"] = {"batch": 100000, "optimizer": "adam"}
    del value["subjects"][0]["attack"]
    config.write_text(json.dumps(value), encoding="utf-8")
    with most_memory_taken(node):
        run_config(node, config, node.device, folder / "huge-device")
    return [*rows, expect_out_of_memory("huge batch", folder / "huge-device")]


@contextlib.contextmanager
def most_memory_taken(node):
    """Another process holds all of the GPU's memory but LEFT_FOR_OTHERS."""
    program = ("import sys, torch\nfree, _ = torch.cuda.mem_get_info()\n"
               f"held = torch.empty(max(1, free - {LEFT_FOR_OTHERS}), dtype=torch.uint8, device='{node.device}')\n"
               "torch.cuda.synchronize()\nprint('held', flush=True)\nsys.stdin.read()\n")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        try:
            if holder.stdout.readline().strip() != "held":
                raise Trouble("torch could not take the GPU's memory")
            yield
        finally:
            holder.stdin.close()


def two_workers(node, folder):
    """Two processes on one device and one tree, half of the cells each."""
    entries = ["NONE", {"key": "CT", "parameters": {"steps": 60}}]
    config = configure(node, folder, "shared", ["digits", "dropout"], entries)
    tree = folder / "shared-device"
    started = [node.start("harness", config, "--device", node.device, "--threads", max(1, node.threads // 2),
                          "--results", tree, "--quiet", "--shard", f"{part}/2") for part in (1, 2)]
    trouble = []
    for process in started:
        _, error = process.communicate(timeout=300)
        if process.returncode != 0:
            trouble.append(f"exit code {process.returncode}: {' / '.join(error.strip().splitlines()[-2:])}")
    found = {cell: record["status"] for cell, record in trees.records(tree).items()}
    good = not trouble and len(found) == 4 and set(found.values()) == {"ok"}
    return [Row("two workers", "one device, one tree", OK if good else FAILED, device=f"{len(found)} of 4 cells",
                note="; ".join(trouble), excess=0 if good else 1)]


PARTS = {"models": models, "networks": special_networks, GRID: every_approach, "PGD flags": attack_flags,
         "AR evaluations/s": evaluations, "out of memory": out_of_memory, "two workers": two_workers}


def run_all(node, folder, say):
    rows = []
    for name, part in PARTS.items():
        say(name)
        try:
            rows += part(node, folder)
        except (Trouble, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            rows.append(Row(name, "all of it", FAILED, note=f"{type(error).__name__}: {error}", excess=9))
    return rows
