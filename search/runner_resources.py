"""What a pack takes of a node, how many packs fit, and what is said where none does. Without Ray.

A pack lies on one node whole. So it is counted node by node, with every resource that it takes: CPU cores, GPUs or
fractions of them, memory, and the resources that nodes were given names for (`ray start --resources`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from kdsearch.spaces.errors import UsageError

_NODE: Final = "node:"  # the prefix under which Ray lists each node as a resource of its own
_HEAD: Final = "node:__internal_head__"
_HIDDEN: Final = "object_store_memory"
_OF_A_GROUP: Final = "_group_"  # in names of what a pack has taken of a node
_MOST_NODES: Final = 6  # that a message lists
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """How to reach Ray and what a pack takes from it."""

    address: str | None  # None: a cluster of our own on this machine
    cpus: float
    gpus: float | Literal["auto"]
    max_concurrent: int | None
    data_root: Path | None
    resources: Mapping[str, float] = field(default_factory=dict)  # of a pack, beside cores and GPUs
    drivers_root: Path | None = None  # of data, for nodes that have none of their own, where none is given
    ship_code: bool = False  # send kdsearch's code to the nodes
    fleet: Any = None  # the nodes that were asked whether they can run packs; None: nobody was
    wait_s: float = 0.0  # how long to wait at the start for nodes that are not there yet
    allow_open: bool = False  # join a cluster that lets strangers in


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What fits: packs at a time, and the hardware it was counted on."""

    concurrency: int
    fits: int  # packs that the resources would allow at a time
    cpus: float  # cores of the cluster
    gpus: float  # GPUs of the cluster
    gpus_per_pack: float


def bundle_of(options: RayOptions, gpus: float) -> dict[str, float]:
    """What a pack takes, by Ray's names; gpus: what `auto` came to."""
    return {"CPU": options.cpus, **({"GPU": gpus} if gpus else {}), **options.resources}


def fitting(node: Mapping[str, float], bundle: Mapping[str, float]) -> int:
    """How many packs a node has room for."""
    rooms = [
        _fractions(node.get(name, 0.0), wanted)
        if name == "GPU"
        else int(node.get(name, 0.0) / wanted + _ROUNDING)
        for name, wanted in bundle.items()
        if wanted
    ]
    return min(rooms)


def _fractions(have: float, wanted: float) -> int:
    """A fraction of a GPU never spans two of them."""
    return int(have) * int(1 / wanted + _ROUNDING) if wanted < 1 else int(have / wanted)


def counted(nodes: Sequence[Mapping[str, float]], options: RayOptions) -> Slots:
    """Count how many packs fit, by what each node has.

    Raises:
        UsageError: a pack fits nowhere, or more packs are asked for than fit and nobody waits for more nodes.

    """
    cpus, gpus = (sum(node.get(key, 0.0) for node in nodes) for key in ("CPU", "GPU"))
    wanted = float(gpus > 0) if options.gpus == "auto" else options.gpus
    bundle = bundle_of(options, wanted)
    fits = sum(fitting(node, bundle) for node in nodes)
    have = f"{cpus:g} CPU cores and {gpus:g} GPUs on {len(nodes)} node{'s' * (len(nodes) != 1)}"
    if fits == 0:
        raise _fits_nowhere(nodes, bundle, options, have)
    limit = options.max_concurrent
    if limit is not None and limit > fits and not options.wait_s:
        raise UsageError(
            f"{limit} concurrent packs of {told(bundle)} do not fit: there are {have}, room for {fits}",
            f"Use --max-concurrent {fits} or fewer; --wait-for-nodes goes on with more where nodes may come.",
        )
    return Slots(
        concurrency=fits if limit is None else min(limit, fits),
        fits=fits,
        cpus=cpus,
        gpus=gpus,
        gpus_per_pack=wanted,
    )


def _fits_nowhere(
    nodes: Sequence[Mapping[str, float]], bundle: Mapping[str, float], options: RayOptions, have: str
) -> UsageError:
    """Say what is missing: a name that no node has, else more than any node has at once."""
    known = sorted({name for node in nodes for name in node if name not in {_HIDDEN, _HEAD}})
    missing = [name for name in options.resources if name not in known]
    takes = f"a pack takes {told(bundle)}, and no node has that: {have}"
    if not missing:
        keys = "run.cpus or run.gpus" if not options.resources else "run.cpus, run.gpus or run.resources"
        return UsageError(
            f"{takes}{_listed(nodes) if options.resources or len(nodes) > 1 else ''}",
            f"Lower {keys}, for example --set run.gpus=0. Where such nodes may still come: --wait-for-nodes.",
        )
    near = difflib.get_close_matches(missing[0], known, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    start = (
        "Resources of one's own are given to nodes where they are started: ray start --resources='{\"NAME\": 1}'."
        if options.address is not None
        else "Resources of one's own are those of a cluster's nodes: give its --address."
    )
    return UsageError(
        f"{takes}. No node has any {missing[0]!r} (run.resources){guess} There are: {', '.join(known) or 'none'}",
        start,
    )


def node_name(node: Mapping[str, float]) -> str:
    """The address of a node, from what it has."""
    names = [name.removeprefix(_NODE) for name in node if name.startswith(_NODE) and name != _HEAD]
    return names[0] if names else "a node"


def _listed(nodes: Sequence[Mapping[str, float]]) -> str:
    """The nodes with what each has."""
    shown = [f"{node_name(node)} has {told(node)}" for node in nodes[:_MOST_NODES]]
    more = len(nodes) - len(shown)
    return f" ({'; '.join(shown)}{f'; {more} more' if more else ''})"


def told(resources: Mapping[str, float]) -> str:
    """Resources in words.

    >>> told({"CPU": 1, "memory": 2**31, "fast": 2})
    '1 CPU core, 0 GPUs, 2 GiB of memory and 2 fast'
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    parts = [f"{cpus:g} CPU core{'s' * (cpus != 1)}", f"{gpus:g} GPU{'s' * (gpus != 1)}"]
    if resources.get("memory"):
        gib = float(f"{resources['memory'] / 2**30:.3g}")
        parts.append(f"{gib:,g} GiB of memory")
    plain = {"CPU", "GPU", "memory", _HIDDEN}
    parts += [
        f"{amount:g} {name}"
        for name, amount in sorted(resources.items())
        if name not in plain and not name.startswith(_NODE) and _OF_A_GROUP not in name
    ]
    parts += [
        f"{amount:g} {name}"
        for name, amount in resources.items()
        if name.startswith(_NODE) and amount < 1  # asked for: a node has 1 of itself
    ]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
