"""`kdsearch token`: a new secret in a file of its own."""

from __future__ import annotations

from pathlib import Path

import click

from kdsearch.search.cli.common import debug_option
from kdsearch.search.runner_access import write_token


@click.command("token", short_help="Write a new token, or password, to a file that is its owner's alone.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@debug_option
def token(file: Path) -> None:
    """Write a new random token of 64 hexadecimal digits to FILE, which nobody else can read (mode 0600).

    For Ray's nodes and whoever joins them (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH=FILE), or as a password of a
    database server. The token is not shown.
    """
    write_token(file)
    click.echo(f"Written: {file} (mode 0600)")
