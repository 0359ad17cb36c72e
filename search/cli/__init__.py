"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted (and resumable)."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import cast

import click

from kdsearch.search.cli.common import version_text
from kdsearch.search.masking import masked
from kdsearch.spaces.errors import KdsearchError
from kdsearch.spaces.printable import printable

INTERRUPTED = 130

# command -> "module:attribute"; a module is imported when its command is used, so that none waits for another's
_COMMANDS = {
    "refine": "run:refine",
    "sweep": "run:sweep",
    "resume": "resume:resume",
    "submit": "submit:submit",
    "retrain": "retrain:retrain",
    "status": "status:status",
    "report": "report:report",
    "export": "export:export",
    "import": "import_:import_",
    "space": "space:space",
    "presets": "space:presets_command",
    "schema": "schema:schema",
    "graph": "graph:graph",
    "data": "data:data",
    "score": "score:score",
    "table": "table:table",
    "compare": "compare:compare",
    "token": "token:token",
}


class _Commands(click.Group):
    """The commands, in the order in which a user meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            near = difflib.get_close_matches(cmd_name, _COMMANDS, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"unknown command {cmd_name!r}.{guess} Known: {', '.join(_COMMANDS)}.")
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"{__name__}.{module}"), attribute)
        return cast(click.Command, command)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(version_text(), message="%(version)s")
def cli() -> None:
    """Search hyperparameters and design spaces of knowledge distillation, and keep every trial.

    Start with:  kdsearch refine ktg-digits
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    logging.getLogger("kdsearch").addHandler(_Remarks(logging.WARNING))
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _terminate(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C: leases are given back and Ray is shut down."""
    del number, frame
    raise KeyboardInterrupt


class _Remarks(logging.Handler):
    """Warnings of the rooms, as a line on standard error; whatever display is on moves out of the way."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"kdsearch: {printable(masked(record.getMessage()))}", file=sys.stderr)  # noqa: T201 rich redirects the stream, not click


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        code = cli.main(arguments, prog_name="kdsearch", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        vars(error)["message"] = masked(error.message)  # it may repeat an argument: a URL with a password
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `kdsearch ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 the last place where an error can be turned into a message
        if debug:
            click.echo(printable(masked(traceback.format_exc())), err=True, nl=False)
        return _told(error)
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> int:
    if isinstance(error, KdsearchError):
        _say(error.message, error.hint)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        _say(f"the disk is full: {error}", "Free some space; `kdsearch resume` goes on from what is stored.")
        return 1
    if isinstance(error, OSError):
        _say(str(error))
        return 1
    _say(f"unexpected error: {type(error).__name__}: {error}", "Run again with --debug to see where.")
    return 1


def _say(message: str, hint: str | None = None) -> None:
    click.echo(click.style("kdsearch: ", bold=True, fg="red") + printable(masked(message)), err=True)
    if hint:
        click.echo(printable(masked(hint)), err=True)
