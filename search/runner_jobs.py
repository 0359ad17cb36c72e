"""Ray's Jobs API: submit a job, follow its log, say how it ended. The client may end at any time; the job goes on.

The address is that of the head's dashboard, `http://HOST:8265`. Whether it lets strangers in, and with which token it
lets us in, is asked by `runner_access` before Ray is imported, which reads its mode once a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from kdsearch.search.runner import RunnerError
from kdsearch.search.runner_access import access
from kdsearch.search.submission import DATABASE, HOST, PREFIX, SWEEP, USER, Submission, job_id
from kdsearch.search.variables import variables_set
from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.printable import printable

DASHBOARD_PORT = 8265
_CONNECT_S = 5.0
_LOST_S = 60.0  # without an answer of the head, until a client gives up on the log
_LOOK_EVERY_S = 1.0
_SILENT_S = 30.0  # of a log, until it is asked whether the head is still there
_STOP_S = "60"  # a driver that is stopped may write what it has, and give its lease back, for so long
_CHATTY = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")  # told at INFO
_NO_ADDRESS = {
    "RAY_ADDRESS": None,
    "RAY_API_SERVER_ADDRESS": None,
}  # which Ray prefers to the one that is given
_TRIES = 5  # of two clients that submit the same sweep at once


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of the cluster as it stands."""

    id: str
    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED
    message: str
    exit_code: int | None  # of the driver; negative: the signal that killed it
    metadata: Mapping[str, str]
    began: datetime | None

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.status in {"STOPPED", "SUCCEEDED", "FAILED"}

    @property
    def code(self) -> int:
        """What a client ends with: the driver's exit code; 130 for a job that was stopped, 1 for one killed."""
        if self.status == "STOPPED":
            return 130
        if self.exit_code is None or self.exit_code < 0:
            return int(self.status != "SUCCEEDED")
        return self.exit_code

    def told(self) -> str:
        """Who submitted it, from where, and when."""
        who = self.metadata.get(USER, "somebody")
        where = f" on {self.metadata[HOST]}" if HOST in self.metadata else ""
        when = f" at {self.began:%Y-%m-%d %H:%M} UTC" if self.began else ""
        return f"job {self.id}, submitted by {who}{where}{when}"


class JobRunsError(UsageError):
    """The sweep is being run by another job."""


def jobs_url(address: str) -> str:
    """The URL of a cluster's Jobs API.

    Raises:
        UsageError: the address is no such URL.

    """
    text = address if "://" in address else f"http://{address}"
    parts = urlsplit(text)
    try:
        port = parts.port or (443 if parts.scheme == "https" else DASHBOARD_PORT)
    except ValueError:
        port = 0
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port or parts.username is not None:
        raise UsageError(
            f"--address {address!r} is no address of a Jobs API",
            f"It is that of the head's dashboard, such as http://HEAD:{DASHBOARD_PORT}.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


class Jobs:
    """The jobs of one cluster.

    Raises, from every method:
        RunnerError: the head does not answer, or answers with an error.
        UsageError: it asks for a token, or for another one, or is open to strangers.

    """

    def __init__(self, address: str, *, allow_open: bool = False) -> None:
        self.address = jobs_url(address)
        _check_installed()
        _probe(self.address)
        variables = access(self.address, allow_open=allow_open)
        with variables_set({**variables, **_NO_ADDRESS}), _told(self.address):
            from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

            for name in _CHATTY:
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client: Any = JobSubmissionClient(self.address)

    def submit(self, submission: Submission) -> Job:
        """Upload and start a sweep, unless a job runs it.

        Raises:
            JobRunsError: one does.

        """
        for _ in range(_TRIES):
            jobs = self.all()
            self._check_free(submission, jobs)
            name = job_id(submission.name, {job.id for job in jobs})
            try:
                self._start(submission, name)
            except RunnerError as error:
                if "already exists" not in error.message:
                    raise
                continue  # another client was faster: look again whose job it is
            return self.job(name)
        raise RunnerError(f"no job of sweep {submission.name} could be started", "Try again.")

    def all(self) -> list[Job]:
        """Every job that was submitted to the cluster, as far as it remembers."""
        with _told(self.address):
            found = self._client.list_jobs()
        return [_job(each) for each in found if each.submission_id]

    def job(self, name: str) -> Job:
        """One job.

        Raises:
            UsageError: there is none of that id.

        """
        try:
            with _told(self.address):
                return _job(self._client.get_job_info(name))
        except RunnerError as error:
            if "does not exist" not in error.message:
                raise
            known = ", ".join(job.id for job in self.all() if job.id.startswith(PREFIX)) or "none"
            raise UsageError(
                f"{self.address} knows no job {name!r}", f"Jobs of kdsearch there: {known}."
            ) from None

    def follow(self, name: str, write: Callable[[str], None]) -> Job:
        """Hand over a job's log from its beginning as it grows, until the job ends; the job as it ended."""
        seen, heard = 0, monotonic()
        while True:
            try:
                seen = self._tail(name, seen, write)
                job = self.job(name)
                heard = monotonic()
                if job.ended:
                    with _told(self.address):
                        write(str(self._client.get_job_logs(name))[seen:])
                    return job
            except RunnerError:
                if monotonic() - heard > _LOST_S:
                    raise
            sleep(_LOOK_EVERY_S)

    def stop(self, name: str) -> Job:
        """Have a job stopped, which may take a minute; the job as it ended."""
        with _told(self.address):
            self._client.stop_job(name)
        while not (job := self.job(name)).ended:
            sleep(_LOOK_EVERY_S)
        return job

    def _tail(self, name: str, seen: int, write: Callable[[str], None]) -> int:
        """Hand over what is behind `seen` characters, until the stream ends; the characters seen then."""
        count = 0

        async def tail() -> None:
            nonlocal count, seen
            async for text in _watched(self._client.tail_job_logs(name), lambda: _probe(self.address)):
                count += len(text)
                if count > seen:
                    write(text[len(text) - (count - seen) :])
                    seen = count

        with contextlib.suppress(RunnerError), _told(self.address):  # the head may be back in a moment
            asyncio.run(tail())
        return seen

    def _check_free(self, submission: Submission, jobs: list[Job]) -> None:
        mine = (submission.name, submission.database)
        for job in jobs:
            if not job.ended and (job.metadata.get(SWEEP), job.metadata.get(DATABASE)) == mine:
                raise JobRunsError(
                    f"sweep {submission.name} is being run by {job.told()}",
                    f"Follow it with: kdsearch submit --follow {job.id} --address {self.address}",
                )

    def _start(self, submission: Submission, name: str) -> None:
        with tempfile.TemporaryDirectory(prefix="kdsearch-submit-") as folder:
            for path, content in submission.files.items():
                place = Path(folder) / path
                place.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, str):
                    place.write_text(content, encoding="utf-8")
                else:
                    place.write_bytes(content.read_bytes())
            with _told(self.address):
                self._client.submit_job(
                    entrypoint=submission.entrypoint,
                    submission_id=name,
                    runtime_env={"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": _STOP_S}},
                    metadata=dict(submission.metadata),
                )


async def _watched(stream: AsyncIterator[str], look: Callable[[], None]) -> AsyncIterator[str]:
    """Hand over what a stream brings; where it is silent for long, look whether there is still somebody at its end."""
    waiting = asyncio.ensure_future(anext(stream))
    while True:
        done, _ = await asyncio.wait({waiting}, timeout=_SILENT_S)
        if not done:
            look()
            continue
        try:
            text = waiting.result()
        except StopAsyncIteration:
            return
        waiting = asyncio.ensure_future(anext(stream))
        yield text


def _job(details: Any) -> Job:
    began = details.start_time
    return Job(
        id=str(details.submission_id),
        status=str(getattr(details.status, "value", details.status)),
        message=printable(details.message or ""),
        exit_code=details.driver_exit_code,
        metadata={key: printable(value) for key, value in (details.metadata or {}).items()},
        began=None if began is None else datetime.fromtimestamp(began / 1000, UTC),
    )


def _check_installed() -> None:
    """Refuse to go on without the parts of Ray that talk to the Jobs API."""
    if find_spec("aiohttp") is None or find_spec("requests") is None:
        raise UsageError(
            "kdsearch submit needs Ray's Jobs API, which is not installed",
            f'Install it with: pip install "ray[default]=={version("ray")}"',
        )


def _probe(url: str) -> None:
    """Refuse an address where nothing listens: Ray's client would wait for ever."""
    parts = urlsplit(url)
    try:
        socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise RunnerError(
            f"nothing answers at {url}: {error.strerror or error}",
            "Is the cluster up, and is this its dashboard? Where it listens on the head's localhost alone, make a "
            f"tunnel first: ssh -L {DASHBOARD_PORT}:localhost:{DASHBOARD_PORT} HEAD, and --address "
            f"http://localhost:{DASHBOARD_PORT}.",
        ) from None


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    """Tell the errors of Ray's client, and of what it is made of, in this module's words; no proxy learns the token."""
    from aiohttp import ClientError  # noqa: PLC0415 comes with the extra
    from ray.exceptions import AuthenticationError  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415 likewise

    host = str(urlsplit(address).hostname)
    try:
        with variables_set({"NO_PROXY": host, "no_proxy": host}):
            yield
    except AuthenticationError as error:
        raise _refused(address) from error
    except ClientError as error:
        if getattr(error, "status", None) in {401, 403}:
            raise _refused(address) from error
        raise RunnerError(f"the Jobs API at {address} does not answer: {_short(error)}") from error
    except (RequestException, ConnectionError, RuntimeError, TimeoutError) as error:
        raise RunnerError(f"the Jobs API at {address} does not answer: {_short(error)}") from error


def _refused(address: str) -> UsageError:
    return UsageError(
        f"the cluster at {address} refuses the token that it took before, or none",
        "Set RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token (mode 0600).",
    )


def _short(error: Exception) -> str:
    """An error's last line, in which a traceback of the head says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[-1] if lines else ""
    return f"{type(error).__name__}: {told[:500]}"


__all__ = ["Job", "JobRunsError", "Jobs", "jobs_url"]
