"""Faults as Ray Tune meets them: what an error says, packs that are silent, nodes to keep away from.

Imported only inside a Ray session.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray._private.state
from ray._private import worker
from ray.experimental.internal_kv import (
    _initialize_internal_kv,
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_initialized,
)

from kdsearch.search.failures import Cause, Failure, Place
from kdsearch.trainables.ray_adapter import LAST_WORDS
from kdsearch.trainables.watchdog import GRACE_S

CouldHost = Callable[[Mapping[str, Any]], bool]  # whether a node with these resources has what a pack takes
_LOG = logging.getLogger(__name__)
SHOWN = 8000  # characters of a failure that are kept
_NODE_ID = "ray.io/node-id"  # the label that Ray gives every node
# How Ray says that a node is gone; "unavailable" comes first, up to 15 s before the node is known to be dead, while a
# process that ends alone is told as such.
_NODE_GONE = ("node has died", "node was terminated", "NodeDiedError", "preempted", "unavailable")


def alive_nodes() -> list[Mapping[str, Any]]:
    """Ray's nodes that are alive."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in found if node["Alive"]]


def place_of(trial: Any) -> Place | None:
    """Where a Tune trial's actor is, by Ray's table of actors: a worker that hangs need not answer. None if unknown."""
    actor = trial.temporary_state.ray_actor
    try:
        node = str(ray._private.state.actors(actor._actor_id.hex())["Address"]["NodeID"])  # noqa: SLF001
        return Place(host=_host_of(node), node=node)
    except Exception:  # noqa: BLE001 it is gone, or its node: what comes of that is seen with its first result
        return None


@functools.cache
def _host_of(node: str) -> str:
    """The name of the machine that a node lies on."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return str(next(each["NodeManagerHostname"] for each in found if each["NodeID"] == node))


def failure_of(trial: Any, job_key: str, place: Place | None) -> Failure:
    """Why a Tune trial's actor is gone, from its own last words, Ray's error, and whether its node is alive."""
    words = _last_words(job_key)
    if words is not None:
        return Failure(reason=shortened(words), cause=Cause.LIMIT)
    error = _error_text(trial)
    gone = place is not None and place.node not in {node["NodeID"] for node in alive_nodes()}
    if gone or any(sign in error for sign in _NODE_GONE):
        return Failure(reason=shortened(f"its node is gone or cannot be reached: {error}"), cause=Cause.NODE)
    told = "the worker process ended" + (f": {error}" if error else "")
    return Failure(reason=shortened(told), cause=Cause.WORKER)


def _last_words(job_key: str) -> str | None:
    """What a watchdog said before it ended its process; told once. None also where Ray's store does not answer."""
    with contextlib.suppress(Exception):
        found: bytes | None = _internal_kv_get(job_key, namespace=LAST_WORDS)
        if found is not None:
            _internal_kv_del(job_key, namespace=LAST_WORDS)
            return bytes(found).decode("utf-8", "replace")
    return None


def listen_for_last_words() -> None:
    """Be ready to read them: a cluster that this process shut down has closed the way to Ray's store."""
    if not _internal_kv_initialized():  # type: ignore[no-untyped-call]
        here: Any = worker.global_worker
        _initialize_internal_kv(here.gcs_client)


def _error_text(trial: Any) -> str:
    """Ray's words, from the file that Tune wrote them to."""
    name: str | None = trial.run_metadata.error_filename
    if name is None or not trial.local_path:
        return ""
    with contextlib.suppress(OSError):
        text: str = (Path(trial.local_path) / name).read_text(encoding="utf-8", errors="replace")
        return text.strip()
    return ""


def end_actor(actor: Any) -> None:
    """End an actor that Tune gave up: behind a broken connection it may train on."""
    with contextlib.suppress(Exception):
        ray.kill(actor)


def avoidable(avoid: Collection[str], could_host: CouldHost) -> list[str]:
    """The nodes to avoid, as long as another one could host the pack; none otherwise."""
    if not avoid or not any(n["NodeID"] not in avoid and could_host(n["Resources"]) for n in alive_nodes()):
        return []
    return sorted(avoid)


def selector(avoid: Sequence[str], *, among: Sequence[str] | None = None) -> list[dict[str, str]] | None:
    """The label selector that keeps a pack off nodes, or on those of a fleet; None where it may go anywhere."""
    if among is not None:
        return [{_NODE_ID: f"in({','.join(among or ('none',))})"}]
    return [{_NODE_ID: f"!in({','.join(avoid)})"}] if avoid else None


@contextlib.contextmanager
def raylet_logged() -> Iterator[None]:
    """Send what Ray would print of workers and nodes that end to the log: standard output may be a file of JSON.

    `log_to_driver=False` does not keep Ray from it, and what befalls a trial is told by ourselves.
    """
    name = "print_to_stdstream"
    before = getattr(worker, name, None)
    if before is None:
        yield
        return
    setattr(worker, name, lambda data, *_, **__: _LOG.debug("%s", "\n".join(data.get("lines", ()))))
    try:
        yield
    finally:
        setattr(worker, name, before)


class Silence:
    """Kills the actors of packs that have been silent for longer than their own watchdog would have allowed."""

    def __init__(self, epoch_limit_s: float | None, clock: Callable[[], float]) -> None:
        """epoch_limit_s: seconds of an epoch; None: packs may be silent. clock: monotonic, in seconds."""
        self._allowed_s = None if epoch_limit_s is None else epoch_limit_s + 2 * GRACE_S
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._killed: set[str] = set()

    def heard(self, trial_id: str) -> None:
        """A pack has begun, or told of an epoch."""
        if self._allowed_s is not None:
            self._heard[trial_id] = self._clock()

    def ended(self, trial_id: str) -> None:
        """A pack is no longer awaited."""
        self._heard.pop(trial_id, None)

    def killed(self, trial_id: str) -> Failure | None:
        """Why a pack's actor was killed here; None if it was not. Told once."""
        if trial_id not in self._killed:
            return None
        self._killed.discard(trial_id)
        told = (
            f"nothing was heard of it for {self._allowed_s:g} s, long past run.epoch_limit_s: it was killed"
        )
        return Failure(reason=told, cause=Cause.LIMIT)

    def look(self, trials: Iterable[Any]) -> None:
        """Kill the actors of those that are overdue; their end comes back as an error."""
        if self._allowed_s is None or not self._heard:
            return
        now = self._clock()
        overdue = {name for name, heard in self._heard.items() if now - heard > self._allowed_s}
        for trial in trials if overdue else ():
            if trial.trial_id in overdue:
                self._heard.pop(trial.trial_id)
                self._killed.add(trial.trial_id)
                ray.kill(trial.temporary_state.ray_actor)


def shortened(reason: str) -> str:
    """The message of a failure: its head and its tail."""
    if len(reason) <= SHOWN:
        return reason
    half = SHOWN // 2
    return f"{reason[:half]}\n...\n{reason[-half:]}"
