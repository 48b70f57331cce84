"""How far a long piece of work is, on standard error."""

import os
import shutil
import sys
import time

TERMINAL_SECONDS = 0.2
LINE_SECONDS = 30


def roughly(seconds):
    """'45 s', '12 min', '3 h 20 min'"""
    minutes = int(seconds / 60 + 0.5)
    if seconds < 90:
        return f"{int(seconds + 0.5)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """One line that is renewed on a terminal; elsewhere a line of its own every half minute."""

    def __init__(self, name, total, stream=None):
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._interval = TERMINAL_SECONDS if self._terminal else LINE_SECONDS
        self._name, self._total, self._done = name, total, 0
        self._start = self._last = time.monotonic()
        self._open = False

    def advance(self, count):
        self._done += count
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        self._last = now
        rate = self._done / (now - self._start)
        text = (f"{self._name}: {self._done}/{self._total} images, {rate:.3g}/s, "
                f"about {roughly((self._total - self._done) / rate)} left")
        if self._terminal:
            self._stream.write("\r\x1b[K" + text[:shutil.get_terminal_size().columns - 1])
            self._open = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self):
        """Takes the line away again; what is said next begins on a clean one."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False
