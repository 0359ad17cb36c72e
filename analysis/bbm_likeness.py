"""Whether students of block-by-block matching resemble their teacher, in sentences: outputs, layers, attention.

BBM is told apart from the transformer from scratch only where the means over seeds lie further apart than the larger
of the two standard deviations; that is no test, so the sentences speak of these runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from kdsearch.analysis.bbm_layers import LayerMean, best_match, uniform_reach
from kdsearch.analysis.bbm_methods import Mean, mean_over_seeds, similar_rows
from kdsearch.analysis.bbm_scores import R2, R2_ELSEWHERE, TEACHER, TRANSFORMER
from kdsearch.analysis.bbm_study import Study
from kdsearch.analysis.bbm_wording import listed, method, score
from kdsearch.analysis.sweep_kinds import BBM
from kdsearch.analysis.wording import percent, plural

_FEWEST = 2  # runs of each that a claim needs


def similarity_words(study: Study) -> Markup:
    """Whose outputs are most like the teacher's, as in Table 1."""
    parts = []
    for name, where in ((R2, "the test part"), (R2_ELSEWHERE, study.data.elsewhere)):
        rows = sorted(
            (row for row in similar_rows(study.rows) if row.mean(name).n and row.kind != TEACHER),
            key=lambda row: -(row.mean(name).mean or 0.0),
        )
        if rows:
            told = listed([f"{method(row.name)} {score(row.mean(name).mean)}" for row in rows])
            parts.append(Markup("on {}, {}").format(where, told))
    if not parts:
        return Markup("")
    return Markup("r<sup>2</sup> of students and teacher: {}.{}").format(
        Markup("; ").join(parts),
        _claim([(row.kind, row.mean(R2)) for row in similar_rows(study.rows)], "outputs"),
    )


def layer_words(found: Sequence[LayerMean], where: str) -> Markup:
    """Whose layers are most like the teacher's, as in Fig. 3."""
    means = [
        (one, float(np.nanmean(one.mean)), float(np.nanmean(best_match(one.mean))))
        for one in found
        if one.kind != TEACHER
    ]
    if not means:
        return Markup("")
    told = listed([f"{method(one.method)} {score(mean)} ({score(best)})" for one, mean, best in means])
    claim = _claim([(one.kind, mean_over_seeds(one.each, 0.05)) for one, _, _ in means], "layers")
    return Markup(
        "Mean CKA of all pairs of units on {} (in parentheses, of each unit with the one of the teacher that is most "
        "like it): {}.{}"
    ).format(where, told, claim)


def _claim(values: Sequence[tuple[str, Mean]], things: str) -> Markup:
    """Whether BBM resembles its teacher more than the transformer from scratch does."""
    side = _side(values)
    if side is None:
        return Markup("")
    if not side:
        return Markup(
            " In these runs there is no clear difference in how much BBM's {0} and those of the transformer from "
            "scratch are like the teacher's."
        ).format(things)
    return Markup(
        " In these runs BBM's {} are {} like the teacher's than those of the transformer from scratch."
    ).format(things, "more" if side > 0 else "less")


def _side(values: Sequence[tuple[str, Mean]]) -> int | None:
    """1 if BBM lies clearly above the transformer from scratch, -1 if below, 0 if neither; None without both.

    values: kind and mean of each method; the first of a kind stands for it.
    """
    known = {kind: mean for kind, mean in reversed(values) if mean.mean is not None}
    if BBM not in known or TRANSFORMER not in known:
        return None
    bbm, plain = known[BBM], known[TRANSFORMER]
    gain = (bbm.mean or 0.0) - (plain.mean or 0.0)
    if min(bbm.n, plain.n) < _FEWEST or abs(gain) <= max(bbm.spread or 0.0, plain.spread or 0.0):
        return 0
    return 1 if gain > 0 else -1


def attention_words(study: Study) -> Markup:
    """How far attention reaches, and whether BBM's is more local, as is claimed of Fig. 4."""
    told = [f"{method(one.method)} {_tokens(study, one.mean)}" for one in study.reach]
    if not told:
        return Markup("")
    words = Markup("Mean distance between a token and what it attends to, over all units: {}.").format(
        listed(told)
    )
    uniform = uniform_distance(study)
    if uniform is not None:
        words += Markup(" Attention that is equal everywhere would reach {}.").format(_tokens(study, uniform))
    if study.reach_elsewhere:
        there = [f"{method(one.method)} {_tokens(study, one.mean)}" for one in study.reach_elsewhere]
        words += Markup(" On {}: {}.").format(study.data.elsewhere, listed(there))
    return words + _local([(one.kind, one.over_blocks) for one in study.reach])


def uniform_distance(study: Study) -> float | None:
    """The distance of attention that is equal for all tokens of a signal; None where records differ in length."""
    return None if study.tokens is None else uniform_reach(study.tokens)


def _tokens(study: Study, distance: float | None) -> str:
    if distance is None:
        return plural(0, study.data.piece, study.data.pieces)
    many = f"{percent(distance, 1)} {study.data.pieces}"
    return many if study.token_s is None else f"{many} ({percent(distance * study.token_s, 2)} s)"


def _local(values: Sequence[tuple[str, Mean]]) -> Markup:
    side = _side(values)
    if side is None:
        return Markup("")
    if not side:
        return Markup(
            " In these runs there is no clear difference in how local the attention of BBM and that of the "
            "transformer from scratch is."
        )
    return Markup(
        " In these runs BBM's attention is {} local than that of the transformer from scratch."
    ).format("more" if side < 0 else "less")
