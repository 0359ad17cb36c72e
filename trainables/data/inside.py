"""Files of data sets are opened only where they are files, and lie where the data set lies.

A data set comes from others, often as an archive. A link in it that leads elsewhere, a device or a pipe is refused by
name: nothing outside the data set's folder and the data root is read, and nothing is waited for that never ends. The
folder of a data set may be a link itself, and links inside it may lead to each other or elsewhere below the data root.
`KDSEARCH_FOLLOW_LINKS=1` is for links that one made oneself.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

FOLLOW = "KDSEARCH_FOLLOW_LINKS"
MOST_UNPACKED = 1 << 26  # bytes that a compressed file may hold whatever its size
MOST_CELLS = 200_000_000  # of a Parquet table, which packs a value that repeats to nothing
MOST_PER_BYTE = 250  # tables of text pack to a tenth; gzip cannot pack better than to a thousandth


class UnsafeFileError(OSError):
    """A file that is none, or that lies outside the folders of the data; the message says what it is instead."""

    def __init__(self, told: str) -> None:
        super().__init__(errno.EPERM, told)


class Inside:
    """The folders below which the files of a data set must lie."""

    def __init__(self, *folders: Path) -> None:
        self._roots = tuple(os.path.realpath(folder) for folder in folders)
        self._known: dict[str, bool] = {}

    def check(self, path: Path) -> None:
        """Raise `UnsafeFileError` where a path leads out of the folders, by a link or by its name."""
        if not self.holds(path):
            target = os.path.realpath(path)
            raise UnsafeFileError(
                f"a link that leads out of the data set, to {target} ({FOLLOW}=1 allows links of one's own)"
            )

    def holds(self, path: Path) -> bool:
        """Whether the path, with all links followed, lies below one of the folders."""
        if os.environ.get(FOLLOW) == "1":
            return True
        real = os.path.realpath(path)
        return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)

    def open(self, path: Path) -> BinaryIO:
        """Open a regular file to read; `UnsafeFileError` where it is something else or lies outside the folders."""
        folder = str(path.parent)
        if folder not in self._known:
            self._known[folder] = self.holds(path.parent)
        direct = self._known[folder] and path.name != os.pardir
        try:
            return _regular(path, os.O_NOFOLLOW if direct else 0, None if direct else self)
        except OSError as error:
            if error.errno != errno.ELOOP:  # what O_NOFOLLOW says of a link
                raise
        return _regular(path, 0, self)


def _regular(path: Path, flags: int, inside: Inside | None) -> BinaryIO:
    if inside is not None:
        inside.check(path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)  # a pipe is not waited for
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise UnsafeFileError(kind(mode))


def kind(mode: int) -> str:
    """What something that is no file is, from its mode."""
    names = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return names.get(stat.S_IFMT(mode), "a device")


class Unpacked(io.RawIOBase):
    """A compressed file as it is unpacked; reading fails where it holds far more than data of its size can.

    file: what unpacks; packed_bytes: the size of the file on disk.
    """

    def __init__(self, file: IO[bytes], packed_bytes: int) -> None:
        self._file, self._left = file, max(MOST_UNPACKED, MOST_PER_BYTE * packed_bytes)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is something; `UnsafeFileError` at the bound."""
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise UnsafeFileError(
                f"a compressed file that unpacks to more than {MOST_PER_BYTE} times its size"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        super().close()


def check_parquet(path: Path) -> None:
    """Raise `UnsafeFileError` for a Parquet file that says it has more cells than a table can; pyarrow's errors too."""
    from pyarrow import parquet  # noqa: PLC0415 readers of images need not pay for it

    with parquet.ParquetFile(path) as file:
        told = file.metadata
        if told.num_rows * max(1, told.num_columns) > MOST_CELLS:
            raise UnsafeFileError(
                f"a table of {told.num_rows:,} rows and {told.num_columns:,} columns (at most {MOST_CELLS:,} cells)"
            )


_UNPACKERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a table that may be compressed (.gz, .bz2, .xz), to read what it holds within bounds."""
    with ExitStack() as closing:
        file: Any = closing.enter_context(path.open("rb"))
        unpack = _UNPACKERS.get(path.suffix.lower())
        if unpack is not None:
            packed_bytes = os.fstat(file.fileno()).st_size
            file = closing.enter_context(io.BufferedReader(Unpacked(unpack(file), packed_bytes), 1 << 18))
        yield file
