"""`kdsearch score`: predictions in the challenges' own files, scored as the challenges do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from kdsearch.search.cli.common import debug_option, json_option, messages, print_json, results
from kdsearch.trainables.scores import physionet2019, physionet2021
from kdsearch.trainables.scores.files_2019 import read_2019
from kdsearch.trainables.scores.files_2021 import read_2021

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_NAMES = {
    "utility": "utility (normalised)",
    "challenge_metric": "challenge metric",
    "macro_f1": "macro F1",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
}


def _folder_option(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=_FOLDER, required=True, metavar="DIR", help=text)


@click.group("score", short_help="Score predictions as a challenge does.")
def score() -> None:
    """Score predictions in the files of a PhysioNet challenge, as the challenge does."""


@score.command("physionet2019", short_help="Sepsis, hour by hour: utility, F1, AUROC, AUPRC.")
@_folder_option("--labels", "Folder of .psv files with SepsisLabel.")
@_folder_option("--predictions", "Folder of .psv files with PredictedProbability|PredictedLabel.")
@json_option
@debug_option
def score_2019(labels: Path, predictions: Path, as_json: bool) -> None:  # noqa: FBT001
    """Score hourly predictions of sepsis: utility, F1, AUROC, AUPRC, accuracy."""
    cohort, remarks = read_2019(labels, predictions)
    found = physionet2019.score(cohort).to_dict()
    if as_json:
        print_json({"challenge": "physionet2019", **found, "remarks": list(remarks)})
        return
    console = results()
    console.print(
        f"{found['patients']:,} patients, {found['septic']:,} with sepsis, {found['hours']:,} hours",
        style="dim",
    )
    _print_scores(console, found["scores"])
    _say(remarks)


@score.command("physionet2021", short_help="ECG diagnoses: challenge metric, macro F1, AUROC, AUPRC.")
@_folder_option("--labels", "Folder of .hea files with a line #Dx.")
@_folder_option("--outputs", "Folder of .csv files with codes, binary and scalar outputs.")
@json_option
@debug_option
def score_2021(labels: Path, outputs: Path, as_json: bool) -> None:  # noqa: FBT001
    """Score diagnoses of electrocardiograms: challenge metric, macro F1, AUROC, AUPRC, accuracy."""
    recordings, remarks = read_2021(labels, outputs)
    found = physionet2021.score(recordings).to_dict()
    if as_json:
        print_json({"challenge": "physionet2021", **found, "remarks": list(remarks)})
        return
    console = results()
    console.print(f"{found['recordings']:,} recordings", style="dim")
    _print_scores(console, found["scores"])
    console.print()
    _print_classes(console, found["classes"])
    _say(remarks)


def _print_scores(console: Console, scores: dict[str, float]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in scores.items():
        table.add_row(_NAMES[name], _shown(value))
    console.print(table)


def _print_classes(console: Console, classes: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class", no_wrap=True)
    for column in ("positives", "predicted", "F1", "AUROC", "AUPRC"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in classes:
        counts = (f"{row['positives']:,}", f"{row['predicted']:,}")
        table.add_row(row["abbreviation"], *counts, *(_shown(row[key]) for key in ("f1", "auroc", "auprc")))
    console.print(table)


def _shown(value: float) -> str:
    return "not defined" if value != value else f"{value:.4f}"  # noqa: PLR0124 only NaN differs from itself


def _say(remarks: Sequence[str]) -> None:
    console = messages()
    for remark in remarks:
        console.print(remark, style="dim", markup=False, soft_wrap=True)
