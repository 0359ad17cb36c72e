"""Block-by-block matching: sweeps on the same records as one study, worked out once for page, figures and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kdsearch.analysis.bbm_curves import ScoreCurve, score_curves
from kdsearch.analysis.bbm_layers import ATTENTION, CKA, ELSEWHERE, LayerMean, Reach, layer_means, reaches
from kdsearch.analysis.bbm_methods import (
    SUMMED,
    Blocks,
    Difference,
    MethodRow,
    blocks_table,
    differences,
    distinct_names,
    method_rows,
    pairing_notes,
)
from kdsearch.analysis.bbm_scores import (
    CHALLENGE,
    DISTANCE_ELSEWHERE,
    data_settings,
    objective,
    table_trials,
    trainable_settings,
)
from kdsearch.analysis.bbm_search import SearchResult, search_result
from kdsearch.analysis.frames import COMPLETE
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.results import SweepResult, analyse

# In the note of a sweep that had no real records, as trainables/bbm/parts.py words it; a made-up set from elsewhere,
# beside real records, has a note of other words.
MADE_UP = "are a made-up sample: the numbers are no results"
_SAME_TEACHER = ["seed", "settings", "error"]  # what two rows of one teacher have in common
_RATE_HZ, _PATCH, _WINDOW_S = 200, 20, 10.0  # where settings name none


@dataclass(frozen=True, kw_only=True)
class RecordSet:
    """What the words for a set of records are."""

    name: str  # physionet2021
    title: str  # PhysioNet 2021
    challenge: str  # P-21: the challenge's score, as the paper calls it
    long: str  # what that is
    elsewhere: str  # the set that outputs are compared on as well
    piece: str  # a token, which attention counts in
    pieces: str


_SETS = {
    "physionet2021": RecordSet(
        name="physionet2021",
        title="PhysioNet 2021",
        challenge="P-21",
        long="the challenge metric of PhysioNet/CinC 2021",
        elsewhere="Hangzhou",
        piece="patch",
        pieces="patches",
    ),
    "physionet2019": RecordSet(
        name="physionet2019",
        title="PhysioNet 2019",
        challenge="P-19",
        long="the normalised utility of PhysioNet/CinC 2019",
        elsewhere="eICU",
        piece="hour",
        pieces="hours",
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Sweeps on the same records, in one table."""

    records: tuple[SweepRecord, ...]
    data: RecordSet
    made_up: bool
    alpha: float
    table: pd.DataFrame  # `bbm_scores.table_trials` of all sweeps; name is that of the row
    rows: tuple[MethodRow, ...]
    differences: tuple[Difference, ...]
    blocks: Blocks | None
    objectives: tuple[str, ...]  # what trials are judged by
    cka: tuple[LayerMean, ...]
    cka_elsewhere: tuple[LayerMean, ...]
    attention: tuple[LayerMean, ...]
    attention_elsewhere: tuple[LayerMean, ...]
    reach: tuple[Reach, ...]
    reach_elsewhere: tuple[Reach, ...]
    token_s: float | None  # seconds of a token; None where a token is no stretch of a signal
    tokens: int | None  # of a record; None where it varies
    curves: tuple[ScoreCurve, ...]
    notes: tuple[str, ...]
    teachers: int  # different ones that were trained beforehand, or given as a file
    number: int = 0  # from 1, where other records have the same words; 0: none have

    @property
    def title(self) -> str:
        """The records, as headings call them."""
        number = f", set {self.number}" if self.number else ""
        return f"{self.data.title}{number}{' (made-up sample)' if self.made_up else ''}"

    def score(self, name: str) -> str:
        """What tables call a score: challenge is P-21 or P-19."""
        return self.data.challenge if name == CHALLENGE else {"f1": "F1"}.get(name, name.upper())


@dataclass(frozen=True, kw_only=True, eq=False)
class BbmSweep:
    """One sweep of a report."""

    record: SweepRecord
    result: SweepResult  # trials, spaces and curves as every report has them
    search: SearchResult | None
    made_up: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class BbmReport:
    """All that a report on block-by-block matching says."""

    studies: tuple[Study, ...]
    sweeps: tuple[BbmSweep, ...]


def analyse_bbm(records: Sequence[SweepRecord]) -> BbmReport:
    """Work out everything that a report says. The same records always give the same values."""
    groups: dict[str, list[SweepRecord]] = {}
    for record in records:
        groups.setdefault(_records_key(record), []).append(record)
    return BbmReport(
        studies=_numbered([_study(group) for group in groups.values()]),
        sweeps=tuple(
            BbmSweep(
                record=record,
                # Draws apart: a search that is stopped early, or that learns, is no sample of its space.
                result=analyse(replace(record, draws=record.draws.iloc[:0])),
                search=search_result(record),
                made_up=is_made_up(record),
            )
            for record in records
        ),
    )


def is_made_up(record: SweepRecord) -> bool:
    """Whether a made-up sample stood in for real records."""
    return any(MADE_UP in note for note in record.notes)


def _records_key(record: SweepRecord) -> str:
    """What sweeps must have in common to stand in one table: records (the very same files), form and division."""
    told = {k: v for k, v in data_settings(record).items() if k not in {"elsewhere", "or_sample"}}
    return json.dumps([told, record.content, is_made_up(record)], sort_keys=True, default=str)


def _numbered(studies: Sequence[Study]) -> tuple[Study, ...]:
    """Tell studies apart whose records have the same words: tables and arrays go by them."""
    titles = [study.title for study in studies]
    return tuple(
        replace(study, number=titles[: place + 1].count(study.title))
        if titles.count(study.title) > 1
        else study
        for place, study in enumerate(studies)
    )


def _once_each(table: pd.DataFrame) -> pd.DataFrame:
    """Keep one row of a teacher that several sweeps learn from, that of its training, and none without a value.

    A sweep that found its teacher trained has its error, but no epochs.
    """
    given = table[table["given"] & (table["state"] == COMPLETE)]
    values = given[list(SUMMED)].notna().sum(axis="columns").sort_values(ascending=False, kind="stable")
    told = given.loc[values.index[values > 0]].drop_duplicates(_SAME_TEACHER)
    return table.drop(index=given.index.difference(told.index)).reset_index(drop=True)


def _teachers(records: Sequence[SweepRecord], table: pd.DataFrame) -> int:
    """Count the teachers of all sweeps: one that has no error yet is taken to be another one."""
    given = table[table["given"]]
    known = given[given["state"] == COMPLETE]
    settings = [trainable_settings(record).get("teacher") for record in records]
    files = {str(each["file"]) for each in settings if isinstance(each, Mapping) and each.get("file")}
    return len(known.drop_duplicates(_SAME_TEACHER)) + len(given) - len(known) + len(files)


def _trials(record: SweepRecord) -> pd.DataFrame:
    """Return `table_trials` with a column `settings`, those of the sweep's teacher."""
    told = json.dumps(trainable_settings(record).get("teacher"), sort_keys=True, default=str)
    return table_trials(record).assign(settings=told)


def _study(records: Sequence[SweepRecord]) -> Study:
    first = records[0]
    trials = pd.concat([_trials(record) for record in records], ignore_index=True)
    table = _once_each(trials)
    table = table.assign(name=distinct_names(table))
    rows = method_rows(table, first.alpha)
    names = [row.name for row in rows]

    data, token_s = data_settings(first), _token_s(first)

    def layers(array: str) -> tuple[LayerMean, ...]:
        return layer_means(records, table, names, array)

    return Study(
        records=tuple(records),
        data=record_set(data),
        made_up=is_made_up(first),
        alpha=first.alpha,
        table=table,
        rows=rows,
        differences=differences(rows, alpha=first.alpha, seed=first.seed),
        blocks=blocks_table(table, alpha=first.alpha, seed=first.seed),
        objectives=tuple(dict.fromkeys(objective(record) for record in records)),
        cka=layers(CKA),
        cka_elsewhere=layers(CKA + ELSEWHERE),
        attention=layers(ATTENTION),
        attention_elsewhere=layers(ATTENTION + ELSEWHERE),
        reach=reaches(records, table, names, first.alpha),
        reach_elsewhere=reaches(records, table, names, first.alpha, metric=DISTANCE_ELSEWHERE),
        token_s=token_s,
        tokens=None if token_s is None else round(float(data.get("window_s") or _WINDOW_S) / token_s),
        curves=score_curves(records, table, names),
        notes=pairing_notes(rows),
        teachers=_teachers(records, trials),
    )


def record_set(data: Mapping[str, Any]) -> RecordSet:
    """The words for the records that a sweep's settings name; plain ones for a set that has none."""
    name = str(data.get("name") or "records")
    plain = RecordSet(
        name=name,
        title=name,
        challenge="challenge score",
        long="the challenge's own score",
        elsewhere=str(data.get("elsewhere") or "records from elsewhere"),
        piece="token",
        pieces="tokens",
    )
    return _SETS.get(name, plain)


def _token_s(record: SweepRecord) -> float | None:
    """Seconds of a patch of a signal."""
    data, student = data_settings(record), trainable_settings(record).get("student")
    if record_set(data).piece != "patch":
        return None
    patch = student.get("patch", _PATCH) if isinstance(student, Mapping) else _PATCH
    return float(patch) / float(data.get("rate_hz") or _RATE_HZ)
