"""Files that driver and workers share: in a folder that all of them see, or under a URL that all of them reach.

Both sides name a file by its path in the driver's folder. `Shared` takes the path as it is; `Remote` turns it into a
URL and carries bytes there and back. A file is written whole or not at all: in a folder and on file systems that can
move, under another name first; on an object store by one put, which is whole or not there. URLs are opened by pyarrow
where it knows the kind, else by fsspec. Secrets in URLs are refused: processes' command lines show them. No Ray here.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from kdsearch.spaces.errors import KdsearchError, UsageError

_CHUNK: Final = 2**23  # bytes
_SECRET: Final = ("key", "password", "passwd", "secret", "sig", "signature", "sas", "token")
_CAN_MOVE: Final = frozenset(
    {
        "arrow_hdfs",
        "dbfs",
        "file",
        "ftp",
        "hdfs",
        "local",
        "memory",
        "mock",
        "sftp",
        "smb",
        "ssh",
        "webdav",
        "webhdfs",
    }
)
_HOW: Final = (
    "Give the folder of a file system that all nodes share, or a URL such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER "
    "or hdfs://HOST/FOLDER; see docs/cluster.md."
)


class StorageError(KdsearchError):
    """A file of the shared storage cannot be written, read or found; the message names it."""


class Storage(Protocol):
    """What driver and workers do with shared files; paths are those in the driver's folder."""

    def exists(self, path: Path) -> bool:
        """Whether the file is there; StorageError if the storage cannot say."""

    def read(self, path: Path) -> bytes:
        """Return a file's content; OSError or StorageError if it is not there or cannot be read."""

    def write(self, path: Path, content: bytes) -> None:
        """Write a small file, whole or not at all; OSError or StorageError."""

    def save(self, path: Path, write: Callable[[Path], None]) -> None:
        """Let `write` write a file, whole or not at all; what it raises, OSError or StorageError."""

    def fetch(self, path: Path, folder: Path) -> Path:
        """Return where the file can be read on this machine; a copy goes into `folder`."""

    def names(self, folder: Path) -> Sequence[str]:
        """Names of the files in a folder; none if there is no such folder."""

    def delete(self, path: Path) -> None:
        """Delete a file; nothing happens if it is not there or cannot be deleted."""

    def clear(self, folder: Path) -> None:
        """Delete a folder with all that is in it, as far as that is possible."""

    def place(self, path: Path) -> str:
        """Where the file lies, for people and for the record: a path or a URL without secrets."""

    def path(self, place: str) -> Path:
        """Return the path of a place."""


class Shared:
    """Paths as they are: this machine's, or a folder that all machines have under one path."""

    def exists(self, path: Path) -> bool:
        """Whether the file is there."""
        with _told("look for", str(path)):
            return path.exists()

    def read(self, path: Path) -> bytes:
        """Return a file's content."""
        return path.read_bytes()

    def write(self, path: Path, content: bytes) -> None:
        """Write a file under another name first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            new.write_bytes(content)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def save(self, path: Path, write: Callable[[Path], None]) -> None:
        """Let `write` write it: packs write whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)

    def fetch(self, path: Path, folder: Path) -> Path:
        """Return the path itself."""
        del folder
        return path

    def names(self, folder: Path) -> Sequence[str]:
        """Names of the files in a folder."""
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if entry.is_file()]
        except OSError:
            return []

    def delete(self, path: Path) -> None:
        """Delete a file."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return

    def clear(self, folder: Path) -> None:
        """Delete a folder."""
        shutil.rmtree(folder, ignore_errors=True)

    def place(self, path: Path) -> str:
        """Return the path."""
        return str(path)

    def path(self, place: str) -> Path:
        """Return the path."""
        return Path(place)


SHARED: Final = Shared()


class Remote:
    """Files under a URL; `folder` is the driver's folder that stands for it."""

    def __init__(self, url: str, folder: Path) -> None:
        """Open the file system.

        Raises:
            UsageError: the URL holds a secret, or no such file system can be opened.

        """
        check_storage(url)
        self.url, self.folder = url, folder
        self._fs, self._root, self._moves = _opened(url)

    def exists(self, path: Path) -> bool:
        """Whether the file is there."""
        with _told("look for", self.place(path)):
            return self._size(self._at(path)) is not None

    def read(self, path: Path) -> bytes:
        """Return a file's content."""
        with _told("read", self.place(path)), self._fs.open_input_stream(self._at(path)) as stream:
            return bytes(stream.read())

    def write(self, path: Path, content: bytes) -> None:
        """Write a file."""
        with tempfile.TemporaryDirectory(prefix="kdsearch-") as name:
            local = Path(name) / path.name
            local.write_bytes(content)
            self._put(local, path)

    def save(self, path: Path, write: Callable[[Path], None]) -> None:
        """Let `write` write a file here, and send it."""
        with tempfile.TemporaryDirectory(prefix="kdsearch-") as name:
            local = Path(name) / path.name
            write(local)
            self._put(local, path)

    def fetch(self, path: Path, folder: Path) -> Path:
        """Copy a file into a folder of this machine; once is enough."""
        local = folder / PurePosixPath(self._name(path))
        if not local.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            new = local.with_name(f"{local.name}.part")
            with (
                _told("read", self.place(path)),
                self._fs.open_input_stream(self._at(path)) as stream,
                new.open("wb") as file,
            ):
                while chunk := stream.read(_CHUNK):
                    file.write(chunk)
            new.replace(local)
        return local

    def names(self, folder: Path) -> Sequence[str]:
        """Names of the files in a folder."""
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415 only who has such a storage pays for it

        try:
            found = self._fs.get_file_info(FileSelector(self._at(folder), allow_not_found=True))
        except Exception:  # noqa: BLE001
            return []
        return [info.base_name for info in found if info.type == FileType.File]

    def delete(self, path: Path) -> None:
        """Delete a file."""
        try:
            self._fs.delete_file(self._at(path))
        except Exception:  # noqa: BLE001
            return

    def clear(self, folder: Path) -> None:
        """Delete a folder."""
        try:
            self._fs.delete_dir(self._at(folder))
        except Exception:  # noqa: BLE001
            return

    def place(self, path: Path) -> str:
        """Return the file's URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{self._name(path)}"

    def path(self, place: str) -> Path:
        """Return the path in the driver's folder of a file under the URL; other places are paths already."""
        root = f"{self.place(self.folder).rstrip('/.')}/"
        return self.folder / place.removeprefix(root) if place.startswith(root) else Path(place)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _at(self, path: Path) -> str:
        name = self._name(path)
        return self._root if name == "." else f"{self._root}/{name}"

    def _size(self, at: str) -> int | None:
        from pyarrow.fs import FileType  # noqa: PLC0415

        info = self._fs.get_file_info(at)
        return int(info.size) if info.type == FileType.File else None

    def _put(self, local: Path, path: Path) -> None:
        """Send a file: under another name first where the file system can move, else by one put."""
        at, size = self._at(path), local.stat().st_size
        with _told("write", self.place(path)):
            if not self._moves:
                self._copy(local, at)
                self._check(at, size)
                return
            self._fs.create_dir(at.rpartition("/")[0], recursive=True)
            new = f"{at}.{secrets.token_hex(4)}.part"
            try:
                self._copy(local, new)
                self._check(new, size)
                self._fs.move(new, at)
            except BaseException:
                _quietly(lambda: self._fs.delete_file(new))
                raise

    def _copy(self, local: Path, at: str) -> None:
        with local.open("rb") as file, self._fs.open_output_stream(at) as stream:
            while chunk := file.read(_CHUNK):
                stream.write(chunk)

    def _check(self, at: str, size: int) -> None:
        """Never leave a part of a file for the whole."""
        found = self._size(at)
        if found != size:
            _quietly(lambda: self._fs.delete_file(at))
            raise OSError(f"{found} of {size} bytes arrived")


def _quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001 the first error is the one to tell
        return


@contextmanager
def _told(what: str, place: str) -> Iterator[None]:
    """Turn whatever a file system raises into a StorageError that names the file."""
    try:
        yield
    except Exception as error:
        told = " ".join(str(error).split())[:500] or type(error).__name__
        raise StorageError(f"cannot {what} {place}: {told}") from error


@functools.cache
def _opened(url: str) -> tuple[Any, str, bool]:
    """The file system of a URL, the folder in it, and whether it can move a file."""
    from pyarrow import ArrowInvalid, fs  # noqa: PLC0415

    scheme = urlsplit(url).scheme
    try:
        try:
            system, root = fs.FileSystem.from_uri(url)
        except ArrowInvalid as error:
            if "Unrecognized filesystem type" not in str(error):
                raise
            import fsspec  # noqa: PLC0415

            inner, root = fsspec.core.url_to_fs(url)
            system = fs.PyFileSystem(fs.FSSpecHandler(inner))
    except Exception as error:
        told = " ".join(str(error).split())[:500]
        raise UsageError(
            f"the storage {url} cannot be opened: {type(error).__name__}: {told}", _HOW
        ) from error
    return system, root.rstrip("/"), scheme.partition("+")[0] in _CAN_MOVE


def is_url(place: str) -> bool:
    """Whether a storage is a URL, not a folder."""
    return "://" in place


def check_storage(place: str) -> None:
    """Refuse a URL with a secret in it.

    Raises:
        UsageError: it has one; the message does not repeat it.

    """
    if not is_url(place):
        return
    parts = urlsplit(place)
    user, at, _ = parts.netloc.rpartition("@")
    named = [name for name, _ in parse_qsl(parts.query) if any(word in name.lower() for word in _SECRET)]
    if (at and (":" in user or parts.scheme in {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})) or named:
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        raise UsageError(
            f"the URL of the storage {shown} holds a secret, which process lists and logs would show",
            "Give secrets to the driver and to every node in the environment or in files, as the storage's own "
            "tools read them (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or a role).",
        )


def storage_of(told: Mapping[str, str] | None) -> Storage:
    """The storage that a worker is told of: `url` and `folder`; None: paths as they are."""
    return SHARED if told is None else Remote(told["url"], Path(told["folder"]))


def described(storage: Storage) -> dict[str, str] | None:
    """The inverse of `storage_of`, as plain data."""
    return {"url": storage.url, "folder": str(storage.folder)} if isinstance(storage, Remote) else None
