"""The JSON schema for editors agrees with the config reader on one set of examples (tests/core checks the reader), and
configs/README.md has every key of it with its default."""

import json
import pathlib
import re
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "core" / "examples"


def load(path):
    return json.loads(path.read_text())


def examples(folder):
    files = sorted((EXAMPLES / folder).glob("*.json"))
    assert len(files) >= 10, f"{folder}: the examples are gone"
    return files


class SchemaTest(unittest.TestCase):
    def setUp(self):
        schema = load(ROOT / "configs" / "schema.json")
        jsonschema.Draft7Validator.check_schema(schema)
        self.config = jsonschema.Draft7Validator(schema)
        self.subject = jsonschema.Draft7Validator({"$ref": "#/definitions/subject", **schema})

    def test_good_examples_pass(self):
        for path in examples("good"):
            with self.subTest(path.name):
                self.assertEqual([error.message for error in self.config.iter_errors(load(path))], [])

    def test_bad_examples_are_refused(self):
        for path in examples("bad"):
            with self.subTest(path.name):
                self.assertFalse(self.config.is_valid(load(path)))

    def test_what_only_the_reader_knows_passes(self):
        for path in examples("reader_only"):
            with self.subTest(path.name):
                self.assertEqual([error.message for error in self.config.iter_errors(load(path))], [])

    def test_our_own_configs_pass(self):
        for path in (ROOT / "configs").glob("*.json"):
            if path.name != "schema.json":
                with self.subTest(path.name):
                    self.assertEqual([error.message for error in self.config.iter_errors(load(path))], [])
        for path in (ROOT / "configs" / "subjects").glob("*.json"):
            with self.subTest(path.name):
                self.assertEqual([error.message for error in self.subject.iter_errors(load(path))], [])

    def test_readme_has_every_key_and_default(self):
        schema, page = load(ROOT / "configs" / "schema.json"), (ROOT / "configs" / "README.md").read_text()
        definitions = schema["definitions"]
        # the page's tables: of the configuration, with parts for approach, subject and attack, and of programs
        parts = re.split(r"\| \*\*(approach|subject|attack)\*\* \|.*|## (External) programs", page)
        tables = {"configuration": (parts[0], schema)}
        for name, external, text in zip(parts[1::3], parts[2::3], parts[3::3]):
            name = name or "external_approach"
            tables[name] = (text, definitions[name])
        self.assertEqual(set(tables), {"configuration", "approach", "subject", "attack", "external_approach"})
        compared = 0
        for name, (text, described) in tables.items():
            rows = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines() if line.startswith("| ")]
            for key, value in described["properties"].items():
                if key in ("$schema", "comment"):
                    continue
                with self.subTest(f"{name}: {key}"):
                    found = [row for row in rows if f"`{key}`" in row[0]]
                    if not found and key == "budget":  # of a subject or an approach: at the configuration's
                        continue
                    self.assertEqual(len(found), 1)
                    default = described["properties"][key].get("default")
                    if default not in (None, [], {}) and found[0][0].count("`") == 2:
                        shown = found[0][-1].rstrip(" |").strip('`"')
                        self.assertEqual(shown, json.dumps(default).strip('"').removesuffix(".0"))
                        compared += 1
        self.assertGreater(compared, 10)
        for name in ("training", "budget"):
            for key in definitions[name]["properties"]:
                self.assertTrue(key in ("$schema", "comment") or re.search(rf"[`\"]{key}[`\"]", page), key)

    def test_subject_schema_refuses(self):
        self.assertFalse(self.subject.is_valid({"name": "toy", "model": "m.pt"}))


if __name__ == "__main__":
    unittest.main()
