"""`kdsearch data`: are the files there and whole; make a small sample in the official format."""

from __future__ import annotations

from pathlib import Path

import click

from kdsearch.search.cli.common import data_root_option, debug_option, json_option, print_json
from kdsearch.trainables import data as data_sets


@click.group("data")
def data() -> None:
    """Check data sets, or make a small made-up sample in the official format."""


@data.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@data_root_option
@json_option
@debug_option
def check(names: tuple[str, ...], data_root: Path | None, as_json: bool) -> int:  # noqa: FBT001
    """Look at all files of the named data sets (default: of all), and say what is wrong with each."""
    reports = [data_sets.check(name, data_root) for name in names or data_sets.data_set_names()]
    if as_json:
        print_json([report.to_dict() for report in reports])
    else:
        for report in reports:
            click.echo(str(report))
    return 0 if all(report.ok for report in reports) else 1


@data.command("sample")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@debug_option
def sample(name: str, directory: Path, seed: int) -> None:
    """Write a small made-up data set in the official format of NAME below DIRECTORY."""
    written = data_sets.sample(name, directory, seed=seed)
    click.echo(f"Made-up sample of {name}: {written}")
    click.echo(f"Use it with --data-root {directory}")
