"""Members whose learning curves were recorded before."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from kdsearch.trainables.protocol import EpochReport, Member, MemberState
from kdsearch.trainables.small_files import write_whole
from kdsearch.trainables.table.curves import Curve, CurveTable


class TablePack:
    """Answers each member epoch by epoch from its curve; nothing is trained and no time passes.

    Which of several recorded repeats of a configuration answers is decided by the member's seed. resumed: the epoch
    that a member with a checkpoint stands at (default: as `save` wrote it).
    """

    def __init__(
        self, table: CurveTable, members: Sequence[Member], *, resumed: Callable[[Path], int] | None = None
    ) -> None:
        read = resumed or read_checkpoint
        self._curves: dict[int, Curve] = {m.number: table.curve(m.configuration, m.seed) for m in members}
        self._epoch = {m.number: 0 if m.checkpoint is None else read(m.checkpoint) for m in members}

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the members that still go on."""
        return tuple(self._curves)

    def run_epoch(self) -> list[EpochReport]:
        """The next epoch of every member."""
        reports = []
        for number, curve in list(self._curves.items()):
            self._epoch[number] += 1
            epoch = self._epoch[number]
            state, message = curve.state(epoch)
            if state is not MemberState.RUNNING:
                del self._curves[number]
            reports.append(
                EpochReport(
                    number=number, epoch=epoch, state=state, metrics=curve.metrics(epoch), message=message
                )
            )
        return reports

    def drop(self, number: int) -> None:
        """Take a member out."""
        self._curves.pop(number, None)

    def save(self, number: int, path: Path) -> None:
        """Write the epoch reached."""
        write_whole(path, {"epoch": self._epoch[number]})

    def save_output(self, number: int, path: Path) -> None:
        """Write that there are no weights; no trial needs any."""
        path.write_text(json.dumps({"number": number, "weights": None}), encoding="utf-8")


def read_checkpoint(path: Path) -> int:
    """The epoch that a checkpoint stands at."""
    return int(json.loads(path.read_text(encoding="utf-8"))["epoch"])
