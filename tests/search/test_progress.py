from __future__ import annotations

import io
import sys
from datetime import UTC, datetime

import pytest
from rich.console import Console

from kdsearch.search import progress
from kdsearch.search.cli.common import PlainConsole
from kdsearch.search.config import TrainableSettings, parse_sweep
from kdsearch.search.notices import Notices
from kdsearch.search.progress import (
    LineDisplay,
    LiveDisplay,
    Pace,
    Watch,
    clock_text,
    condition_grid,
    method_grid,
)
from kdsearch.search.searcher_settings import ComparisonSettings
from kdsearch.search.searchers.base import ConditionSoFar, Overview
from kdsearch.search.trial_states import Tally


class Sweep:
    name, seed, searcher = "digits", 7, None

    def __init__(self):
        self.trainable = TrainableSettings(kind="kd")

    def search(self):
        return self.searcher


class Searcher:
    def __init__(self):
        self.seen = Overview(
            space="B",
            restriction="label->target = through",
            done=30,
            planned=200,
            conditions=[
                ConditionSoFar(group="auxiliary models", value="s & w", n=20, auc=81.25),
                ConditionSoFar(group="auxiliary models", value="w & w", n=10, auc=83.5),
            ],
        )

    def overview(self):
        return self.seen


class Coordinator:
    def __init__(self):
        self.sweep, self.searcher, self.running, self.paused = Sweep(), Searcher(), 16, 0
        self.retrying = 2
        self.tally = Tally(finished=230, diverged=1, best_error=5.56, best_number=219)
        self.notices = Notices("s", lambda _: None, lambda: None)


class Now:
    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


def test_the_panel_shows_space_trials_best_error_auc_and_time():
    text, now = io.StringIO(), Now()
    console = Console(file=text, force_terminal=True, width=110, color_system=None)
    coordinator = Coordinator()
    with LiveDisplay(coordinator, console, now) as display:
        now.at, coordinator.searcher.seen = 60.0, Overview(**{**vars(coordinator.searcher.seen), "done": 60})
        display.tick()
    shown = text.getvalue()
    for words in ("digits", "seed 7", "label->target = through", "30/200", "60/200 trials", "1:00 elapsed"):
        assert words in shown
    # 30 trials in 60 s, 140 to go
    for words in (
        "4:40 left in this space",
        "best error 5.56 % (trial 219)",
        "81.25",
        "83.50",
        "diverged 1",
        "(2 waiting)",
    ):
        assert words in shown


@pytest.mark.parametrize("kind", [LiveDisplay, LineDisplay])
def test_a_notice_is_shown_as_long_as_it_holds(kind):
    coordinator, text, now = Coordinator(), io.StringIO(), Now()
    with kind(coordinator, Console(file=text, width=110), now) as display:
        coordinator.notices.show("cluster", "1 pack waits: taken for 5 s")
        for at in (1, 2):
            now.at = at
            display.tick()
            coordinator.notices.show("cluster", "1 pack waits: taken for 6 s")
        if kind is LineDisplay:
            assert text.getvalue().count("1 pack waits") == 1  # at once, and no more for other figures
        coordinator.notices.over("cluster")
        now.at = 3
        display.tick()
        coordinator.notices.show("cluster", "1 pack waits: taken for 0 s")
        now.at = 4
        display.tick()
    if kind is LineDisplay:
        assert text.getvalue().count("1 pack waits") == 2


def test_elsewhere_a_line_at_a_time():
    text, now = io.StringIO(), Now()
    coordinator = Coordinator()
    with LineDisplay(coordinator, Console(file=text, width=60), now) as display:
        for now.at in (0.0, 1.0, 9.0, 11.0):
            display.tick()
    lines = text.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "space B (label->target = through): 30/200 trials  best error 5.56 % (trial 219)"
    )


def methods(coordinator, *rows):
    told = [ConditionSoFar(group="method", value=name, n=n, auc=auc) for name, n, auc in rows]
    seen = {"space": "A", "restriction": None, "done": 30, "planned": 70, "conditions": told}
    coordinator.searcher.seen = Overview(**seen)


def test_a_comparison_shows_its_methods_and_no_best_error():
    text, coordinator = io.StringIO(), Coordinator()
    methods(coordinator, ("naive", 3, 97.25), ("tpe [optuna]", 2, 97.75), ("gradient", 0, float("nan")))
    console = Console(file=text, force_terminal=True, width=110, color_system=None)
    with LiveDisplay(coordinator, console, Now()):
        pass
    shown = text.getvalue()
    for words in ("methods", "30/70 trials", "97.25", "97.75", "tpe [optuna]", "gradient", "finished 230"):
        assert words in shown
    for words in ("best error", "space A", "AUC", "nan", "no restriction"):
        assert words not in shown


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            [("naive", 3, 97.25), ("gradient", 1, 97.75)],
            "30/70 trials  2 methods  ahead: gradient 97.75 % (1 run)",
        ),
        ([("naive", 0, float("nan"))], "30/70 trials  1 method  0:00 elapsed"),
    ],
)
def test_the_line_of_a_comparison_names_the_method_that_is_ahead(rows, line):
    text, coordinator = io.StringIO(), Coordinator()
    methods(coordinator, *rows)
    with LineDisplay(coordinator, Console(file=text, width=60), Now()) as display:
        display.tick()
    assert text.getvalue().startswith(line)


def test_a_comparison_shows_its_methods_from_the_start():
    fixed = {"kind": "fixed", "values": {"lambda_1": 1}}
    settings = {
        "kind": "comparison",
        "runs": 3,
        "reference": "naive",
        "methods": {"naive": fixed, "none": fixed},
    }
    coordinator = Coordinator()
    coordinator.sweep.searcher = ComparisonSettings(**settings)
    coordinator.searcher.seen = Overview(space="A", restriction=None, done=0, planned=6)
    text = io.StringIO()
    with LiveDisplay(coordinator, Console(file=text, force_terminal=True, width=110), Now()):
        pass
    for words in ("method", "naive", "none", "0/6 trials"):
        assert words in text.getvalue()
    for words in ("AUC", "no restriction", "space A", "nan"):
        assert words not in text.getvalue()


NAMED = {
    "name": "named",
    "space": {"kind": "parameters", "parameters": {"lambda": {"type": "float", "low": 0.0, "high": 1.0}}},
    "trainable": {"kind": "constant", "epochs": 1},
    "configurations": {"none": {"lambda": 0.0}, "half": {"lambda": 0.5}},
    "searcher": {"kind": "named", "runs": 2},
}


@pytest.mark.parametrize("kind", ["bbm", "kd"])
@pytest.mark.parametrize("display", [LiveDisplay, LineDisplay])
def test_no_scores_of_the_test_part_are_told_while_a_study_runs(kind, display):
    coordinator, text = Coordinator(), io.StringIO()
    coordinator.sweep.searcher = parse_sweep(NAMED, "a test").search()
    coordinator.sweep.trainable = TrainableSettings(kind=kind)
    methods(coordinator, ("none", 2, 12.31), ("half", 1, 11.5))
    with display(coordinator, Console(file=text, force_terminal=True, width=110), Now()) as shown:
        shown.tick()
    assert "30/70 trials" in text.getvalue()
    for words in ("12.31", "%" if display is LineDisplay else "accuracy"):
        assert (words in text.getvalue()) == (kind == "kd")


def test_a_sweep_of_named_configurations_begins_with_its_trials():
    coordinator, text, now = Coordinator(), io.StringIO(), Now()
    coordinator.sweep.searcher = parse_sweep(NAMED, "a test").search()
    coordinator.searcher.seen = Overview(space="A", restriction=None, done=0, planned=4)
    with LineDisplay(coordinator, Console(file=text, width=60), now) as shown:
        shown.tick()
        methods(coordinator, ("none", 2, 12.31))
        shown._space = ""
        now.at += 0.3
        shown.tick()
    assert text.getvalue().splitlines() == [
        "0/4 trials  0/2 methods done  0:00 elapsed",
        "30/70 trials  1/2 methods done  ahead: none 12.31 % (2 runs)  0:00 elapsed  0:00 left",
    ]


def test_methods_have_no_bars():
    coordinator, text = Coordinator(), io.StringIO()
    methods(coordinator, ("naive", 3, 97.25), ("gradient", 1, 99.75))
    Console(file=text, width=110).print(method_grid(coordinator.searcher.seen.conditions))
    assert [line.split() for line in text.getvalue().splitlines()[1:]] == [
        ["naive", "3", "97.25"],
        ["gradient", "1", "99.75"],
    ]


@pytest.mark.parametrize("kind", [LiveDisplay, LineDisplay])
def test_a_resume_begins_with_what_is_known_and_not_with_nothing(kind):
    coordinator, text, now = Coordinator(), io.StringIO(), Now()
    with kind(coordinator, Console(file=text, force_terminal=True, width=110), now, known=30) as display:
        assert "30 trials ended before and are not run again" in text.getvalue()
        assert "/200" not in text.getvalue()
        display.tick()
    assert "30/200" in text.getvalue()


def test_many_methods_fit_a_terminal():
    coordinator = Coordinator()
    methods(coordinator, *((f"prediction e1={n}", 1, 90.0 + n) for n in range(40)))
    text = io.StringIO()
    Console(file=text, width=110).print(method_grid(coordinator.searcher.seen.conditions))
    assert len(text.getvalue().splitlines()) < 20
    assert "25 more" in text.getvalue()


def test_no_pace_no_promise():
    now = Now()
    watch, seen = Watch(now), Searcher().seen
    assert watch.left_s(seen) is None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3675, "1:01:15")])
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


def test_a_display_leaves_the_driver_alone_for_longer_the_longer_it_takes_to_look():
    now = Now()
    pace = Pace(now)
    assert pace.due
    with pace.look():
        now.at += 0.1  # an overview of thousands of trials
    now.at += 1.8
    assert not pace.due
    now.at += 0.2  # 19 times as long as it took
    assert pace.due
    with pace.look():
        now.at += 0.001
    now.at += 0.2
    assert not pace.due  # four times a second is enough
    now.at += 0.1
    assert pace.due


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 40])
def test_any_number_of_conditions_is_shown_the_last_two_of_many_as_well(count):
    rows = [ConditionSoFar(group="models", value=f"v{n}", n=3, auc=90.0 - n) for n in range(count)]
    text = io.StringIO()
    Console(file=text, width=100, color_system=None).print(condition_grid(rows))
    shown = text.getvalue()
    if count <= 15:
        assert all(f"v{n} " in shown for n in range(count))
        assert "more" not in shown
    else:
        assert f"... {count - 14} more ..." in shown
        assert all(f"v{n} " in shown for n in (0, 11, count - 2, count - 1))
        assert f"v{count - 3} " not in shown


class Broken(io.StringIO):
    """A log on a disk that is full."""

    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", [LiveDisplay, LineDisplay])
@pytest.mark.parametrize("known", [0, 3])
def test_a_log_that_takes_nothing_ends_no_sweep(kind, known, monkeypatch):
    coordinator, told = Coordinator(), []
    coordinator.notices = Notices("s", told.append, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(sys, "stderr", Broken())
    now, console = Now(), Console(file=Broken(), force_terminal=True, width=80, color_system=None)
    with kind(coordinator, console, now, known=known) as display:
        for now.at in (0.0, 60.0):
            display.tick()
        with display.pause():
            pass
    assert len(told) == 1
    assert "No space left on device" in told[0].rows[0].data["error"]


def test_a_panel_that_cannot_be_drawn_ends_no_sweep(monkeypatch):
    class Panel:
        def __rich_console__(self, console, options):
            raise ValueError("this way it does not fit")

    coordinator, told = Coordinator(), []
    coordinator.notices = Notices("s", told.append, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, color_system=None)
    before = sys.stdout, sys.stderr
    now = Now()
    with LiveDisplay(coordinator, console, now) as display:
        monkeypatch.setattr(progress, "panel", lambda *_: Panel())
        now.at = 60.0
        display.tick()
        assert (sys.stdout, sys.stderr) == before  # which a live display takes over
    assert len(told) == 1
    assert "\x1b[?25h" in text.getvalue()  # the cursor is there again


@pytest.mark.parametrize("kind", [LiveDisplay, LineDisplay])
def test_a_fault_of_the_display_ends_no_sweep_and_is_told_once(kind, capsys):
    coordinator, told = Coordinator(), []
    coordinator.notices = Notices("s", told.append, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    now, text = Now(), io.StringIO()
    console = Console(file=text, force_terminal=True, width=200, color_system=None)
    coordinator.searcher.overview = lambda: 1 / 0
    with kind(coordinator, console, now) as display:
        for now.at in (0.0, 60.0, 120.0):
            display.tick()
    shown = capsys.readouterr().err + text.getvalue()  # a live display takes standard error over
    assert shown.count("the progress display ended by a fault of its own (ZeroDivisionError") == 1
    assert [row.kind for operation in told for row in operation.rows] == ["display"]
    assert "ZeroDivisionError" in told[0].rows[0].data["error"]


def test_remarks_without_a_reader_are_silent_and_end_nothing():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console = PlainConsole(file=Closed(), stderr=True)
    console.print("one")
    console.print("two")
    assert console.quiet
