"""Packs that run in this process, in Ray's place."""

from __future__ import annotations

from kdsearch.search.coordinator import Idle
from kdsearch.search.runner import Interrupted
from kdsearch.trainables.constant import ConstantPack


class Worker:
    """In Ray's place: runs jobs in this process, and is interrupted before job number `before`."""

    def __init__(self):
        self.before = None
        self.ran = []

    def run(self, coordinator, options, slots, tick):
        del options, slots
        while not isinstance(job := coordinator.next_job(), Idle):
            if self.before is not None and len(self.ran) >= self.before:
                coordinator.interrupt("interrupted by a test")
                raise Interrupted("interrupted by a test")
            self.ran += [member.number for member in job.members]
            pack = ConstantPack(coordinator.sweep.trainable_settings(), job.members)
            while pack.active:
                for number in coordinator.on_result(job.id, pack.run_epoch(), None, {}):
                    pack.drop(number)
            tick()
