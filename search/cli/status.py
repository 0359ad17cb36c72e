"""`kdsearch status`: which sweeps a database holds and how far they are."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kdsearch.analysis.retrained import is_retraining
from kdsearch.search.cli.common import database_option, debug_option, json_option, print_json, results
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.cli.methods import methods_of, planned_runs, print_methods
from kdsearch.search.cli.retrained import print_retrained, retrained_of
from kdsearch.search.cli.studies import is_study, print_study, study_of
from kdsearch.search.masking import masked
from kdsearch.search.searchers.confirmation import DESIGN as CONFIRMATION
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb.states import Role, TrialState


@click.command("status", short_help="Show the sweeps of a database and how far they are.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_option
@json_option
@debug_option
def status(names: tuple[str, ...], db: str, as_json: bool) -> None:  # noqa: FBT001
    """Show the sweeps of a database, or those that are named."""
    with open_to_read(db) as database:
        wanted = names or tuple(sweep.name for sweep in database.sweeps())
        rows = [_row(database, name) for name in wanted]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(f"No sweeps in {masked(db)}.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("sweep", "state", "spaces", "trials", "best error", "created"):
        table.add_column(column)
    for row in rows:
        counts = ", ".join(f"{n} {state}" for state, n in row["trials"].items() if n)
        created = f"{row['created']:%Y-%m-%d %H:%M} UTC"
        table.add_row(row["name"], _state(row), " → ".join(row["spaces"]), counts, _best(row), created)
    console = results()
    console.print(table)
    _print_tables(console, rows, brief=not names)
    for row in rows:
        if _state(row) == "driver gone":
            click.echo(
                f"The driver of {row['name']} ended without a word. Go on with: kdsearch resume {row['name']}"
            )


def _print_tables(console: Console, rows: list[dict[str, Any]], *, brief: bool) -> None:
    """The tables of comparisons, retrainings and studies; brief: tables alone, without what they mean."""
    for row in rows:
        if row["comparison"] is not None:
            console.print(f"\n{row['name']}", style="bold")
            print_methods(console, {**row["comparison"], "notes": []} if brief else row["comparison"])
        if row["retrained"] is not None:
            console.print(f"\n{row['name']}", style="bold")
            print_retrained(console, row["retrained"], brief=brief)
        if row["study"] is not None:
            console.print(f"\n{row['name']}", style="bold")
            print_study(console, {**row["study"], "words": []} if brief else row["study"])


def _state(row: dict[str, Any]) -> str:
    if row["state"] == "running" and row["driver"] != "alive":
        return "driver gone"
    return str(row["state"])


def _best(row: dict[str, Any]) -> str:
    if row["best_error"] is not None:
        return f"{row['best_error']:.2f} % (trial {row['best_trial']})"
    tables = (row["comparison"], row["study"], row["retrained"])  # which say more
    return "" if all(table is None for table in tables) else "-"


def _row(database: TrialDatabase, name: str) -> dict[str, Any]:
    sweep = database.sweep(name)
    again = is_retraining(sweep.settings)
    scored = is_study(sweep.trainable) and not again
    compares = again or planned_runs(sweep.settings) is not None  # then errors are not of one search's trials
    trials = [] if compares else database.trials(name, states=[TrialState.COMPLETE])
    found = [t for t in trials if t.role is Role.SEARCH and t.sampling_design != CONFIRMATION]
    complete = [(t.error, t.number) for t in found if t.error is not None]
    error, number = min(complete, default=(None, None))
    study = study_of(read_record(database, name)) if scored else None
    return {
        "name": sweep.name,
        "state": str(sweep.state),
        "kind": sweep.kind,
        "seed": sweep.seed,
        "spaces": [space.name for space in database.spaces(name)],
        "trials": {str(state): n for state, n in database.counts_by_state(name, role=Role.SEARCH).items()},
        "best_error": error,
        "best_trial": number,
        "comparison": methods_of(read_record(database, name)) if compares and not (scored or again) else None,
        "retrained": retrained_of(read_record(database, name)) if again else None,
        "study": study if study is not None and study["methods"] else None,
        "driver": database.driver_state(name),
        "created": sweep.created,
        "ended": sweep.ended,
    }
