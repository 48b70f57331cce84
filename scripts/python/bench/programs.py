"""Our programs as scripts/bench and scripts/gpu-check start them."""

import json
import os
import subprocess
import time

from common.errors import UserError


def environment(threads):
    """One number of threads for every library; nothing else is changed."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def run(command, threads):
    """(standard output, seconds of the whole process)"""
    command = [str(word) for word in command]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment(threads), check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise UserError(os.path.basename(command[0]), " ".join(command[1:3]), f"exit code {done.returncode}: {tail}",
                        "exit code 0")
    return done.stdout, seconds


class Inputs:
    """Inputs and labels as raw files, which is how bench_attack takes them."""

    def __init__(self, folder, name, x, y):
        self.x, self.y = x, y
        self.images, self.labels = folder / f"{name}.inputs", folder / f"{name}.labels"
        x.numpy().tofile(self.images)
        y.numpy().tofile(self.labels)

    def words(self):
        return ["--inputs", self.images, "--labels", self.labels, "--shape", ",".join(map(str, self.x.shape))]


def attack(build, model, inputs, epsilon, bounds, threads, *options):
    """What bench_attack prints: seconds (one a round), success and zero_gradient as texts of 0 and 1."""
    out, _ = run([build / "bench_attack", "--model", model, *inputs.words(), "--epsilon", epsilon, "--low",
                  repr(bounds[0]), "--high", repr(bounds[1]), "--threads", threads, *options], threads)
    return json.loads(out)


def predict(build, model, data, images, threads):
    """What bench_predict prints of three rounds, in one process."""
    out, _ = run([build / "bench_predict", "--model", model, "--data", data, "--images", images, "--rounds", 3,
                  "--threads", threads], threads)
    return json.loads(out)


def candidates(build, model, data, images, threads):
    """The lines of bench_evaluator: one kind of edit each."""
    out, _ = run([build / "bench_evaluator", "--model", model, "--data", data, "--images", images, "--rounds", 1,
                  "--threads", threads], threads)
    return [json.loads(line) for line in out.splitlines()]


def fixes(build, model, data, approach, runs, threads, *options):
    """The lines of bench_approach: one fix each."""
    out, _ = run([build / "bench_approach", "--model", model, "--data", data, "--approach", approach, "--runs", runs,
                  "--threads", threads, *options], threads)
    return [json.loads(line) for line in out.splitlines()]


def share(flags):
    """Percent of ones in a text of 0 and 1."""
    return 100 * flags.count("1") / len(flags)
