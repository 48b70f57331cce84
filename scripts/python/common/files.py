"""Whole files or none: everything is written beside its place and renamed."""

import contextlib
import hashlib
import os
import pathlib
import shutil

from common.errors import UserError


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary name beside `path`; renames it when the block succeeds, removes it otherwise."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(path, found="a folder", expected="the name of the file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(path.parent, found=error.strerror, expected="a folder that can be made") from error
    if not os.access(path.parent, os.W_OK):
        raise UserError(path.parent, found="a folder without the right to write", expected="one that can be written")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path, content):
    with replacing(path) as partial:
        partial.write_bytes(content)


def md5_of(path):
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def existing_file(path, what):
    """The path, if it is a readable file; otherwise an error that says what it should have been."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(path, found="a folder", expected=what)
    if not path.is_file():
        raise UserError(path, found="no such file", expected=what)
    if not os.access(path, os.R_OK):
        raise UserError(path, found="a file that cannot be read", expected=what)
    return path


def check_space(path, size):
    """An error right away where `size` bytes would not fit beside `path` in the end."""
    folder = pathlib.Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"{path}: found {free / 1e9:.1f} GB free, expected {size / 1e9:.1f} GB or more")
