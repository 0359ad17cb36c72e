"""What a retraining came to, as data and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdsearch.analysis import story_retrained
from kdsearch.analysis.methods import MethodRow
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.retrained import Retrained, RetrainedSet, cannot_decide, retrained
from kdsearch.analysis.wording import interval, p_value, percent, signed

_WIDEST = 1000  # characters of a table


def retrained_of(record: SweepRecord) -> dict[str, Any] | None:
    """A retraining as plain data; None for any other sweep."""
    found = retrained(record)
    if found is None:
        return None
    return {
        "subject": found.subject,
        "chosen": None if found.chosen is None else dict(found.chosen),
        "measure": found.measure,
        "part": "test",
        "train_on": "all" if found.on_all else "training",
        "planned_seeds": found.seeds,
        "alpha": found.alpha,
        "undecidable": cannot_decide(found) or None,
        "versions": {name: dict(values) for name, values in found.versions.items()},
        "data": [_set(found, part) for part in found.sets],
        "legend": story_retrained.legend(found),
    }


def _set(found: Retrained, part: RetrainedSet) -> dict[str, Any]:
    return {
        "name": part.name or None,
        "versions": [_row(found, part, row) for row in part.rows],
        "teachers": [{"model": each.model, "error": each.trainings.mean} for each in part.teachers],
    }


def _row(found: Retrained, part: RetrainedSet, row: MethodRow) -> dict[str, Any]:
    difference = part.differences.get(row.name)
    return {
        "version": row.name,
        "subject": row.name == found.subject,
        "seeds": row.runs,
        "finished_seeds": list(row.numbers),
        "mean": row.mean,
        "spread": row.spread,
        "error": 100 - row.mean,
        "values": [float(value) for value in row.accuracies],
        "diverged": row.diverged,
        "failed": row.failed,
        "unfinished": row.unfinished,
        "difference": None if difference is None else asdict(difference),  # of the subject less this version
    }


def print_retrained(console: Console, told: Mapping[str, Any], *, brief: bool = False) -> None:
    """Print what `retrained_of` gave: where the choice came from, a line for each version, and what it all means."""
    if told["chosen"] is not None and not brief:
        console.print(told["chosen"]["words"], markup=False, soft_wrap=True)
        console.print()
    if not any(part["versions"] for part in told["data"]):
        console.print("No training has ended yet.")
        return
    table = _table(told)
    wanted = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    # A line that a narrow terminal breaks can still be read; one with its numbers cut off cannot.
    Console(file=console.file, highlight=False, width=max(console.width, wanted)).print(table)
    for line in [] if brief else told["legend"]:
        console.print(line, style="dim", markup=False, soft_wrap=True)


def _table(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    named = any(part["name"] for part in told["data"])
    if named:
        table.add_column("data set", no_wrap=True)
    table.add_column("version", no_wrap=True)
    compared = any(row["difference"] for part in told["data"] for row in part["versions"])
    for column in ("seeds", f"test {told['measure']}", "error"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    if compared:
        for column in (f"{told['subject']} less this", "p (Holm)"):
            table.add_column(Text(column), justify="right", no_wrap=True)
    for part in told["data"]:
        for place, row in enumerate(part["versions"]):
            first = [Text(part["name"] or "" if place == 0 else "")] if named else []
            cells = [Text(cell) for cell in _cells(row, compared=compared)]
            table.add_row(*first, *cells, style="bold" if row["subject"] else "")
    return table


def _cells(row: Mapping[str, Any], *, compared: bool) -> Iterator[str]:
    planned = row["seeds"] + row["unfinished"]
    yield row["version"]
    yield str(row["seeds"]) if planned == row["seeds"] else f"{row['seeds']}/{planned}"
    yield percent(row["mean"]) + ("" if row["spread"] is None else f" ± {percent(row['spread'])}")
    yield percent(row["error"])
    told = row["difference"]
    if compared and told is not None:
        yield f"{signed(told['mean'])} {interval(told['low'], told['high'])}".rstrip()
        yield p_value(told["p_holm"])
