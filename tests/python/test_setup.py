"""The set-up scripts: what they say and that a second call changes nothing."""

import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(script, *arguments, **environment):
    return subprocess.run([ROOT / "scripts" / script, *arguments], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, **environment})


class SetupTest(unittest.TestCase):
    def test_again_installs_nothing(self):
        done = run("setup", "--no-system")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, "python: .* (has|uses) ")
        self.assertNotIn("installing", done.stderr)
        self.assertNotIn("making", done.stderr)

    def test_wrong_arguments_are_named(self):
        for script in ("setup", "build", "test", "demo", "test-data", "gpu-check"):
            with self.subTest(script):
                done = run(script, "--no-such-option")
                self.assertEqual(done.returncode, 2)
                self.assertIn('"--no-such-option"', done.stderr)

    def test_help(self):
        for script in ("setup", "build", "test", "demo", "test-data", "gpu-check", "prepare"):
            with self.subTest(script):
                done = run(script, "--help")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(done.stdout.startswith(f"usage: scripts/{script}"), done.stdout)

    def test_a_given_python_is_used(self):
        done = run("prepare", "--help", HARNESS_PYTHON=sys.executable)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = run("prepare", "--help", HARNESS_PYTHON="/nowhere/python")
        self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
