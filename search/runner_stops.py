"""Tells running packs which of their members were stopped. Imported only inside a Ray session.

Ray has no call from the driver into a running trial, so the news goes through a small actor: the driver writes a stop
before Tune submits the pack's next step, and the pack reads before each epoch. The actor takes no core, lives on the
driver's node and ends with the run; there is none where a sweep has no scheduler.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Register:
    """The actor's side: the stopped members of each job."""

    def __init__(self) -> None:
        self._stopped: dict[int, list[int]] = {}

    def stop(self, job: int, numbers: Sequence[int]) -> None:
        """Add members of a job."""
        self._stopped.setdefault(job, []).extend(numbers)

    def stopped(self, job: int) -> list[int]:
        """The members of a job that were stopped so far."""
        return self._stopped.get(job, [])


class Stops:
    """The driver's side."""

    def __init__(self) -> None:
        """Start the actor; packs find it by `name`."""
        self.name = f"kdsearch-stops-{secrets.token_hex(8)}"
        here = ray.get_runtime_context().get_node_id()
        self._actor: Any = (
            ray.remote(Register)
            .options(
                name=self.name,
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=here, soft=True),
            )
            .remote()
        )

    def stop(self, job: int, numbers: Sequence[int]) -> None:
        """Stop members of a job; back when a pack that asks from now on will learn of it."""
        ray.get(self._actor.stop.remote(job, list(numbers)))

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)
