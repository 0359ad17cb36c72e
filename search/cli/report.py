"""`kdsearch report`: figures, tables and a page from the trial database."""

from __future__ import annotations

from pathlib import Path

import click

from kdsearch.search.cli.common import (
    check_report_folder,
    database_option,
    debug_option,
    json_option,
    print_json,
)
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.cli.folders import write_told
from kdsearch.search.trialdb import read_record


@click.command("report", short_help="Write report.html, figures and CSV files of sweeps.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the report."
)
@database_option
@json_option
@debug_option
def report(names: tuple[str, ...], out: Path, db: str, as_json: bool) -> None:  # noqa: FBT001
    """Write report.html, figures and CSV files of one or more sweeps.

    Several names give one report that compares them. Sweeps of the trainable bbm have a page of their own: on the
    same records, they stand in one table of methods.
    """
    check_report_folder(out)
    with open_to_read(db) as database:
        records = [read_record(database, name) for name in names]
    files = write_told(records, out)
    if as_json:
        paths = [files.page, *files.tables, files.lineage, *files.others, *files.figures]
        print_json({"report": str(files.page), "files": [str(path) for path in paths]})
        return
    click.echo(f"Report of {', '.join(names)}: {files.page}")
