"""The house: which room may include which, how long a file may be, and words that the code does without.

Rooms and their order: harness/docs/design.md, section 3."""

import collections
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Each room may include itself and these.
BELOW = {
    "core": "",
    "config": "core",
    "store": "core config",
    "metrics": "core config store",
    "plan": "core config store metrics",
    "report": "core config store metrics plan",
    "data": "core",
    "model": "core",
    "approach": "core data model",
    "measure": "core config store metrics data model",
    "external": "core config data model approach",
    "cell": "core config store metrics plan data model approach measure external",
    "pool": "core config store metrics plan data model approach measure external cell",
    "cli": "core config store metrics plan report data model approach measure external cell pool",
    "main": "core store measure cli",
    "approaches": "core data model approach",
}
WITHOUT_LIBTORCH = {"core", "config", "store", "metrics", "plan", "report"}
HEADER_LINES, SOURCE_LINES = 200, 500
ODD_WORDS = re.compile(r"(?i)\b(bury|buries|buried|told|grave|gravest|trouble|troubles|troubled|ask|asks|asked|asking)\b")


def sources(*folders):
    for folder in folders:
        yield from sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in (".cpp", ".hpp"))


def room_of(path):
    parts = str(path).split("/")
    if parts[0] == "approaches":
        return "approaches"
    if parts[:3] == ["harness", "measure", "metrics"]:
        return "metrics"
    return parts[1] if len(parts) > 2 else "main"


def includes(path):
    text = path.read_text()
    return re.findall(r'^#include "([^"]+)"', text, re.M), re.findall(r"^#include <([^>]+)>", text, re.M)


class HouseTest(unittest.TestCase):
    def test_every_room_is_in_the_table(self):
        rooms = {room_of(path.relative_to(ROOT)) for path in sources("harness", "approaches")}
        self.assertEqual(rooms, set(BELOW))

    def test_the_table_has_no_cycle(self):
        done = set()
        while len(done) < len(BELOW):
            ready = [room for room, below in BELOW.items() if room not in done and set(below.split()) <= done]
            self.assertTrue(ready, f"these rooms are below one another: {sorted(set(BELOW) - done)}")
            done.update(ready)

    def test_includes_point_down(self):
        wrong = []
        for path in sources("harness", "approaches"):
            own = room_of(path.relative_to(ROOT))
            for included in includes(path)[0]:
                if "/" not in included:
                    wrong.append(f'{path.relative_to(ROOT)}: "{included}", expected a path from the root')
                    continue
                other = room_of(included)
                if other != own and other not in BELOW[own].split():
                    wrong.append(f"{path.relative_to(ROOT)}: {own} includes {included}, of {other}")
        self.assertEqual(wrong, [])

    def test_headers_have_no_cycle(self):
        graph = {str(path.relative_to(ROOT)): includes(path)[0] for path in sources("harness", "approaches", "tests")}
        state = {}

        def visit(file, way):
            if state.get(file) == "open":
                self.fail("headers include one another: " + " -> ".join([*way[way.index(file):], file]))
            if file in state or file not in graph:
                return
            state[file] = "open"
            for included in graph[file]:
                visit(included, [*way, file])
            state[file] = "done"

        for file in graph:
            visit(file, [])

    def test_rooms_without_libtorch(self):
        heavy = re.compile(r"^(ATen|c10|torch)/")
        wrong = [f"{path.relative_to(ROOT)}: {included}" for path in sources("harness")
                 if room_of(path.relative_to(ROOT)) in WITHOUT_LIBTORCH
                 for included in includes(path)[1] if heavy.match(included)]
        self.assertEqual(wrong, [])

    def test_torchscript_is_seen_by_the_model_alone(self):
        wrong = [str(path.relative_to(ROOT)) for path in sources("harness", "approaches")
                 if room_of(path.relative_to(ROOT)) != "model"
                 and re.search(r"torch::jit|torch/csrc/jit|torch/script", path.read_text())]
        self.assertEqual(wrong, [])

    def test_nothing_in_approaches_reads_files_or_results(self):
        wrong = [str(path.relative_to(ROOT)) for path in sources("approaches")
                 if re.search(r"<(filesystem|fstream|nlohmann/json\.hpp)>|core/(files|json_)", path.read_text())]
        self.assertEqual(wrong, [])

    def test_files_are_short(self):
        wrong = []
        for path in sources("harness", "approaches", "tests"):
            lines = path.read_text().count("\n")
            limit = HEADER_LINES if path.suffix == ".hpp" else SOURCE_LINES
            if lines > limit:
                wrong.append(f"{path.relative_to(ROOT)}: {lines} lines, at most {limit}")
        self.assertEqual(wrong, [])

    def test_no_odd_words(self):
        wrong = []
        for path in sources("harness", "approaches"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = ODD_WORDS.search(line)
                if found:
                    wrong.append(f"{path.relative_to(ROOT)}:{number}: {found.group()}")
        self.assertEqual(wrong[:20], [], f"{len(wrong)} in all")

    def test_no_source_is_there_twice(self):
        names = collections.Counter(path.name for path in sources("harness") if path.suffix == ".hpp")
        self.assertEqual([name for name, count in names.items() if count > 1], [])


if __name__ == "__main__":
    unittest.main()
