"""scripts/slurm: what submit makes of its options, what a task of the array does with signals and exit codes (with
programs in the place of Slurm and the harness), and the whole on a real Slurm of one node, where there can be one."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "slurm"
BINARY = os.environ.get("HARNESS_BINARY", "")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
CLEAN = {name: value for name, value in os.environ.items()
         if not name.startswith(("SLURM_", "SBATCH_", "HARNESS_BINARY", "HARNESS_RE", "HARNESS_ROOT"))}

# `check` and `plan` as far as submit needs them; `run` ends as RUN says.
HARNESS = r"""#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  *--help) printf '  %s X  words\n' --set --limit ;;
  check*) [ -z "${BROKEN:-}" ] || { echo "broken" >&2; exit 2; }
    printf '{\n  "approaches": [ { "name": "no" } ],\n  "name": "grid"\n}\n' ;;
  plan*) echo "${RANGE-1-8}" ;;
  run*) eval "$RUN" ;;
esac
"""
RECORDING = '#!/usr/bin/env bash\necho "${0##*/} $* $HARNESS_ROOT $HARNESS_REQUEUES" >>"$CALLS"\n'


def slurm_is_possible():
    """Nothing, or why there can be no Slurm here."""
    if os.getuid() != 0:
        return "Slurm's daemons need root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if all(shutil.which(program, path=path) for program in DAEMONS):
        return ""
    if not shutil.which("apt-cache"):
        return "there is no Slurm, and no apt-get to install it"
    policy = subprocess.run(["apt-cache", "policy", "slurm-wlm"], capture_output=True, text=True, check=False).stdout
    candidate = [line.split(":", 1)[1].strip() for line in policy.splitlines() if "Candidate:" in line]
    return "" if candidate and candidate[0] != "(none)" else "there is no Slurm, and apt-get knows no slurm-wlm"


class FakeTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name).resolve()
        for name, text in (("harness", HARNESS), ("sbatch", RECORDING + "echo '77;here'\n"), ("scontrol", RECORDING)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)
        (self.folder / "my grid.json").write_text("{}")
        self.environment = {**CLEAN, "PATH": f"{self.folder}:{CLEAN['PATH']}", "CALLS": str(self.folder / "calls"),
                            "HARNESS_BINARY": str(self.folder / "harness")}

    def calls(self, program=""):
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(program)]


class SubmitTest(FakeTest):
    def submit(self, *words, code=0, **environment):
        done = subprocess.run([SCRIPTS / "submit", *words], cwd=self.folder, capture_output=True, text=True,
                              check=False, env={**self.environment, **environment})
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def dry(self, *words, **environment):
        """The words of the sbatch command: those before sbatch, its options, those of the job."""
        words = shlex.split(self.submit("my grid.json", "--dry-run", *words, **environment).stdout)
        at, script = words.index("sbatch"), words.index(str(SCRIPTS / "array.sbatch"))
        return words[:at], words[at + 1:script], words[script + 1:]

    def test_by_itself(self):
        before, options, words = self.dry()
        results = self.folder / "results" / "grid"
        self.assertEqual(before, ["env", f"HARNESS_ROOT={ROOT}", f"HARNESS_BINARY={self.folder}/harness",
                                  "HARNESS_REQUEUES=20"])
        self.assertEqual(options, ["--parsable", "--export=ALL", "--job-name=harness-grid", "--array=1-8",
                                   f"--output={results}/slurm/%A_%a.log", "--signal=B:USR1@300", "--cpus-per-task=4",
                                   "--gres=gpu:1"])
        self.assertEqual(words, [f"{self.folder}/my grid.json", "--results", str(results), "--device", "cuda",
                                 "--threads", "4"])
        self.assertEqual(self.calls("sbatch"), [])
        self.assertFalse(results.exists())

    def test_every_option(self):
        before, options, words = self.dry(
            "--results", "100%", "--shards", "9", "--max-parallel", "2", "--partition", "p", "--time", "1-0", "--gpus",
            "a100:2", "--cpus", "8", "--mem", "9G", "--requeues", "0", "--signal-before", "60", "--missing", "--",
            "--set", "/runs=2", "--threads=3", "--only", "a/*", RANGE="2,5-7")
        self.assertEqual(before[-1], "HARNESS_REQUEUES=0")
        self.assertEqual(options[3:], ["--array=2,5-7%2", f"--output={self.folder}/100%%/slurm/%A_%a.log",
                                       "--signal=B:USR1@60", "--cpus-per-task=8", "--gres=gpu:a100:2", "--partition=p",
                                       "--time=1-0", "--mem=9G"])
        self.assertEqual(words[1:], ["--results", f"{self.folder}/100%", "--device", "cuda", "--set", "/runs=2",
                                     "--threads=3", "--only", "a/*"])
        config = f"{self.folder}/my grid.json"
        self.assertIn(f"check {config} --device cpu --set /runs=2", self.calls())
        self.assertIn(f"plan {config} --array --results {self.folder}/100% --device cuda --missing --shards 9 --set "
                      "/runs=2", self.calls())

    def test_redo(self):
        words = self.dry("--", "--redo", "*/AR/*")[2]
        self.assertEqual(words[-4:-2], ["--redo", "*/AR/*"])

    def test_on_the_cpu_without_gpu(self):
        options, words = self.dry("--device", "cpu")[1:]
        self.assertFalse([option for option in options if option.startswith("--gres")])
        self.assertEqual(words[3:5], ["--device", "cpu"])

    def test_hands_in(self):
        done = self.submit("my grid.json")
        self.assertEqual(done.stdout, "77\n")
        self.assertIn("job 77: array 1-8 of grid", done.stderr)
        self.assertEqual(len(self.calls("sbatch")), 1)
        self.assertTrue(self.calls("sbatch")[0].endswith(f" {ROOT} 20"))
        self.assertTrue((self.folder / "results" / "grid" / "slurm").is_dir())

    def test_nothing_to_do(self):
        done = self.submit("my grid.json", "--missing", RANGE="")
        self.assertEqual(done.stdout, "")
        self.assertIn("nothing to do", done.stderr)
        self.assertEqual(self.calls("sbatch"), [])

    def test_errors(self):
        config = "my grid.json"
        for words, message in (
                ([], 'CONFIG: found "", expected a configuration file that is there'),
                (["nowhere.json"], 'CONFIG: found "nowhere.json", expected a configuration file that is there'),
                ([config, "other"], f'command line: found "other", expected one configuration, which is {config}'),
                ([config, "--tme", "1"], 'command line: found "--tme", expected an option that --help lists (those of '
                                         "harness run after --)"),
                ([config, "--time"], '--time: found "", expected a value (see --help)'),
                ([config, "--time", "--mem"], '--time: found "--mem", expected a value (see --help)'),
                ([config, "--shards", "0"], '--shards: found "0", expected a whole number, 1 or more'),
                ([config, "--requeues", "-1"], '--requeues: found "-1", expected a whole number, 0 or more'),
                ([config, "--cpus", "2x"], '--cpus: found "2x", expected a whole number, 1 or more'),
                ([config, "--gpus", "many"], '--gpus: found "many", expected N or TYPE:N'),
                ([config, "--device", "auto"], '--device: found "auto", expected cuda or cpu (auto would mix both in '
                                               "one results tree)"),
                ([config, "--", "--shard", "1/2"], 'after --: found "--shard", expected no part: a task of an array '
                                                   "has its own"),
                ([config, "--missing", "--", "--redo", "a/*"], 'after --: found "--redo", expected no --missing beside '
                                                               "it; the same command without it goes on"),
                ([config, "--", "--results=x"], 'after --: found "--results=x", expected it before --')):
            with self.subTest(words):
                self.assertEqual(self.submit(*words, code=2).stderr, f"error: scripts/slurm/submit: {message}\n")
        self.assertEqual(self.calls("sbatch"), [])

    def test_what_others_refuse(self):
        self.assertEqual(self.submit("my grid.json", code=2, BROKEN="yes").stderr, "broken\n")
        self.assertIn('found "1 to 3", expected a range', self.submit("my grid.json", code=2, RANGE="1 to 3").stderr)
        self.assertIn("no program /nowhere", self.submit("my grid.json", code=2, HARNESS_BINARY="/nowhere").stderr)
        (self.folder / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
        refused = self.submit("my grid.json", code=2)
        self.assertEqual(refused.stdout, "")
        self.assertIn("invalid partition\nerror: scripts/slurm/submit: sbatch refused", refused.stderr)


class ArrayTest(FakeTest):
    """One task of an array, job 5 in array 4, task 2."""

    TASK = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_JOB_ID": "4", "SLURM_ARRAY_TASK_ID": "2", "HARNESS_ROOT": str(ROOT)}

    def start(self, run, **environment):
        script = shutil.copy(SCRIPTS / "array.sbatch", self.folder / "slurm_script")  # as Slurm does
        return subprocess.Popen(["bash", script, "grid.json"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env={**self.environment, **self.TASK, "RUN": run, **environment})

    def ends(self, process, code):
        text = process.communicate(timeout=30)[0]
        self.assertEqual(process.returncode, code, text)
        return text

    def signalled(self, number, run, code, both=False):
        """The text of a task whose shell (and whose harness, with `both`) gets a signal once the harness is there."""
        ready = self.folder / "ready"
        process = self.start(f"{run}; echo $$ >'{ready}.new'; mv '{ready}.new' '{ready}'; "
                             "for i in $(seq 100); do sleep 0.1; done; exit 9")
        for _ in range(200):
            if ready.exists():
                break
            time.sleep(0.05)
        process.send_signal(number)
        if both:
            os.kill(int(ready.read_text()), number)
        return self.ends(process, code)

    def test_codes_pass(self):
        for code in (0, 1, 2, 4):
            self.assertIn(f"harness left with {code}", self.ends(self.start(f"exit {code}"), code))
        self.assertEqual(self.calls("scontrol"), [])
        self.assertEqual(self.calls("run"), ["run grid.json"] * 4)

    def test_an_interruption_requeues_this_task(self):
        self.assertIn("requeues itself", self.ends(self.start("exit 3"), 3))
        self.assertEqual(self.calls("scontrol"), [f"scontrol requeue 4_2 {ROOT} "])

    def test_cap(self):
        before, at = ({"HARNESS_REQUEUES": "2", "SLURM_RESTART_COUNT": count} for count in "12")
        self.assertIn("requeues itself", self.ends(self.start("exit 3", **before), 3))
        text = self.ends(self.start("exit 3", **at), 3)
        self.assertIn("interrupted, and restarted 2 times already (--requeues 2)", text)
        self.assertEqual(len(self.calls("scontrol")), 1)

    def test_a_warning_is_passed_on_once(self):
        text = self.signalled(signal.SIGUSR1, "trap 'trap - USR1; sleep 0.3; exit 3' USR1", 3)
        self.assertIn("requeues itself", text)
        self.assertEqual(len(self.calls("scontrol")), 1)

    def test_a_warning_before_the_harness_can_take_it(self):
        self.assertIn("requeues itself", self.signalled(signal.SIGUSR1, ":", 3))

    def test_the_end_of_a_job_is_not_passed_on(self):
        text = self.signalled(signal.SIGTERM, "trap 'trap - TERM; sleep 0.3; exit 3' TERM", 3, both=True)
        self.assertIn("Slurm ends this job", text)
        self.assertEqual(self.calls("scontrol"), [])

    def test_errors(self):
        self.assertIn("no repository in /nowhere", self.ends(self.start("", HARNESS_ROOT="/nowhere"), 2))
        self.assertIn("no program /nowhere", self.ends(self.start("", HARNESS_BINARY="/nowhere"), 2))


class SameTablesTest(FakeTest):
    def compare(self, *both):
        folders = [self.folder / "one", self.folder / "other"]
        for folder, rows in zip(folders, both):
            (folder / "tables").mkdir(parents=True)
            for name in ("rq1", "rq2", "rq3", "rq1_wide", "rq2_wide", "rq3_wide", "rq4_wide", "runs", "summary"):
                (folder / "tables" / f"{name}.csv").write_text("approach,x TIME,metric,value,device\n" + rows)
        return subprocess.run([sys.executable, "-m", "same_tables", *folders], cwd=ROOT / "scripts" / "python",
                              capture_output=True, text=True, check=False)

    def test_time_and_device_do_not_count(self):
        done = self.compare("AR,1,ACC,2,A\nAR,,TIME,3,A\n", "AR,2,ACC,2,B\nAR,,TIME_fix,4,B\n")
        self.assertEqual((done.returncode, done.stdout), (0, "9 of 9 tables are the same\n"))

    def test_values_do(self):
        done = self.compare("AR,1,ACC,2,A\n", "AR,1,ACC,2.5,A\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("-AR,ACC,2\n+AR,ACC,2.5\n", done.stdout)


class RealTest(unittest.TestCase):
    def test_help_and_errors(self):
        for script in ("submit", "try-here"):
            done = subprocess.run([SCRIPTS / script, "--help"], capture_output=True, text=True, check=False)
            self.assertTrue(done.stdout.startswith(f"usage: scripts/slurm/{script}"), done.stdout)
            done = subprocess.run([SCRIPTS / script, "--nonsense"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn('found "--nonsense"', done.stderr)

    def test_a_real_slurm(self):
        why = slurm_is_possible() or ("" if os.access(BINARY, os.X_OK) else "HARNESS_BINARY names no program")
        if why:
            self.skipTest(why)
        process = subprocess.Popen([SCRIPTS / "try-here"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env={**CLEAN, "HARNESS_BINARY": BINARY})
        try:
            text = process.communicate(timeout=1200)[0]
        except subprocess.TimeoutExpired:
            process.terminate()  # it stops the daemons then
            text = process.communicate()[0]
        if process.returncode == 77:
            self.skipTest(text.strip().splitlines()[-1])
        self.assertEqual(process.returncode, 0, text)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    for test, reason in result.skipped:
        print(f"{test.id()} skipped: {reason}", file=sys.stderr)
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
