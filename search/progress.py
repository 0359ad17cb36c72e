"""The live progress display: space, trials done and to do, best error, AUC per condition, time left.

On a terminal a panel that redraws in place; elsewhere (a log file, CI) a line every so often.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdsearch.search.coordinator import Coordinator
from kdsearch.search.searchers.base import ConditionSoFar, Overview

_LINE_EVERY_S = 10.0
_REDRAW_EVERY_S = 0.25
_BAR = 30
_MOST_SHOWN = 15  # conditions; the whole panel fits a terminal of 24 lines


class Display(Protocol):
    """What the commands need of a progress display."""

    def tick(self) -> None:
        """Something happened."""

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """Stand aside while a person is asked something."""


class Quiet:
    """No display, for --json."""

    def tick(self) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Nothing."""
        yield


class Watch:
    """Time left in the present space, from the pace since it began."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._start = now, now()
        self._space, self._space_start, self._space_done = "", self._start, 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the display began."""
        return self._now() - self._start

    def left_s(self, overview: Overview) -> float | None:
        """Seconds until the space is done; None before there is a pace."""
        if overview.space != self._space:
            self._space, self._space_start, self._space_done = overview.space, self._now(), overview.done
        done, spent = overview.done - self._space_done, self._now() - self._space_start
        return None if done <= 0 else spent / done * (overview.planned - overview.done)


class LiveDisplay:
    """A panel that redraws in place."""

    def __init__(
        self, coordinator: Coordinator, console: Console, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._coordinator, self._console, self._now = coordinator, console, now
        self._watch, self._drawn = Watch(now), float("-inf")
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        self.tick()
        return self

    def __exit__(self, *info: object) -> None:
        self._live.__exit__(None, None, None)

    def tick(self) -> None:
        """Redraw, a few times a second at most."""
        if self._now() - self._drawn < _REDRAW_EVERY_S:
            return
        self._drawn = self._now()
        self._live.update(panel(self._coordinator, self._watch), refresh=True)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stand aside."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()


class LineDisplay:
    """A line every ten seconds and at each new space."""

    def __init__(
        self, coordinator: Coordinator, console: Console, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._coordinator, self._console, self._now = coordinator, console, now
        self._watch, self._printed, self._space = Watch(now), float("-inf"), ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *info: object) -> None:
        """Nothing to put back."""

    def tick(self) -> None:
        """Print a line if it is time."""
        overview = self._coordinator.searcher.overview()
        if overview.space == self._space and self._now() - self._printed < _LINE_EVERY_S:
            return
        self._space, self._printed = overview.space, self._now()
        self._console.print(
            headline(self._coordinator, overview, self._watch), highlight=False, soft_wrap=True
        )

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Nothing to put aside."""
        yield


def headline(coordinator: Coordinator, overview: Overview, watch: Watch) -> str:
    """One line: the space, trials, best error, time."""
    tally = coordinator.tally
    best = (
        ""
        if tally.best_error is None
        else f"  best error {tally.best_error:.2f} % (trial {tally.best_number})"
    )
    left = watch.left_s(overview)
    remaining = "" if left is None else f"  {clock_text(left)} left in {overview.space}"
    restriction = f" ({overview.restriction})" if overview.restriction else ""
    return (
        f"space {overview.space}{restriction}: {overview.done}/{overview.planned} trials{best}"
        f"  {clock_text(watch.elapsed_s)} elapsed{remaining}"
    )


def panel(coordinator: Coordinator, watch: Watch) -> RenderableType:
    """The whole display."""
    overview, tally = coordinator.searcher.overview(), coordinator.tally
    title = Text.assemble(
        ("kdsearch ", "bold"),
        (coordinator.sweep.name, "bold cyan"),
        f"   seed {coordinator.sweep.seed}   {clock_text(watch.elapsed_s)} elapsed",
    )
    restriction = "no restriction" if overview.restriction is None else overview.restriction
    left = watch.left_s(overview)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text.assemble("space ", (overview.space, "bold yellow")),
        ProgressBar(total=max(1, overview.planned), completed=overview.done, width=_BAR),
        f"{overview.done}/{overview.planned} trials",
        "" if left is None else f"{clock_text(left)} left in this space",
    )
    best = "none yet" if tally.best_error is None else f"{tally.best_error:.2f} % (trial {tally.best_number})"
    counts = Text(
        f"best error {best}   finished {tally.finished}   running {coordinator.running}"
        f"   diverged {tally.diverged}   failed {tally.failed}   retried {tally.retried}"
    )
    return Group(title, Text(restriction, style="dim"), bar, counts, condition_grid(overview.conditions))


def condition_grid(conditions: Sequence[ConditionSoFar]) -> Table:
    """AUC of the open conditions so far, best first, with a bar from the worst to the best."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("group")
    table.add_column("condition")
    table.add_column("draws", justify="right")
    table.add_column("AUC", justify="right")
    table.add_column("")
    rows = sorted(conditions, key=lambda row: -row.auc)
    low, high = (rows[-1].auc, rows[0].auc) if rows else (0.0, 1.0)
    shown = rows if len(rows) <= _MOST_SHOWN else [*rows[: _MOST_SHOWN - 3], *rows[-2:]]
    for row in shown:
        if row is rows[-2] and len(shown) < len(rows):
            table.add_row(f"... {len(rows) - len(shown)} more ...", style="dim")
        bar = ProgressBar(total=max(high - low, 1e-9), completed=row.auc - low, width=_BAR)
        style = "bold green" if row is rows[0] else ""
        table.add_row(row.group, row.value, str(row.n), f"{row.auc:.2f}", bar, style=style)
    return table


def clock_text(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss.

    >>> clock_text(75), clock_text(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
