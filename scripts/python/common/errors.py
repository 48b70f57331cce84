"""Errors of the user's making, in the words and with the exit code of the harness itself."""

import difflib
import re
import signal
import sys

SHOWN = 20  # of a list of things that are wrong
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x09\x0b-\x1f\x7f-\x9f]+")  # of terminals; a line's end stays


def printable(text):
    """The text without what a terminal would obey: messages of libraries and names of files may hold such."""
    return ESCAPES.sub(" ", str(text)) if ESCAPES.search(str(text)) else str(text)


def one_line(error, limit=160):
    """What an exception of somebody else's code says, in one line of at most `limit` characters."""
    try:
        text = str(error)
    except Exception:  # it is somebody else's code, too
        text = ""
    lines = [line for line in (printable(line).strip() for line in text.splitlines()) if line]
    text = lines[0].rstrip(" :") if lines else type(error).__name__
    return text if len(text) <= limit else text[:limit - 3] + "..."


def note(text):
    print(f"note: {printable(text)}", file=sys.stderr)


def listed(things):
    """The things, a line each, at most SHOWN of them: to end an error with."""
    rest = [f"and {len(things) - SHOWN} more"] if len(things) > SHOWN else []
    return "".join(f"\n  {thing}" for thing in [*things[:SHOWN], *rest])


class UserError(Exception):
    """Something that is wrong with what the user gave: file, place, found, expected, remedy."""

    def __init__(self, file, place="", found="", expected="", remedy=""):
        text = str(file)
        if place:
            text += f": {place}"
        middle = ", ".join(f"{word} {value}" for word, value in (("found", found), ("expected", expected)) if value)
        if middle:
            text += f": {middle}"
        if remedy:
            text += f"; {remedy}"
        super().__init__(printable(text))


def raise_together(file, errors, found, expected):
    """Raises what is wrong: one error as it is, several as one with a line each."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserError(file, found=f"{len(errors)} {found}", expected=f"{expected}:{listed(errors)}")


def nearest(word, names):
    """'did you mean NAME?', or nothing where no name is near."""
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    by_lower = {name.lower(): name for name in names}
    return f"did you mean {by_lower[near[0]]}?" if near else ""


def run_main(main):
    """Runs main(), turns a UserError into one line and exit code 2; trouble of the machine (disk full) is exit code 1.

    Being ended by SIGTERM, as at a cluster's time limit, cleans up like any other failure.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code or 0)
