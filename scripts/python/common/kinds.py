"""What a file is by its content, whatever it is called: for errors that call it so."""

import dataclasses
import zipfile

from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str         # for programs; empty where the content says nothing
    text: str         # for people: "a Git LFS pointer"
    remedy: str = ""


UNKNOWN = Kind("", "a file of unknown content")
MAGIC = (  # first bytes -> kind
    (b"version https://git-lfs", Kind("lfs", "a Git LFS pointer instead of the file", "git lfs pull fetches it")),
    (b"\x89HDF\r\n\x1a\n", Kind("hdf5", "an HDF5 file")),
    (b"\x93NUMPY", Kind("npy", "a single NumPy array (.npy)")),
    (b"\x1f\x8b", Kind("gzip", "a gzip archive", "unpack it")),
    (b"BZh", Kind("bzip2", "a bzip2 archive", "unpack it")),
    (b"\xfd7zXZ\0", Kind("xz", "an xz archive", "unpack it")),
    (b"\x28\xb5\x2f\xfd", Kind("zstd", "a zstd archive", "unpack it")),
    (b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7z archive", "unpack it")),
    (b"Rar!", Kind("rar", "a rar archive", "unpack it")),
    (b"\x89PNG", Kind("image", "a PNG image")),
    (b"\xff\xd8\xff", Kind("image", "a JPEG image")),
)

DOWNLOADS = ("empty", "lfs", "html", "xml")  # names of kinds: what a download that failed leaves
USELESS = (*DOWNLOADS, "gzip", "bzip2", "xz", "zstd", "7z", "rar", "image", "damaged")


def _zip_kind(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return Kind("damaged", "a damaged archive, perhaps cut short", "fetch or save it again")
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return Kind("torchscript", "a TorchScript model", "build/harness takes it as it is")
    exported = any(name.startswith("models/") and name.endswith(".json") for name in inner)
    if exported or "serialized_exported_program.json" in names:
        return Kind("pt2", "a model of torch.export (.pt2)", "save torch.save(model.state_dict(), FILE) instead")
    if "data.pkl" in inner:
        return Kind("torch", "a file of torch.save")
    if "model.weights.h5" in names:
        return Kind("keras", "a Keras model (.keras)", "save it as .h5 instead: model.save(FILE.h5)")
    if names and all(name.endswith(".npy") for name in names):
        return Kind("npz", "NumPy arrays (.npz)")
    return Kind("zip", "a zip archive", "unpack it")


def _is_text(begin):
    try:
        text = begin.decode("utf-8")
    except UnicodeDecodeError as error:  # a character may be cut at the end
        if error.start < len(begin) - 3:
            return False
        text = begin[:error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n" for character in text)


def kind_of(path):
    """The kind of the file, from its first bytes; for a zip archive from its names."""
    with open(path, "rb") as stream:
        begin = stream.read(512)
        size = stream.seek(0, 2)
    if not begin:
        return Kind("empty", "an empty file", "fetch or save it again")
    for magic, kind in MAGIC:
        if begin.startswith(magic):
            return kind
    if begin.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    start = begin.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return Kind("html", "a web page (HTML), as a download that failed leaves it", "fetch the file itself")
    if start.startswith((b"<?xml", b"<error")):
        return Kind("xml", "XML, as a download that failed leaves it", "fetch the file itself")
    if len(begin) > 9 and begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= size - 8:
        return Kind("safetensors", "a safetensors file")
    if begin[257:262] == b"ustar":
        return Kind("tar", "a tar archive", "unpack it")
    if begin[0] == 0x80 and len(begin) > 1 and 2 <= begin[1] <= 5:
        return Kind("pickle", "a pickle")
    if _is_text(begin):
        return Kind("text", "a text file")
    return UNKNOWN


def refuse(path, kind, expected, names):
    """Raises where the file is of one of these kinds."""
    if kind.name in names:
        raise UserError(path, found=kind.text, expected=expected, remedy=kind.remedy)
