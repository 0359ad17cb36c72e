"""A sweep as a job for somewhere else: what is uploaded, what is run there, and what the job is known by. No Ray here.

Uploaded is the sweep as it was checked here, and the files that it names, in a folder `submitted/`; never the folder
that the command was given in. Ray unpacks it on every node and deletes it with the job, so the job copies it into a
folder of its node that stays, and works there: reports, an SQLite database and checkpoints outlive the job. Paths in
the sweep are relative, and lead to the same files in both folders.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdsearch.search.config import SweepFile, parse_sweep
from kdsearch.search.masking import holds_password
from kdsearch.search.masking import masked as masked_text
from kdsearch.search.trialdb.places import masked, parse_url, sqlite_path
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.table.known import known_table

FOLDER = "submitted"
WORK_VARIABLE = "KDSEARCH_WORK"  # read on the node where a job runs: the folder it works in
DEFAULT_WORK = "$HOME/kdsearch"
PREFIX = "kdsearch"
MOST_BYTES = 400 * 2**20  # Ray refuses packages of more than 512 MiB

# metadata of a job, all strings
SWEEP, DATABASE, USER, HOST, VERSION = (
    f"{PREFIX}.{key}" for key in ("sweep", "database", "user", "host", "version")
)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How the sweep runs over there; paths are those of the cluster's nodes."""

    db: str | None = None  # None: as the cluster's environment says
    options: Sequence[str] = ()  # of `kdsearch sweep`, as words


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A sweep, ready to be uploaded."""

    name: str
    database: str  # masked; "" for the cluster's own
    entrypoint: str
    files: Mapping[str, Path | str]  # by path in the upload: where each lies here, or its text
    metadata: Mapping[str, str]


def make_submission(
    sweep: SweepFile, kind: str, job: JobOptions, *, user: str, host: str, version: str
) -> Submission:
    """Make a job of a sweep. kind: the command that runs it, `sweep` or `refine`.

    Raises:
        UsageError: the sweep cannot run elsewhere, or what it names is too much to upload.

    """
    database = _checked_database(job.db)
    for word in job.options:
        if holds_password(word):
            raise UsageError(
                f"{masked_text(word)} holds a password, and all who reach the cluster's Jobs API could read it there",
                "Leave it out, and give it to the cluster's nodes: cloud storage has credentials of its own.",
            )
    sent, files = _with_files(sweep)
    text = yaml.safe_dump(sent.resolved(), sort_keys=False, allow_unicode=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    path = f"{FOLDER}/{sweep.name}-{digest}.yaml"
    return Submission(
        name=sweep.name,
        database=database,
        entrypoint=_entrypoint(kind, path, sweep.name, job),
        files={path: text, **files},
        metadata={SWEEP: sweep.name, DATABASE: database, USER: user, HOST: host, VERSION: version},
    )


def _checked_database(db: str | None) -> str:
    """Refuse a URL that the job cannot use as it is; what is left may be seen by everybody on the cluster."""
    if db is None:
        return ""
    url = parse_url(db)
    if holds_password(db):
        raise UsageError(
            f"{masked(url)} holds a password, and all who reach the cluster's Jobs API could read it there",
            "Give the URL without it, and the password to the cluster: PGPASSFILE, or PGPASSWORD, or leave --db out "
            "and set KDSEARCH_DB_FILE there to a file with the whole URL (docs/deploying.md).",
        )
    path = sqlite_path(url)
    if path is not None and not Path(url.database or "").is_absolute():
        raise UsageError(
            f"{db} is a path from the current folder, which is not the job's",
            f"Give an absolute path on the head node (sqlite:////PATH), or leave --db out: then the file kdsearch.db "
            f"in the job's folder, ${WORK_VARIABLE} or {DEFAULT_WORK} over there, is taken.",
        )
    return masked(url)


def _entrypoint(kind: str, path: str, name: str, job: JobOptions) -> str:
    """The shell command that a job runs: nobody who reads it learns a secret."""
    database = [] if job.db is None else ["--db", job.db]
    words = ["kdsearch", kind, path, "--name", name, "--or-resume", "--address", "auto"]
    command = shlex.join([*words, *database, *job.options])
    return (
        f'work="${{{WORK_VARIABLE}:-{DEFAULT_WORK}}}" && mkdir -p "$work" && cp -R {FOLDER} "$work" && '
        f'cd "$work" && exec {command}'
    )


def _with_files(sweep: SweepFile) -> tuple[SweepFile, dict[str, Path | str]]:
    """The sweep with the files that it names here at their paths in the upload, and these files."""
    found: dict[str, Path | str] = {}
    settings = _moved(sweep.trainable.settings(), found)
    _check_table(settings)
    size = sum(path.stat().st_size for path in found.values() if isinstance(path, Path))
    if size > MOST_BYTES:
        raise UsageError(
            f"the files that the sweep names are {size / 2**20:,.0f} MiB, and {MOST_BYTES // 2**20} can be uploaded",
            "Put them where every node finds them, such as the data root, and name them by their path there.",
        )
    if not found:
        return sweep, found
    trainable = {"kind": sweep.trainable.kind, **settings}
    return parse_sweep({**sweep.resolved(), "trainable": trainable}, f"sweep {sweep.name}"), found


def _moved(settings: Mapping[str, Any], found: dict[str, Path | str]) -> dict[str, Any]:
    """Settings with the files that are here at their new paths; others are taken for paths of the cluster."""
    moved: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            moved[key] = _moved(value, found)
        elif key == "file" and isinstance(value, str):
            moved[key] = _new_path(value, found)
        else:
            moved[key] = value
    return moved


def _new_path(file: str, found: dict[str, Path | str]) -> str:
    path = Path(file).expanduser()
    if known_table(file) is not None or not path.is_file():
        return file
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    new = f"{FOLDER}/{content}/{path.name}"
    found[new] = path
    return new


def _check_table(settings: Mapping[str, Any]) -> None:
    """Refuse a table that is made of a database of this machine."""
    db = settings.get("db")
    if isinstance(db, str) and sqlite_path(parse_url(db)) is not None:
        raise UsageError(
            f"trainable.db is {db}, a file of this machine",
            "Write the sweep to a table with `kdsearch table`, and name that as trainable.file: it is uploaded.",
        )


def job_id(name: str, taken: set[str]) -> str:
    """The id of a sweep's next job: kdsearch-NAME-1, -2, ...; Ray never takes an id twice.

    >>> job_id("s", {"kdsearch-s-1", "kdsearch-s-x", "kdsearch-s-2-1"})
    'kdsearch-s-2'
    """
    pattern = re.compile(rf"{re.escape(f'{PREFIX}-{name}-')}(\d+)")
    numbers = [int(found[1]) for each in taken if (found := pattern.fullmatch(each))]
    return f"{PREFIX}-{name}-{max(numbers, default=0) + 1}"
