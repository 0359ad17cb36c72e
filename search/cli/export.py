"""`kdsearch export`: a sweep as CSV, Parquet or an Optuna study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from kdsearch.search.cli.common import (
    database_option,
    debug_option,
    json_option,
    messages,
    print_json,
    seen_by_others,
)
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.exchange.exporting import Exported, What, export_study, export_table
from kdsearch.spaces.errors import UsageError

_OPTUNA = "optuna"
_PARQUET = "parquet"


@click.command("export", short_help="Write a sweep as CSV, Parquet or an Optuna study.")
@click.argument("name")
@click.option(
    "--format", "form", type=click.Choice(["csv", _PARQUET, _OPTUNA]), required=True, help="What to write."
)
@click.option(
    "--out",
    required=True,
    metavar="PATH",
    callback=seen_by_others,
    help="New file; with optuna, also the URL of a storage, such as sqlite:///optuna.db.",
)
@click.option(
    "--what",
    type=click.Choice([str(what) for what in What]),
    help="Of csv and parquet: trials (the default), or curves, one row a trial and epoch.",
)
@click.option("--parameters", is_flag=True, help="Repeat the parameters in every row of the curves.")
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Thin curves: epochs that are multiples of this, and the last one.",
)
@click.option("--study", metavar="NAME", help="Name of the Optuna study; default: the sweep's.")
@database_option
@json_option
@debug_option
def export(
    name: str,
    form: str,
    out: str,
    what: str | None,
    parameters: bool,  # noqa: FBT001 click passes flags by name
    every: int,
    study: str | None,
    db: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Write a sweep as CSV, Parquet or an Optuna study, never over a file or study that is there."""
    wanted = What(what or What.TRIALS)
    _check(form, wanted, given=what is not None, parameters=parameters, every=every, study=study)
    with open_to_read(db) as database:
        if form == _OPTUNA:
            written = export_study(database, name, out, study=study or name, every=every)
        else:
            written = export_table(
                database,
                name,
                Path(out),
                parquet=form == _PARQUET,
                what=wanted,
                parameters=parameters,
                every=every,
            )
    if as_json:
        held = None if form == _OPTUNA else str(wanted)
        print_json({"sweep": name, "format": form, "what": held, **asdict(written)})
        return
    _say(name, written)


def _check(form: str, what: What, *, given: bool, parameters: bool, every: int, study: str | None) -> None:
    """Refuse options that would have no effect."""
    curves = form == _OPTUNA or what is What.CURVES
    wrong = {
        "--what": form == _OPTUNA and given,
        "--parameters": parameters and (form == _OPTUNA or what is not What.CURVES),
        "--every": every > 1 and not curves,
        "--study": study is not None and form != _OPTUNA,
    }
    hints = {
        "--what": "A study holds trials and curves alike.",
        "--parameters": "It is for --what curves; trials and studies have them anyway.",
        "--every": "It thins --what curves and --format optuna.",
        "--study": "It names a study of --format optuna.",
    }
    for option, no_use in wrong.items():
        if no_use:
            raise UsageError(f"{option} has no effect with --format {form} and --what {what}", hints[option])


def _say(name: str, written: Exported) -> None:
    if written.study is None:
        held = f"{written.rows:,} rows, {len(written.columns)} columns"
    else:
        held = f"study {written.study}, {written.rows:,} intermediate values"
    click.echo(f"{name}: {written.trials:,} trials in {written.out} ({held})")
    for note in written.notes:
        messages().print(note, style="dim", markup=False, soft_wrap=True)
