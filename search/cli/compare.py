"""`kdsearch compare`: searchers side by side on a table, in the simulator."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from kdsearch.analysis.anytime import Comparison, EntryResult
from kdsearch.analysis.plots_anytime import drawings
from kdsearch.analysis.tables_anytime import curves_frame, entries_frame, plain, runs_frame
from kdsearch.analysis.traces import Axis, Trace
from kdsearch.analysis.wording import interval, p_value, percent, plural, signed
from kdsearch.search.cli.common import (
    data_root_option,
    database_option,
    debug_option,
    json_option,
    messages,
    print_json,
    results,
    seen_by_others,
)
from kdsearch.search.code_version import code_version
from kdsearch.search.compare.runs import derived_name
from kdsearch.search.compare.settings import load_comparison
from kdsearch.search.compare.study import Study, prepare, run_study
from kdsearch.search.launch import environment, files_folder, holds
from kdsearch.search.masking import masked
from kdsearch.spaces.cells import guarded_frame
from kdsearch.spaces.errors import UsageError

_OWN = "comparison.json"  # by which a folder is known to hold a comparison
_KEYS = {"name", "settings", "table", "entries", "simulated"}  # that it has whichever version wrote it


@click.command("compare", short_help="Compare searchers on a table of learning curves.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for figures, CSV and JSON."
)
@click.option("--runs", type=click.IntRange(min=2), help="Repeats of each searcher; stands for the file's.")
@click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), help="Stands for the file's.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Runs side by side."
)
@click.option(
    "--keep",
    metavar="URL",
    callback=seen_by_others,
    help="Write each run to this trial database, as a sweep NAME.ENTRY.RUN; one process.",
)
@data_root_option
@database_option
@json_option
@debug_option
def compare(
    file: Path,
    out: Path | None,
    runs: int | None,
    seed: int | None,
    processes: int,
    keep: str | None,
    data_root: Path | None,
    db: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Compare searchers on a table of learning curves, run by run on shared seeds, in a simulator with a virtual clock.

    FILE is a comparison file (docs/tables.md). --db is where a sweep that it names as its table is looked for.
    """
    changes = {key: value for key, value in (("runs", runs), ("seed", seed)) if value is not None}
    told = load_comparison(file, changes)
    if out is not None:
        _check_folder(out)
    study = prepare(told, str(file), db=db, folder=files_folder(db), data_root=data_root)
    if keep is not None:
        _check_names(study, keep)
    for note in study.truth.table.notes:
        messages().print(note, markup=False, soft_wrap=True)
    started = time.perf_counter()
    traces = _run(study, processes, keep, quiet=as_json)
    seconds = time.perf_counter() - started
    comparison = study.compared(traces)
    data = _described(study, comparison, traces, seconds)
    files = [] if out is None else _write(out, comparison, traces, data)
    if as_json:
        print_json({**data, "files": [str(path) for path in files]})
        return
    _print(results(), study, comparison, data)
    if out is not None:
        click.echo(f"\nFigures, CSV and JSON: {out}")


def _run(study: Study, processes: int, keep: str | None, *, quiet: bool) -> dict[str, list[Trace]]:
    with Progress(console=messages(), transient=True, disable=quiet or not messages().is_terminal) as shown:
        task = shown.add_task("runs", total=study.file.runs * len(study.sweeps))
        return run_study(
            study, processes=processes, keep=keep, tick=lambda done: shown.update(task, completed=done)
        )


def _check_folder(out: Path) -> None:
    """Refuse to write among other files, before anything runs; an earlier comparison is written over, and told."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    earlier = _earlier(out)
    if earlier is None:
        raise UsageError(
            f"{out} is not empty and holds no comparison of kdsearch",
            "Give another folder with --out, or empty this one.",
        )
    messages().print(
        f"{out} holds the comparison {earlier}: it is written over.", markup=False, soft_wrap=True
    )


def _earlier(folder: Path) -> str | None:
    """The name of the comparison that a folder holds; None: it holds none of kdsearch."""
    try:
        data = json.loads((folder / _OWN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(data["name"]) if isinstance(data, dict) and data.keys() >= _KEYS else None


def _check_names(study: Study, url: str) -> None:
    """Refuse, before anything runs, entries whose runs would have one name, and a database that has them already."""
    named: dict[str, str] = {}
    for entry in study.sweeps:
        name = derived_name(study.file.name, entry, 0)
        twin = named.setdefault(name, entry)
        if twin != entry:
            raise UsageError(
                f"the runs of the entries {twin!r} and {entry!r} would both be kept as {name}",
                "Let the first 28 characters of their names differ in a letter or digit.",
            )
        if holds(url, name):
            raise UsageError(
                f"{masked(url)} has the sweep {name} already",
                "Give another database with --keep, or another name.",
            )


def _described(
    study: Study, comparison: Comparison, traces: Mapping[str, Sequence[Trace]], seconds: float
) -> dict[str, Any]:
    trials = sum(len(trace.error) for runs in traces.values() for trace in runs)
    return {
        "name": study.file.name,
        "title": study.file.title,
        "settings": study.file.model_dump(mode="json"),
        "table": {
            "described": study.truth.table.described(),
            "sha256": study.content,
            "notes": list(study.notes),
        },
        **plain(comparison),
        "simulated": {"trials": trials, "seconds": seconds, "trials_per_second": trials / max(seconds, 1e-9)},
        "environment": {"code_version": code_version(), **environment()},
    }


def _write(
    out: Path, comparison: Comparison, traces: Mapping[str, Sequence[Trace]], data: Mapping[str, Any]
) -> list[Path]:
    """Write everything; the JSON file last, so that a folder with it is whole."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    frames = {
        "entries.csv": entries_frame(comparison),
        "curves.csv": curves_frame(comparison),
        "runs.csv": runs_frame(comparison, traces),
    }
    for name, frame in frames.items():
        guarded_frame(frame).to_csv(out / name, index=False)
        written.append(out / name)
    for drawing in drawings(comparison, traces):
        (out / f"{drawing.stem}.svg").write_text(drawing.svg, encoding="utf-8")
        (out / f"{drawing.stem}.png").write_bytes(drawing.png)
        written += [out / f"{drawing.stem}.svg", out / f"{drawing.stem}.png"]
    (out / _OWN).write_text(json.dumps(_finite(data), indent=2, default=str), encoding="utf-8")
    return [*written, out / _OWN]


def _finite(data: Any) -> Any:
    if isinstance(data, float) and (data != data or data in {float("inf"), float("-inf")}):  # noqa: PLR0124
        return None
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def _print(console: Console, study: Study, comparison: Comparison, data: Mapping[str, Any]) -> None:
    limit = f"{comparison.budget:g} {comparison.axis}"
    level = f"{100 * (1 - comparison.alpha):g} %"
    console.print(Text.assemble((study.file.name, "bold"), f": {study.truth.table.described()}"))
    console.print(
        f"{plural(comparison.runs, 'run')} of each searcher, {plural(study.file.workers, 'virtual worker')}, {limit} a "
        f"run: {data['simulated']['trials']:,} trials in {data['simulated']['seconds']:.1f} s",
        style="dim",
    )
    console.print()
    console.print(_errors(comparison))
    console.print(
        f"Errors in per cent of what a run would hand over after {limit}. observed: its own, by which it was chosen; "
        f"mean: over all the table's trainings of it, with the {level} interval over runs; others: over those that had "
        "no part in the choice; rank: median of its rank in the table by that mean.",
        style="dim",
    )
    if len(comparison.entries) > 1:
        console.print()
        console.print(_against(comparison))
        console.print(
            f"Run by run on shared seeds. mean less: difference of the means with its {level} interval, p by sign "
            f"flips; sooner, later: runs that trained one of the best {comparison.best} of the table at a lower or "
            "higher cost than the reference, p by sign test. p-values after Holm.",
            style="dim",
        )
    console.print()
    console.print(_needs(comparison))
    console.print(
        f"Median cost of training one of the best {comparison.best} of the table to its end, a run that never did "
        f"counted beyond {limit}; of the {comparison.axis} with the {level} interval and the quartiles.",
        style="dim",
    )
    refined = [entry for entry in comparison.entries if entry.refined is not None]
    if refined:
        console.print()
        console.print(_spaces(refined, comparison.runs))


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    return table


def _errors(comparison: Comparison) -> Table:
    table = _table(("searcher", "trials", "observed", "mean", "", "others", "rank"))
    for entry in comparison.entries:
        final = entry.final
        table.add_row(
            entry.name,
            f"{entry.trials:,.0f}",
            percent(final.observed),
            percent(final.mean),
            interval(final.low, final.high),
            percent(final.fresh),
            f"{final.rank:g}",
        )
    return table


def _against(comparison: Comparison) -> Table:
    table = _table((f"against {comparison.reference}", "mean less", "", "p", "sooner", "later", "p"))
    for entry in comparison.entries:
        difference, sooner = entry.difference, entry.sooner
        if difference is None or sooner is None:
            continue
        table.add_row(
            entry.name,
            signed(difference.mean),
            interval(difference.low, difference.high),
            p_value(difference.p_holm),
            str(sooner.sooner),
            str(sooner.later),
            p_value(sooner.p_holm),
        )
    return table


def _needs(comparison: Comparison) -> Table:
    axis = comparison.axis
    others = [each for each in Axis if each is not axis]
    table = _table(("searcher", "found", str(axis), "", "quartiles", *(str(each) for each in others)))
    for entry in comparison.entries:
        need = entry.needs[axis, False]
        low, median, high = need.quartiles
        table.add_row(
            entry.name,
            f"{need.found}/{need.runs}",
            _cost(median),
            f"[{_cost(need.median_low)}, {_cost(need.median_high)}]",
            f"{_cost(low)}, {_cost(high)}",
            *(_cost(entry.needs[each, False].quartiles[1]) for each in others),
        )
    return table


def _cost(value: float | None) -> str:
    return "more" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004


def _spaces(entries: Sequence[EntryResult], runs: int) -> Table:
    table = _table(("refinement", "runs", "draws", "trials for them", "last space"))
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for entry in entries:
        refined = entry.refined
        if refined is None:
            continue
        for place, (space, count) in enumerate(refined.finals):
            first = place == 0
            table.add_row(
                entry.name if first else "",
                f"{count}/{runs}",
                f"{refined.draws[1]:,.0f}" if first else "",
                f"{refined.trials[1]:,.0f}" if first else "",
                space or "(the first one)",
            )
    return table
