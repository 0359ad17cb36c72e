"""Which figures a retraining holds: every training, accuracy by epoch, and the graph with its nodes' accuracies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kdsearch.analysis.figure_style import Drawing, finish
from kdsearch.analysis.frames import curve_table
from kdsearch.analysis.graph_drawing import draw_graph
from kdsearch.analysis.methods import MethodComparison
from kdsearch.analysis.plots_methods import plot_accuracies, plot_accuracy_by_epoch
from kdsearch.analysis.results import SweepResult
from kdsearch.analysis.retrained import RetrainedSet
from kdsearch.analysis.wording import percent
from kdsearch.spaces import Graph


def retrained_drawings(result: SweepResult, prefix: str) -> Iterator[tuple[str, Drawing]]:
    """Figures by their key in the page; data sets count from 1. Call inside `figure_style`."""
    found = result.retrained
    if found is None:
        return
    for place, part in enumerate(found.sets, start=1):
        comparison = part.comparison
        if comparison is None or not comparison.rows:
            continue
        where = f" on {part.name}" if part.name else ""
        told = "; ".join(f"{row.name}: {percent(row.mean)} %" for row in comparison.rows)
        figure = plot_accuracies(comparison.rows, found.subject, tested=True)
        words = f"Test {found.measure} of every training{where}. Means, {told}."
        yield f"trainings-{place}", finish(figure, f"{prefix}trainings-{place}", words)
        if any(np.isfinite(curve.mean).sum() > 1 for curve in comparison.curves):
            yield _epochs(comparison, found.subject, where, prefix, place)
        graph = _graph(result, part)
        if graph is not None:
            accuracies = _accuracies(result, part, graph)
            words = f"{found.subject}{where}: {graph.to_text()}"
            yield (
                f"graph-{place}",
                finish(draw_graph(graph, accuracies=accuracies), f"{prefix}graph-{place}", words),
            )


def _epochs(
    comparison: MethodComparison, subject: str, where: str, prefix: str, place: int
) -> tuple[str, Drawing]:
    curves = [curve for curve in comparison.curves if np.isfinite(curve.mean).any()]
    figure = plot_accuracy_by_epoch(curves, subject, tested=True)
    drawing = finish(figure, f"{prefix}by-epoch-{place}", f"Mean test accuracy by epoch{where}.")
    return f"epochs-{place}", drawing


def _graph(result: SweepResult, part: RetrainedSet) -> Graph | None:
    """The subject as a graph; None where it is none, or no training of it has ended."""
    found = result.retrained
    spec = result.record.spaces[-1].spec if result.record.spaces else {}
    if found is None or spec.get("kind") != "ktg":
        return None
    configuration = found.versions[found.subject]
    if "model.1" in configuration or not any(row.name == found.subject for row in part.rows):
        return None
    return Graph.from_configuration(configuration, str(spec["target"]))


def _accuracies(result: SweepResult, part: RetrainedSet, graph: Graph) -> dict[int, float]:
    """Mean test accuracy of each node after the last epoch, over the subject's complete trainings."""
    trials, found = result.trials, result.retrained
    subject = found.subject if found is not None else ""
    ended = trials[
        (trials["data"] == part.name) & (trials["method"] == subject) & (trials["state"] == "complete")
    ]
    curves = curve_table(result.record, [int(number) for number in ended["number"]], "test_error")
    last = curves[curves["node"].isin(graph.nodes)].groupby(["trial", "node"])["value"].last()
    return {int(str(node)): 100.0 - float(error) for node, error in last.groupby(level="node").mean().items()}
