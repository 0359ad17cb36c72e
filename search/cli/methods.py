"""The table of methods of a comparison sweep, as data and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdsearch.analysis.method_costs import packing_notes
from kdsearch.analysis.methods import MethodComparison, MethodRow, compare
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.results import compares_methods
from kdsearch.analysis.story_methods import too_few
from kdsearch.analysis.sweep_kinds import is_study, planned_runs
from kdsearch.analysis.wording import interval, needed, p_value, percent, signed

_WIDEST = 1000  # characters of a table


def methods_of(record: SweepRecord) -> dict[str, Any] | None:
    """The comparison of a sweep's methods as plain data; None for a sweep that compares none by their accuracy."""
    if is_study(record.trainable) or not compares_methods(record):
        return None
    planned, found = planned_runs(record.settings), compare(record)
    if found is None:
        return None if planned is None else {"planned_runs": planned, "methods": [], "notes": []}
    of_costs = packing_notes(found.costs, found.reference)
    return {
        "reference": found.reference,
        "accuracy_of": "test" if found.tested else "validation",
        "alpha": found.alpha,
        "planned_runs": planned,
        "methods": [_row(row) for row in found.rows],
        "notes": [note for note in found.notes if note not in of_costs],
        "periods": list(_periods(found)),
        "costs": [asdict(row) for row in found.costs],
        "cost_notes": list(of_costs),
    }


def _row(row: MethodRow) -> dict[str, Any]:
    return {
        "method": row.name,
        "runs": row.runs,
        "finished_runs": list(row.numbers),
        "mean": row.mean,
        "spread": row.spread,
        "min": row.low,
        "max": row.high,
        "accuracies": [float(accuracy) for accuracy in row.accuracies],
        "diverged": row.diverged,
        "failed": row.failed,
        "trials_per_run": row.trials_per_run,
        "difference": None if row.difference is None else asdict(row.difference),
    }


def _periods(found: MethodComparison) -> Iterator[dict[str, Any]]:
    for study, points in (("e1 = e2", found.equal_periods), ("e2", found.varied_e2)):
        for point in points:
            yield {
                "study": study,
                "e1": point.e1,
                "e2": point.e2,
                "mean": point.mean,
                "low": point.low,
                "high": point.high,
                "accuracies": [float(accuracy) for accuracy in point.accuracies],
            }


def print_methods(console: Console, methods: Mapping[str, Any]) -> None:
    """Print what `methods_of` gave: a line for each method, what the columns mean, and what a reader must know."""
    if not methods["methods"]:
        console.print("No method has finished a run yet.")
        return
    table = _table(methods)
    wanted = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    # A line that a narrow terminal breaks can still be read; one with its numbers cut off cannot.
    Console(file=console.file, highlight=False, width=max(console.width, wanted)).print(table)
    for line in _legend(methods):
        console.print(line, style="dim", markup=False, soft_wrap=True)


def _table(methods: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method", no_wrap=True)
    for column in ("runs", "mean", "spread", "max", f"less {methods['reference']}", "p (Holm)"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    best = max(row["mean"] for row in methods["methods"])
    for row in methods["methods"]:
        cells = [Text(cell) for cell in _cells(row, methods["planned_runs"])]
        table.add_row(*cells, style="bold" if row["mean"] == best else "")
    return table


def _cells(row: Mapping[str, Any], planned: int | None) -> Iterator[str]:
    yield row["method"]
    yield str(row["runs"]) if planned in {None, row["runs"]} else f"{row['runs']}/{planned}"
    yield percent(row["mean"])
    yield "" if row["spread"] is None else percent(row["spread"])
    yield percent(row["max"])
    told = row["difference"]
    if told is not None:
        yield f"{signed(told['mean'])} {interval(told['low'], told['high'])}".rstrip()
        yield p_value(told["p_holm"])


def _legend(methods: Mapping[str, Any]) -> Iterator[str]:
    rows, reference = methods["methods"], methods["reference"]
    level = f"{100 * (1 - methods['alpha']):g}"
    part = methods["accuracy_of"].capitalize()
    yield f"{part} accuracy in per cent after the last epoch; spread: standard deviation."
    yield f"less {reference}: mean difference over runs of the same seed, with its {level} % interval."
    for state in ("diverged", "failed"):
        lost = [f"{row[state]} of {row['method']}" for row in rows if row[state]]
        if lost:
            yield f"Runs that {state} count with their fixed error: {', '.join(lost)}."
    more = [
        f"{row['method']} {needed(row['difference']['n_needed'])}"
        for row in rows
        if row["difference"] is not None and row["difference"]["n_needed"] is not None
    ]
    if more:
        yield f"Runs that would still be needed to settle a difference (80 % power), about: {', '.join(more)}."
    few = too_few([row["difference"]["n"] for row in rows if row["difference"] is not None], methods["alpha"])
    if few:
        yield few
    yield from methods["notes"]
