"""`kdsearch refine` and `sweep`: the commands that begin a sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kdsearch.search import launch as launching
from kdsearch.search.cli.common import check_report_folder, messages, set_option
from kdsearch.search.cli.dry_run import show_dry_run
from kdsearch.search.cli.folders import new_folder
from kdsearch.search.cli.resume import go_on_with, taken_up
from kdsearch.search.cli.running import (
    asker,
    beginning,
    check_person,
    displays,
    go_on,
    has_begun,
    launch_of,
    report,
    run_options,
    timed,
)
from kdsearch.search.config import RefinementSettings, SweepFile, load_sweep, parse_sweep
from kdsearch.spaces.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_NOTHING = "Nothing was begun; run the command again."


def _sweep_options(function: F) -> F:
    for option in (
        click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing, run nothing."),
        click.option(
            "--or-resume",
            is_flag=True,
            help="Go on with the sweep of this name if the database holds it; for jobs that are started again.",
        ),
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
@run_options
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
    launch_sweep(sweep, "refine", options)


@click.command("sweep", short_help="Run any searcher on any trainable and write a report.")
@_sweep_options
@run_options
def sweep(preset_or_file: str, **options: Any) -> None:
    """Run any searcher on any trainable, as a sweep file says, and write a report."""
    launch_sweep(load_sweep(preset_or_file, options["changes"], options["seed"]), "sweep", options)


def launch_sweep(sweep: SweepFile, kind: str, options: dict[str, Any]) -> None:
    """Run a sweep from the start and report on it; options: those of `run_options`, and the name."""
    launch = launch_of(options)
    if options["dry_run"]:
        show_dry_run(sweep, launch, name=options["name"], out=options["out"], as_json=options["as_json"])
        return
    if options.get("or_resume") and launching.holds(launch.db, options["name"] or sweep.name):
        _go_on(sweep, options["name"] or sweep.name, launch, options)
        return
    name = options["name"] or launching.free_name(launch.db, sweep.name)
    known = options["name"] is not None and launching.holds(
        launch.db, name
    )  # another sweep's: start refuses it
    sweep = parse_sweep({**sweep.resolved(), "name": name}, "the sweep")
    out = options["out"] or new_folder(name)
    check_report_folder(out)
    display, shown = displays(as_json=options["as_json"])
    check_person(sweep)
    if not options["as_json"]:
        messages().print(f"{name}: {beginning(launch)} ...", style="dim")
    seconds = timed(
        lambda: launching.start(sweep, kind, launch, display, asker(shown)),
        lambda: _NOTHING if known or not has_begun(launch, name) else go_on(launch, name),
    )
    report(name, launch, out, seconds, as_json=options["as_json"])


def _go_on(sweep: SweepFile, name: str, launch: launching.Launch, options: dict[str, Any]) -> None:
    """Go on with a sweep that was begun with this file; another sweep of the name is refused."""
    wanted = parse_sweep({**sweep.resolved(), "name": name}, "the sweep")

    def revise(stored: SweepFile, confirming: bool) -> SweepFile:  # noqa: FBT001 as `launching.Revise` has it
        return taken_up(wanted, stored, launch.db, confirming=confirming)

    go_on_with(name, launch, options, revise, waits=True)
