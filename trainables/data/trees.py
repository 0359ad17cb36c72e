"""Images in folders, or in a zip of folders, read the same way.

A zip is never unpacked: its members are read into memory, so no name in it can reach another place. Names
that try to are refused all the same, since whoever unpacks the file by hand would meet them.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image

from kdsearch.trainables.data.findings import Findings, reason
from kdsearch.trainables.data.images import Images
from kdsearch.trainables.data.inside import Inside

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
FORMATS = ("PNG", "JPEG")
MAX_FILE_BYTES = 64 << 20
MAX_SIDE = 4096  # pixels of an image of one's own: more is no image to train on, and unpacks to gigabytes
NOT_AN_IMAGE = (
    OSError,
    ValueError,
    SyntaxError,  # Pillow, for a broken PNG
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageReadError(Exception):
    """A file that is not an image of the expected kind; the message says what it is instead."""


class Tree(Protocol):
    """Folders of images. Paths inside have forward slashes and start at the tree's root ("" is the root)."""

    def where(self, name: str = "") -> str:
        """Return the name in the words of a message."""

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in `folder`, sorted; empty where it does not exist."""

    def files(self, folder: str) -> list[str]:
        """Return the names of the files directly in `folder`, sorted; hidden ones are left out."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises `ImageReadError`."""


class FolderTree:
    """Folders on disk."""

    def __init__(self, root: Path, inside: Inside | None = None) -> None:
        self._root, self._inside = root, inside or Inside(root)

    def where(self, name: str = "") -> str:
        """Return the path on disk."""
        return str(self._root / name)

    def folders(self, folder: str) -> list[str]:
        """Return the folders directly in `folder`, sorted."""
        return self._list(folder, want_folders=True)

    def files(self, folder: str) -> list[str]:
        """Return the files directly in `folder`, sorted, without hidden ones."""
        return self._list(folder, want_folders=False)

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        path = self._root / name
        try:
            with self._inside.open(path) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ImageReadError(reason(error)) from error
        return _bounded(content)

    def _list(self, folder: str, *, want_folders: bool) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir() == want_folders
                )
        except OSError:
            return []


class ZipTree:
    """Folders in a zip; `ImageReadError` where it is none or holds names that reach outside it."""

    def __init__(self, path: Path, inside: Inside | None = None) -> None:
        self._path = path
        try:
            (inside or Inside(path.parent)).open(path).close()
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise ImageReadError(reason(error)) from error
        except (zipfile.BadZipFile, ValueError, struct.error) as error:
            raise ImageReadError(f"a damaged zip ({error})") from error
        try:
            self._members = _members(self._zip.infolist())
        except ImageReadError:
            self._zip.close()
            raise
        self._folders: dict[str, set[str]] = {}
        self._files: dict[str, list[str]] = {}
        for name in self._members:
            *parents, file = name.split("/")
            self._files.setdefault("/".join(parents), []).append(file)
            for depth, parent in enumerate(parents):
                self._folders.setdefault("/".join(parents[:depth]), set()).add(parent)

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()

    def where(self, name: str = "") -> str:
        """Return the zip's path and the member's name in it."""
        return f"{self._path}:{name}" if name else str(self._path)

    def folders(self, folder: str) -> list[str]:
        """Return the folders directly in `folder`, sorted."""
        return sorted(self._folders.get(folder, ()))

    def files(self, folder: str) -> list[str]:
        """Return the files directly in `folder`, sorted, without hidden ones."""
        return sorted(self._files.get(folder, ()))

    def read(self, name: str) -> bytes:
        """Return a member's bytes, at most 64 MiB of them whatever its header says."""
        try:
            with self._zip.open(self._members[name]) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise ImageReadError(f"a damaged or encrypted zip member ({error})") from error
        return _bounded(content)


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise ImageReadError(f"more than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _members(infos: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the members that are files, by name; refuse names that reach outside, links and duplicates."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in info.orig_filename:
            raise ImageReadError(f"the unsafe member name {info.orig_filename!r}")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ImageReadError(f"the symbolic link {name!r}")
        if info.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        plain = "/".join(parts)
        if plain in members:
            raise ImageReadError(f"the member {name!r} twice")
        members[plain] = info
    return members


def image_files(tree: Tree, folder: str) -> list[str]:
    """Return the images directly in `folder`, as paths in the tree, sorted by name."""
    return [
        f"{folder}/{name}" for name in tree.files(folder) if PurePosixPath(name).suffix.lower() in SUFFIXES
    ]


def read_images(tree: Tree, names: Sequence[str], shape: tuple[int, int, int], findings: Findings) -> Images:
    """Return the images [n, C, H, W]; note each that cannot be read (its place stays unset)."""
    images = np.empty((len(names), *shape), dtype=np.uint8)
    for at, name in enumerate(names):
        findings.files += 1
        try:
            images[at] = decode(tree.read(name), shape)
        except ImageReadError as error:
            findings.add(tree.where(name), _kind(shape), str(error))
            findings.settle()
    return images


def decode(content: bytes, shape: tuple[int, int, int]) -> Images:
    """Return a PNG or JPEG as uint8 [C, H, W]; C is 1 (grey) or 3 (RGB). Raises `ImageReadError`."""
    channels, rows, columns = shape
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.size != (columns, rows):
                raise ImageReadError(f"an image of {image.size[1]}x{image.size[0]}")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except NOT_AN_IMAGE as error:
        found = "an empty file" if not content else f"a file that is no such image or damaged ({error})"
        raise ImageReadError(found) from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def image_shape(content: bytes) -> tuple[int, int, int]:
    """Return (C, H, W) of a PNG or JPEG without decoding it. Raises `ImageReadError`."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            channels = 1 if image.mode in ("1", "L", "I;16") else 3
            if max(image.size) > MAX_SIDE:
                raise ImageReadError(
                    f"an image of {image.size[1]}x{image.size[0]} (at most {MAX_SIDE} a side)"
                )
            return channels, image.size[1], image.size[0]
    except NOT_AN_IMAGE as error:
        raise ImageReadError(f"a file that is no PNG or JPEG, or damaged ({error})") from error


def _kind(shape: tuple[int, int, int]) -> str:
    channels, rows, columns = shape
    return f"a {rows}x{columns} {'grey' if channels == 1 else 'RGB'} PNG or JPEG"
