"""The scores of block-by-block matching and its baselines, as data and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdsearch.analysis import bbm_story as story
from kdsearch.analysis.bbm_methods import MethodRow
from kdsearch.analysis.bbm_scores import R2, SCORES
from kdsearch.analysis.bbm_study import Study, analyse_bbm
from kdsearch.analysis.bbm_tables import spoken
from kdsearch.analysis.bbm_wording import method, score
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.sweep_kinds import is_study

_WIDEST = 1000  # characters of a table


def study_of(record: SweepRecord) -> dict[str, Any] | None:
    """The methods' scores on the test part as plain data; None for other trainables."""
    if not is_study(record.trainable):
        return None
    study = analyse_bbm([record]).studies[0]
    said = (
        spoken(story.headline(study)),
        story.too_few(study),
        story.scope(study),
        story.unlucky(study),
        story.unscored(study),
    )
    return {
        "records": study.title,
        "challenge": study.data.challenge,
        "challenge_score": study.data.long,
        "methods": [_row(study, row) for row in study.rows if not row.given],
        "words": [text for text in said if text],
    }


def _row(study: Study, row: MethodRow) -> dict[str, Any]:
    means = {name: row.mean(f"test_{name}") for name in SCORES} | {R2: row.mean(R2)}
    return {
        "method": row.name,
        "runs": row.n,
        "without_result": dict(row.unlucky),
        "scores": {name: asdict(mean) for name, mean in means.items() if mean.n},
        "alpha": study.alpha,
    }


def print_study(console: Console, study: Mapping[str, Any]) -> None:
    """Print what `study_of` gave: a line for each method, what the columns mean, and what came out in words."""
    if not any(row["scores"] for row in study["methods"]):
        console.print("No trial has been measured on the test part.")
    else:
        table = _table(study)
        wanted = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
        # A line that a narrow terminal breaks can still be read; one with its numbers cut off cannot.
        Console(file=console.file, highlight=False, width=max(console.width, wanted)).print(table)
        console.print(
            f"Test part of {study['records']}, once, after the last epoch: mean ± standard deviation over runs.",
            style="dim",
            soft_wrap=True,
        )
        console.print(
            f"{study['challenge']}: {study['challenge_score']}; r²: of the probabilities with the teacher's.",
            style="dim",
            soft_wrap=True,
        )
    for words in study["words"]:
        console.print(words, markup=False, soft_wrap=True)


def _table(study: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method", no_wrap=True)
    names = {"challenge": study["challenge"], "f1": "F1", "auroc": "AUROC", "auprc": "AUPRC", R2: "r²"}
    for column in ("runs", *names.values()):
        table.add_column(column, justify="right", no_wrap=True)
    best = max((_mean(row, "challenge") for row in study["methods"]), default=0.0)
    for row in study["methods"]:
        cells = [Text(method(row["method"])), Text(_runs(row)), *_scores(row, names)]
        table.add_row(*cells, style="bold" if _mean(row, "challenge") == best else "")
    return table


def _runs(row: Mapping[str, Any]) -> str:
    lost = sum(row["without_result"].values())
    return f"{row['runs']}/{row['runs'] + lost}" if lost else str(row["runs"])


def _mean(row: Mapping[str, Any], name: str) -> float:
    found = row["scores"].get(name)
    return float("-inf") if found is None else float(found["mean"])


def _scores(row: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Text]:
    for name in names:
        found = row["scores"].get(name)
        if found is None:
            yield Text("")
            continue
        spread = "" if found["spread"] is None else f" ± {score(found['spread'])}"
        yield Text(f"{score(found['mean'])}{spread}")
