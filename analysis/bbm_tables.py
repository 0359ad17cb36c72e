"""The files of a report on block-by-block matching beside its page: CSV, the story as JSON, layers as arrays.

Numbers are written in full. A row of the long tables is one mean: which records, method, score, and n, mean, standard
deviation, and both ends of the interval.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from markupsafe import Markup

from kdsearch.analysis import bbm_likeness as likeness
from kdsearch.analysis import bbm_story as story
from kdsearch.analysis.bbm_layers import LayerMean
from kdsearch.analysis.bbm_methods import Mean, MethodRow
from kdsearch.analysis.bbm_scores import R2, R2_ELSEWHERE, SCORES, VALIDATION
from kdsearch.analysis.bbm_study import BbmReport, BbmSweep, Study
from kdsearch.analysis.tables import Table, curves_table, trials_table

_MEAN = ("n", "mean", "spread", "low", "high")
RUN_COLUMNS = (
    *("records", "sweep", "trial", "method", "kind", "run", "seed", "state", "blocks", "epochs", "seconds"),
    *(f"test_{score}" for score in SCORES),
    *(f"val_{score}" for score in SCORES),
    *(VALIDATION, R2, R2_ELSEWHERE),
)
METHOD_COLUMNS = ("records", "method", "kind", "score", *_MEAN)
DIFFERENCE_COLUMNS = (
    *("records", "table", "method", "reference", "score", "pairs", "left_out", "difference", "low", "high"),
    *("p", "p_holm", "n_needed", "decided"),
)
LAYER_COLUMNS = ("records", "of", "method", "block", "teacher_block", "runs", "mean", "spread")
REACH_COLUMNS = ("records", "of", "method", "block", *_MEAN)
_COUNTS = frozenset(
    {"trial", "run", "seed", "blocks", "epochs"}
)  # whole numbers, which pandas may hold as floats
CURVE_COLUMNS = ("records", "method", "epoch", "n", "mean", "least", "greatest")
RUNG_COLUMNS = ("sweep", "rung", "reached", "stopped", "best", "cutoff")

Row = tuple[object, ...]


def bbm_tables(report: BbmReport) -> tuple[Table, ...]:
    """Every CSV file; those without a row are left out, but for trials and curves."""
    results = [sweep.result for sweep in report.sweeps]
    studies = report.studies
    tables = (
        Table(name="runs.csv", columns=RUN_COLUMNS, rows=_stacked(studies, run_rows)),
        Table(name="methods.csv", columns=METHOD_COLUMNS, rows=_stacked(studies, method_rows)),
        Table(name="differences.csv", columns=DIFFERENCE_COLUMNS, rows=_stacked(studies, difference_rows)),
        Table(name="blocks.csv", columns=METHOD_COLUMNS, rows=_stacked(studies, block_rows)),
        Table(name="cka.csv", columns=LAYER_COLUMNS, rows=_stacked(studies, cka_rows)),
        Table(name="attention_distance.csv", columns=REACH_COLUMNS, rows=_stacked(studies, reach_rows)),
        Table(name="validation_by_epoch.csv", columns=CURVE_COLUMNS, rows=_stacked(studies, curve_rows)),
        Table(
            name="rungs.csv",
            columns=RUNG_COLUMNS,
            rows=tuple(row for sweep in report.sweeps for row in rung_rows(sweep)),
        ),
    )
    return (trials_table(results), curves_table(results), *(table for table in tables if table.rows))


def _stacked(studies: Sequence[Study], rows_of: Any) -> tuple[Row, ...]:
    return tuple((study.title, *row) for study in studies for row in rows_of(study))


def run_rows(study: Study) -> Iterator[Row]:
    """One row a trial that stands in the tables."""
    names = ["sweep", "number", "name", *RUN_COLUMNS[4:]]
    for row in study.table.reindex(columns=names).itertuples(index=False):
        yield tuple(
            _whole(value) if column in _COUNTS else value
            for column, value in zip(RUN_COLUMNS[1:], row, strict=True)
        )


def _whole(value: object) -> object:
    """A whole number that pandas holds as a float, because others of its column are missing."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def method_rows(study: Study) -> Iterator[Row]:
    """Means over the runs of each method, by score."""
    return _means(study.rows)


def block_rows(study: Study) -> Iterator[Row]:
    """The same by number of blocks."""
    return _means(study.blocks.rows if study.blocks is not None else ())


def _means(rows: Sequence[MethodRow]) -> Iterator[Row]:
    for row in rows:
        for name, mean in row.means.items():
            if mean.n:
                yield row.name, row.kind, name, *_cells(mean)


def _cells(mean: Mean) -> Row:
    return mean.n, mean.mean, mean.spread, mean.low, mean.high


def difference_rows(study: Study) -> Iterator[Row]:
    """Paired differences of methods, then of numbers of blocks."""
    found = [("methods", one) for one in study.differences]
    found += [("blocks", one) for one in (study.blocks.differences if study.blocks is not None else ())]
    for table, one in found:
        paired = one.paired
        yield (
            *(
                table,
                one.method,
                one.reference,
                one.score,
                paired.n,
                paired.left_out,
                paired.mean,
                paired.low,
            ),
            *(paired.high, paired.p, paired.p_holm, paired.n_needed, int(paired.decided)),
        )


def cka_rows(study: Study) -> Iterator[Row]:
    """CKA of every block with every block of the teacher, mean and standard deviation over runs."""
    for where, found in (("test", study.cka), ("elsewhere", study.cka_elsewhere)):
        for one in found:
            for (block, teacher), value in np.ndenumerate(one.mean):
                spread = float(one.spread[block, teacher])
                yield where, one.method, block + 1, teacher + 1, one.runs, float(value), spread


def reach_rows(study: Study) -> Iterator[Row]:
    """Mean attention distance by block, in tokens."""
    for where, found in (("test", study.reach), ("elsewhere", study.reach_elsewhere)):
        for one in found:
            for block, mean in enumerate(one.blocks, start=1):
                yield where, one.method, block, *_cells(mean)


def curve_rows(study: Study) -> Iterator[Row]:
    """Validation score by epoch."""
    for one in study.curves:
        columns = (one.epochs, one.n, one.mean, one.low, one.high)
        for epoch, n, mean, low, high in zip(*columns, strict=True):
            yield one.method, int(epoch), int(n), float(mean), float(low), float(high)


def rung_rows(sweep: BbmSweep) -> Iterator[Row]:
    """What became of trials at each rung; errors in per cent."""
    for rung in sweep.search.rungs if sweep.search is not None else ():
        yield sweep.record.name, rung.epoch, rung.reached, rung.stopped, rung.best, rung.cutoff


def story_json(report: BbmReport) -> str:
    """bbm.json: what the page says in words and its main numbers, for programs."""
    told = {
        "studies": [_study_entry(study) for study in report.studies],
        "searches": [
            {
                "sweep": sweep.record.name,
                "trials": sweep.search.trials,
                "states": dict(sweep.search.states),
                "best": [asdict(found) | {"score": found.score} for found in sweep.search.best],
                "rungs": [asdict(rung) for rung in sweep.search.rungs],
                "words": spoken(story.search_words(sweep.search)),
            }
            for sweep in report.sweeps
            if sweep.search is not None
        ],
    }
    return json.dumps(_finite(told), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _study_entry(study: Study) -> dict[str, Any]:
    return {
        "records": study.data.name,
        "made_up_sample": study.made_up,
        "sweeps": [record.name for record in study.records],
        "challenge_score": study.data.long,
        "judged_by": list(study.objectives),
        "alpha": study.alpha,
        "words": {
            "headline": spoken(story.headline(study)),
            "too_few": story.too_few(study),
            "scope": story.scope(study),
            "without_scores": " ".join(filter(None, (story.unlucky(study), story.unscored(study)))),
            "blocks": spoken(story.blocks_words(study)) if study.blocks is not None else "",
            "outputs": spoken(likeness.similarity_words(study)),
            "layers": spoken(likeness.layer_words(study.cka, "the test part")) if study.cka else "",
            "attention": spoken(likeness.attention_words(study)),
        },
        "methods": [_method_entry(row) for row in study.rows],
        "differences": _difference_entries(study.differences),
        "blocks": None
        if study.blocks is None
        else {
            "rows": [_method_entry(row) for row in study.blocks.rows],
            "differences": _difference_entries(study.blocks.differences),
            "differ_in_blocks_alone": study.blocks.alike,
        },
        "attention_distance": {one.method: [asdict(block) for block in one.blocks] for one in study.reach},
        "notes": list(study.notes),
    }


def _method_entry(row: MethodRow) -> dict[str, Any]:
    return {
        "method": row.name,
        "kind": row.kind,
        "trained_beforehand": row.given,
        "runs": list(row.runs),
        "without_result": dict(row.unlucky),
        "seconds": row.seconds,
        "scores": {name: asdict(mean) for name, mean in row.means.items() if mean.n},
    }


def _difference_entries(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"method": one.method, "reference": one.reference, "score": one.score, **asdict(one.paired)}
        for one in found
    ]


def spoken(words: Markup) -> str:
    """A sentence of the page without its tags."""
    return str(Markup(re.sub(r"<[^>]+>", "", str(words))).unescape())  # noqa: S704 - names were escaped before


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null. NumPy's numbers become plain ones."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def layer_arrays(report: BbmReport) -> bytes | None:
    """arrays.npz: mean CKA and attention of every method, by `RECORDS/ARRAY/METHOD`; None where there is none."""
    found: dict[str, np.ndarray] = {}
    for study in report.studies:
        for name, means in _named(study):
            for one in means:
                found[f"{study.title}/{name}/{one.method}"] = one.mean.astype(np.float32)
    if not found:
        return None
    content = io.BytesIO()
    np.savez_compressed(content, **found)  # type: ignore[arg-type]
    return content.getvalue()


def _named(study: Study) -> tuple[tuple[str, tuple[LayerMean, ...]], ...]:
    return (
        ("cka", study.cka),
        ("cka_elsewhere", study.cka_elsewhere),
        ("attention", study.attention),
        ("attention_elsewhere", study.attention_elsewhere),
    )
