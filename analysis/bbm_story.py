"""What block-by-block matching came to, in sentences with numbers, also where it does not win.

Every name from a record is escaped on its way in. Each claim of the paper has its sentence: the student comes up to
its teacher, its outputs and layers resemble the teacher's, its attention is local.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from kdsearch.analysis import wording
from kdsearch.analysis.bbm_layers import LayerMean, Reach, best_match, uniform_reach
from kdsearch.analysis.bbm_methods import MethodRow, references, similar_rows
from kdsearch.analysis.bbm_scores import BBM, CHALLENGE, R2, R2_ELSEWHERE, TEACHER, TRANSFORMER
from kdsearch.analysis.bbm_search import SearchResult, search_result
from kdsearch.analysis.bbm_study import Study
from kdsearch.analysis.bbm_wording import method, score, score_interval, signed_score, with_spread
from kdsearch.analysis.paired import PairedDifference
from kdsearch.analysis.story_methods import equals
from kdsearch.analysis.wording import count, p_value, percent, plural

MAIN = f"test_{CHALLENGE}"  # the score that the sentences speak of
_ROUNDING = 1e-9
_NEAR = 0.02  # values of r2 or CKA that differ by less are called alike
_NEAR_SHARE = 0.05  # and distances that differ by less, relatively


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`; with semicolons where a name has a comma of its own."""
    return "; ".join(parts) if any("," in part for part in parts) else wording.listed(list(parts))


def level(study: Study) -> str:
    """The level of the intervals: `95 %`."""
    return f"{100 * (1 - study.alpha):g} %"


def headline(study: Study) -> Markup:
    """What the methods reached on the test part, what BBM gained, and how sure that is."""
    scored = [row for row in study.rows if row.mean(MAIN).n]
    if not scored:
        return _unscored_headline(study)
    parts = [_highest(study, scored), *(_beside(study, base) for base in references(study.rows)), _gap(study)]
    return Markup(" ").join(part for part in parts if part)


def _unscored_headline(study: Study) -> Markup:
    """What can be said without the test part: the search, or that nothing has ended."""
    searches = [found for record in study.records if (found := search_result(record)) is not None]
    if any(not row.given for row in study.rows) or not searches:
        return Markup("No run has a score on the test part of {} yet.").format(study.title)
    return Markup(" ").join(_best_of(found) for found in searches)


def _highest(study: Study, scored: Sequence[MethodRow]) -> Markup:
    ranked = sorted(scored, key=lambda row: -(row.mean(MAIN).mean or 0.0))
    best = ranked[0]
    reached = (with_spread(best.mean(MAIN)), plural(best.mean(MAIN).n, "run"))
    if len(ranked) == 1:
        return Markup("On the test part of {}, {} reaches a mean {} of <b>{}</b> over {}.").format(
            study.title, method(best.name), study.data.challenge, *reached
        )
    told = Markup("On the test part of {}, the highest mean {} is that of {}: <b>{}</b> over {}.").format(
        study.title, study.data.challenge, method(best.name), *reached
    )
    others = [f"{method(row.name)} {score(row.mean(MAIN).mean)}" for row in ranked[1:]]
    return told + Markup(" The others: {}.").format(listed(others))


def _beside(study: Study, base: MethodRow) -> Markup:
    """The difference of BBM to one reference, decided or not; of several rows of BBM that of the first."""
    found = [
        one
        for one in study.differences
        if one.score == MAIN and one.reference == base.name and _kind(study, one.method) == BBM
    ]
    if not found:
        return Markup("")
    paired = found[0].paired
    side = "above" if paired.mean > 0 else "below" if paired.mean < 0 else "level with"
    within = score_interval(paired.low, paired.high)
    details = (
        [Markup("{} interval <span class=interval>{}</span>").format(level(study), within)] if within else []
    )
    told = Markup("{} lies{} {} {} ({})").format(
        method(found[0].method),
        Markup(" <b>{}</b>").format(score(abs(paired.mean))) if paired.mean else "",
        side,
        _called(study, base.name),
        Markup(", ").join([*details, _tested(paired)]),
    )
    return told + ("." if paired.decided or paired.p is None else ", which is not decided.")


def _tested(paired: PairedDifference) -> str:
    """`p = 0.250, 0.750 after Holm`; one pair of runs has no p."""
    if paired.p is None or paired.p_holm is None:
        return "one run alone"
    holm = f", {p_value(paired.p_holm)} after Holm" if paired.p_holm > paired.p else ""
    return f"p {equals(p_value(paired.p))}{holm}"


def _called(study: Study, name: str) -> str:
    kind = _kind(study, name)
    words = {TRANSFORMER: "the transformer from scratch", TEACHER: "the teacher"}
    return words.get(kind, method(name)) if name == kind else method(name)


def _kind(study: Study, name: str) -> str:
    return next(row.kind for row in study.rows if row.name == name)


def _gap(study: Study) -> Markup:
    """How much of what the teacher has over the transformer each student makes up."""
    bases = {row.kind: row for row in references(study.rows)}
    if len(bases) < 2:  # noqa: PLR2004 - no gap without both
        return Markup("")
    low, high = bases[TRANSFORMER].mean(MAIN).mean, bases[TEACHER].mean(MAIN).mean
    if low is None or high is None:
        return Markup("")
    if high <= low:
        return Markup(
            "The teacher does not lie above the transformer from scratch ({} to {}), so by this score there is no "
            "inductive bias to gain from."
        ).format(score(high), score(low))
    students = [row for row in study.rows if row not in bases.values() and not row.given and row.mean(MAIN).n]
    shares = [
        f"{method(row.name)} makes up {100 * (mean - low) / (high - low):.0f} %".replace(
            "-", "\N{MINUS SIGN}"
        )
        for row in students
        if (mean := row.mean(MAIN).mean) is not None
    ]
    if not shares:
        return Markup("")
    return Markup("Of the {} between transformer and teacher, {}.").format(score(high - low), listed(shares))


def too_few(study: Study) -> str:
    """Say that so few runs can decide nothing, whatever they show; nothing where they can."""
    told = [one.paired for one in study.differences if one.score == MAIN]
    most = max((one.n for one in told), default=0)
    if not most:
        return ""
    if most == 1:
        return "One run of each method does not tell how much runs differ: no difference can be decided."
    least = 2.0 ** (1 - most)
    tested = max(1, sum(one.n > 1 for one in told))
    corrected = min(1.0, tested * least)
    if corrected <= study.alpha:
        return ""
    holm = (
        f", and {p_value(corrected)} after Holm for {plural(tested, 'comparison')}"
        if corrected > least
        else ""
    )
    return (
        f"With {plural(most, 'run')} of each method no p can be below {p_value(least)} (2/2^{most}){holm}: no "
        f"difference can be decided at {study.alpha:g} yet, even where an interval excludes 0. With "
        f"{_enough(tested, study)} runs each it could."
    )


def _enough(tested: int, study: Study) -> int:
    """Fewest runs whose sign flips could decide a difference after Holm: tested 2/2^n <= alpha."""
    return math.ceil(math.log2(2 * tested / study.alpha) - _ROUNDING)


def scope(study: Study) -> str:
    """What the intervals do not cover."""
    return (
        f"Intervals and p cover the training seed alone: all runs share one split of {study.title} and one test part"
        f"{_one_teacher(study)}."
    )


def _one_teacher(study: Study) -> str:
    """Whether students share a teacher: those of one sweep do."""
    if not study.teachers:
        return ""
    alike = study.teachers == 1 or len(study.records) == 1
    which = "those" if alike else "of one sweep, those"
    return f", and {which} that learn from a teacher share one teacher"


def unlucky(study: Study) -> str:
    """Which runs have no score, by method and state; nothing where all have one."""
    told = [
        f"{method(row.name)}: {listed([f'{count(n)} {state}' for state, n in row.unlucky.items()])}"
        for row in study.rows
        if row.unlucky
    ]
    if not told:
        return ""
    return (
        f"Not every run has a score ({'; '.join(told)}). Means are over the others, so a method that fails often looks "
        "better here than it is."
    )


def unscored(study: Study) -> str:
    """Which runs that ended lack a score of the test part."""
    told = []
    for row in study.rows:
        lacking = {
            study.score(name): row.n - row.mean(f"test_{name}").n
            for name in ("challenge", "f1", "auroc", "auprc")
            if row.n > row.mean(f"test_{name}").n and not row.given
        }
        if len(set(lacking.values())) == 1 and len(lacking) == 4:  # noqa: PLR2004 - all of them
            told.append(f"{method(row.name)}: all scores of {plural(next(iter(lacking.values())), 'run')}")
        elif lacking:
            parts = [f"{name} of {plural(n, 'run')}" for name, n in lacking.items()]
            told.append(f"{method(row.name)}: {listed(parts)}")
    return f"Missing or not a number: {'; '.join(told)}." if told else ""


def blocks_words(study: Study) -> Markup:
    """Whether more blocks are better, as in Table 3."""
    found = study.blocks
    known = [row for row in found.rows if row.mean(MAIN).n] if found is not None else []
    if found is None or len(known) < 2:  # noqa: PLR2004
        return Markup("Too few runs have a score to compare numbers of blocks.")
    means = [row.mean(MAIN).mean or 0.0 for row in known]
    rising, falling = np.diff(means) > 0, np.diff(means) < 0
    trend = "rises" if rising.all() else "falls" if falling.all() else "neither rises nor falls throughout"
    told = listed([f"{score(mean)} with {row.name}" for row, mean in zip(known, means, strict=True)])
    words = Markup("{} {} with the number of blocks: {}.").format(study.data.challenge, trend, told)
    last = next(
        (one for one in found.differences if one.score == MAIN and one.method == known[-1].name), None
    )
    if last is None:
        return words
    within = score_interval(last.paired.low, last.paired.high)
    difference = signed_score(last.paired.mean) + (f" {within}" if within else "")
    return words + Markup(" {} less {}: {}, {}.").format(
        last.method, last.reference, difference, _tested(last.paired)
    )


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
        _claim([(r.kind, r.mean(R2).mean) for r in similar_rows(study.rows)], _NEAR, "outputs"),
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
    claim = _claim([(one.kind, mean) for one, mean, _ in means], _NEAR, "layers")
    return Markup(
        "Mean CKA of all pairs of blocks on {} (in parentheses, of each block with the one of the teacher that is most "
        "like it): {}.{}"
    ).format(where, told, claim)


def _claim(values: Sequence[tuple[str, float | None]], near: float, things: str) -> Markup:
    """Whether BBM resembles its teacher more than the transformer from scratch does."""
    known = {kind: value for kind, value in reversed(values) if value is not None}
    if BBM not in known or TRANSFORMER not in known:
        return Markup("")
    gain = known[BBM] - known[TRANSFORMER]
    if abs(gain) < near:
        return Markup(
            " BBM's {} are about as much like the teacher's as those of the transformer from scratch."
        ).format(things)
    return Markup(" BBM's {} are {} like the teacher's than those of the transformer from scratch.").format(
        things, "more" if gain > 0 else "less"
    )


def attention_words(study: Study) -> Markup:
    """How far attention reaches, and whether BBM's is more local, as is claimed of Fig. 4."""
    told = [f"{method(one.method)} {_tokens(study, one.mean)}" for one in study.reach]
    if not told:
        return Markup("")
    words = Markup("Mean distance between a token and what it attends to, over all blocks: {}.").format(
        listed(told)
    )
    uniform = uniform_distance(study)
    if uniform is not None:
        words += Markup(" Attention that is equal everywhere would reach {}.").format(_tokens(study, uniform))
    if study.reach_elsewhere:
        there = [f"{method(one.method)} {_tokens(study, one.mean)}" for one in study.reach_elsewhere]
        words += Markup(" On {}: {}.").format(study.data.elsewhere, listed(there))
    return words + _local(study.reach)


def uniform_distance(study: Study) -> float | None:
    """The distance of attention that is equal for all tokens of a signal; None where records differ in length."""
    return None if study.tokens is None else uniform_reach(study.tokens)


def _tokens(study: Study, distance: float | None) -> str:
    if distance is None:
        return plural(0, study.data.piece, study.data.pieces)
    many = f"{percent(distance, 1)} {study.data.pieces}"
    return many if study.token_s is None else f"{many} ({percent(distance * study.token_s, 2)} s)"


def _local(reach: Sequence[Reach]) -> Markup:
    known = {one.kind: one.mean for one in reversed(reach) if one.mean is not None}
    if BBM not in known or TRANSFORMER not in known:
        return Markup("")
    bbm, plain = known[BBM], known[TRANSFORMER]
    if abs(bbm - plain) <= _NEAR_SHARE * plain:
        return Markup(" BBM's attention is about as local as that of the transformer from scratch.")
    side = "more" if bbm < plain else "less"
    return Markup(" BBM's attention is {} local than that of the transformer from scratch.").format(side)


def _best_of(search: SearchResult) -> Markup:
    """What a search found, in one sentence."""
    told = plural(search.trials, "trial")
    if not search.best:
        return Markup(
            "Of {}, none was trained to its end with a finite error, so there is no best one."
        ).format(told)
    best = search.best[0]
    return Markup("Of {} of a search on validation, the best is trial {} with a score of <b>{}</b>.").format(
        told, best.number, score(best.score)
    )


def search_words(search: SearchResult) -> Markup:
    """What a search found, how many of its trials were stopped, and what its best score is worth."""
    other = listed([f"{count(n)} {state}" for state, n in search.states.items()])
    words = Markup("{} By state: {}.").format(_best_of(search), other)
    if not search.best:
        return words
    return words + Markup(
        " The best of many is too good to be believed: what this configuration reaches must be seen with new seeds, on "
        "the test part."
    )
