"""Watches the cluster: waits for nodes at the start, follows them while a sweep runs, and says when packs wait in vain.

Imported only inside a Ray session. Ray itself says nothing: a placement group that fits nowhere is pending for ever.
Nodes that join are used at once, since as many packs are handed out as the nodes of the moment have room for; nodes
that leave take their packs along, which the coordinator runs again elsewhere. What no node can place is shown and
written down once an episode, and a sweep that nobody could go on with for long enough ends, to be resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ray
import ray._private.state
from ray.core.generated import gcs_pb2
from ray.util.placement_group import placement_group, remove_placement_group

from kdsearch.search.coordinator import Coordinator
from kdsearch.search.notices import (
    CLUSTER,
    KEPT_OFF,
    LEFT_OUT,
    NO_NODE,
    NODE_LEFT,
    PLACED,
    TAKEN,
    USED,
)
from kdsearch.search.runner import RunnerError
from kdsearch.search.runner_faults import alive_nodes
from kdsearch.search.runner_resources import RayOptions, Slots, bundle_of, counted, fitting, told
from kdsearch.spaces.errors import UsageError

if TYPE_CHECKING:
    from kdsearch.search.runner_probe import Answer, Fleet

PATIENCE_S: Final = 600.0  # that a sweep waits for a node that could run a pack, where nothing else is said
_WORDS: Final = {
    NO_NODE: "nothing runs, since no node of the cluster could run a pack,",
    TAKEN: "{running} of {workers} packs run, since others hold the rest of the nodes,",
    KEPT_OFF: "{running} of {workers} packs run, since those that wait have failed on the nodes that have room,",
}
_LOOK_EVERY_S: Final = 1.0
# a pack that ends and one that begins leave a gap
_GRACE_S: Final = {NO_NODE: 2.0, TAKEN: 10.0, KEPT_OFF: 10.0}
_AGAIN_S: Final = 300.0  # until a node that is not fit is asked once more
_ASK_S: Final = 5.0  # until it is tried again to ask one
_MOST_NODES: Final = 6  # that a message lists
_MOST_DEMANDS: Final = 8  # nodes that are asked for at a time


def wait_for_room(options: RayOptions, say: Callable[[str], None]) -> Slots:
    """Count how many packs fit, and wait `options.wait_s` for a node that one fits on.

    Raises:
        UsageError: a pack fits nowhere, now or by then.

    """
    end, waits = time.monotonic() + options.wait_s, False
    with _demand(options) as ask:
        while True:
            try:
                return counted([node["Resources"] for node in alive_nodes()], options)
            except UsageError as error:
                if time.monotonic() >= end:
                    if options.wait_s:
                        error.message = f"{error.message}, after {options.wait_s:g} s"
                    raise
                if not waits:
                    say(f"waiting for nodes: {error.message}")
                    ask()
                    waits = True
            time.sleep(_LOOK_EVERY_S)


@contextmanager
def _demand(options: RayOptions) -> Iterator[Callable[[], None]]:
    """A pack's resources as a request that an autoscaler sees, from when it is asked until the end."""
    asked: list[Any] = []
    wanted = 0.0 if options.gpus == "auto" else options.gpus
    try:
        yield lambda: asked.append(placement_group([bundle_of(options, wanted)]))
    finally:
        for group in asked:
            remove_placement_group(group)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node as it is now."""

    id: str
    name: str  # its address and the head of its id: several nodes may lie on one machine
    total: Mapping[str, float]
    free: Mapping[str, float]


def look_around() -> list[Node]:
    """The nodes that are alive, with what is free on each."""
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]  # noqa: SLF001
    return [
        Node(
            id=node["NodeID"],
            name=f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})",
            total=node["Resources"],
            free=free.get(node["NodeID"], {}),
        )
        for node in alive_nodes()
    ]


def placed() -> int:
    """How many placement groups of this driver have their place; a pack that is starting has one already."""
    accessor = ray._private.state.state._connect_and_get_accessor()  # noqa: SLF001
    ours = ray.get_runtime_context().get_job_id()
    kind: Any = gcs_pb2
    groups = map(kind.PlacementGroupTableData.FromString, accessor.get_placement_group_table())
    created = kind.PlacementGroupTableData.CREATED
    return sum(group.state == created and group.creator_job_id.hex() == ours for group in groups)


class Watch:
    """Looks at the cluster about once a second while a sweep runs; called on every step of Tune."""

    def __init__(
        self,
        coordinator: Coordinator,
        options: RayOptions,
        slots: Slots,
        tick: Callable[[], None],
        *,
        look: Callable[[], list[Node]] = look_around,
        count_placed: Callable[[], int] = placed,
        fleet: Fleet | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordinator, self._options, self._tick = coordinator, options, tick
        self._look, self._count_placed, self._now = look, count_placed, now
        self._bundle = bundle_of(options, slots.gpus_per_pack)
        self._fits, self._next, self._known = slots.fits, now(), dict[str, str]()
        self._waits: _Episode | None = None
        self._patience_s = options.wait_s or PATIENCE_S
        self._fleet = fleet
        self._avoided: dict[str, str] = {}  # ids of nodes that packs may not go to -> why
        self._again: dict[str, float] = {}  # ids of nodes that were asked -> when to ask once more
        self._demands: list[Any] = []
        # for each pack that waits, the nodes that it may not go to
        self.kept_off: Sequence[Collection[str]] = ()

    @property
    def workers(self) -> int:
        """Packs that may run at a time now."""
        limit = self._options.max_concurrent
        return max(1, self._fits if limit is None else min(limit, self._fits))

    @property
    def room(self) -> int:
        """Packs that may be handed out now, running or waiting for a place.

        One staged for each worker lets Tune hand a finished actor the next pack at once: without it the actor is ended
        and a new process started. Where fewer packs are wanted than fit nothing can be staged, nor where nodes may
        join: it would run beyond the limit.
        """
        limit = self._options.max_concurrent
        if limit is not None and (self._options.address is not None or limit < self._fits):
            return limit
        return 2 * self.workers

    def nodes(self, avoided: Collection[str] = ()) -> list[str] | None:
        """Ids of the nodes that a pack may go to, some left out; None: any."""
        return None if self._fleet is None else sorted(self._fleet.fit - set(avoided))

    def close(self) -> None:
        """Ask for no more nodes."""
        while self._demands:
            remove_placement_group(self._demands.pop())

    def __call__(self) -> None:
        """Look, if it is time.

        Raises:
            RunnerError: no node could have run a pack for longer than the sweep waits.

        """
        if self._now() < self._next:
            return
        self._next = self._now() + _LOOK_EVERY_S
        nodes = self._look()
        self._follow(nodes)
        self._judge(nodes)

    def _follow(self, nodes: Sequence[Node]) -> None:
        """Use the nodes that are there, new ones as soon as they were asked."""
        now = {node.id: node.name for node in nodes}
        if self._known and self._options.address is not None:
            for what, ids in (
                (NODE_LEFT, self._known.keys() - now),
                ("node joined", now.keys() - self._known),
            ):
                for each in sorted(ids):
                    name = now.get(each) or self._known[each]
                    self._coordinator.notices.event(CLUSTER, {"what": what, "node": name})
                    self._coordinator.notices.over(each)
        self._known = now
        if self._fleet is not None:
            self._ask(self._fleet, nodes)
        self._fits = sum(fitting(node.total, self._bundle) for node in nodes if self._useful(node))
        self._coordinator.follow(self.workers)
        self._demand()

    def _useful(self, node: Node) -> bool:
        return self._fleet is None or node.id in self._fleet.fit

    def _ask(self, fleet: Fleet, nodes: Sequence[Node]) -> None:
        """Forget nodes that left, take in what others said, ask those that joined and, after a while, the unfit."""
        there = {node.id for node in nodes}
        fleet.fit &= there
        self._avoided = {each: why for each, why in self._avoided.items() if each in there}
        for answer in fleet.answers():
            if answer.node.id in there:
                self._take(fleet, answer)
        for node in nodes:
            due = node.id not in self._avoided or self._now() >= self._again[node.id]
            asked = node.id in fleet.fit or fleet.is_asked(node.id)
            if not due or asked or fleet.busy or not fitting(node.total, self._bundle):
                continue
            if not fleet.ask(node):
                why = f"it cannot be asked while {fleet.place} cannot be written"
                self._leave_out(node, why, again_s=_ASK_S)

    def _take(self, fleet: Fleet, answer: Answer) -> None:
        """Use the node, or show why not; what changes is written down."""
        node = answer.node
        if answer.wrong:
            self._leave_out(node, "; ".join(answer.wrong), again_s=_AGAIN_S)
            return
        fleet.fit.add(node.id)
        if self._avoided.pop(node.id, None) is not None:
            self._coordinator.notices.event(CLUSTER, {"what": USED, "node": node.name})
            self._coordinator.notices.over(node.id)
            self._tick()

    def _leave_out(self, node: Node, why: str, *, again_s: float) -> None:
        before, self._avoided[node.id] = self._avoided.get(node.id), why
        self._again[node.id] = self._now() + again_s
        if why != before:
            told = {"what": LEFT_OUT, "node": node.name, "reason": why}
            self._coordinator.notices.event(CLUSTER, told)
            self._coordinator.notices.show(node.id, f"node {node.name} is not used: {why}")
            self._tick()

    def _demand(self) -> None:
        """Ask an autoscaler for the nodes that are missing: packs themselves name the nodes that they may go to."""
        limit = self._options.max_concurrent
        missing = 0 if limit is None or not self._options.wait_s else min(limit - self._fits, _MOST_DEMANDS)
        for group in [each for each in self._demands if each.wait(0)]:  # a node is there: it is the packs'
            self._demands.remove(group)
            remove_placement_group(group)
        while len(self._demands) > max(0, missing):
            remove_placement_group(self._demands.pop())
        while len(self._demands) < missing:
            self._demands.append(placement_group([self._bundle]))

    def _judge(self, nodes: Sequence[Node]) -> None:
        """Say what waits for a place, and end the sweep if that has no end."""
        running, waiting = self._coordinator.packs
        free = [node for node in nodes if self._useful(node) and fitting(node.free, self._bundle)]
        if not waiting or running >= self.workers:
            self._over()
        elif not self._fits:
            if not running:
                self._wait(nodes, running, NO_NODE)
        elif any(self._wanted(node) for node in free) or self._count_placed() >= self.workers:
            self._over()
        else:
            self._wait(nodes, running, KEPT_OFF if free else TAKEN)

    def _wanted(self, node: Node) -> bool:
        """Whether a pack that waits may go to a node."""
        return not self.kept_off or any(node.id not in each for each in self.kept_off)

    def _wait(self, nodes: Sequence[Node], running: int, why: str) -> None:
        now = self._now()
        if self._waits is None:
            self._waits = _Episode(why, since=now, begun=now)
        elif self._waits.why != why:  # they wait on, for another reason
            self._waits = _Episode(why, since=now, begun=self._waits.begun, shown=self._waits.shown)
        lasts = now - self._waits.since
        if lasts < _GRACE_S[why]:
            return
        needs = told(self._bundle)
        if not self._waits.told:
            self._waits.told = self._waits.shown = True
            self._coordinator.notices.event(
                CLUSTER,
                {
                    "what": why,
                    "needs": self._bundle,
                    "running": running,
                    "nodes": [{"node": n.name, "total": n.total, "free": n.free} for n in nodes],
                },
            )
        text = f"{_WORDS[why].format(running=running, workers=self.workers)} for {lasts:.0f} s: a pack takes {needs}; "
        text += _listed(nodes, free=why != NO_NODE, avoided=self._avoided)
        self._coordinator.notices.show(CLUSTER, text)
        self._tick()
        if why == NO_NODE and lasts > self._patience_s:
            raise RunnerError(
                f"no node could run a pack for {lasts:.0f} s: a pack takes {needs}; "
                f"{_listed(nodes, free=False, avoided=self._avoided)}",
                "`kdsearch resume` goes on when such nodes are there; --wait-for-nodes SECONDS (inf: for ever) waits "
                "longer for them.",
            )

    def _over(self) -> None:
        if self._waits is not None and self._waits.shown:
            waited = self._now() - self._waits.begun
            self._coordinator.notices.event(CLUSTER, {"what": PLACED, "waited_s": round(waited, 1)})
            self._coordinator.notices.over(CLUSTER)
            self._tick()
        self._waits = None


@dataclass
class _Episode:
    """Packs have been waiting without a break."""

    why: str
    since: float  # for this reason
    begun: float  # for any
    told: bool = False  # this reason
    shown: bool = False  # any


def _listed(nodes: Sequence[Node], *, free: bool, avoided: Collection[str]) -> str:
    """What each node has, or has free."""
    if not nodes:
        return "there is no node"
    parts = [
        f"{node.name} has {told(node.free if free else node.total)}{' free' if free else ''}"
        f"{', but is not used' if node.id in avoided else ''}"
        for node in nodes[:_MOST_NODES]
    ]
    return "; ".join(parts) + (f"; {len(nodes) - len(parts)} more nodes" if len(nodes) > len(parts) else "")


__all__ = [
    "CLUSTER",
    "NO_NODE",
    "PATIENCE_S",
    "TAKEN",
    "Node",
    "Watch",
    "look_around",
    "wait_for_room",
]
