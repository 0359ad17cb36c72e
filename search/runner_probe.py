"""Probes the nodes of a cluster: each one that could host a pack has the code, the data and the storage, or is named.

A small task runs on every such node, a few at a time, and is told in what a node differs from the driver; a node that
joins later is asked in the same way before any pack goes there. Imported only inside a Ray session.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdsearch.search.runner_faults import alive_nodes
from kdsearch.search.runner_resources import RayOptions, Slots, bundle_of, fitting
from kdsearch.search.runner_watch import Node, look_around
from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.trainables.node_check import differences, look
from kdsearch.trainables.storage import Storage, StorageError, storage_of

PATIENCE_S: Final = 600.0  # for one node's answer: it may have to read a large data set for the first time
AT_A_TIME: Final = 8
_SLOW_S: Final = 60.0  # for an answer; then others are asked meanwhile
_MOST_SHOWN: Final = 5
_HOW: Final = (
    "Every node needs the same image, or --ship-code; data under --data-root or the node's KDSEARCH_DATA; and a "
    "--storage that all of them reach. docs/cluster.md says how to set them up."
)


@dataclass(frozen=True)
class Answer:
    """What a node said; `wrong`: why no pack can go there."""

    node: Node
    wrong: tuple[str, ...] = ()
    storage: str | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


class Fleet:
    """The nodes that were asked, and what all of them are asked."""

    def __init__(
        self,
        told: Mapping[str, Any],
        expected: Mapping[str, Any],
        *,
        sign: Path | None,
        needs_storage: bool,
    ) -> None:
        """told: as for `node_check.look`; expected: what it says on the driver, `contents` None if it has no data.

        sign: the file in the storage that nodes are asked for, if they are. needs_storage: without it no pack can run.
        """
        self._told, self._expected = dict(told), dict(expected)
        self._storage: Storage = storage_of(told["storage"])
        self._needs_storage = needs_storage
        self._sign, self._word = sign, secrets.token_hex(16)
        self.fit: set[str] = set()  # ids of nodes that packs may go to
        self._asked: dict[str, tuple[Node, Any, float]] = {}

    def check(self, nodes: Sequence[Node]) -> list[Answer]:
        """Ask nodes and wait for their answers.

        Raises:
            UsageError: one or more of them cannot run packs; the message names them.

        """
        answers, waiting = list[Answer](), list(nodes)
        while waiting or self._asked:
            while waiting and not self.busy:
                if not self.ask(waiting.pop(0)):
                    raise UsageError(
                        f"{self.place} cannot be written", "Give a --storage that can be written to."
                    )
            answers += self.answers(wait_s=1.0)
        left = {node.id for node in nodes} - {each["NodeID"] for each in alive_nodes()}
        answers = self._agreed([answer for answer in answers if answer.node.id not in left])
        if not answers:
            raise UsageError(
                "all nodes that a pack fits on left while they were asked", "`ray status` tells more."
            )
        bad = [answer for answer in answers if answer.wrong]
        if bad:
            raise _refusal(bad, len(answers))
        self.fit |= {answer.node.id for answer in answers}
        return answers

    @property
    def place(self) -> str:
        """Where the storage is that nodes are asked for."""
        return "the storage" if self._sign is None else self._storage.place(self._sign.parent)

    def ask(self, node: Node) -> bool:
        """Send a node the question; False, and nothing is sent, if the storage cannot be written just now."""
        if self._sign is not None and not self._asked:
            try:
                self._storage.write(self._sign, self._word.encode())
            except (OSError, KdsearchError):
                return False
        told = {**self._told, "sign": None if self._sign is None else str(self._sign), "word": self._word}
        told["mine"] = (
            None if self._sign is None else str(self._sign.with_name(f"{self._sign.name}-{node.id}"))
        )
        here = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        task = ray.remote(look).options(num_cpus=0, max_retries=1, scheduling_strategy=here)
        self._asked[node.id] = (node, task.remote(told), time.monotonic())
        return True

    def answers(self, *, wait_s: float = 0.0) -> list[Answer]:
        """What nodes that were asked have said by now."""
        if not self._asked:
            return []
        refs = {ref: node_id for node_id, (_, ref, _) in self._asked.items()}
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=wait_s)
        found = [self._answer(refs[ref]) for ref in ready]
        for node_id, (node, ref, asked) in list(self._asked.items()):
            if time.monotonic() - asked > PATIENCE_S:
                ray.cancel(ref, force=True)
                del self._asked[node_id]
                found.append(Answer(node, (f"it did not answer in {PATIENCE_S:g} s",)))
        if self._sign is not None and not self._asked:
            self._storage.delete(self._sign)
        return found

    @property
    def busy(self) -> bool:
        """Whether as many nodes are asked as may be at a time; one that takes long keeps no other waiting."""
        now = time.monotonic()
        return sum(now - asked < _SLOW_S for _, _, asked in self._asked.values()) >= AT_A_TIME

    def is_asked(self, node_id: str) -> bool:
        """Whether a node's answer is awaited."""
        return node_id in self._asked

    def _answer(self, node_id: str) -> Answer:
        node, ref, _ = self._asked.pop(node_id)
        try:
            found = ray.get(ref)
        except (RayError, ImportError, AttributeError) as error:
            return Answer(node, (_explained(error),))
        storage = found["storage"]
        if self._sign is not None and storage is None:
            storage = self._read_back(node_id)
        return self._judged(node, storage, found)

    def _judged(self, node: Node, storage: str | None, found: Mapping[str, Any]) -> Answer:
        wrong = differences(found, self._expected)
        if storage is not None and self._needs_storage:
            wrong.append(storage)
        return Answer(node, tuple(wrong), storage, found)

    def _agreed(self, answers: list[Answer]) -> list[Answer]:
        """Where the driver has no data, all nodes must have the same."""
        told = [a for a in answers if a.found.get("contents") is not None]
        if self._expected["contents"] is not None or not told:
            return answers
        self._expected |= {"contents": told[0].found["contents"], "where": f"on node {told[0].node.name}"}
        return [self._judged(a.node, a.storage, a.found) if a.found else a for a in answers]

    def _read_back(self, node_id: str) -> str | None:
        assert self._sign is not None  # noqa: S101 asked for
        path = self._sign.with_name(f"{self._sign.name}-{node_id}")
        try:
            found = self._storage.exists(path)
        except StorageError as error:
            return f"the driver {error.message}"
        if not found:
            return f"the driver does not find what it wrote at {self._storage.place(path)}: the folder is not shared"
        self._storage.delete(path)
        return None


def _explained(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "No module named 'kdsearch" in text or "cannot import" in text:
        return "kdsearch is not installed there, or an earlier version is"
    return f"it could not be asked: {text[:300]}"


def _refusal(bad: Sequence[Answer], asked: int) -> UsageError:
    lines = [f"{answer.node.name}: {'; '.join(answer.wrong)}" for answer in bad[:_MOST_SHOWN]]
    more = f"\n  and {len(bad) - len(lines)} more" if len(bad) > len(lines) else ""
    listed = "\n  ".join(lines)
    return UsageError(
        f"{len(bad)} of {asked} node{'s' * (asked != 1)} cannot run packs of this sweep:\n  {listed}{more}",
        _HOW,
    )


def assembled(
    told: Mapping[str, Any],
    expected: Mapping[str, Any],
    options: RayOptions,
    slots: Slots,
    *,
    sign: Path | None,
    needs_storage: bool,
    say: Callable[[str], None],
) -> tuple[Fleet, list[Answer]]:
    """Ask all nodes that could host a pack; the fleet, and their answers.

    Raises:
        UsageError: one of them cannot run packs.

    """
    bundle = bundle_of(options, slots.gpus_per_pack)
    nodes = [node for node in look_around() if fitting(node.total, bundle)]
    say(f"asking {len(nodes)} node{'s' * (len(nodes) != 1)} for code, data and storage ...")
    fleet = Fleet(told, expected, sign=sign, needs_storage=needs_storage)
    return fleet, fleet.check(nodes)
