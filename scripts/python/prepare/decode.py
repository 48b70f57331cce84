"""Image files to arrays: opened, turned to 8 bits and cropped, by several processes at once."""

import collections
import dataclasses
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from PIL import Image

from common.errors import UserError, raise_together
from common.kinds import DOWNLOADS, kind_of

GRAY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
PIECE_BYTES = 1 << 20    # that images are sent and stored in
MOST_ELONGATED = 50      # scaled to its shorter side, an image more elongated might not fit in memory


def piece_size(shape):
    """How many uint8 images of this shape (C,H,W) make a piece."""
    return max(1, PIECE_BYTES // int(np.prod(shape)))


def open_image(path):
    """The image with its header read, of 8 bits per channel."""
    try:
        image = Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        found, remedy = getattr(error, "strerror", None), ""
        if not found:
            kind = kind_of(path)
            if kind.name in DOWNLOADS:
                found, remedy = kind.text, kind.remedy
            else:
                found = "a file that is not an image, or a damaged one"
        raise UserError(path, found=found, expected="an image", remedy=remedy) from error
    if image.mode not in GRAY_MODES + COLOUR_MODES:
        mode = image.mode
        image.close()
        raise UserError(path, found=f"an image of mode {mode}", expected="8 bits per channel")
    return image


def convert(image, mode, path):
    """The opened image with its pixels read, as RGB or L; transparency is dropped."""
    try:
        image.load()
        return image if image.mode == mode else image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(path, found=f"an image that cannot be read ({error})", expected="a whole image") from error


def to_array(image):
    """A converted image as uint8 (C,H,W)."""
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1).transpose(2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Crop:
    """The middle of an image: its shorter side is scaled to `resize` pixels, then size x size are cut out."""
    size: int
    resize: int
    filter: str = "bilinear"

    @property
    def shape(self):
        return (3, self.size, self.size)

    def __str__(self):
        return f"shorter side to {self.resize} pixels ({self.filter}), centre crop of {self.size}x{self.size}"

    def read(self, path):
        """The image as uint8 (3,size,size). An image whose shorter side fits already is not scaled."""
        with open_image(path) as opened:
            width, height = opened.size
            if max(width, height) > MOST_ELONGATED * min(width, height):
                raise UserError(path, found=f"{width}x{height} pixels",
                                expected=f"an image at most {MOST_ELONGATED} times as long as wide")
            image = convert(opened, "RGB", path)
            shorter = min(width, height)
            if shorter != self.resize:
                width, height = (self.resize * side // shorter for side in (width, height))
                image = image.resize((width, height), FILTERS[self.filter])
            # half a pixel left over is rounded to even, as torchvision does
            left, top = round((width - self.size) / 2), round((height - self.size) / 2)
            return to_array(image.crop((left, top, left + self.size, top + self.size)))


def _read_piece(read, shape, paths):
    """(images, errors): where an image cannot be read its place stays black."""
    images, errors = np.zeros((len(paths), *shape), np.uint8), []
    for place, path in enumerate(paths):
        try:
            images[place] = read(path)
        except UserError as error:
            errors.append(error)
    return images, errors


def _end_with_parent():
    """In a reading process: Ctrl-C is the parent's affair, and nobody else ends the process when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Reader:
    """Reads image files in the order given, with several processes, and never more than a few pieces ahead.

    `read` takes a path, gives uint8 (C,H,W) of `shape`, and can be pickled. Images that cannot be read are named
    together, as an error at the end of pieces(); with `total`, the number of images in all calls of pieces(), at the
    end of the last call, so that those of all splits are named.
    """

    def __init__(self, read, shape, processes, total=None, source="images"):
        self._read = functools.partial(_read_piece, read, shape)
        self._processes = processes
        self._executor = None
        self._left, self._source = total, source
        self._errors = []
        self.piece = piece_size(shape)

    def __enter__(self):
        if self._processes > 1:
            context = multiprocessing.get_context("forkserver")  # without the open HDF5 file and its memory
            context.set_forkserver_preload([__name__])
            self._executor = ProcessPoolExecutor(self._processes, context, _end_with_parent)
        return self

    def __exit__(self, kind, *_):
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        if kind is None:
            self._raise()  # had fewer images been asked for than `total` says

    def _raise(self):
        errors, self._errors = self._errors, []
        raise_together(self._source, errors, "images that cannot be read", "whole images")

    def _take(self, result):
        images, errors = result
        self._errors += errors
        if self._left is not None:
            self._left -= len(images)
        return images

    def pieces(self, paths):
        """Arrays (n,C,H,W); `paths` may be any iterable and is consumed as the reading goes on."""
        for result in self._results(iter(paths)):
            yield self._take(result)
        if self._left is None or self._left <= 0:
            self._raise()

    def _results(self, paths):
        pieces = iter(lambda: list(itertools.islice(paths, self.piece)), [])
        first = next(pieces, [])
        if self._executor is None or len(first) < self.piece:  # one piece is not worth a process
            for piece in itertools.chain([first] if first else [], pieces):
                yield self._read(piece)
            return
        ahead = collections.deque()
        try:
            for piece in itertools.chain([first], pieces):
                ahead.append(self._executor.submit(self._read, piece))
                if len(ahead) == 2 * self._processes:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool as error:
            raise OSError("a process that reads images was ended from outside, perhaps for want of memory") from error
