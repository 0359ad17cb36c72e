"""`kdsearch table`: a finished sweep's learning curves as a file that searches can be replayed on."""

from __future__ import annotations

from pathlib import Path

import click

from kdsearch.search.cli.common import database_option, debug_option, json_option, print_json
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.tables import sweep_table, write_table
from kdsearch.spaces.errors import UsageError


@click.command("table", short_help="Write a finished sweep's learning curves, to replay searches on.")
@click.argument("name")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write: .csv, .csv.gz or .parquet.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NODE/NAME",
    help="Keep these metrics and seconds alone, e.g. 1/val_error. Repeatable.",
)
@click.option("--force", is_flag=True, help="Write over an existing file.")
@database_option
@json_option
@debug_option
def table(name: str, out: Path, metrics: tuple[str, ...], force: bool, db: str, as_json: bool) -> None:  # noqa: FBT001
    """Write a finished sweep's learning curves in long form: one row for each training and epoch.

    `trainable: {kind: table, file: ...}` answers trials from it, and `kdsearch compare` compares searchers on it.
    """
    if out.exists() and not force:
        raise UsageError(f"{out} exists", "Give another name, or --force to write over it.")
    with open_to_read(db) as database:
        found = sweep_table(database, name, metrics=metrics or None)
    write_table(found, out)
    if as_json:
        told = {"configurations": found.configurations, "curves": found.curves, "left_out": found.left_out}
        print_json(
            {"table": str(out), **told, "rows": len(found.frame), "columns": list(found.frame.columns)}
        )
        return
    click.echo(
        f"{out}: {found.curves:,} curves of {found.configurations:,} configurations, {len(found.frame):,} rows"
        + (f"; {found.left_out:,} trials without a result were left out" if found.left_out else "")
    )
