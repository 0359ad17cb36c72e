"""Watches the cluster: waits for nodes at the start, and says so when packs cannot be placed while a sweep runs.

Imported only inside a Ray session. Ray itself says nothing: a placement group that fits nowhere is pending for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from kdsearch.search.runner_resources import RayOptions, Slots, bundle_of, counted
from kdsearch.spaces.errors import UsageError

_LOOK_EVERY_S: Final = 1.0


def alive() -> list[dict[str, Any]]:
    """The nodes that the cluster has now, as Ray describes them."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def wait_for_room(options: RayOptions, say: Callable[[str], None]) -> Slots:
    """Count how many packs fit, and wait `options.wait_s` for a node that one fits on.

    Raises:
        UsageError: a pack fits nowhere, now or by then.

    """
    end, waits = time.monotonic() + options.wait_s, False
    with _demand(options) as ask:
        while True:
            try:
                return counted([node["Resources"] for node in alive()], options)
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


__all__ = ["alive", "wait_for_room"]
