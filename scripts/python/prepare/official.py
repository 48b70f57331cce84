"""Files of public data sets: where they come from, what they must look like, what to say when they are absent."""

import dataclasses
import pathlib
import sys

from common.errors import UserError
from common.files import md5_of


@dataclasses.dataclass(frozen=True)
class Form:
    """One form in which a file is found, such as compressed or not, and its checksum."""
    name: str
    md5: str


@dataclasses.dataclass(frozen=True)
class Origin:
    title: str
    home: str
    terms: str


def missing_text(files, origin):
    """What is expected where a public data set is not there: its files, home page and terms of use."""
    names = "\n".join("  " + file for file in files)
    return f"\n{names}\n  home page: {origin.home}\n  terms of use: {origin.terms}"


def check_folder(source, origin):
    source = pathlib.Path(source)
    if not source.is_dir():
        raise UserError(source, "--source", "no such folder", f"the folder with the files of {origin.title}")
    return source


def locate(source, origin, wanted, check):
    """For every entry of `wanted` (a list of alternative forms each) the path of the form that is there.

    Everything that is missing is named at once, with home page, file name, checksum and terms of use. A wrong
    checksum is an error too, unless `check` is false (then it is only said).
    """
    source = check_folder(source, origin)
    found, missing = [], []
    for forms in wanted:
        there = [source / form.name for form in forms if (source / form.name).is_file()]
        if there:
            form = next(form for form in forms if (source / form.name).is_file())
            found.append((there[0], form))
        else:
            missing.append(forms)
    if missing:
        names = ["  or  ".join(f"{form.name} (md5 {form.md5})" for form in forms) for forms in missing]
        raise UserError(source, found=f"{len(missing)} of {len(wanted)} files missing",
                        expected=missing_text(names, origin))
    for path, form in found:
        digest = md5_of(path)
        if digest == form.md5:
            continue
        if check:
            raise UserError(path, "md5", digest, form.md5,
                            "the file is damaged or another version; --no-checksum uses it all the same")
        print(f"note: {path}: md5 {digest} is not the known {form.md5}; used because of --no-checksum",
              file=sys.stderr)
    return [path for path, _ in found]
