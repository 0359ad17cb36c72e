"""`kdsearch graph`: draw a knowledge transfer graph that is written in one line of text."""

from __future__ import annotations

from pathlib import Path

import click

from kdsearch.analysis.graph_drawing import draw_graph
from kdsearch.search.cli.common import debug_option, json_option, print_json
from kdsearch.spaces import Graph
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.networks.architectures import check_model


@click.command("graph", short_help="Check and draw a graph that is written in one line.")
@click.argument("text")
@click.option("--out", type=click.Path(path_type=Path), help="Draw to this file (.svg, .png or .pdf).")
@json_option
@debug_option
def graph(text: str, out: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Read a graph from one line of text, as `kdsearch space --sample` prints them, and draw it."""
    found = Graph.parse(text)
    for model in dict.fromkeys(found.models):
        check_model(model)
    if out is not None and out.suffix not in {".svg", ".png", ".pdf"}:
        raise UsageError(f"cannot draw to {out}: the name must end in .svg, .png or .pdf")
    if as_json:
        print_json({"text": found.to_text(), "configuration": found.to_configuration()})
    else:
        click.echo(found.to_text())
    if found.is_degenerate:
        click.echo("no edge reaches the target (node 1): it would learn nothing", err=True)
    if out is not None:
        draw_graph(found).savefig(out)
