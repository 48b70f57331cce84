"""Errors of the user's making, in the words and with the exit code of the harness itself."""

import difflib
import signal
import sys


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
        super().__init__(text)


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
