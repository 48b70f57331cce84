"""The JSON schema for editors agrees with the config reader on one set of examples (tests/core checks the reader)."""

import json
import pathlib
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

    def test_subject_schema_refuses(self):
        self.assertFalse(self.subject.is_valid({"name": "toy", "model": "m.pt"}))


if __name__ == "__main__":
    unittest.main()
