"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.text import Text

from kdsearch.search.masking import holds_password, masked
from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.printable import printable

F = TypeVar("F", bound=Callable[..., Any])

GENERATOR = b'<meta name="generator" content="kdsearch">'
_HEAD = 4096  # bytes of a page in which that stands

DEFAULT_DATABASE = "sqlite:///kdsearch.db"
DATABASE_VARIABLE, DATABASE_FILE_VARIABLE = "KDSEARCH_DB", "KDSEARCH_DB_FILE"


def version_text() -> str:
    """The installed version."""
    return metadata.version("kdsearch")


def database_option(function: F) -> F:
    """--db."""
    return click.option(
        "--db",
        "db",
        metavar="URL",
        default=default_database,
        show_default=DEFAULT_DATABASE,
        envvar=DATABASE_VARIABLE,
        show_envvar=True,
        callback=_database,
        help=f"Trial database; {DATABASE_FILE_VARIABLE} names a file that holds the URL.",
    )(function)


def _database(context: click.Context, parameter: click.Parameter, url: str) -> str:
    """The URL without what a variable that is made of a file ends with: the file's last line feed."""
    return seen_by_others(context, parameter, url).strip()


Given = TypeVar("Given", bound=str | None)


def seen_by_others(context: click.Context, parameter: click.Parameter, url: Given) -> Given:
    """Warn of a password on the command line, which every user of the machine can read while the command runs."""
    given = parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    if given and url is not None and holds_password(url):
        option = parameter.opts[0]
        other = f"give the URL by {DATABASE_VARIABLE} or in the file of {DATABASE_FILE_VARIABLE}, or "
        logging.getLogger(__name__).warning(
            "the password in %s can be read in the list of processes: %sleave it out and keep it in the file of "
            "PGPASSFILE or ~/.pgpass",
            option,
            other if option == "--db" else "",
        )
    return url


def default_database() -> str:
    """The database where neither --db nor KDSEARCH_DB names one: that of KDSEARCH_DB_FILE, or one in this folder.

    Raises:
        UsageError: the file cannot be read, or holds no line.

    """
    name = os.environ.get(DATABASE_FILE_VARIABLE)
    if not name:
        return DEFAULT_DATABASE
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is no text"
        raise UsageError(
            f"{DATABASE_FILE_VARIABLE} names {name}, which cannot be read: {why}",
            "It must be a file with the URL of the trial database.",
        ) from None
    if not text or "\n" in text:
        raise UsageError(
            f"{DATABASE_FILE_VARIABLE} names {name}, which does not hold one line",
            "It must be a file with the URL of the trial database.",
        )
    return text


def given_database() -> str:
    """The database that commands take if none is named on the command line."""
    return os.environ.get(DATABASE_VARIABLE, "").strip() or default_database()


def database_flag(db: str) -> str:
    """What a command needs to find this database again, with a space before it; "" where it finds it by itself."""
    return "" if db == given_database() else f" --db {shlex.quote(masked(db))}"


def data_root_option(function: F) -> F:
    """--data-root."""
    return click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        envvar="KDSEARCH_DATA",
        show_envvar=True,
        help="Folder that holds the data sets, each in a folder of its name.",
    )(function)


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def debug_option(function: F) -> F:
    """--debug; read before the command runs, so the command itself never sees it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks of errors.")(
        function
    )


def set_option(function: F) -> F:
    """--set."""
    return click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a key of the sweep file, e.g. --set searcher.draws=100. Repeatable.",
    )(function)


class PlainConsole(Console):
    """A console that takes no text for markup and obeys no escape sequence in one: texts come from trials and files."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Be silent from now on, where remarks have no reader any more; results without a reader end the command."""
        if not self.stderr:
            super().on_broken_pipe()
        self.quiet = True

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string, control characters told by their code."""
        return super().render_str(printable(text), **options)


def messages() -> Console:
    """For progress and remarks: standard error."""
    return PlainConsole(stderr=True, highlight=False)


def results() -> Console:
    """For results: standard output."""
    return PlainConsole(highlight=False)


def print_json(data: Mapping[str, Any] | list[Any]) -> None:
    """Print plain JSON on standard output; NaN and infinities become null."""
    click.echo(json.dumps(_finite(data), indent=2, allow_nan=False, default=str))


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


def check_report_folder(out: Path) -> None:
    """Refuse to write a report among other files; for use before any work is done.

    A folder that is not there, is empty or holds an earlier report is right. What cannot be looked into is left to
    the one who writes.

    Raises:
        UsageError: the folder holds something else.

    """
    try:
        names = [path.name for path in out.iterdir()] if out.is_dir() else []
    except OSError:
        return
    if not holds_report(out) and any(
        not name.startswith(".draft-") for name in names
    ):  # a draft is left where a writer was killed
        raise UsageError(
            f"{out} is not empty and holds no report of kdsearch",
            "Give another folder for the report with --out, or empty this one.",
        )


def holds_report(folder: Path) -> bool:
    """Whether a folder holds a report of kdsearch; what cannot be looked into holds none."""
    page = folder / "report.html"
    try:
        return page.is_file() and GENERATOR in page.read_bytes()[:_HEAD]
    except OSError:
        return False


def environment_data_root(data_root: Path | None) -> Path | None:
    """The data root given, or the one in KDSEARCH_DATA."""
    if data_root is not None:
        return data_root
    found = os.environ.get("KDSEARCH_DATA")
    return Path(found) if found else None
