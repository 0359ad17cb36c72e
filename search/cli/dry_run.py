"""`--dry-run`: prints what a sweep would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import indent, wrap
from typing import Any

import click
import yaml
from rich.console import Console

from kdsearch.search.cli.common import check_report_folder, messages, print_json, results
from kdsearch.search.cli.folders import new_folder
from kdsearch.search.cli.space import print_space
from kdsearch.search.config import SweepFile
from kdsearch.search.dry_run import DryRun, Problem, dry_run
from kdsearch.search.launch import Launch
from kdsearch.search.masking import masked
from kdsearch.spaces.errors import UsageError

_INDENT, _WIDTH, _LEAST = 2, 96, 40  # columns


def show_dry_run(
    sweep: SweepFile, launch: Launch, *, name: str | None, out: Path | None, as_json: bool
) -> None:
    """Print what the sweep would do; out: where its report is to go, None: into its own folder.

    Raises:
        KdsearchError: it could not begin; all else is printed before.

    """
    ran = dry_run(sweep, replace(launch, wait_s=0.0), name=name)
    try:
        check_report_folder(out or new_folder(ran.found["name"]))
    except UsageError as error:
        ran = replace(ran, problems=(Problem(what="report", error=error), *ran.problems))
    if as_json:
        problems = [
            {"what": p.what, "message": masked(p.error.message), "hint": p.error.hint} for p in ran.problems
        ]
        print_json({**ran.found, "problems": problems})
    else:
        _print(sweep, ran)
    for problem in ran.problems[1:]:
        messages().print(f"{problem.what}: {masked(problem.error.message)}", style="red", markup=False)
    if ran.problems:
        raise ran.problems[0].error


def _print(sweep: SweepFile, ran: DryRun) -> None:
    console, found = results(), ran.found
    print_space(found["name"], sweep.design_space())
    _section(console, "settings")
    settings = {key: value for key, value in found["settings"].items() if key not in {"name", "space"}}
    text = yaml.safe_dump(
        _given(settings), sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None
    )
    click.echo(indent(text.rstrip(), " " * _INDENT))
    _section(console, "trials")
    _line(console, _trials(found["trials"]))
    _section(console, "first configurations")
    for each in found["first"]:
        method = each["plan"].get("method")
        click.echo(f"  {each['number']:>4}  {f'{method}: ' if method else ''}{each['text']}")
    if found["scheduler"]:
        _section(console, "scheduler")
        _scheduler(console, found["scheduler"])
    _section(console, "resources")
    _resources(console, found["resources"])
    _section(console, "data")
    for note in found["data"]["notes"] or (["found"] if found["data"]["found"] else ["missing or broken"]):
        _line(console, note)
    console.print("\nNothing was written, and no trial ran.", style="dim")


def _section(console: Console, title: str) -> None:
    console.print(f"\n{title}", style="dim")


def _line(console: Console, text: str) -> None:
    for line in wrap(text, max(_LEAST, console.width - _INDENT)):
        click.echo(" " * _INDENT + line)


def _given(value: Any) -> Any:
    """The settings without keys that have no value."""
    if isinstance(value, Mapping):
        return {key: _given(each) for key, each in value.items() if each not in (None, {}, "")}
    return value


def _trials(found: Mapping[str, Any]) -> str:
    least, most, before = found["least"], found["most"], found["pretraining"]
    told = f"{most:,}" if least == most else f"{least:,} to {most:,}" if least else f"at most {most:,}"
    more = f", and {before} pre-training{'s' * (before != 1)} before them" if before else ""
    return f"{told} trials{more}"


def _scheduler(console: Console, found: Mapping[str, Any]) -> None:
    eta = found["reduction_factor"]
    does = (
        "paused, and the best promoted" if found["mode"] == "promote" else "compared, and the others stopped"
    )
    for s, rungs in enumerate(found["brackets"]):
        bracket = f"bracket {s}: " if len(found["brackets"]) > 1 else ""
        _line(console, f"{bracket}rungs after epochs {', '.join(map(str, rungs))}")
    _line(console, f"{found['kind']}: at a rung trials are {does}; the best 1/{eta:g} go on")
    if found["epsilon"]:
        _line(console, f"with probability {found['epsilon']:g} a trial goes on where the rule says no")


def _resources(console: Console, found: Mapping[str, Any]) -> None:
    pack = found["pack"]
    gpus = pack["gpus"] if isinstance(pack["gpus"], str) else f"{pack['gpus']:g}"
    cores = f"{pack['cpus']:g} CPU core{'s' * (pack['cpus'] != 1)}"
    trials = f"up to {pack['trials']} trials" if pack["trials"] > 1 else "one trial"
    more = "".join(f", {name}: {amount:g}" for name, amount in pack.get("resources", {}).items())
    _line(console, f"a pack of {trials} takes {cores}, GPUs: {gpus}{more}")
    if found["packs_at_once"] is None:
        _line(console, f"on {found['where']}: see below")
        return
    n, sizes = found["packs_at_once"], found["first_packs"]
    has = f"CPU cores: {found['cpus']:g}, GPUs: {found['gpus']:g}"
    _line(console, f"{found['where']} ({has}): {n} pack{'s' * (n != 1)} at once")
    told = ", ".join(map(str, sizes[:8])) + (", ..." if len(sizes) > 8 else "")  # noqa: PLR2004 a line
    _line(console, f"the first have {told} trials: {found['trials_at_once']} at once")
