"""A sweep's data and nodes before it starts: what the driver has, and on a cluster what every node has.

On one machine the driver looks at the data. On a cluster every node that could host a pack is asked whether it has the
driver's code, the same data and the storage; where the driver has no data of its own, the nodes must agree.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsearch.search.baselines import pretrainings
from kdsearch.search.config import SweepFile
from kdsearch.search.found_data import FoundData, check_data
from kdsearch.search.runner import assembled
from kdsearch.search.runner_resources import RayOptions, Slots
from kdsearch.search.stores import Store
from kdsearch.trainables.data.findings import DataError
from kdsearch.trainables.node_check import code_digest, versions
from kdsearch.trainables.storage import described

if TYPE_CHECKING:
    from kdsearch.search.launch import Launch


def drivers_data(sweep: SweepFile, launch: Launch) -> FoundData | None:
    """What the driver has of the data; None if it has none and nodes of a cluster may.

    Raises:
        UsageError: the data are missing or broken.

    """
    try:
        return check_data(sweep, launch.data_root)
    except DataError:
        if launch.address is None:
            raise
        return None


def joined(
    sweep: SweepFile, launch: Launch, options: RayOptions, slots: Slots, store: Store, found: FoundData | None
) -> tuple[RayOptions, FoundData]:
    """Ask the nodes of a cluster; how to run on those that are fit, and the data that they and the driver have.

    Raises:
        UsageError: a node has other code or data than the driver, or cannot reach the storage.

    """
    if launch.address is None:
        assert found is not None  # noqa: S101 else it was refused
        return options, found
    told = {
        "kind": sweep.trainable.kind,
        "settings": {label or "": settings for label, settings in sweep.settings_by_data().items()},
        "data_root": None if options.data_root is None else str(options.data_root),
        "drivers_root": None if options.drivers_root is None else str(options.drivers_root),
        "storage": described(store.storage),
    }
    expected = {
        "versions": versions(),
        "code": code_digest(),
        "contents": None if found is None else found.contents,
    }
    fleet, answers = assembled(
        told,
        expected,
        options,
        slots,
        sign=store.folder / f".kdsearch-{secrets.token_hex(8)}",
        needs_storage=_needs_storage(sweep, store),
        say=launch.say,
    )
    for answer in answers:
        if answer.storage is not None:
            launch.say(f"node {answer.node.name}: {answer.storage} (this sweep does without; see --storage)")
    return replace(options, fleet=fleet), found or _of_nodes(answers)


def _of_nodes(answers: list[Any]) -> FoundData:
    """The data that nodes have and the driver has not."""
    first = answers[0].found
    return FoundData(
        contents=first["contents"],
        root=first["root"],
        notes=[f"The data lie on the nodes alone (data root {first['root']} on {answers[0].node.name})."],
    )


def _needs_storage(sweep: SweepFile, store: Store) -> bool:
    """Whether workers must read or write files that others have: chosen ones, checkpoints, teachers, a table."""
    promotes = sweep.scheduler is not None and sweep.scheduler.mode == "promote" and bool(sweep.rungs())
    return (
        store.chosen is not None
        or sweep.run.checkpoint_every > 0
        or promotes
        or pretrainings(sweep) > 0
        or sweep.trainable_settings().get("exported") is not None
    )


def data_root_of(launch: Launch) -> tuple[Path | None, Path | None]:
    """The data root that every machine is to use, and the driver's, for nodes of a cluster that have none."""
    if launch.address is None or launch.data_root_given:
        return launch.data_root, None
    return None, launch.data_root
