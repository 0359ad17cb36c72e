"""`kdsearch schema`: the JSON Schema of sweep files, for editors."""

from __future__ import annotations

from pathlib import Path

import click

from kdsearch.search.cli.common import debug_option, messages
from kdsearch.search.file_schema import is_schema, schema_text
from kdsearch.spaces.errors import UsageError


@click.command("schema", short_help="Print the JSON Schema of sweep files, for editors.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file; default: print it."
)
@debug_option
def schema(out: Path | None) -> None:
    """Print the JSON Schema of sweep files, by which an editor completes and checks them.

    The first line of a sweep file, for editors with the YAML language server:

    \b
    # yaml-language-server: $schema=sweep.schema.json
    """  # noqa: D301 click keeps lines behind it
    text = schema_text()
    if out is None:
        click.echo(text, nl=False)
        return
    _check_file(out)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written: {error.strerror}", "Give another file with --out."
        ) from None
    messages().print(f"Written: {out}. The first line of a sweep file beside it:", soft_wrap=True)
    messages().print(f"# yaml-language-server: $schema={out.name}", soft_wrap=True)


def _check_file(out: Path) -> None:
    """Refuse to write over anything but an earlier schema; what cannot be read is left to the one who writes."""
    try:
        held = out.read_text(encoding="utf-8") if out.is_file() else ""
    except UnicodeDecodeError:
        held = "no text"
    except OSError:
        return
    if held and not is_schema(held):
        raise UsageError(
            f"{out} exists and is no schema of kdsearch",
            "Give another file with --out, or move that one away.",
        )
