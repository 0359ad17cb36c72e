"""The page of a report on block-by-block matching: results, figures and sentences put into the template."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from kdsearch.analysis import bbm_likeness as likeness
from kdsearch.analysis import bbm_story as story
from kdsearch.analysis import bbm_wording as words
from kdsearch.analysis import story_retrained
from kdsearch.analysis.bars import Scale
from kdsearch.analysis.bbm_figures import judged_by, study_key, sweep_key
from kdsearch.analysis.bbm_methods import Difference, MethodRow, similar_rows
from kdsearch.analysis.bbm_paths import moves, stuck
from kdsearch.analysis.bbm_plots_layers import SHOWN_BLOCKS
from kdsearch.analysis.bbm_scores import R2, R2_ELSEWHERE, VALIDATION
from kdsearch.analysis.bbm_study import BbmReport, BbmSweep, Study
from kdsearch.analysis.figure_style import Drawing
from kdsearch.analysis.frames import PRETRAIN
from kdsearch.analysis.page import MESSAGES, inlined, messages, page_environment, settings_text
from kdsearch.analysis.paths import PathEnd, PathFigure, path_ends, paths
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.results import SweepResult
from kdsearch.analysis.tables import curves_whole
from kdsearch.analysis.wording import listed

_STATES = ("complete", "diverged", "failed", "stopped", "running", "paused", "waiting", "lost")
_READ = "Read: "  # what notes of what was read begin with
_DIGEST, _DIGITS = "digest of the records", 12
_TABLE = ("f1", "challenge", "auroc", "auprc")  # the paper's two, in its order, then ours


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyView:
    """Everything that the template shows of the sweeps on one set of records."""

    key: str
    study: Study
    headline: Markup
    level: str
    judged_by: str
    columns: tuple[tuple[str, str], ...]  # scores of the test part that some method has: key, name
    best: Mapping[str, float]  # the highest mean by score, where it is one of several
    notes: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[Difference, Difference | None], ...]], ...]  # by reference: P, F1
    scale: Scale  # of the differences
    similar: tuple[MethodRow, ...]
    measured_on: (
        str  # what was read of the records that the test numbers are about; empty where no note says so
    )
    blocks_of: int  # most units whose attention distance is known
    cut: bool  # some method has more blocks than the figure of attention shows
    runs: str


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepPart:
    """What the template shows of one sweep."""

    key: str
    sweep: BbmSweep
    record: SweepRecord  # its environment with the digest of the records
    result: SweepResult
    moves: Mapping[tuple[int, str], tuple[float, float]]  # start and end of metaparameters, by trial and name
    paths: tuple[PathFigure, ...]
    ends: tuple[PathEnd, ...]
    stuck: tuple[str, ...]
    words: Markup  # of the search; empty without one
    states: tuple[tuple[str, int, int, int], ...]  # state; trials of tables, of the search, pre-trainings
    messages: tuple[tuple[str, str, list[int]], ...]
    more_messages: int
    settings: str


def render_bbm(report: BbmReport, figures: Mapping[str, Drawing], files: Collection[str]) -> str:
    """The whole page as HTML; `files` are the names of those beside it."""
    environment = page_environment()
    environment.filters |= {
        "score": words.score,
        "signed_score": words.signed_score,
        "score_interval": words.score_interval,
        "method": words.method,
        "epochs": words.epochs,
        "exact": _exact,
        "scope": story.scope,
    }
    environment.globals.update(figure=inlined, layer_words=likeness.layer_words)
    return environment.get_template("bbm.html.j2").render(
        title=_title(report),
        figures=figures,
        studies=[_study(study, study_key(report, study)) for study in report.studies],
        sweeps=[_sweep(sweep, sweep_key(report, sweep)) for sweep in report.sweeps],
        files=files,
        attention_words=likeness.attention_words,
        blocks_words=story.blocks_words,
        similarity_words=likeness.similarity_words,
        retrained_legend=story_retrained.legend,
        curves_whole=curves_whole([sweep.result for sweep in report.sweeps]),
        R2=R2,
        ELSEWHERE=R2_ELSEWHERE,
        VALIDATION=VALIDATION,
        SHOWN_BLOCKS=SHOWN_BLOCKS,
    )


def _title(report: BbmReport) -> str:
    """The sweep's title; a made-up sample is said at once."""
    sweeps = report.sweeps
    mark = " (made-up sample)"
    if len(sweeps) == 1:
        record = sweeps[0].record
        return f"{record.settings.get('title') or record.name}{mark if sweeps[0].made_up else ''}"
    if all(sweep.made_up for sweep in sweeps):
        return f"Sweeps {listed([sweep.record.name for sweep in sweeps])}{mark}"
    return "Sweeps " + listed([f"{sweep.record.name}{mark if sweep.made_up else ''}" for sweep in sweeps])


def _exact(value: float | None, digits: int = 3) -> Markup:
    """A score for reading that carries its full value, the same text as in the CSV files."""
    if value is None or not math.isfinite(value):
        return Markup("{}").format(words.score(None))
    return Markup('<data value="{}">{}</data>').format(repr(float(value)), words.score(value, digits))


def _study(study: Study, key: str) -> StudyView:
    columns = tuple(
        (f"test_{name}", study.score(name))
        for name in _TABLE
        if any(row.mean(f"test_{name}").n for row in study.rows)
    )
    told = (story.unlucky(study), story.unscored(study), *study.notes)
    return StudyView(
        key=key,
        study=study,
        headline=story.headline(study),
        level=story.level(study),
        judged_by=judged_by(study),
        columns=columns,
        best={score: high for score, _ in columns if (high := _highest(study.rows, score)) is not None},
        notes=(*filter(None, (story.too_few(study),)), *filter(None, told)),
        groups=_groups(study),
        scale=_scale([one for one in study.differences if one.score == story.MAIN]),
        similar=similar_rows(study.rows),
        measured_on=_measured_on(study),
        blocks_of=max((len(one.blocks) for one in (*study.reach, *study.reach_elsewhere)), default=0),
        cut=any(one.mean.shape[0] > SHOWN_BLOCKS for one in (*study.attention, *study.attention_elsewhere)),
        runs=_runs([row for row in study.rows if not row.given]),
    )


def _measured_on(study: Study) -> str:
    """The first note of what was read, that of the main set; sets from elsewhere come after it."""
    if all(row.given for row in study.rows):
        return ""
    return next((note for record in study.records for note in record.notes if note.startswith(_READ)), "")


def _highest(rows: Sequence[MethodRow], score: str) -> float | None:
    means = [mean for row in rows if (mean := row.mean(score).mean) is not None]
    return max(means) if len(means) > 1 else None


def _runs(rows: Sequence[MethodRow]) -> str:
    counts = [row.n for row in rows]
    if not counts:
        return "0"
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _groups(study: Study) -> tuple[tuple[str, tuple[tuple[Difference, Difference | None], ...]], ...]:
    """Differences of the challenge's score by reference, each with that of F1."""
    other = {(one.method, one.reference): one for one in study.differences if one.score == "test_f1"}
    groups: dict[str, list[tuple[Difference, Difference | None]]] = {}
    for one in study.differences:
        if one.score == story.MAIN:
            groups.setdefault(one.reference, []).append((one, other.get((one.method, one.reference))))
    return tuple((reference, tuple(rows)) for reference, rows in groups.items())


def _scale(found: Sequence[Difference]) -> Scale:
    ends = [(one.paired.mean, one.paired.low, one.paired.high) for one in found]
    return Scale.around([0.0, *(value for values in ends for value in values if value is not None)])


def _sweep(sweep: BbmSweep, key: str) -> SweepPart:
    told = messages(sweep.result)
    return SweepPart(
        key=key,
        sweep=sweep,
        record=_with_digest(sweep.record),
        result=sweep.result,
        moves=moves(sweep.result.trajectories),
        paths=paths(sweep.result.trajectories),
        ends=path_ends(sweep.result.trajectories),
        stuck=stuck(sweep.result.trajectories),
        words=story.search_words(sweep.search) if sweep.search is not None else Markup(""),
        states=_states(sweep.result),
        messages=told[:MESSAGES],
        more_messages=max(0, len(told) - MESSAGES),
        settings=settings_text(sweep.record.settings),
    )


def _with_digest(record: SweepRecord) -> SweepRecord:
    """The record with the beginning of its content's digest in what it was run with."""
    if not record.content:
        return record
    return replace(record, environment={**record.environment, _DIGEST: record.content[:_DIGITS]})


def _states(result: SweepResult) -> tuple[tuple[str, int, int, int], ...]:
    trials = result.trials
    final = trials["final"].isin([True])
    roles = np.where(trials["role"] == PRETRAIN, "pretrain", np.where(final, "final", "other"))
    table = Counter(zip(trials["state"], roles, strict=True))
    rows = [
        (state, table[state, "final"], table[state, "other"], table[state, "pretrain"]) for state in _STATES
    ]
    return tuple(row for row in rows if any(row[1:]) or row[0] == _STATES[0])
