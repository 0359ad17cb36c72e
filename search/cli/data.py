"""`kdsearch data`: are the files there and whole; make a small sample in the official format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kdsearch.search.cli.common import data_root_option, debug_option, json_option, print_json
from kdsearch.spaces.errors import UnknownNameError
from kdsearch.trainables import data as data_sets
from kdsearch.trainables.data.registry import FOLDER_FORM, FOLDER_PREFIX, DataSet, data_set
from kdsearch.trainables.data.roots import HOW_TO_SET, resolve_data_root
from kdsearch.trainables.records import RecordsReport, check_records, sample_records
from kdsearch.trainables.records.sets import RECORD_SETS, RecordSet

Report = data_sets.CheckReport | RecordsReport


@click.group("data", short_help="Check data sets, or make a small made-up sample.")
def data() -> None:
    """Check data sets, or make a small made-up sample in the official format."""


@data.command("check", short_help="Look at all files of data sets; say what is wrong with them.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@data_root_option
@json_option
@debug_option
def check(names: tuple[str, ...], data_root: Path | None, as_json: bool) -> int:  # noqa: FBT001
    """Look at all files of the named data sets (default: of all), and say what is wrong with each."""
    known = (*data_sets.data_set_names(), *RECORD_SETS)
    sets = [_known(name) for name in names or known]  # a name that is none is told before any file is read
    reports = [_check(entry, data_root) for entry in sets]
    if as_json:
        print_json([report.to_dict() for report in reports])
        return 0 if all(report.ok for report in reports) else 1
    no_root = resolve_data_root(data_root) is None
    unseen = [report for report in reports if no_root and not report.ok and not report.files]
    together = len(unseen) > 1
    for report in reports:
        if not together or report not in unseen:
            click.echo(str(report))
    if together:
        _tell_unseen(unseen)
    return 0 if all(report.ok for report in reports) else 1


def _known(name: str) -> DataSet | RecordSet:
    """Return what is known of a set of images or of records."""
    if name in RECORD_SETS:
        return RECORD_SETS[name]
    if name not in data_sets.data_set_names() and not name.startswith(FOLDER_PREFIX):
        raise UnknownNameError("data set", name, (*data_sets.data_set_names(), *RECORD_SETS, FOLDER_FORM))
    return data_set(name)


def _check(known: DataSet | RecordSet, data_root: Path | None) -> Report:
    if isinstance(known, RecordSet):
        return check_records(known.name, data_root)
    return data_sets.check(known.name, data_root)


def _tell_unseen(reports: Sequence[Report]) -> None:
    """Say once what keeps all these data sets from being looked at, and where each comes from."""
    click.echo(f"No data root is given, so {len(reports)} of the data sets could not be looked at:")
    for report in reports:
        known = _known(report.name)
        archives = f"{' or '.join(known.archives)} from " if known.archives else ""
        click.echo(f"  {report.name}  {known.title}; {archives}{known.source}")
    click.echo(HOW_TO_SET)
    click.echo("`kdsearch data sample NAME DIRECTORY` writes a small made-up set in the official format.")


@data.command("sample", short_help="Write a small made-up data set in the official format.")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the sample.")
@debug_option
def sample(name: str, directory: Path, seed: int) -> None:
    """Write a small made-up data set in the official format of NAME below DIRECTORY."""
    write = sample_records if isinstance(_known(name), RecordSet) else data_sets.sample
    written = write(name, directory, seed=seed)
    click.echo(f"Made-up sample of {name}: {written}")
    click.echo(f"Use it with --data-root {directory}")
