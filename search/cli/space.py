"""`kdsearch space` and `kdsearch presets`: look at a space before searching it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import numpy as np
from rich.table import Table

from kdsearch.search import presets
from kdsearch.search.cli.common import debug_option, json_option, print_json, results, set_option
from kdsearch.search.config import MOST_LISTED, load_sweep
from kdsearch.search.lines import line_of
from kdsearch.spaces import DesignSpace, Value, describe
from kdsearch.spaces.errors import UsageError


@click.command("space", short_help="Show a design space and its exact size; sample or list it.")
@click.argument("preset_or_file")
@click.option("--sample", "sample", type=click.IntRange(min=1), help="Print this many uniform draws.")
@click.option(
    "--enumerate", "enumerate_", is_flag=True, help="Print every valid configuration, symmetric ones once."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of --sample.")
@set_option
@json_option
@debug_option
def space(
    preset_or_file: str,
    sample: int | None,
    enumerate_: bool,  # noqa: FBT001 click passes flags by name
    seed: int,
    changes: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show a design space: its parameters and exact size, or configurations from it.

    encodings are configurations as written, classes are graphs that differ by more than swapping auxiliary nodes;
    the valid ones, without graphs whose target learns nothing, are what is sampled.
    """
    sweep = load_sweep(preset_or_file, changes)
    found = sweep.design_space()
    if sample is not None and enumerate_:
        raise UsageError("--sample and --enumerate exclude each other")
    if sample is not None:
        generator = np.random.default_rng(seed)
        _list(found, (found.sample(generator) for _ in range(sample)), as_json=as_json)
    elif enumerate_:
        size = found.counts().valid_classes
        if size is None or size > MOST_LISTED:
            raise UsageError(f"the space has {size or 'infinitely many'} configurations; use --sample N")
        _list(found, found.enumerate(classes=True), as_json=as_json)
    else:
        _describe(sweep.name, found, as_json=as_json)


def _describe(name: str, found: DesignSpace, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, **describe(found)})
        return
    print_space(name, found)


def print_space(name: str, found: DesignSpace) -> None:
    """Print a space's sizes, restriction by restriction, and its parameters."""
    described, console = describe(found), results()
    console.print(name, style="bold")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("space")
    for column in ("encodings", "classes", "valid encodings", "valid classes"):
        table.add_column(column, justify="right")
    rows: list[dict[str, Any]] = [{"restriction": "no restriction", **described}, *described["restrictions"]]
    for row in rows:
        sizes = (row[key] for key in ("encodings", "classes", "valid_encodings", "valid_classes"))
        plus = "" if row is rows[0] else "+ "
        table.add_row(f"{plus}{row['restriction']}", *("infinite" if n is None else f"{n:,}" for n in sizes))
    console.print(table)
    parameters = Table(box=None, pad_edge=False, header_style="dim")
    parameters.add_column("parameter")
    parameters.add_column("values")
    shown = {parameter: _shown(values) for parameter, values in found.parameters_spec().items()}
    for values in dict.fromkeys(shown.values()):  # parameters that can be the same stand together
        names = ", ".join(parameter for parameter, own in shown.items() if own == values)
        parameters.add_row(names, values)
    console.print()
    console.print(parameters)
    for constraint in found.to_spec().get("constraints", []):
        console.print(f"constraint: {constraint}", highlight=False, markup=False)


def _shown(values: object) -> str:
    if isinstance(values, dict):
        return ", ".join(f"{key}: {_shown(value)}" for key, value in values.items())
    if isinstance(values, list | tuple):
        return ", ".join(map(str, values))
    return str(values)


def _list(found: DesignSpace, configurations: Iterable[dict[str, Value]], *, as_json: bool) -> None:
    if as_json:
        print_json(list(configurations))
        return
    for configuration in configurations:
        click.echo(line_of(found, configuration))


@click.command("presets", short_help="List the sweep files that are included.")
@click.option("--show", metavar="NAME", help="Print a preset's sweep file.")
@json_option
@debug_option
def presets_command(show: str | None, as_json: bool) -> None:  # noqa: FBT001
    """List the sweep files that come with the program."""
    if show is not None:
        click.echo(presets.text(show), nl=False)
        return
    sweeps = [load_sweep(name) for name in presets.names()]
    if as_json:
        print_json([sweep.resolved() for sweep in sweeps])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("preset", "searcher", "space (classes)", "what it is"):
        table.add_column(column)
    for sweep in sweeps:
        classes = sweep.design_space().counts().classes
        table.add_row(sweep.name, sweep.searcher.kind, f"{classes:,}" if classes else "infinite", sweep.title)
    results().print(table)
