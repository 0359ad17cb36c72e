"""`kdsearch resume`: go on with a sweep as it stands, with more trials, or with changes that no result depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import sleep
from typing import Any

import click
from rich.table import Table

from kdsearch.search import launch as launching
from kdsearch.search.changes import (
    TRIALS,
    Difference,
    check_accepted,
    check_unconfirmed,
    differences,
    extended,
    shown,
    trials_at_first,
)
from kdsearch.search.cli.common import check_report_folder, messages, set_option
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.cli.folders import own_folder
from kdsearch.search.cli.running import (
    asker,
    beginning,
    check_person,
    displays,
    go_on,
    launch_of,
    report,
    run_options,
    timed,
)
from kdsearch.search.config import SweepFile, changed_sweep, load_sweep, parse_sweep
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.errors import SweepBusyError
from kdsearch.search.trialdb.record import CHANGE
from kdsearch.search.trialdb.states import ENDED, Role
from kdsearch.spaces.errors import UsageError

ACCEPT = "--accept-changes"
_LOOK_EVERY_S = 2.0  # at a driver that may be gone


@click.command("resume", short_help="Go on with an interrupted sweep, or with more trials.")
@click.argument("name")
@click.option("--trials", type=click.IntRange(min=1), help="Extend the sweep to this many trials in all.")
@click.option(
    "--file", "file", metavar="PRESET|FILE", help="Compare the sweep, as it stands now, with this file first."
)
@set_option
@click.option(
    ACCEPT,
    "accept",
    is_flag=True,
    help="Go on with what differs in --file and --set, as far as no result depends on it.",
)
@run_options
def resume(
    name: str,
    trials: int | None,
    file: str | None,
    changes: tuple[str, ...],
    accept: bool,  # noqa: FBT001 click passes flags by name
    **options: Any,
) -> None:
    """Go on with a sweep: finished trials are kept, the others run again.

    A finished sweep is left as it is, unless it is extended by --trials.
    """
    if accept and file is None and not changes:
        raise UsageError(
            f"{ACCEPT}: there is nothing to accept without --file or --set",
            "Leave it out, or give what the sweep is to be compared with.",
        )
    launch = launch_of(options)

    def revise(stored: SweepFile, confirming: bool) -> SweepFile:  # noqa: FBT001 as `launching.Revise` has it
        with open_to_read(launch.db) as database:
            began = _asked_at_first(database, name)
        return _revised(stored, trials, file, changes, accept=accept, confirming=confirming, began=began)

    asks = trials is not None or file is not None or changes
    go_on_with(name, launch, options, revise if asks else None)


def go_on_with(
    name: str,
    launch: launching.Launch,
    options: dict[str, Any],
    revise: launching.Revise | None,
    *,
    waits: bool = False,
) -> None:
    """Go on with a sweep and report on it; options: those of `run_options`.

    waits: for a driver that may have died on another machine, until that is known.
    """
    if options["out"] is not None:
        check_report_folder(options["out"])
    with open_to_read(launch.db) as database:  # one of an earlier version is brought up to date
        row = database.sweep(name)
        counts = database.counts_by_state(name, role=Role.SEARCH)
    out = options["out"] or own_folder(name, row.created)
    check_report_folder(out)
    display, screen = displays(as_json=options["as_json"], known=sum(counts.get(s, 0) for s in ENDED))

    def check(sweep: SweepFile) -> None:
        check_person(sweep)
        if not options["as_json"]:
            messages().print(f"{name}: {beginning(launch)} ...", style="dim")

    ran = False

    def run() -> None:
        nonlocal ran
        ran = launching.resume(name, launch, display, asker(screen), check, revise)

    seconds = timed(lambda: _when_free(run) if waits else run(), lambda: go_on(launch, name))
    if not ran:
        messages().print(f"{name} is complete: nothing was run.")
    report(name, launch, out, seconds, as_json=options["as_json"])


def _when_free(run: Callable[[], None]) -> None:
    """Run as soon as no other driver has the sweep; one that is heard of meanwhile is alive, and refuses."""
    age_s: float | None = None
    while True:
        try:
            return run()
        except SweepBusyError as error:
            if age_s is not None and error.age_s < age_s:
                raise
            if age_s is None:
                messages().print(
                    f"{error.message}: waiting until it is heard of again, or {error.stale_after_s:.0f} s are over."
                )
            age_s = error.age_s
            sleep(_LOOK_EVERY_S)


def taken_up(sweep: SweepFile, stored: SweepFile, db: str, *, confirming: bool) -> SweepFile:
    """The sweep that `--or-resume` goes on with: the stored one, run as the file says, and with its trials if more.

    Fewer trials than the stored sweep has are those that it was asked for before it was extended.

    Raises:
        UsageError: the file is another sweep, key by key.

    """
    name = stored.name
    had, asked = (getattr(each.searcher, "trials", None) for each in (stored, sweep))
    if had is not None and asked is not None:
        sweep = _with_trials(sweep, max(had, asked))
        if asked > had:
            check_unconfirmed(name, confirming=confirming)
    found = differences(stored, sweep, confirming=confirming)
    if found:
        _show(name, found)
    with open_to_read(db) as database:
        began = _asked_at_first(database, name)
    check_accepted(name, found, accepted=True, flag=ACCEPT, began=began)
    return sweep


def _asked_at_first(database: TrialDatabase, name: str) -> int | None:
    """Trials that an extended sweep was asked for when it began."""
    return trials_at_first([event.data for event in database.events(name, kinds=[CHANGE])])


def _revised(
    stored: SweepFile,
    trials: int | None,
    file: str | None,
    changes: Sequence[str],
    *,
    accept: bool,
    confirming: bool,
    began: int | None,
) -> SweepFile:
    """The sweep to go on with; what differs from the stored one is shown, and refused where it must be."""
    name = stored.name
    wanted = load_sweep(file, changes) if file is not None else changed_sweep(stored, changes)
    wanted = parse_sweep({**wanted.resolved(), "name": name}, file or "the changed sweep")
    if trials is not None:
        target = extended(stored, trials)
        if target != stored:
            check_unconfirmed(name, confirming=confirming)
        wanted = _with_trials(wanted, trials)
    found = differences(stored, wanted, confirming=confirming)
    if found:
        _show(name, found)
    asked = [each for each in found if trials is None or each.key != TRIALS]
    check_accepted(name, asked, accepted=accept, flag=ACCEPT, began=began)
    return wanted


def _with_trials(sweep: SweepFile, trials: int) -> SweepFile:
    resolved = sweep.resolved()
    if "trials" in resolved["searcher"]:
        resolved["searcher"]["trials"] = trials
    return parse_sweep(resolved, f"sweep {sweep.name}")


def _show(name: str, found: Sequence[Difference]) -> None:
    table = Table(title=f"What differs from sweep {name}", box=None, header_style="dim", title_justify="left")
    for column in ("key", "stored", "wanted", ""):
        table.add_column(column, overflow="fold")
    for each in found:
        table.add_row(each.key, shown(each.stored), shown(each.wanted), each.refused and "cannot change")
    messages().print(table)
