"""Which figures a report on block-by-block matching holds, under which names, and what they show in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kdsearch.analysis.bbm_layers import LayerMean
from kdsearch.analysis.bbm_likeness import uniform_distance
from kdsearch.analysis.bbm_plots import colours, plot_score_curves, plot_scores, plot_search
from kdsearch.analysis.bbm_plots_layers import plot_attention, plot_cka, plot_reach
from kdsearch.analysis.bbm_scores import CHALLENGE, SCORES
from kdsearch.analysis.bbm_story import MAIN
from kdsearch.analysis.bbm_study import BbmReport, BbmSweep, Study
from kdsearch.analysis.bbm_wording import method, score
from kdsearch.analysis.figure_style import Drawing, figure_style, finish
from kdsearch.analysis.figures import slug
from kdsearch.analysis.figures_methods import trajectory_drawings
from kdsearch.analysis.wording import listed

_MOST_PARAMETERS = 12


def study_key(report: BbmReport, study: Study) -> str:
    """What the names of a study's figures and sections begin with: nothing for a single one."""
    return "" if len(report.studies) == 1 else f"{report.studies.index(study) + 1}-"


def sweep_key(report: BbmReport, sweep: BbmSweep) -> str:
    """What those of a sweep begin with."""
    if len(report.sweeps) == 1:
        return ""
    return f"{report.sweeps.index(sweep) + 1}-{slug(sweep.record.name)}-"


def bbm_drawings(report: BbmReport) -> dict[str, Drawing]:
    """All figures by their key in the page, which is the stem of their files."""
    with figure_style():
        found = [drawing for study in report.studies for drawing in _study(study, study_key(report, study))]
        found += [drawing for sweep in report.sweeps for drawing in _search(sweep, sweep_key(report, sweep))]
        for sweep in report.sweeps:
            found += [drawing for _, drawing in trajectory_drawings(sweep.result, sweep_key(report, sweep))]
    return {drawing.stem: drawing for drawing in found}


def _study(study: Study, prefix: str) -> Iterator[Drawing]:
    scored = [row for row in study.rows if any(row.mean(f"test_{name}").n for name in SCORES)]
    if scored:
        panels = [
            (f"test_{name}", f"{study.score(name)}, test part")
            for name in SCORES
            if any(row.mean(f"test_{name}").n for row in scored)
        ]
        told = "; ".join(f"{method(row.name)}: {score(row.mean(MAIN).mean)}" for row in scored)
        words = f"Scores of every run on the test part. Means of {study.data.challenge}, {told}."
        yield finish(plot_scores(scored, panels), f"{prefix}scores", words)
    yield from _layers(study, prefix)
    given = {row.name for row in study.rows if row.given}
    curves = [curve for curve in study.curves if curve.method not in given]
    if any(np.isfinite(curve.mean).sum() > 1 for curve in curves):  # a single epoch is no curve
        figure = plot_score_curves(curves, colours(study.rows), f"validation score ({judged_by(study)})")
        names = listed([method(curve.method) for curve in curves])
        yield finish(figure, f"{prefix}validation", f"Mean validation score by epoch of {names}.")


def judged_by(study: Study) -> str:
    """What trials are judged by on the validation part."""
    return listed([study.score(name) for name in study.objectives]) or study.score(CHALLENGE)


def _layers(study: Study, prefix: str) -> Iterator[Drawing]:
    elsewhere = study.data.elsewhere
    for found, stem, where in (
        (study.cka, "cka", "the test part"),
        (study.cka_elsewhere, "cka-elsewhere", elsewhere),
    ):
        if found:
            words = f"CKA of every unit against every unit of the teacher on {where}. {_means(found)}."
            yield finish(plot_cka(found), f"{prefix}{stem}", words)
    for found, stem, where in (
        (study.attention, "attention", "the test part"),
        (study.attention_elsewhere, "attention-elsewhere", elsewhere),
    ):
        if found:
            names = listed([method(one.method) for one in found])
            words = f"Attention by unit on {where}, averaged over records and heads, of {names}."
            yield finish(plot_attention(found, study.data.pieces), f"{prefix}{stem}", words)
    if study.reach:
        figure = plot_reach(study.reach, colours(study.rows), study.data.pieces, uniform_distance(study))
        told = "; ".join(f"{method(one.method)}: {score(one.mean, 2)}" for one in study.reach)
        words = f"Mean attention distance by unit, in {study.data.pieces}. Means over units, {told}."
        yield finish(figure, f"{prefix}attention-distance", words)


def _means(found: Sequence[LayerMean]) -> str:
    return "Means, " + "; ".join(
        f"{method(one.method)}: {score(float(np.nanmean(one.mean)))}" for one in found
    )


def _search(sweep: BbmSweep, prefix: str) -> Iterator[Drawing]:
    found = sweep.search
    if found is None or not found.parameters or len(found.parameters) > _MOST_PARAMETERS:
        return
    if np.isfinite(found.points["score"]).sum() < 2:  # noqa: PLR2004 - one trial shows nothing
        return
    words = f"Validation score of {found.trials} trials against {listed(list(found.parameters))}."
    yield finish(plot_search(found), f"{prefix}search", words)
