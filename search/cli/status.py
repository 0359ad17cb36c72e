"""`kdsearch status`: which sweeps a database holds and how far they are.

It answers at once: what takes a second to import (pandas, scipy) is imported for sweeps that need it, those that
compare methods.
"""

from __future__ import annotations

import itertools
import shlex
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kdsearch.analysis.sweep_kinds import CONFIRMATION, is_retraining, is_study, planned_runs
from kdsearch.search.cli.common import (
    database_flag,
    database_option,
    debug_option,
    json_option,
    print_json,
    results,
)
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.masking import masked
from kdsearch.search.notices import CHECKPOINT, CLUSTER, standing
from kdsearch.search.trialdb import Sweep, TrialDatabase
from kdsearch.search.trialdb.states import Role
from kdsearch.spaces.printable import printable

_TABLES = ("comparison", "retrained", "study")  # what a row may have beside the best error


@click.command("status", short_help="Show the sweeps of a database and how far they are.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_option
@json_option
@debug_option
def status(names: tuple[str, ...], db: str, as_json: bool) -> None:  # noqa: FBT001
    """Show the sweeps of a database, or those that are named."""
    with open_to_read(db) as database:
        wanted = names or tuple(sweep.name for sweep in database.sweeps())
        rows = [row_of(database, name) for name in wanted]
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
        for text in row["troubles"]:
            console.print(f"{row['name']}: {text}", style="yellow", markup=False, soft_wrap=True)
        how = {
            "driver gone": "The driver of {} ended without a word.",
            "interrupted": "{} was interrupted.",
        }.get(_state(row))
        if how is not None:
            click.echo(f"{how.format(row['name'])} Go on with: {row['resume']}{database_flag(db)}")


def _print_tables(console: Console, rows: list[dict[str, Any]], *, brief: bool) -> None:
    """The tables of comparisons, retrainings and studies; brief: tables alone, without what they mean."""
    if all(row[kind] is None for row in rows for kind in _TABLES):
        return
    from kdsearch.search.cli.methods import print_methods  # noqa: PLC0415 see above
    from kdsearch.search.cli.retrained import print_retrained  # noqa: PLC0415
    from kdsearch.search.cli.studies import print_study  # noqa: PLC0415

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
    return "" if all(row[kind] is None for kind in _TABLES) else "-"  # they say more


def row_of(database: TrialDatabase, name: str) -> dict[str, Any]:
    """What is told of a sweep, as plain data."""
    sweep = database.sweep(name)
    tables, driver = _tables(database, sweep), database.driver_state(name)
    # where trials stand for methods, errors are not of one search's trials
    compares = is_retraining(sweep.settings) or planned_runs(sweep.settings) is not None
    number, error = (None, None) if compares else database.best_trial(name, without=CONFIRMATION)
    return {
        "name": sweep.name,
        "state": str(sweep.state),
        "kind": sweep.kind,
        "seed": sweep.seed,
        "spaces": [space.name for space in database.spaces(name)],
        "trials": {str(state): n for state, n in database.counts_by_state(name, role=Role.SEARCH).items()},
        "best_error": error,
        "best_trial": number,
        **tables,
        "driver": driver,
        "resume": f"kdsearch resume {sweep.name}{_address_flag(sweep)}",
        "troubles": _troubles(database, name) if driver == "alive" else [],
        "created": sweep.created,
        "ended": sweep.ended,
    }


def _address_flag(sweep: Sweep) -> str:
    """The option that takes a resume to the cluster that the sweep began on; "" for one of its own."""
    words = shlex.split(str(sweep.environment.get("command") or ""))
    given = [word.partition("=")[2] for word in words if word.startswith("--address=")]
    given += [value for option, value in itertools.pairwise(words) if option == "--address"]
    return f" --address {shlex.quote(given[-1])}" if given and given[-1] != "local" else ""


def _troubles(database: TrialDatabase, name: str) -> list[str]:
    """What its driver has to put up with."""
    found = standing(database.events(name, kinds=[CLUSTER, CHECKPOINT]))
    return [masked(printable(" ".join(text.split()))) for text in found]


def _tables(database: TrialDatabase, sweep: Sweep) -> dict[str, Any]:
    """What a sweep has by `_TABLES`; None for what it is not."""
    again = is_retraining(sweep.settings)
    scored = is_study(sweep.trainable) and not again
    compares = planned_runs(sweep.settings) is not None and not (scored or again)
    found: dict[str, Any] = dict.fromkeys(_TABLES)
    if not (again or scored or compares):
        return found
    from kdsearch.search.cli.methods import methods_of  # noqa: PLC0415 see above
    from kdsearch.search.cli.retrained import retrained_of  # noqa: PLC0415
    from kdsearch.search.cli.studies import study_of  # noqa: PLC0415
    from kdsearch.search.trialdb.record import read_record  # noqa: PLC0415

    record = read_record(database, sweep.name)
    if again:
        found["retrained"] = retrained_of(record)
    elif compares:
        found["comparison"] = methods_of(record)
    else:
        study = study_of(record)
        found["study"] = study if study is not None and study["methods"] else None
    return found
