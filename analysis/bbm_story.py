"""What block-by-block matching came to, in sentences with numbers, also where it does not win.

Every name from a record is escaped on its way in. A sentence that ranks speaks of these runs, and says so where the
paired difference behind it is not decided. `bbm_likeness` has the sentences about outputs, layers and attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from kdsearch.analysis.bbm_methods import Difference, MethodRow, references
from kdsearch.analysis.bbm_scores import CHALLENGE, TEACHER, TRANSFORMER
from kdsearch.analysis.bbm_search import SearchResult, search_result
from kdsearch.analysis.bbm_study import Study
from kdsearch.analysis.bbm_wording import listed, method, score, score_interval, signed_score, with_spread
from kdsearch.analysis.paired import PairedDifference
from kdsearch.analysis.story_methods import equals
from kdsearch.analysis.sweep_kinds import BBM
from kdsearch.analysis.wording import count, p_value, plural

MAIN = f"test_{CHALLENGE}"  # the score that the sentences speak of
_ROUNDING = 1e-9
_FEWEST = 3  # runs of each method that a share of the gap needs


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
    decided = all(_decided(study, best.name, row.name) for row in ranked[1:])
    told = Markup(
        "In these runs the highest mean {} on the test part of {} is that of {}: <b>{}</b> over {}{}."
    ).format(
        study.data.challenge, study.title, method(best.name), *reached, "" if decided else " (not decided)"
    )
    others = [f"{method(row.name)} {score(row.mean(MAIN).mean)}" for row in ranked[1:]]
    return told + Markup(" The others: {}.").format(listed(others))


def _decided(study: Study, one: str, other: str) -> bool:
    """Whether these two were compared with each other, and which is better is decided."""
    return any(
        found.paired.decided
        for found in study.differences
        if found.score == MAIN and {found.method, found.reference} == {one, other}
    )


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
    return Markup("In these runs {} lies{} {} {} ({}).").format(
        method(found[0].method),
        Markup(" <b>{}</b>").format(score(abs(paired.mean))) if paired.mean else "",
        side,
        _called(study, base.name),
        Markup(", ").join([*details, _tested(paired)]),
    )


def _tested(paired: PairedDifference) -> str:
    """`p = 0.250, 0.750 after Holm: not decided`; one pair of runs has no p."""
    if paired.p is None or paired.p_holm is None:
        return "one run alone: not decided"
    holm = f", {p_value(paired.p_holm)} after Holm" if paired.p_holm > paired.p else ""
    return f"p {equals(p_value(paired.p))}{holm}{'' if paired.decided else ': not decided'}"


def _called(study: Study, name: str) -> str:
    kind = _kind(study, name)
    words = {TRANSFORMER: "the transformer from scratch", TEACHER: "the teacher"}
    return words.get(kind, method(name)) if name == kind else method(name)


def _kind(study: Study, name: str) -> str:
    return next(row.kind for row in study.rows if row.name == name)


def _gap(study: Study) -> Markup:
    """How much of what the teacher has over the transformer each student makes up, of three runs or more."""
    bases = {row.kind: row for row in references(study.rows)}
    if len(bases) < 2:  # noqa: PLR2004 - no gap without both
        return Markup("")
    plain, teacher = bases[TRANSFORMER], bases[TEACHER]
    low, high = plain.mean(MAIN).mean, teacher.mean(MAIN).mean
    if low is None or high is None:
        return Markup("")
    decided = _decided(study, plain.name, teacher.name)
    if high <= low:
        return Markup(
            "In these runs the teacher does not lie above the transformer from scratch ({} to {}{}): by this score "
            "they show no inductive bias to gain from."
        ).format(score(high), score(low), "" if decided else "; not decided")
    students = [row for row in study.rows if row not in bases.values() and not row.given]
    shares = [
        f"{method(row.name)} makes up {_share((mean - low) / (high - low))} %"
        for row in students
        if (mean := row.mean(MAIN).mean) is not None and row.mean(MAIN).n >= _FEWEST
    ]
    if not shares or min(plain.mean(MAIN).n, teacher.mean(MAIN).n) < _FEWEST:
        return Markup("")
    return Markup("In these runs the teacher lies {} above the transformer from scratch. Of {}, {}.").format(
        score(high - low), "this gap" if decided else "this gap, which is not decided", listed(shares)
    )


def _share(share: float) -> str:
    """`58`, per cent, with a real minus."""
    return f"{100 * share:.0f}".replace("-", "\N{MINUS SIGN}")


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
    failing = any(state in row.unlucky for row in study.rows for state in ("failed", "diverged"))
    hint = ", so a method that fails often looks better here than it is" if failing else ""
    return f"Not every run has a score ({'; '.join(told)}). Means are over the others{hint}."


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
    """Whether more blocks are better, as in Table 3; a trend is told only if its ends differ, which must be decided."""
    found = study.blocks
    known = [row for row in found.rows if row.mean(MAIN).n] if found is not None else []
    if found is None or len(known) < 2:  # noqa: PLR2004
        return Markup("Too few runs have a score to compare numbers of blocks.")
    means = [row.mean(MAIN).mean or 0.0 for row in known]
    told = listed([f"{score(mean)} with {row.name}" for row, mean in zip(known, means, strict=True)])
    last = next(
        (one for one in found.differences if one.score == MAIN and one.method == known[-1].name), None
    )
    words = Markup("In these runs {} {}").format(study.data.challenge, _trend(means, last))
    if last is None:
        return words + Markup(" {} (not decided).").format(told)
    within = score_interval(last.paired.low, last.paired.high)
    difference = signed_score(last.paired.mean) + (f" {within}" if within else "")
    return words + Markup(" {} ({} less {}: {}, {}).").format(
        told, last.method, last.reference, difference, _tested(last.paired)
    )


def _trend(means: Sequence[float], last: Difference | None) -> str:
    """The verb of means by ascending number of blocks: a trend if that is decided, else what they were."""
    steps = np.diff(means)
    if last is None or not last.paired.decided or not ((steps > 0).all() or (steps < 0).all()):
        return "was"
    return f"{'rises' if steps[0] > 0 else 'falls'} with the number of blocks:"


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
