"""Everything a reader needs is inside the project: no file cites a page that is not there, files named in pages exist,
sections that are cited exist, and every approach has a page. Needs git and Python alone; leaves with code 77 where the
project is no git working tree."""

import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN = "tests/python/test_pages.py"
# Sources that the conformance test must reject, on purpose.
BAD_EXAMPLES = "tests/conformance/test_fakes.cpp"
PAGES = "approaches/docs"

# Ways to cite pages that only the authors had.
OUTSIDE = [re.compile(pattern) for pattern in (
    r"\b[Cc]ards?,? \w+\.md", r"\b[Cc]ards?('s)? (sections?|steps?) \d", r"\b([Tt]he|[Oo]f the) card('s)?\b",
    r"\b[Cc]ards? and sections?\b", r"\bDESIGN \d", r"\bstudy/README")]
# Sections are cited by page and name; a number alone belongs to a page of somebody else's.
NUMBERED = re.compile(r"(?<![\d,] )\b[Ss]ections? \d")
NUMBERED_WHERE = ("approaches/", "harness/", "tests/approaches/")

PAGE = re.compile(r"(?<![\w./{*<$-])([\w.-]+/)*[\w.-]*\w\.md\b")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAMED = re.compile(r"`([\w./-]+\.(?:cpp|hpp|py|md|json))`")
SECTION = re.compile(r"((?:[\w.-]+/)*[\w.-]*\w\.md)\)?, ([A-Z][\w' -]*)")

# Files that programs write: in results trees, beside data, or where the caller says.
MADE = {"record.json", "plan.json", "fix.json", "predict.json", "attack.json", "original.json", "sources.json",
        "lease.json", "digests.json", "records.json", "subject.json", "gpu.md", "results/reference/gpu.md"}
# Files of the reader's own in examples, and words that stand for a name.
READERS = {"mine/shapes.json", "mine/shapes_net.py", "FILE.md", "KEY.md"}
# Pages of approaches name files of public code; Python files of the project lie in these folders.
OF_PROJECT = ("scripts/", "tests/")


def project():
    """Relative path -> text of every text file that is tracked, or new and not ignored."""
    done = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                          capture_output=True, check=False)
    if done.returncode != 0:
        return None
    files = {}
    for name in sorted(set(done.stdout.decode().split("\0")) - {""}):
        path = ROOT / name
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            files[name] = content.decode(errors="replace")
    return files


try:
    FILES = project()
except FileNotFoundError:  # no git
    FILES = None


def lines_with(pattern, text):
    for number, line in enumerate(text.splitlines(), 1):
        for found in pattern.finditer(line):
            yield number, found


def find(cited, citing):
    """The file of the project that `citing` means by `cited`, or nothing."""
    for folder in (pathlib.PurePosixPath(citing).parent, pathlib.PurePosixPath("."), pathlib.PurePosixPath(PAGES)):
        parts = []
        for part in (folder / cited).parts:
            if part == ".." and parts:
                parts.pop()
            else:
                parts.append(part)
        if "/".join(parts) in FILES:
            return "/".join(parts)
    return None


def is_bare_name(cited):
    """A name without a folder may be that of any file."""
    return "/" not in cited and any(name.rsplit("/", 1)[-1] == cited for name in FILES)


def is_elsewhere(named, page):
    """Made by programs (data/ is ignored by git), a reader's own, or a file of public code."""
    if named in MADE | READERS or named.startswith("data/"):
        return True
    return page.startswith(PAGES + "/") and named.endswith(".py") and not named.startswith(OF_PROJECT)


def headings(page):
    found = re.findall(r"^#+ (?:\d+\. )?(.*?)\s*$", FILES[page], re.MULTILINE)
    return found + re.findall(r"^\*\*([^*]+?)\.?\*\*", FILES[page], re.MULTILINE)


def without_breaks(text):
    """Comments and paragraphs in one line, so that a citation may be broken anywhere."""
    return re.sub(r"\s*\n[ \t]*(?://+|#+|\*)?[ \t]*", " ", text)


def is_code(name):
    return not name.endswith(".md")


class PagesTest(unittest.TestCase):
    def check(self, wrong):
        if wrong:
            self.fail("\n" + "\n".join(wrong))

    def test_no_page_from_outside_is_cited(self):
        wrong = []
        for name, text in FILES.items():
            if name in (OWN, BAD_EXAMPLES):
                continue
            for pattern in OUTSIDE:
                wrong += [f"{name}:{line}: cites \"{hit[0]}\"" for line, hit in lines_with(pattern, text)]
            if name.startswith(NUMBERED_WHERE):
                wrong += [f"{name}:{line}: cites \"{hit[0]}\" of no page" for line, hit in lines_with(NUMBERED, text)]
        self.check(wrong)

    def test_pages_that_code_cites_exist(self):
        wrong = []
        for name, text in FILES.items():
            if not is_code(name) or name in (OWN, BAD_EXAMPLES):
                continue
            for line, hit in lines_with(PAGE, text):
                if find(hit[0], name) is None and hit[0] not in MADE | READERS:
                    wrong.append(f"{name}:{line}: cites {hit[0]}, which does not exist")
        self.check(wrong)

    def test_links_of_pages_lead_somewhere(self):
        wrong = []
        for name, text in FILES.items():
            if is_code(name):
                continue
            for line, hit in lines_with(LINK, text):
                if re.match(r"[a-z]+:", hit[1]):
                    continue
                target = ROOT / pathlib.PurePosixPath(name).parent / hit[1]
                if not target.exists():
                    wrong.append(f"{name}:{line}: links to {hit[1]}, which does not exist")
        self.check(wrong)

    def test_files_that_pages_name_exist(self):
        wrong = []
        for name, text in FILES.items():
            if is_code(name):
                continue
            for line, hit in lines_with(NAMED, text):
                if not is_elsewhere(hit[1], name) and find(hit[1], name) is None and not is_bare_name(hit[1]):
                    wrong.append(f"{name}:{line}: names {hit[1]}, which does not exist")
        self.check(wrong)

    def test_sections_that_are_cited_exist(self):
        wrong = []
        for name, text in FILES.items():
            if name == OWN:
                continue
            for hit in SECTION.finditer(without_breaks(text)):
                page = find(hit[1], name)
                if page is None:  # another test says so
                    continue
                section = hit[2]
                if not any(section.startswith(heading) or heading.startswith(section.strip())
                           for heading in headings(page)):
                    wrong.append(f"{name}: {page} has no section \"{section}\"")
        self.check(wrong)

    def test_every_approach_has_a_page(self):
        controls, keys, wrong = FILES[f"{PAGES}/controls.md"], set(), []
        for name, text in FILES.items():
            if not re.fullmatch(r"approaches/.*\.cpp", name) or "= register_approach(" not in text:
                continue
            key = re.search(r"\.key = \"([^\"]+)\"", text)
            self.assertIsNotNone(key, f"{name} registers an approach without a key that this test can read")
            keys.add(key[1])
            if re.search(r"\.level = Level::control", text):
                if not re.search(rf"^## .*\b{re.escape(key[1])}\b", controls, re.MULTILINE):
                    wrong.append(f"{name}: {PAGES}/controls.md has no section on {key[1]}")
            elif f"{PAGES}/{key[1]}.md" not in FILES:
                wrong.append(f"{name}: {PAGES}/{key[1]}.md does not exist")
        self.assertGreater(len(keys), 10, "hardly any approach was found")
        self.check(wrong)

    def test_pages_and_catalog_agree_on_what_a_reading_rests_on(self):
        texts = dict(re.findall(r"case Basis::(\w+):\s*return \"(.*)\";", FILES["harness/core/catalog.cpp"]))
        rows = re.findall(r"^\| ([a-z ]+) \|", FILES[f"{PAGES}/README.md"].split("| basis |")[1].split("\n\n")[0],
                          re.MULTILINE)
        self.assertEqual(rows, [text for text in texts.values() if text])
        found, wrong = set(), []
        for name, text in FILES.items():
            if not re.fullmatch(r"approaches/.*\.cpp", name) or "= register_approach(" not in text:
                continue
            key = re.search(r"\.key = \"([^\"]+)\"", text)[1]
            basis = re.search(r"\.basis = Basis::(\w+)", text)
            if re.search(r"\.level = Level::control", text):
                wrong += [f"{name}: a control rests on nothing"] * bool(basis)
                continue
            head = FILES[f"{PAGES}/{key}.md"].split("\n## ")[0]
            said = re.findall(r"^Basis: (.*)\.$", head, re.MULTILINE)
            found.add(key)
            if basis is None or said != [texts[basis[1]]]:
                wrong.append(f"{name} has {basis and texts[basis[1]]}, {PAGES}/{key}.md {said}")
        self.assertGreater(len(found), 10, "hardly any approach was found")
        self.check(wrong)


if __name__ == "__main__":
    if FILES is None:
        print("no git working tree: skipped", file=sys.stderr)
        sys.exit(77)
    unittest.main()
