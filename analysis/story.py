"""The story of a sweep in sentences with numbers. Every name from a record is escaped on its way in."""

from __future__ import annotations

from fractions import Fraction

from markupsafe import Markup

from kdsearch.analysis.best import BestConfiguration
from kdsearch.analysis.conditions import ConditionRow
from kdsearch.analysis.confirmation import Confirmation
from kdsearch.analysis.frames import PAUSED, STOPPED, UNLUCKY, Population, unknown_inclusion
from kdsearch.analysis.paths import last_values
from kdsearch.analysis.record import DecisionRecord
from kdsearch.analysis.results import SpaceResult, SweepResult
from kdsearch.analysis.wording import about, arrow, count, interval, listed, p_value, percent, plural

_LARGEST_DENOMINATOR = 12
_REFUSED = " do not belong in an EDF: "  # as `population.require_known_inclusion` says it
_BEST_AUC = "best-auc"
_TESTING = ("significant",)  # policies that ask for a p below their level
_POLICIES = {
    _BEST_AUC: "the policy takes the single best condition of all groups, decided or not",
    "significant": "the policy fixes only what the comparison with the rest of the space decides",
    "interactive": "a person chose from the table",
}


def thing(result: SweepResult, number: int = 2) -> str:
    """What one configuration of this sweep is called."""
    graph = any(space.spec.get("kind") == "ktg" for space in result.record.spaces)
    word = "graph" if graph else "configuration"
    return word if number == 1 else word + "s"


def headline(result: SweepResult) -> Markup:
    """The whole sweep in two or three sentences."""
    estimated = result.estimated
    if not estimated:
        return _without_sample(result)
    first, last = estimated[0], estimated[-1]
    if first is last:
        opening = Markup(
            "{} from <b>{}</b> {} an outcome: the AUC of their error distribution is <b>{}</b>{}."
        ).format(
            plural(last.population.n, "draw"),
            last.name,
            "has" if last.population.n == 1 else "have",
            percent(last.auc),
            _within(last),
        )
    else:
        opening = Markup(
            "In {}, {} different {} became {}. The AUC of the error distribution went from <b>{}</b> in {} to "
            "<b>{}</b> in {}."
        ).format(
            plural(len(estimated) - 1, "step"),
            count(first.record.counts["classes"]),
            thing(result),
            count(last.record.counts["classes"]),
            percent(first.auc),
            first.name,
            percent(last.auc),
            last.name,
        )
    return opening + _best_sentence(result)


def _without_sample(result: SweepResult) -> Markup:
    """A sweep that estimates nothing of its space: the best that it found, and why there is no more to say."""
    if not result.best:
        return Markup("{}").format(no_sample(result))
    best = Markup("{}").format(_best_sentence(result).strip())
    return Markup("{} {}").format(best, no_sample(result))


def no_sample(result: SweepResult) -> str:
    """Why nothing is estimated of a space."""
    told = _no_sample(result)
    if not result.record.imported or "nobody said how" not in told:
        return told
    return f"{told} If they were random draws, import them again and say so: --design random."


def _no_sample(result: SweepResult) -> str:
    trained = result.searched[result.searched["state"] == "complete"]
    refused = [space.population.refused for space in result.spaces if space.population.refused]
    if refused:
        return _of_all(refused[0] or "")
    if not len(trained):
        return "No trial of the search has an outcome yet, so there is nothing to estimate."
    why = unknown_inclusion(trained)
    if why is not None:
        return _of_all(why)
    return (
        f"{plural(len(trained), 'trial is', 'trials are')} complete, but none answers a random draw from a space, so "
        "there is no sample to estimate an error distribution from: trials that a searcher proposes from earlier "
        "results show its taste and not the space."
    )


def _of_all(refusal: str) -> str:
    """A refusal of all trials says so, and need not number them; one of some is left as it is."""
    head, found, why = refusal.partition(_REFUSED)
    shares = head.split(" of ", 1)
    total = shares[-1].split(" ", 1)[0]
    if not found or shares[0] != total:
        return refusal
    none = "The one trial does not belong" if total == "1" else f"None of the {total} trials belongs"
    return f"{none} in an error distribution: {why}"


def _within(space: SpaceResult) -> Markup:
    if space.interval is None:
        return Markup("")
    return Markup(" <span class=interval>{}</span>").format(interval(space.interval.low, space.interval.high))


def _best_sentence(result: SweepResult) -> Markup:
    if not result.best:
        return Markup("")
    best, ranked = result.best[0], result.ranking.ranked
    home = f" of {best.space}" if best.space else ""
    things = plural(ranked, thing(result, 1), thing(result))
    sentence = Markup(" The best of {}{} has {} {} of <b>{} %</b>{}{}.").format(
        things,
        home,
        "an" if result.error[0] in "aeiou" else "a",
        result.error,
        percent(best.trainings.mean),
        _trainings(best),
        _optimism(result),
    )
    if result.lowest_single is not None and (
        best.trainings.n > 1 or result.lowest_single != best.trainings.best
    ):
        number, error = result.lowest_single
        sentence += Markup(" The lowest single training of the search is {} % (trial {}).").format(
            percent(error), number
        )
    if result.ranking.close:
        sentence += Markup(" {} cannot be told apart from the best.").format(
            plural(result.ranking.close, f"other {thing(result, 1)}", f"other {thing(result)}")
        )
    return sentence + _against_labels(result, best)


def _optimism(result: SweepResult) -> str:
    return ", chosen on these very errors" if result.ranking.ranked > 1 else ""


def _trainings(best: BestConfiguration) -> str:
    n, spread = best.trainings.n, best.trainings.spread
    if spread is None:
        return ""
    return f" (mean of {n} trainings; ± {percent(spread)}, their standard deviation)"


def _against_labels(result: SweepResult, best: BestConfiguration) -> Markup:
    """What the target reaches alone, beside the median: the best of many against one training is no fair match."""
    alone = next((b for b in result.baselines if best.graph and b.model == best.graph.models[0]), None)
    if alone is None:
        return Markup("")
    one = alone.trainings.n == 1
    sentence = Markup(" Its target, {}, reaches {} % when it learns from the labels alone ({})").format(
        alone.model,
        percent(alone.trainings.mean),
        "a single training, not the best of many" if one else f"mean of {alone.trainings.n} trainings",
    )
    if not result.estimated or result.estimated[-1].curve is None:
        return sentence + "."
    last = result.estimated[-1]
    median = last.curve.quantile(0.5) if last.curve is not None else None
    return sentence + Markup("; the median draw of {} has {} %.").format(last.name, percent(median))


def ended(result: SweepResult, best: BestConfiguration) -> dict[str, float]:
    """Where the metaparameters that a gradient moved ended, by name, in the best training of a configuration."""
    number = best.trainings.best[0]
    last = last_values(result.trajectories)
    return {name: value for (trial, name), value in last.items() if trial == number}


def told_apart(result: SweepResult) -> str:
    """How many configurations the ranking cannot tell from the first one; nothing where it can."""
    ranking = result.ranking
    if not ranking.close:
        return ""
    others = plural(ranking.close, f"other {thing(result, 1)}", f"other {thing(result)}")
    if ranking.standard_error is None:
        return f"{others} {'has' if ranking.close == 1 else 'have'} the same error as the first: a tie."
    n = result.best[0].trainings.n
    return (
        f"{others} cannot be told apart from the first: within one standard error of its mean "
        f"({percent(ranking.standard_error)} points for {plural(n, 'training')}, by the spread among the "
        f"trainings of all {ranking.ranked:,}), or equal to it. The order among them is luck as much as merit."
    )


def drawn_conditions(space: SpaceResult) -> str:
    """Which conditions the figure of a space leaves out; nothing where it shows all."""
    groups = {
        group: [row for row in space.conditions if row.group == group and row.n] for group in space.labels
    }
    cut = [
        f"{len(space.outstanding(group))} of {len(rows)} of {arrow(group)}"
        for group, rows in groups.items()
        if len(space.outstanding(group)) < len(rows)
    ]
    if not cut:
        return ""
    return f"Not all conditions are drawn: {listed(cut)}, the best and the worst by AUC, and the fixed one."


def chapter(result: SweepResult, space: SpaceResult) -> list[Markup]:
    """What happened in one space, a paragraph each: how it came about, whether the choice held, what was decided."""
    paragraphs = [Markup(" ").join([_arrival(result, space), _drawn(result, space)])]
    if space.confirmation is not None and space.confirmation.fresh_auc is not None:
        paragraphs.append(_confirmed(space, space.confirmation))
    if space.decision is not None:
        paragraphs += _decided(space, space.decision)
    return paragraphs


def _arrival(result: SweepResult, space: SpaceResult) -> Markup:
    counts = space.record.counts
    encodings = Markup("<b>{}</b> encodings, <b>{}</b> different {}").format(
        count(counts["encodings"]), count(counts["classes"]), thing(result)
    )
    if counts["encodings"] is None:
        encodings = Markup("infinitely many {}").format(thing(result))
    elif counts["encodings"] == counts["classes"]:
        encodings = Markup("<b>{}</b> {}").format(count(counts["encodings"]), thing(result))
    if space.record.parent is None:
        opening = "The trials are of the space" if result.record.imported else "The search began with"
        return Markup("{} <b>{}</b>: {}.").format(opening, space.name, encodings)
    return Markup("Fixing <i>{}</i> left <b>{}</b>: {}{}.").format(
        arrow(space.record.restriction or "a condition"), space.name, encodings, _share(result, space)
    )


def _share(result: SweepResult, space: SpaceResult) -> str:
    parent = next((one for one in result.spaces if one.name == space.record.parent), None)
    own, whole = space.record.counts["encodings"], parent.record.counts["encodings"] if parent else None
    if not own or not whole or parent is None:
        return ""
    share = Fraction(own, whole)
    if share.denominator <= _LARGEST_DENOMINATOR:
        return f", {share.numerator}/{share.denominator} of {parent.name}"
    return f", {100 * own / whole:.1f} % of {parent.name}"


def _drawn(result: SweepResult, space: SpaceResult) -> Markup:
    drawn = space.population
    if drawn.refused and result.estimated:
        return Markup("{}").format(_of_all(drawn.refused))
    if drawn.refused:  # the headline says why
        return _not_drawn(result, len(drawn.numbers))
    if not any(one.population.drawn for one in result.spaces) and not result.searched.empty:
        return _not_drawn(result, len(result.searched))
    if not drawn.n:
        return Markup("No draw from {} has an outcome yet.").format(space.name)
    return Markup("{}{}, answered by {}{}, {} an AUC of <b>{}</b>{}.{}{}{}").format(
        _whole(result, space),
        plural(drawn.n, "draw" if space.record.exhaustive else "random draw"),
        plural(len(drawn.numbers), "trial"),
        _reused(result, space),
        "has" if drawn.n == 1 else "have",
        percent(space.auc),
        _within(space),
        _unlucky(result, drawn),
        _stopped(space),
        _waiting(drawn),
    )


def _not_drawn(result: SweepResult, trials: int) -> Markup:
    if result.record.imported:
        return Markup("That its {} are random draws from it is not known.").format(plural(trials, "trial"))
    return Markup("Its {} are no random draws from it.").format(plural(trials, "trial"))


def _reused(result: SweepResult, space: SpaceResult) -> str:
    """How many draws were answered by how many trials of ancestors."""
    drawn = space.population
    draws, trials = drawn.n - int(drawn.fresh.sum()), int((drawn.answers > drawn.fresh).sum())
    if not draws:
        return ""
    first = space.record.parent in (None, result.spaces[0].name)
    home = f"for {space.record.parent}" if first else f"for {space.record.parent} or before"
    if trials == 1:
        return f" ({plural(draws, 'draw')} by a trial that was trained {home})"
    return f" ({plural(draws, 'draw')} by {trials:,} trials that were trained {home})"


def _whole(result: SweepResult, space: SpaceResult) -> str:
    """How a space that is trained as a whole is trained."""
    if not space.record.exhaustive:
        return ""
    times = {1: "once", 2: "twice"}.get(space.record.repeats, f"{space.record.repeats} times")
    valid = count(space.record.counts["valid_classes"])
    return f"Here every graph is trained, all {valid} valid ones, {times} each: ".replace(
        "graph", thing(result, 1)
    )


def _unlucky(result: SweepResult, drawn: Population) -> str:
    lost = drawn.share_of(UNLUCKY)
    if not lost:
        return ""
    counts = "counts" if lost == 1 else "count"
    return f" {plural(lost, 'draw')} diverged or failed and {counts} with {result.record.diverged_error:g} % error."


def _stopped(space: SpaceResult) -> str:
    """Who stands for draws that a scheduler stopped, and what that is worth."""
    drawn, curve = space.population, space.curve
    if curve is None or not drawn.epsilon:
        return ""
    aside = drawn.share_of((STOPPED, PAUSED)) + drawn.late_draws
    return (
        f" {plural(aside, 'draw was', 'draws were')} stopped or paused by the scheduler, or promoted late; those "
        f"that chance (epsilon {drawn.epsilon:g}) let go on stand for them, weighted by one over their "
        f"probability. Together they say as much as {plural(round(curve.n_effective), 'draw')} that nobody stops."
    )


def _waiting(drawn: Population) -> str:
    aside = drawn.share_of((STOPPED, PAUSED)) + drawn.late_draws if drawn.epsilon else 0
    waiting = drawn.drawn - drawn.n - aside
    return f" {plural(waiting, 'draw has', 'draws have')} no outcome yet." if waiting else ""


def _confirmed(space: SpaceResult, again: Confirmation) -> Markup:
    if again.fresh_auc is None:
        return Markup("")
    gap = again.selected_auc - again.fresh_auc
    where = "above" if gap < 0 else "below"
    verdict = "the choice held on draws that it had not seen"
    if again.holds is False:
        verdict = "the value it was chosen on was too good, as winners’ values tend to be"
    limits = f" {interval(again.interval.low, again.interval.high)}" if again.interval else ""
    return Markup(
        "On <b>{}</b> from {} the AUC is {}{}, {} points {} the {} that it was chosen on: {}."
    ).format(
        plural(again.fresh_n, "fresh draw"),
        space.name,
        percent(again.fresh_auc),
        limits,
        percent(abs(gap)),
        where,
        percent(again.selected_auc),
        verdict,
    )


def _decided(space: SpaceResult, made: DecisionRecord) -> list[Markup]:
    row = next((row for row in space.conditions if space.chosen(row)), None)
    tested = made.policy in _TESTING
    evidence = [_evidence(space, row, tested=tested)] if row is not None and row.auc is not None else []
    reason = Markup("<q>{}</q> ").format(arrow(made.reason)) if _says_more(made, row) else Markup("")
    source = Markup("<span class=source>{}{} by {} on {}{}: {}{}.</span>").format(
        reason,
        "Decided" if tested else "Chosen",
        made.chooser,
        plural(made.draws, "draw"),
        f", at look {made.look}" if made.look > 1 else "",
        _POLICIES.get(made.policy, made.policy),
        f", at the level {made.alpha:.3g}" if tested else "",
    )
    return [*evidence, source]


def _says_more(made: DecisionRecord, row: ConditionRow | None) -> bool:
    """Whether the stored reason says something else than the sentence with the condition's numbers."""
    if made.policy != _BEST_AUC or row is None or row.auc is None:
        return True
    return not all(part in made.reason for part in (f"{row.group} = {row.value}", f"AUC {row.auc:.2f}"))


def _evidence(space: SpaceResult, row: ConditionRow, *, tested: bool) -> Markup:
    base = Markup("<b>{} = {}</b>: AUC <b>{}</b> on {}").format(
        arrow(row.group), row.value, percent(row.auc), plural(row.n, "draw")
    )
    if row.difference is None:
        return base + "."
    side = "above" if row.difference >= 0 else "below"
    base += Markup(", {} points {} the rest of {}").format(percent(abs(row.difference)), side, space.name)
    if row.p_holm is None:
        return base + "."
    base += Markup(" (p {} after Holm").format(_equals(p_value(row.p_holm)))
    if row.decided:
        return base + (", decided)." if tested else ").")
    more = f"; {about(row.n_needed)} would decide it" if row.n_needed else ""
    return base + Markup("{}{}).").format(", not decided" if tested else ", no proof", more)


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def reached(result: SweepResult) -> Markup:
    """How much sooner the last space finds what the first one finds."""
    if len(result.lowest) < 2:  # noqa: PLR2004 - two spaces are compared
        return Markup("")
    first, last = result.lowest
    shown = max(1, min(first.n, last.n) // 3)  # further on the draws run out
    start, end = float(first.mean[shown - 1]), float(last.mean[shown - 1])
    opening = Markup("After {} the lowest error is on average <b>{}</b> in {} and <b>{}</b> in {}.").format(
        plural(shown, "draw"), percent(start), first.space, percent(end), last.space
    )
    needed = last.draws_to_reach(start)
    if needed is None:
        return opening
    return opening + Markup(" {} reaches what {} finds in {} after <b>{}</b>.").format(
        last.space, first.space, f"{shown:,}", plural(needed, "draw")
    )


def compared(results: list[SweepResult]) -> Markup:
    """What a report on several sweeps sets side by side."""
    return Markup("This report sets {} side by side: {}.").format(
        plural(len(results), "sweep"), listed([result.record.name for result in results])
    )
