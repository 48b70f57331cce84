"""A results tree on a disk that is full or read-only: clear messages, the right exit code, nothing lost. Needs to mount a
small tmpfs, which takes root; elsewhere the tests say that they are skipped."""

import os
import subprocess
import unittest

from toy import CONFIG, FOLDER, CliTest, cell, files_of, main, record, run_harness, text_of, write_json

TABLES = ("rq1", "rq2", "rq3", "rq1_wide", "rq2_wide", "rq3_wide")


def mount(folder, options):
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode


class StorageTest(CliTest):
    def setUp(self):
        self.disk = FOLDER / self.id().split(".")[-1]
        self.disk.mkdir()
        if os.geteuid() != 0 or mount(self.disk, "size=8m") != 0:
            raise unittest.SkipTest("no right to mount a tmpfs")
        self.addCleanup(lambda: subprocess.run(["umount", str(self.disk)], check=True))
        self.results = self.disk / "results"
        self.config = write_json("disk.json", {**CONFIG, "name": "disk"})

    def fill(self):
        """Takes all of the disk that is free."""
        filler = self.disk / "filler"
        with open(filler, "wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass
        return filler

    def test_a_disk_that_is_full(self):
        run_harness(self.config, "--results", self.results, "--only", "toy/AR/*")
        kept = files_of(self.results / "cells")
        filler = self.fill()
        result = run_harness(self.config, "--results", self.results, code=1)
        self.assertIn("No space left on device", result.stderr)
        self.assertIn("toy/CT/1 no result: ", result.stderr)
        self.assertIn("stopped, as this machine does not work: ", result.stderr)
        self.assertEqual({name: value for name, value in files_of(self.results / "cells").items() if "AR" in name}, kept)
        self.assertEqual([path for path in self.results.rglob("record.json") if "AR" not in str(path)], [])
        filler.unlink()
        again = run_harness(self.config, "--results", self.results)
        self.assertEqual(again.stderr.splitlines()[0], "8 cells, 6 to do")
        self.assertEqual({name: value for name, value in files_of(self.results / "cells").items() if "AR" in name}, kept)
        whole = FOLDER / "disk_whole"
        run_harness(self.config, "--results", whole)
        for name in TABLES:
            self.assertEqual(text_of(name, self.results), text_of(name, whole), name)

    def test_a_disk_that_fills_up_while_it_runs(self):
        """At whatever byte it happens: no cell has half a result, and with more space the run goes on."""
        subprocess.run(["mount", "-o", "remount,size=120k", str(self.disk)], check=True)
        result = run_harness(self.config, "--results", self.results, code=1)
        self.assertIn("No space left on device", result.stderr)
        done = [path for path in (self.results / "cells").rglob("record.json")]
        self.assertGreater(len(done), 0)
        self.assertLess(len(done), 8)
        for path in done:
            identity = "/".join(path.parts[-4:-1]).replace("published.", "published:")
            self.assertEqual(record(identity, self.results)["status"], "ok")
            self.assertTrue((cell(identity, self.results) / "attack.csv").exists())
        subprocess.run(["mount", "-o", "remount,size=8m", str(self.disk)], check=True)
        again = run_harness(self.config, "--results", self.results)
        self.assertEqual(again.stderr.splitlines()[0], f"8 cells, {8 - len(done)} to do")

    def test_a_disk_that_is_read_only(self):
        run_harness(self.config, "--results", self.results, "--only", "toy/AR/*")
        before = files_of(self.results)
        subprocess.run(["mount", "-o", "remount,ro", str(self.disk)], check=True)
        for words in ((), ("--set", "/seed=7")):
            result = run_harness(self.config, "--results", self.results, *words, code=1 if not words else 2)
            self.assertIn("Read-only file system", result.stderr)
        self.assertEqual(files_of(self.results), before)
        self.assertEqual(run_harness("status", self.config, "--results", self.results).stdout.count(" done "), 2)
        subprocess.run(["mount", "-o", "remount,rw", str(self.disk)], check=True)
        again = run_harness(self.config, "--results", self.results)
        self.assertEqual(again.stderr.splitlines()[0], "8 cells, 6 to do")


if __name__ == "__main__":
    main()
