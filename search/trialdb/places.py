"""Where a trial database lies: URLs, files, and file systems that SQLite cannot trust."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from kdsearch.search.trialdb.errors import DatabaseUrlError

# SQLite's locks and shared memory are not safe across machines on these (sqlite.org/useovernet.html).
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "sshfs"}
)
_KNOWN = "Known: sqlite:///PATH and postgresql://USER@HOST/DATABASE."
_SECRETS = ("password", "secret", "scram_client_key", "scram_server_key")  # in names of libpq's parameters


class NetworkFileSystemWarning(UserWarning):
    """An SQLite database lies on a network file system."""


def parse_url(text: str) -> URL:
    """Read a database URL (`postgresql://` means the psycopg driver); DatabaseUrlError if it is no such URL."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        if "://" in text:  # the text may hold a password: it is not repeated
            raise DatabaseUrlError("the database URL is not well formed", _KNOWN) from None
        raise DatabaseUrlError(
            f"{text!r} is not a database URL", f"Did you mean sqlite:///{text}? {_KNOWN}"
        ) from None
    if url.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _checked_sqlite(url)
    if url.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    raise DatabaseUrlError(f"databases of the kind {url.drivername!r} are not supported", _KNOWN)


def _checked_sqlite(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        raise DatabaseUrlError("a trial database must be a file, so that it outlives the program", _KNOWN)
    if url.host or url.query:
        raise DatabaseUrlError(
            "an SQLite URL is sqlite:/// and a path (four slashes for an absolute one)",
            "Leave out everything else.",
        )
    return url.set(drivername="sqlite", database=str(Path(url.database).expanduser()))


def masked(url: URL) -> str:
    """Return the URL for people: `***` for the password and other secrets, also where they stand in the query."""
    query = {
        key: "***" if any(secret in key.lower() for secret in _SECRETS) else value
        for key, value in url.query.items()
    }
    name = "postgresql" if url.get_backend_name() == "postgresql" else url.drivername
    return url.set(drivername=name, query=query).render_as_string(hide_password=True)


def sqlite_path(url: URL) -> Path | None:
    """Return the file of an SQLite database, None for a server."""
    return Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else None


def server_name(url: URL) -> str:
    """Return a name for files that belong to a server's database: the same for the same place, without a password.

    Who connects is no part of it. A place that is written in another way (127.0.0.1 for localhost) has another name.
    """
    service = url.query.get("service") or os.environ.get("PGSERVICE") or ""
    user = url.username or os.environ.get("PGUSER") or ""
    database = url.database or url.query.get("dbname") or os.environ.get("PGDATABASE") or user
    host = url.host or url.query.get("host") or os.environ.get("PGHOST") or "localhost"
    port = url.port or url.query.get("port") or os.environ.get("PGPORT") or "5432"
    where = json.dumps([service, host, str(port), database]).lower()
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", str(database or service))[:40]
    return f"kdsearch-{readable}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds `path` (resolved), from the text of /proc/self/mountinfo.

    "" if it does not say.
    """
    found, length = "", -1
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not source:  # noqa: PLR2004 - the mount point is the fifth field (man 5 proc)
            continue
        point = Path(fields[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= length:
            found, length = source.split(" ")[0], len(point.parts)
    return found


def warn_of_network(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Warn where an SQLite file lies on a network file system; silent where the system does not tell."""
    try:
        kind = file_system(path.resolve(), mountinfo.read_text())
    except OSError:
        return
    if kind.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS:
        warnings.warn(
            f"{path} is on a network file system ({kind}), where SQLite databases are known to be damaged or "
            "to hang: give a place on a local disk with --db, or use PostgreSQL",
            NetworkFileSystemWarning,
            stacklevel=3,
        )


def parse_sqlite(text: str) -> Path | None:
    """Return the file of a URL of SQLite, None for that of a server; DatabaseUrlError if it is no URL of any kind."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError("the database URL is not well formed", _KNOWN) from None
    return sqlite_path(_checked_sqlite(url)) if url.get_backend_name() == "sqlite" else None


def with_driver(text: str) -> str:
    """Return a URL for other programs' databases, with the driver that kdsearch uses where it names none."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError("the database URL is not well formed", _KNOWN) from None
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


def masked_text(text: str) -> str:
    """Return a URL without its password; a text that is no URL as it stands."""
    try:
        return masked(make_url(text)) if "://" in text else text
    except (ArgumentError, ValueError):
        return "the URL"
