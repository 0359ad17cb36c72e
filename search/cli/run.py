"""`kdsearch refine`, `sweep` and `resume`: the commands that train."""

from __future__ import annotations

import contextlib
import getpass
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.prompt import IntPrompt
from rich.table import Table

from kdsearch.analysis.conditions import ConditionRow
from kdsearch.search import launch as launching
from kdsearch.search.cli.common import (
    DEFAULT_DATABASE,
    check_report_folder,
    data_root_option,
    database_option,
    debug_option,
    environment_data_root,
    json_option,
    messages,
    print_json,
    set_option,
)
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.cli.folders import new_folder, own_folder
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.config import RefinementSettings, SweepFile, load_sweep, parse_sweep
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.progress import Display, LineDisplay, LiveDisplay, Quiet
from kdsearch.search.runner import Interrupted
from kdsearch.search.searchers import Chooser, interactive
from kdsearch.search.searchers.policies import Look
from kdsearch.search.trialdb.states import Role, TrialState
from kdsearch.spaces.errors import KdsearchError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

_NOTHING = "Nothing was begun; run the command again."
_ENDED = (TrialState.COMPLETE, TrialState.DIVERGED, TrialState.FAILED, TrialState.STOPPED)


def _run_options(function: F) -> F:
    for option in (
        debug_option,
        json_option,
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder for the report; default NAME-report, numbered if another sweep's report lies there.",
        ),
        click.option(
            "--max-concurrent", type=click.IntRange(min=1), help="Packs at a time; default: what fits."
        ),
        click.option("--address", metavar="ADDRESS", help="Join this Ray cluster; default: a local one."),
        data_root_option,
        database_option,
    ):
        function = option(function)
    return function


def _sweep_options(function: F) -> F:
    for option in (
        set_option,
        click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), help="Seed of the sweep."),
        click.option(
            "--name", help="Name of the sweep in the database; default: the file's, numbered if taken."
        ),
        click.argument("preset_or_file"),
    ):
        function = option(function)
    return function


@click.command("refine", short_help="Refine a design space step by step and write a report.")
@_sweep_options
@click.option(
    "--policy",
    type=click.Choice(["best-auc", "significant"]),
    help="How a condition is chosen; overrides the file.",
)
@click.option(
    "--interactive", "by_hand", is_flag=True, help="Show the table at every step and let me choose."
)
@_run_options
def refine(preset_or_file: str, policy: str | None, by_hand: bool, **options: Any) -> None:  # noqa: FBT001
    """Refine a design space step by step, train the last space in full, and write a report."""
    changes = list(options["changes"])
    if by_hand and policy:
        raise UsageError("--interactive and --policy exclude each other")
    if by_hand or policy:
        changes.append(f"searcher.policy={'interactive' if by_hand else policy}")
    sweep = load_sweep(preset_or_file, changes, options["seed"])
    if not isinstance(sweep.searcher, RefinementSettings):
        raise UsageError(
            f"{preset_or_file} has the searcher {sweep.searcher.kind}, not refinement",
            "Run it with `kdsearch sweep`.",
        )
    _launch(sweep, "refine", options)


@click.command("sweep", short_help="Run any searcher on any trainable and write a report.")
@_sweep_options
@_run_options
def sweep(preset_or_file: str, **options: Any) -> None:
    """Run any searcher on any trainable, as a sweep file says, and write a report."""
    _launch(load_sweep(preset_or_file, options["changes"], options["seed"]), "sweep", options)


@click.command("resume", short_help="Go on with an interrupted sweep.")
@click.argument("name")
@_run_options
def resume(name: str, **options: Any) -> None:
    """Go on with an interrupted sweep: finished trials are kept, the others run again."""
    launch = _launch_of(options)
    if options["out"] is not None:
        check_report_folder(options["out"])
    with open_to_read(launch.db) as database:  # one of an earlier version is brought up to date
        out = options["out"] or own_folder(name, database.sweep(name).created)
        counts = database.counts_by_state(name, role=Role.SEARCH)
    check_report_folder(out)
    display, shown = _displays(as_json=options["as_json"], known=sum(counts.get(s, 0) for s in _ENDED))
    if launching.finished(launch.db, name):
        messages().print(f"{name} is complete: nothing was run.")
    elif not options["as_json"]:
        messages().print(f"{name}: looking at the data and starting Ray ...", style="dim")
    seconds = _timed(
        lambda: launching.resume(name, launch, display, _asker(shown), _check_person),
        lambda: _go_on(launch, name),
    )
    _report(name, launch, out, seconds, as_json=options["as_json"])


def _launch(sweep: SweepFile, kind: str, options: dict[str, Any]) -> None:
    launch = _launch_of(options)
    name = options["name"] or launching.free_name(launch.db, sweep.name)
    known = options["name"] is not None and launching.holds(
        launch.db, name
    )  # another sweep's: start refuses it
    sweep = parse_sweep({**sweep.resolved(), "name": name}, "the sweep")
    out = options["out"] or new_folder(name)
    check_report_folder(out)
    display, shown = _displays(as_json=options["as_json"])
    _check_person(sweep)
    if not options["as_json"]:
        messages().print(f"{name}: looking at the data and starting Ray ...", style="dim")
    seconds = _timed(
        lambda: launching.start(sweep, kind, launch, display, _asker(shown)),
        lambda: _NOTHING if known or not _has_begun(launch, name) else _go_on(launch, name),
    )
    _report(name, launch, out, seconds, as_json=options["as_json"])


def _check_person(sweep: SweepFile) -> None:
    """Refuse, before anything starts, a sweep that a person must steer where there is no terminal."""
    if (
        isinstance(sweep.searcher, RefinementSettings)
        and interactive(sweep.searcher)
        and not sys.stdin.isatty()
    ):
        raise UsageError(
            "the interactive policy needs a terminal",
            "Use --policy best-auc or --policy significant instead.",
        )


def _launch_of(options: dict[str, Any]) -> launching.Launch:
    return launching.Launch(
        db=options["db"],
        address=options["address"],
        max_concurrent=options["max_concurrent"],
        data_root=environment_data_root(options["data_root"]),
        command=shlex.join(["kdsearch", *sys.argv[1:]]),
    )


def _has_begun(launch: launching.Launch, name: str) -> bool:
    """Whether the database holds the sweep; also true where it does not answer, since then it may."""
    try:
        return launching.holds(launch.db, name)
    except KdsearchError:
        return True


def _go_on(launch: launching.Launch, name: str) -> str:
    resume_db = "" if launch.db == DEFAULT_DATABASE else f" --db {shlex.quote(launch.db)}"
    return f"Go on with: kdsearch resume {name}{resume_db}"


def _timed(run: Callable[[], object], how_to_go_on: Callable[[], str]) -> float:
    """Run and return the seconds it took; an interrupt says how to go on."""
    begun = time.monotonic()
    try:
        run()
    except (Interrupted, KeyboardInterrupt) as error:
        told = error.message if isinstance(error, Interrupted) else "interrupted"
        raise Interrupted(told, how_to_go_on()) from None
    return time.monotonic() - begun


def _report(name: str, launch: launching.Launch, out: Path, seconds: float, *, as_json: bool) -> None:
    if not as_json:
        messages().print("Writing the report ...", style="dim")
    summary = summary_of(name, launch.db, out, seconds)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary)


_Shown = dict[str, Display]


def _displays(*, as_json: bool, known: int = 0) -> tuple[launching.OpenDisplay, _Shown]:
    """How progress is shown, and the display once it is open; known: trials that the database has ended."""
    shown: _Shown = {}

    @contextlib.contextmanager
    def opened(coordinator: Coordinator) -> Iterator[Display]:
        console = messages()
        if as_json:
            shown["display"] = Quiet()
            yield shown["display"]
            return
        kind = LiveDisplay if console.is_terminal else LineDisplay
        with kind(coordinator, console, known=known) as display:
            shown["display"] = display
            yield display

    return opened, shown


def _asker(shown: _Shown) -> Chooser:
    """Ask the person at the terminal which condition to fix."""

    def ask(look: Look, rows: Sequence[ConditionRow]) -> tuple[ConditionRow | None, str]:
        console = messages()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C at the prompt ends at once
        try:
            with shown["display"].pause():
                console.print(_choices(look, rows))
                answer = IntPrompt.ask(
                    f"Fix which condition of space {look.space}? (0: stop here)",
                    console=console,
                    choices=[str(n) for n in range(len(rows) + 1)],
                    show_choices=False,
                    default=1,
                )
        except (KeyboardInterrupt, EOFError):
            raise Interrupted("interrupted at the prompt") from None
        finally:
            signal.signal(signal.SIGINT, before)
        return (rows[answer - 1] if answer else None), getpass.getuser()

    return ask


def _choices(look: Look, rows: Sequence[ConditionRow]) -> Table:
    table = Table(
        title=f"Space {look.space}: {look.draws} draws, conditions by AUC", box=None, header_style="dim"
    )
    for column in ("", "group", "condition", "draws", "AUC", "interval", "rest", "p (Holm)", "draws needed"):
        words = column in {"group", "condition"}
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for n, row in enumerate(rows, start=1):
        table.add_row(
            str(n),
            row.group,
            row.value,
            str(row.n),
            f"{row.auc:.2f}",
            "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}",
            "" if row.rest_auc is None else f"{row.rest_auc:.2f}",
            "" if row.p_holm is None else f"{row.p_holm:.2g}",
            "" if row.n_needed is None else str(row.n_needed),
        )
    return table
