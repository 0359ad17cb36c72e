"""What the commands that train have in common: options, progress, a person's choices, and what they say at the end."""

from __future__ import annotations

import contextlib
import getpass
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.prompt import IntPrompt
from rich.table import Table

from kdsearch.analysis.conditions import ConditionRow
from kdsearch.search import launch as launching
from kdsearch.search.cli.common import (
    data_root_option,
    database_flag,
    database_option,
    debug_option,
    environment_data_root,
    json_option,
    messages,
    print_json,
)
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.config import RefinementSettings, SweepFile
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.masking import masked_command
from kdsearch.search.progress import Display, LineDisplay, LiveDisplay, Quiet
from kdsearch.search.runner import Interrupted
from kdsearch.search.searchers import Chooser, interactive
from kdsearch.search.searchers.policies import Look
from kdsearch.spaces.errors import KdsearchError, UsageError

F = TypeVar("F", bound=Callable[..., Any])


def _a_number(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse NaN, which is in no range and yet passes."""
    if isnan(value):
        raise click.BadParameter("it must be a number of seconds, or inf", ctx=context, param=parameter)
    return value


def run_options(function: F) -> F:
    """Options of every command that trains."""
    for option in (
        debug_option,
        json_option,
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder for the report; default NAME-report, numbered if another sweep's report lies there.",
        ),
        click.option(
            "--max-concurrent", type=click.IntRange(min=1), help="Packs at a time; default: what fits."
        ),
        click.option(
            "--ship-code",
            is_flag=True,
            help="Send kdsearch's code to the nodes of the cluster, which then need only Ray and the dependencies.",
        ),
        click.option(
            "--storage",
            metavar="FOLDER|URL",
            help="Where checkpoints and weights lie: a folder that all nodes share, or s3://, gs://, hdfs://, ... "
            "Default: beside the database; on a resume as before.",
        ),
        click.option(
            "--wait-for-nodes",
            "wait_s",
            type=click.FloatRange(min=0),
            callback=_a_number,
            default=0.0,
            metavar="SECONDS",
            help="Wait so long for nodes that a pack fits on; inf: for ever. Default: not at the start, and 600 s "
            "while nothing else can go on.",
        ),
        click.option(
            "--allow-open-cluster",
            "allow_open",
            is_flag=True,
            help="Join a cluster that asks for no token, where anyone who reaches it can run code.",
        ),
        click.option("--address", metavar="ADDRESS", help="Join this Ray cluster; default: a local one."),
        data_root_option,
        database_option,
    ):
        function = option(function)
    return function


def check_person(sweep: SweepFile) -> None:
    """Refuse, before anything starts, a sweep that a person must steer where there is no terminal."""
    if (
        isinstance(sweep.searcher, RefinementSettings)
        and interactive(sweep.searcher)
        and not sys.stdin.isatty()
    ):
        raise UsageError(
            "the interactive policy needs a terminal",
            "Use --policy best-auc or --policy significant instead.",
        )


def launch_of(options: dict[str, Any]) -> launching.Launch:
    """Where and how to run, as the options say."""
    return launching.Launch(
        db=options["db"],
        address=None if options["address"] == "local" else options["address"],
        allow_open=options["allow_open"],
        max_concurrent=options["max_concurrent"],
        data_root=environment_data_root(options["data_root"]),
        data_root_given=_given("data_root"),
        storage=options["storage"],
        ship_code=options["ship_code"],
        wait_s=options["wait_s"],
        say=lambda text: messages().print(text, style="dim", soft_wrap=True),
        command=masked_command(["kdsearch", *sys.argv[1:]]),
    )


def beginning(launch: launching.Launch) -> str:
    """What is done before the first pack starts."""
    return f"looking at the data and {'starting Ray' if launch.address is None else 'joining the cluster'}"


def _given(option: str) -> bool:
    """Whether an option stands on the command line, not in the environment."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def has_begun(launch: launching.Launch, name: str) -> bool:
    """Whether the database holds the sweep; also true where it does not answer, since then it may."""
    try:
        return launching.holds(launch.db, name)
    except KdsearchError:
        return True


def go_on(launch: launching.Launch, name: str) -> str:
    """How to go on with a sweep that was interrupted."""
    address = "" if launch.address is None else f" --address {shlex.quote(launch.address)}"
    return f"Go on with: kdsearch resume {name}{database_flag(launch.db)}{address}"


def timed(run: Callable[[], object], how_to_go_on: Callable[[], str]) -> float:
    """Run and return the seconds it took; an interrupt says how to go on."""
    begun = time.monotonic()
    try:
        run()
    except (Interrupted, KeyboardInterrupt) as error:
        told = error.message if isinstance(error, Interrupted) else "interrupted"
        raise Interrupted(told, how_to_go_on()) from None
    return time.monotonic() - begun


def report(name: str, launch: launching.Launch, out: Path, seconds: float, *, as_json: bool) -> None:
    """Write the report and say what came out."""
    if not as_json:
        messages().print("Writing the report ...", style="dim")
    summary = summary_of(name, launch.db, out, seconds)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary)


Shown = dict[str, Display]


def displays(*, as_json: bool, known: int = 0) -> tuple[launching.OpenDisplay, Shown]:
    """How progress is shown, and the display once it is open; known: trials that the database has ended."""
    shown: Shown = {}

    @contextlib.contextmanager
    def opened(coordinator: Coordinator) -> Iterator[Display]:
        console = messages()
        if as_json:
            shown["display"] = Quiet()
            yield shown["display"]
            return
        kind = LiveDisplay if console.is_terminal else LineDisplay
        with kind(coordinator, console, known=known) as display:
            shown["display"] = display
            yield display

    return opened, shown


def asker(shown: Shown) -> Chooser:
    """Ask the person at the terminal which condition to fix."""

    def ask(look: Look, rows: Sequence[ConditionRow]) -> tuple[ConditionRow | None, str]:
        console = messages()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C at the prompt ends at once
        try:
            with shown["display"].pause():
                console.print(_choices(look, rows))
                answer = IntPrompt.ask(
                    f"Fix which condition of space {look.space}? (0: stop here)",
                    console=console,
                    choices=[str(n) for n in range(len(rows) + 1)],
                    show_choices=False,
                    default=1,
                )
        except (KeyboardInterrupt, EOFError):
            raise Interrupted("interrupted at the prompt") from None
        finally:
            signal.signal(signal.SIGINT, before)
        return (rows[answer - 1] if answer else None), getpass.getuser()

    return ask


def _choices(look: Look, rows: Sequence[ConditionRow]) -> Table:
    table = Table(
        title=f"Space {look.space}: {look.draws} draws, conditions by AUC", box=None, header_style="dim"
    )
    for column in ("", "group", "condition", "draws", "AUC", "interval", "rest", "p (Holm)", "draws needed"):
        words = column in {"group", "condition"}
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for n, row in enumerate(rows, start=1):
        table.add_row(
            str(n),
            row.group,
            row.value,
            str(row.n),
            f"{row.auc:.2f}",
            "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}",
            "" if row.rest_auc is None else f"{row.rest_auc:.2f}",
            "" if row.p_holm is None else f"{row.p_holm:.2g}",
            "" if row.n_needed is None else str(row.n_needed),
        )
    return table
