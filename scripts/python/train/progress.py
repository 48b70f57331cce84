"""How far a training is, on standard error: one line renewed on a terminal, elsewhere a line now and then."""

import os
import shutil
import sys
import time

from prepare.progress import TERMINAL_SECONDS, roughly

LINE_SECONDS = 60


class Progress:
    def __init__(self, subject, epochs, stream=None):
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._subject, self._epochs = subject, epochs
        self._images = 0
        self._start = self._last = time.monotonic()

    def step(self, epoch, step, steps, loss, images, images_left):
        """After a step: numbers from 1, `images` of this step, `images_left` to the end of the training."""
        self._images += images
        now = time.monotonic()
        if now - self._last < (TERMINAL_SECONDS if self._terminal else LINE_SECONDS):
            return
        self._last = now
        rate = self._images / (now - self._start)
        text = (f"{self._subject}: epoch {epoch}/{self._epochs}, step {step}/{steps}, loss {loss:.4f}, "
                f"{rate:.4g} images/s, about {roughly(images_left / rate)} left")
        if self._terminal:
            self._stream.write("\r\x1b[K" + text[:shutil.get_terminal_size().columns - 1])
            self._stream.flush()
        else:
            self.say(text)

    def say(self, text):
        """A line that stays."""
        self._stream.write(("\r\x1b[K" if self._terminal else "") + text + "\n")
        self._stream.flush()
