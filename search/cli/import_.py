"""`kdsearch import`: trials that were run elsewhere as a sweep that reports are made of."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from kdsearch.search.cli.common import (
    database_flag,
    database_option,
    debug_option,
    json_option,
    messages,
    print_json,
)
from kdsearch.search.config import StatisticsSettings
from kdsearch.search.exchange.curves_in import trials_from_curves, with_curves
from kdsearch.search.exchange.importing import Design, Imported, Order, prepare, space_of_file
from kdsearch.search.exchange.incoming import Batch, Missing
from kdsearch.search.exchange.study_in import VALUE, Asked, is_sqlite, read_study, read_study_of_server
from kdsearch.search.exchange.table_in import Naming, roles_of, trials_of
from kdsearch.search.exchange.text_tables import read_text_table
from kdsearch.search.launch import holds
from kdsearch.search.masking import masked, masked_command
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.errors import SweepNameTakenError
from kdsearch.search.trialdb.places import parse_sqlite
from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_DATABASES = {".db", ".sqlite", ".sqlite3"}
_FILE = click.Path(path_type=Path)


@click.command("import", short_help="Take in trials that were run elsewhere: CSV, Parquet, Optuna.")
@click.argument("file", metavar="FILE|URL")
@click.option("--name", help="Name of the sweep; default: the study's, or the file's without its ending.")
@click.option("--title", default="", help="Heading of the report; default: the name.")
@click.option(
    "--curves", type=_FILE, help="A further CSV or Parquet file with a row for each trial and epoch."
)
@click.option("--study", metavar="NAME", help="Which study of an Optuna database; default: the only one.")
@click.option("--space", type=_FILE, help="YAML file with the space, or a sweep file; default: inferred.")
@click.option(
    "--design",
    type=click.Choice([str(design) for design in Design]),
    default=str(Design.UNKNOWN),
    show_default=True,
    help="random: the trials are random draws from the space, each trained to the end; stated: as the file says.",
)
@click.option("--error", metavar="COLUMN", help="Column of the error; default: error.")
@click.option(
    "--accuracy", metavar="COLUMN", help="Column of the accuracy, in place of an error's; Optuna: value."
)
@click.option(
    "--scale", type=float, default=1.0, show_default=True, help="Factor to per cent; 100 for fractions."
)
@click.option("--number", metavar="COLUMN", help="Column of the trial's number; default: number or trial.")
@click.option("--state", metavar="COLUMN", help="Column of the state; default: state, if there is one.")
@click.option("--seed", metavar="COLUMN", help="Column of the seed; default: seed, if there is one.")
@click.option("--epoch", metavar="COLUMN", help="Column of the epoch, in tables of curves; default: epoch.")
@click.option(
    "--parameters",
    metavar="COLUMNS",
    multiple=True,
    help="Columns of the parameters, with commas; a pattern such as 'config/*' names them by its *. Repeatable.",
)
@click.option(
    "--ignore", metavar="COLUMNS", multiple=True, help="Columns or patterns to leave out. Repeatable."
)
@click.option(
    "--missing",
    type=click.Choice([str(each) for each in Missing]),
    default=str(Missing.REFUSE),
    show_default=True,
    help="What trials without an error are.",
)
@click.option(
    "--a", type=float, default=0.0, show_default=True, help="Lower end of the AUC's errors, per cent."
)
@click.option("--tau", type=float, default=100.0, show_default=True, help="Upper end of the AUC's errors.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Of bands, intervals and tests.")
@click.option(
    "--diverged-error",
    type=float,
    default=100.0,
    show_default=True,
    help="What diverged and failed trials count with, per cent.",
)
@database_option
@json_option
@debug_option
def import_(file: str, name: str | None, db: str, as_json: bool, **options: Any) -> None:  # noqa: FBT001 click's
    """Take in trials that were run elsewhere, as a sweep of its own: complete, and never resumed.

    FILE: CSV or Parquet with a row for each trial (or trial and epoch), or an SQLite database of Optuna, which is
    not changed. URL: of a storage of Optuna on a server.
    """
    statistics = _statistics(options)
    space = None if options["space"] is None else space_of_file(options["space"])
    found, batch = _read(file, options, space)
    order = Order(
        name=_checked(name or found, given=name is not None),
        title=options["title"],
        space=space,
        design=Design(options["design"]),
        statistics=statistics,
        command=masked_command(["kdsearch", *sys.argv[1:]]),
    )
    if holds(db, order.name):
        raise SweepNameTakenError(
            f"{masked(db)} already has a sweep {order.name!r}", "Give this one another name with --name."
        )
    ready = prepare(batch, order)
    with TrialDatabase.open(db) as database:
        ready.write(database)
    if as_json:
        print_json({"file": masked(file), "database": masked(db), **asdict(ready.told)})
    else:
        _say(file, db, ready.told)


def _read(given: str, options: dict[str, Any], space: DesignSpace | None) -> tuple[str, Batch]:
    """A name for the sweep, and what the file or the storage holds."""
    if "://" in given and parse_sqlite(given) is None:
        return read_study_of_server(given, _asked(options))
    file = (parse_sqlite(given) if "://" in given else None) or Path(given)
    if not file.is_file():
        raise UsageError(f"there is no file {file}", "Give a CSV, Parquet or SQLite file.")
    if is_sqlite(file):
        return read_study(file, _asked(options))
    if file.suffix in _DATABASES:
        raise UsageError(
            f"{file} is no SQLite database", "Known: CSV, Parquet, and SQLite databases of Optuna."
        )
    if options["study"] is not None:
        raise UsageError(f"{file} is a table and holds no studies", "Leave --study out.")
    naming = _naming(options)
    table = read_text_table(file)
    roles = roles_of(table, naming, space)
    stem = file.name.split(".")[0]
    if roles.epoch is None:
        batch = trials_of(table, naming, roles)
        if options["curves"] is not None:
            batch = with_curves(batch, read_text_table(options["curves"]), naming, space)
        return stem, batch
    if options["curves"] is not None:
        raise UsageError(
            f"{file} has a row for each epoch already",
            "Leave --curves out, or name a file with a row for each trial.",
        )
    return stem, trials_from_curves(table, naming, roles)


def _asked(options: dict[str, Any]) -> Asked:
    """What is asked of a study; options about columns are refused."""
    for option in ("number", "state", "seed", "epoch", "curves", "parameters", "ignore"):
        if options[option]:
            raise UsageError(f"--{option} is for tables, and this is a database of Optuna", "Leave it out.")
    for option in ("error", "accuracy"):
        if options[option] not in {None, VALUE}:
            raise UsageError(
                f"a trial of a study has no column {options[option]!r}", f"Its objective is called {VALUE}."
            )
    if options["error"] and options["accuracy"]:
        raise UsageError("--error and --accuracy exclude each other", "A value is one of them.")
    return Asked(
        study=options["study"],
        accuracy=options["accuracy"] is not None,
        factor=_factor(options),
        missing=Missing(options["missing"]),
    )


def _naming(options: dict[str, Any]) -> Naming:
    named = {key: options[key] for key in ("error", "accuracy", "number", "state", "seed", "epoch")}
    return Naming(
        **named,
        parameters=_listed(options["parameters"]),
        ignore=_listed(options["ignore"]),
        factor=_factor(options),
        missing=Missing(options["missing"]),
    )


def _listed(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for each in given for name in each.split(",") if name.strip())


def _factor(options: dict[str, Any]) -> float:
    factor = float(options["scale"])
    if not 0 < factor < float("inf"):
        raise UsageError(f"--scale is {factor:g}", "It is above 0: 1 for per cent, 100 for fractions.")
    return factor


def _statistics(options: dict[str, Any]) -> StatisticsSettings:
    given = {key: options[key] for key in ("a", "tau", "alpha", "diverged_error")}
    try:
        return StatisticsSettings.model_validate(given)
    except ValidationError as error:
        item = error.errors()[0]
        key = "".join(f"--{part}".replace("_", "-") for part in item["loc"][:1])
        raise UsageError(f"{key or '--a, --tau'}: {item['msg'].removeprefix('Value error, ')}") from None


def _checked(name: str, *, given: bool) -> str:
    if _NAME.fullmatch(name):
        return name
    if given:
        raise UsageError(
            f"{name!r} is no name of a sweep", "A letter or digit, then letters, digits, . _ - (80 in all)."
        )
    tidy = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:80]
    if not tidy:
        raise UsageError(f"{name!r} makes no name of a sweep", "Give one with --name.")
    return tidy


def _say(file: str, db: str, told: Imported) -> None:
    states = ", ".join(f"{n:,} {state}" for state, n in told.states.items())
    epochs = f", {told.epochs:,} epochs of curves" if told.epochs else ""
    click.echo(f"{told.name}: {told.trials:,} trials ({states}){epochs} from {masked(file)}")
    if told.errors is not None:
        click.echo(f"Errors: {told.errors[0]:.4g} to {told.errors[1]:.4g} per cent")
    words = {
        Design.RANDOM: "random draws from the space",
        Design.STATED: "as the file states",
        Design.UNKNOWN: "unknown, so reports have no error distribution (--design)",
    }
    click.echo(f"Design: {words[Design(told.design)]}")
    parameters = told.space.get("parameters")
    if isinstance(parameters, dict):
        for parameter, spec in parameters.items():
            click.echo(f"  {parameter}: {_shown(spec)}")
    for note in told.notes:
        messages().print(note, style="dim", markup=False, soft_wrap=True)
    click.echo(f"Report it with: kdsearch report {told.name} --out {told.name}-report{database_flag(db)}")


def _shown(spec: dict[str, Any]) -> str:
    """A parameter in a line, as in a sweep file."""
    return ", ".join(f"{key} {value}" if key != "type" else str(value) for key, value in spec.items())
