"""The live progress display: space, trials done and to do, best error, AUC per condition, time left.

A comparison of methods shows the mean accuracy of each method in place of conditions and the best error, without bars:
methods differ by little of what all of them reach. Where its trials have scores of a challenge on the test part it
shows counts alone: who saw these scores while the sweep runs might choose by them.

On a terminal a panel that redraws in place; elsewhere (a log file, CI) a line every so often.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdsearch.analysis.sweep_kinds import BBM
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.notices import DISPLAY
from kdsearch.search.retrain_settings import RetrainSettings
from kdsearch.search.searcher_settings import ComparisonSettings
from kdsearch.search.searchers.base import ConditionSoFar, Overview
from kdsearch.spaces.printable import printable

_LINE_EVERY_S = 10.0
_REDRAW_EVERY_S = 0.25
_SPARED = 19.0  # times as long as it looks a display leaves the driver alone
_SHOWN = 8000  # characters of a traceback that are kept
_BAR = 30
_NUMBERS = ("draws", "AUC", "runs", "accuracy")
METHOD = "method"  # the group under which a comparison tells how its methods stand
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


class Pace:
    """How often a display looks at the sweep: a few times a second, and with 5 % of the driver's time at most.

    A look goes through all trials of a space, and the driver has results to take in meanwhile.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._next = now, float("-inf")

    @contextlib.contextmanager
    def look(self) -> Iterator[None]:
        """Look; the next look comes the later, the longer this one takes."""
        begun = self._now()
        yield
        ended = self._now()
        self._next = ended + max(_REDRAW_EVERY_S, _SPARED * (ended - begun))

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return self._now() >= self._next


class Steady:
    """Keeps a fault of the display from ending a sweep: it is kept and told once, and nothing is drawn again."""

    def __init__(self, coordinator: Coordinator, end: Callable[[], object]) -> None:
        """end: puts the terminal back as it was."""
        self._coordinator, self._end, self._broken = coordinator, end, False

    def __call__(self, draw: Callable[[], object]) -> None:
        """Draw, unless that failed before."""
        if self._broken:
            return
        try:
            draw()
        except Exception as error:  # noqa: BLE001 whatever it is, trials are worth more than their picture
            self._broken = True
            told = {"what": "display ended", "error": "".join(traceback.format_exception(error))[-_SHOWN:]}
            self._coordinator.notices.event(DISPLAY, told)
            with contextlib.suppress(Exception):
                self._end()
            with contextlib.suppress(Exception):  # nobody may be there to read it
                sys.stderr.write(
                    f"the progress display ended by a fault of its own ({type(error).__name__}: "
                    f"{printable(str(error))}); the sweep goes on, and `kdsearch status` shows it\n"
                )


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
    """A panel that redraws in place; known: trials that ended before a resume, which the searcher does not know yet."""

    def __init__(
        self,
        coordinator: Coordinator,
        console: Console,
        now: Callable[[], float] = time.monotonic,
        *,
        known: int = 0,
    ) -> None:
        self._coordinator, self._console, self._now = coordinator, console, now
        self._watch, self._pace, self._known = Watch(now), Pace(now), known
        self._steady = Steady(coordinator, self._end)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._steady(self._live.start)
        if self._known:
            told = Group(_title(self._coordinator, self._watch), Text(going_on(self._known)))
            self._steady(lambda: self._live.update(told, refresh=True))
        else:
            self.tick()
        return self

    def __exit__(self, *info: object) -> None:
        self._steady(self._live.stop)

    def _end(self) -> None:
        self._live.update("")  # what cannot be drawn would be drawn once more
        self._live.stop()

    def tick(self) -> None:
        """Redraw, a few times a second at most."""
        self._steady(self._draw)

    def _draw(self) -> None:
        if not self._pace.due:
            return
        with self._pace.look():
            self._live.update(panel(self._coordinator, self._watch), refresh=True)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stand aside."""
        self._steady(self._live.stop)
        try:
            yield
        finally:
            self._steady(self._live.start)


class LineDisplay:
    """A line every ten seconds and at each new space; known: as for `LiveDisplay`."""

    def __init__(
        self,
        coordinator: Coordinator,
        console: Console,
        now: Callable[[], float] = time.monotonic,
        *,
        known: int = 0,
    ) -> None:
        self._coordinator, self._console, self._now = coordinator, console, now
        self._watch, self._printed, self._space = Watch(now), float("-inf"), ""
        self._pace, self._steady = Pace(now), Steady(coordinator, lambda: None)
        self._known = known
        self._told: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        if self._known:
            told = going_on(self._known)
            self._steady(lambda: self._console.print(told, highlight=False, soft_wrap=True))
        return self

    def __exit__(self, *info: object) -> None:
        """Nothing to put back."""

    def tick(self) -> None:
        """Print a line if it is time, and what has come up since the last one at once."""
        self._steady(self._draw)

    def _draw(self) -> None:
        notices = self._coordinator.notices.texts
        for text in notices:
            if _gist(text) not in self._told:
                self._console.print(text, style="yellow", highlight=False, soft_wrap=True)
        self._told = tuple(_gist(text) for text in notices)
        if not self._pace.due:
            return
        with self._pace.look():
            overview = seen(self._coordinator)
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


def _gist(text: str) -> str:
    """What makes a notice another one: not the figures in it."""
    return "".join(letter for letter in text if not letter.isdigit())


def going_on(known: int) -> str:
    """What a resumed sweep begins with; its counts are right with the first result of this run."""
    one = known == 1
    return (
        f"going on: {known:,} trial{'' if one else 's'} ended before and {'is' if one else 'are'} not run again; "
        "waiting for the first result"
    )


def seen(coordinator: Coordinator) -> Overview:
    """Where the search stands; in a comparison with every method from the start, also without a run.

    Without conditions where a scheduler stopped or paused trials: what is left of a condition is no sample of it.
    """
    overview, settings = coordinator.searcher.overview(), coordinator.sweep.search()
    if (coordinator.tally.stopped or coordinator.paused) and not compares_methods(overview):
        overview = replace(overview, conditions=())
    if not isinstance(settings, ComparisonSettings):
        return overview
    known = {row.value: row for row in overview.conditions}
    rows = [
        known.get(name) or ConditionSoFar(group=METHOD, value=name, n=0, auc=math.nan)
        for name in settings.all_methods()
    ]
    return replace(overview, conditions=rows)


def compares_methods(overview: Overview) -> bool:
    """Whether the conditions are methods: their draws are runs and their AUC is the mean accuracy."""
    return bool(overview.conditions) and all(row.group == METHOD for row in overview.conditions)


def _hides_scores(coordinator: Coordinator) -> bool:
    """Whether the trials of a comparison are measured on the test part by more than an accuracy."""
    return coordinator.sweep.trainable.kind == BBM


def _methods_done(coordinator: Coordinator, methods: Sequence[ConditionSoFar]) -> str:
    """How many methods have all their runs, where it is known how many those are."""
    settings = coordinator.sweep.search()
    if isinstance(settings, RetrainSettings):
        done = sum(row.n >= settings.seeds for row in methods)
        return f"{done}/{len(methods)} versions done"
    if not isinstance(settings, ComparisonSettings):
        return f"{len(methods)} method{'s' * (len(methods) != 1)}"
    done = sum(row.n >= settings.runs for row in methods)
    return f"{done}/{len(methods)} methods done"


def headline(coordinator: Coordinator, overview: Overview, watch: Watch) -> str:
    """One line: the space, trials, methods, what is best so far, time."""
    tally, methods = coordinator.tally, compares_methods(overview)
    retrains = isinstance(
        coordinator.sweep.search(), RetrainSettings
    )  # versions of several data sets have no leader
    restriction = f" ({overview.restriction})" if overview.restriction else ""
    what = "" if methods else f"space {overview.space}{restriction}: "
    if methods:
        best = f"  {_methods_done(coordinator, overview.conditions)}"
        best += "" if _hides_scores(coordinator) or retrains else _leader(overview.conditions)
    elif tally.best_error is None:
        best = ""
    else:
        best = f"  best error {tally.best_error:.2f} % (trial {tally.best_number})"
    left = watch.left_s(overview)
    where = "" if methods else f" in {overview.space}"
    remaining = "" if left is None else f"  {clock_text(left)} left{where}"
    return (
        f"{what}{overview.done}/{overview.planned} trials{best}"
        f"  {clock_text(watch.elapsed_s)} elapsed{remaining}"
    )


def _leader(methods: Sequence[ConditionSoFar]) -> str:
    begun = [row for row in methods if row.n]
    if not begun:
        return ""
    best = max(begun, key=lambda row: row.auc)
    return f"  ahead: {best.value} {best.auc:.2f} % ({best.n} run{'s' * (best.n != 1)})"


def panel(coordinator: Coordinator, watch: Watch) -> RenderableType:
    """The whole display."""
    overview = seen(coordinator)
    methods = compares_methods(overview)
    restriction = "no restriction" if overview.restriction is None else overview.restriction
    left = watch.left_s(overview)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        "methods" if methods else Text.assemble("space ", (overview.space, "bold yellow")),
        ProgressBar(total=max(1, overview.planned), completed=overview.done, width=_BAR),
        f"{overview.done}/{overview.planned} trials",
        "" if left is None else f"{clock_text(left)} left{'' if methods else ' in this space'}",
    )
    if methods:
        grid = method_grid(overview.conditions, scores=not _hides_scores(coordinator))
    else:
        grid = condition_grid(overview.conditions)
    told = [] if methods else [Text(restriction, style="dim")]
    notices = [Text(printable(text), style="yellow") for text in coordinator.notices.texts]
    return Group(
        _title(coordinator, watch), *told, bar, _counts(coordinator, methods=methods), *notices, grid
    )


def _title(coordinator: Coordinator, watch: Watch) -> Text:
    return Text.assemble(
        ("kdsearch ", "bold"),
        (coordinator.sweep.name, "bold cyan"),
        f"   seed {coordinator.sweep.seed}   {clock_text(watch.elapsed_s)} elapsed",
    )


def _counts(coordinator: Coordinator, *, methods: bool) -> Text:
    """How trials ended; no best error over methods: their searches look at another part than their final trials."""
    tally = coordinator.tally
    best = "none yet" if tally.best_error is None else f"{tally.best_error:.2f} % (trial {tally.best_number})"
    return Text(
        f"{'' if methods else f'best error {best}   '}finished {tally.finished}   running {coordinator.running}"
        f"{f'   paused {coordinator.paused}' if coordinator.paused else ''}"
        f"{f'   stopped {tally.stopped}' if tally.stopped else ''}"
        f"   diverged {tally.diverged}   failed {tally.failed}   retried {tally.retried}"
        f"{f' ({coordinator.retrying} waiting)' if coordinator.retrying else ''}"
    )


def condition_grid(conditions: Sequence[ConditionSoFar]) -> Table:
    """AUC of the open conditions so far, best first, with a bar from the worst to the best."""
    table = _grid("group", "condition", "draws", "AUC", "")
    rows = sorted(conditions, key=lambda row: -row.auc)
    low, high = (rows[-1].auc, rows[0].auc) if rows else (0.0, 1.0)
    shown = rows if len(rows) <= _MOST_SHOWN else [*rows[: _MOST_SHOWN - 3], *rows[-2:]]
    for row in shown:
        if len(shown) < len(rows) and row is rows[-2]:
            table.add_row(f"... {len(rows) - len(shown)} more ...", style="dim")
        style = "bold green" if row is rows[0] else ""
        table.add_row(row.group, row.value, str(row.n), f"{row.auc:.2f}", _bar(row, low, high), style=style)
    return table


def method_grid(methods: Sequence[ConditionSoFar], *, scores: bool = True) -> Table:
    """Mean accuracy of each method so far, in the order of the sweep file; without scores its runs alone."""
    table = _grid("method", "runs", *(["accuracy"] if scores else []))
    high = max((row.auc for row in methods if row.n and scores), default=math.nan)
    for row in methods[:_MOST_SHOWN]:
        style = "bold green" if row.n and row.auc == high else ""
        told = [f"{row.auc:.2f}" if row.n else ""] if scores else []
        table.add_row(Text(row.value), str(row.n), *told, style=style)
    if len(methods) > _MOST_SHOWN:
        table.add_row(f"... {len(methods) - _MOST_SHOWN} more ...", style="dim")
    return table


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    return table


def _bar(row: ConditionSoFar, low: float, high: float) -> ProgressBar:
    return ProgressBar(total=max(high - low, 1e-9), completed=row.auc - low, width=_BAR)


def clock_text(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss.

    >>> clock_text(75), clock_text(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
