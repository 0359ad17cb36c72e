"""What a comparison of methods found, in sentences with numbers. Every name from a record is escaped on its way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from kdsearch.analysis.methods import MethodComparison, MethodRow, PairedDifference
from kdsearch.analysis.results import SweepResult
from kdsearch.analysis.wording import count, interval, listed, p_value, percent, plural, signed, value

_FINITE_DIFFERENCE = "finite-difference"  # of a gradient method's hypergradient
_ALL = "all"  # of plan.train_on: training and validation images together
_SMALL = 1.05  # a cost ratio that is no difference
_SYNTHETIC = "synthetic"  # data of objects, not of images
_MOST = 100.0  # points: further apart no two accuracies are


def accuracy(comparison: MethodComparison) -> str:
    """Which accuracy the numbers are: of the test or of the validation part."""
    return f"{'test' if comparison.tested else 'validation'} accuracy"


def level(comparison: MethodComparison) -> str:
    """The level of the intervals: `95 %`."""
    return f"{100 * (1 - comparison.alpha):g} %"


def headline(result: SweepResult) -> Markup:
    """What was found, with its uncertainty; a comparison that shows no difference says how large one may still be."""
    comparison = result.methods
    if comparison is None or not comparison.rows:
        return Markup("No run of any method has an outcome yet, so there is nothing to compare.")
    sentences = [_verdict(comparison), _highest(comparison), _price(comparison), _unlucky(result, comparison)]
    return Markup(" ").join(sentence for sentence in sentences if sentence)


def judged(comparison: MethodComparison) -> list[tuple[MethodRow, PairedDifference]]:
    """The methods that were tested against the reference, in the order of the table."""
    return [
        (row, row.difference)
        for row in comparison.rows
        if row.difference is not None and row.difference.p_holm is not None
    ]


def _verdict(comparison: MethodComparison) -> Markup:
    pairs = judged(comparison)
    if not pairs:
        return Markup("There are too few runs yet to tell any method from <b>{}</b>.").format(
            comparison.reference
        )
    higher = [pair for pair in pairs if pair[1].decided and pair[1].mean > 0]
    lower = [pair for pair in pairs if pair[1].decided and pair[1].mean < 0]
    if not higher and not lower:
        return _nothing(comparison, pairs)
    told = [
        Markup("{} {}").format(word, _gains(comparison, group, first=group is (higher or lower)))
        for word, group in (("higher", higher), ("lower", lower))
        if group
    ]
    verdict = Markup("Beside <b>{}</b>, on runs with shared seeds, {} is {}.").format(
        comparison.reference, accuracy(comparison), Markup("; it is ").join(told)
    )
    alike = [row.name for row, difference in pairs if not difference.decided]
    if not alike:
        return verdict
    return verdict + Markup(" {} cannot be told from {} on {}.").format(
        listed(alike), comparison.reference, _pairs(pairs)
    )


def _gains(
    comparison: MethodComparison, pairs: Sequence[tuple[MethodRow, PairedDifference]], *, first: bool
) -> Markup:
    """The methods of one direction, the largest difference first; the first of all names unit and level."""
    ordered = sorted(pairs, key=lambda pair: -abs(pair[1].mean))
    parts = [
        Markup("by <b>{}{}</b> with <b>{}</b> ({}p {} after Holm)").format(
            percent(abs(difference.mean)),
            " points" if first and place == 0 else "",
            row.name,
            _within(difference, comparison if first and place == 0 else None, after=", "),
            equals(p_value(difference.p_holm)),
        )
        for place, (row, difference) in enumerate(ordered)
    ]
    return _and(parts)


def _and(parts: Sequence[Markup]) -> Markup:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) == 1:
        return parts[0]
    return Markup(" and ").join([Markup(", ").join(parts[:-1]), parts[-1]])


def _within(difference: PairedDifference, comparison: MethodComparison | None, *, after: str = "") -> Markup:
    """The interval of a difference; with its level where the comparison is given, and with what follows it."""
    if difference.low is None or difference.high is None:
        return Markup("")
    name = f"{level(comparison)} interval " if comparison is not None else ""
    told = interval(difference.low, difference.high)
    return Markup("<span class=interval>{}{}</span>{}").format(name, told, after)


def _nothing(comparison: MethodComparison, pairs: Sequence[tuple[MethodRow, PairedDifference]]) -> Markup:
    """No difference is decided: which is the largest, and how far the intervals reach."""
    least = min(p for _, difference in pairs if (p := difference.p_holm) is not None)
    row, largest = max(pairs, key=lambda pair: abs(pair[1].mean))
    opening = Markup(
        "<b>No method can be told from {}</b> on {} with shared seeds: the least p after Holm is {}. The largest "
        "difference in {} is that of {}, <b>{}</b> points{}."
    ).format(
        comparison.reference,
        _pairs(pairs),
        p_value(least),
        accuracy(comparison),
        row.name,
        signed(largest.mean),
        Markup(" ({})").format(within) if (within := _within(largest, comparison)) else "",
    )
    lows = [difference.low for _, difference in pairs if difference.low is not None]
    highs = [difference.high for _, difference in pairs if difference.high is not None]
    if len(pairs) < 2 or len(lows) < len(pairs) or max(highs) - min(lows) > 2 * _MOST:  # noqa: PLR2004
        return opening
    return opening + Markup(
        " The {} intervals of all {} differences, each taken for itself, lie within <span class=interval>{}</span>."
    ).format(level(comparison), len(pairs), interval(min(lows), max(highs)))


def _pairs(pairs: Sequence[tuple[MethodRow, PairedDifference]]) -> str:
    """`10 runs`, or `9 to 10 runs` where some miss one."""
    fewest, most = (end(difference.n for _, difference in pairs) for end in (min, max))
    return plural(most, "run") if fewest == most else f"{fewest:,} to {plural(most, 'run')}"


def _highest(comparison: MethodComparison) -> Markup:
    best = max(comparison.rows, key=lambda row: row.mean)
    base = next((row for row in comparison.rows if row.name == comparison.reference), None)
    spread = f", standard deviation {percent(best.spread)}" if best.spread is not None else ""
    told = Markup("The highest mean is that of {}, <b>{} %</b> ({}{})").format(
        best.name, percent(best.mean), plural(best.runs, "run"), spread
    )
    if base is None or base is best:
        return told + "."
    return told + Markup("; {} has {} %.").format(base.name, percent(base.mean))


def _unlucky(result: SweepResult, comparison: MethodComparison) -> Markup:
    """How many runs diverged or failed, and with what they count."""
    diverged = sum(row.diverged for row in comparison.rows)
    failed = sum(row.failed for row in comparison.rows)
    if not diverged + failed:
        return Markup("")
    runs = sum(row.runs for row in comparison.rows)
    parts = [f"{count(n)} {word}" for n, word in ((diverged, "diverged"), (failed, "failed")) if n]
    return Markup("Of {}, {}: {} with {} % accuracy.").format(
        plural(runs, "run"),
        listed(parts),
        "it counts" if diverged + failed == 1 else "they count",
        f"{max(0.0, 100 - result.record.diverged_error):g}",
    )


def _price(comparison: MethodComparison) -> Markup:
    """What the method with the highest mean costs beside the reference."""
    best = max(comparison.rows, key=lambda row: row.mean).name
    cost = next((cost for cost in comparison.costs if cost.method == best), None)
    if cost is None or best == comparison.reference or cost.run_ratio is None:
        return Markup("")
    if max(cost.run_ratio, 1 / cost.run_ratio) < _SMALL:
        return Markup("One run of {} takes as long as one of {}.").format(best, comparison.reference)
    return Markup("One run of {} takes <b>{}</b> times as long as one of {}.").format(
        best, percent(cost.run_ratio), comparison.reference
    )


def too_few(pairs: Sequence[int], alpha: float) -> str:
    """Say that so few pairs of runs can decide nothing, whatever they show; nothing where they can.

    pairs: of each difference. Of the 2^n sign flips of n pairs two at least are as extreme as what was seen.
    """
    most = max(pairs, default=0)
    methods = max(1, sum(n > 1 for n in pairs))  # those that are tested
    least = 2.0 ** (1 - most)
    corrected = min(1.0, methods * least)
    if not most or corrected <= alpha:
        return ""
    holm = f", {p_value(corrected)} after Holm for {plural(methods, 'method')}" if corrected > least else ""
    return (
        f"With {plural(most, 'pair')} of runs no p can be below {p_value(least)} (2/2^{most}){holm}: no difference can "
        f"be decided at {alpha:g} yet, even where an interval excludes 0."
    )


def scope(result: SweepResult) -> str:
    """What the intervals of a comparison on data that was split once do not cover; nothing without runs."""
    comparison, told = result.methods, result.record.settings.get("trainable")
    if comparison is None or not comparison.rows or not isinstance(told, Mapping):
        return ""
    data = told.get("data")
    name = str(data.get("name", "")) if isinstance(data, Mapping) else ""
    if not name or name == _SYNTHETIC:
        return ""
    part = "test" if comparison.tested else "validation"
    teacher = "one teacher, " if told.get("teacher") else ""
    return (
        f"Intervals and p cover the training seed alone: all runs share {teacher}one split of {name} and one {part} "
        f"part, of whose n images each is worth 100/n points of accuracy."
    )


def equals(text: str) -> str:
    """`= 0.012`, or `< 0.001` as it is."""
    return text if text.startswith("<") else f"= {text}"


def descriptions(result: SweepResult) -> tuple[tuple[str, str], ...]:
    """Each method of the sweep file in words; nothing where the file has no methods."""
    searcher = result.record.settings.get("searcher") or {}
    methods = searcher.get("methods") if isinstance(searcher, Mapping) else None
    if not isinstance(methods, Mapping):
        return ()
    return tuple((str(name), _described(settings)) for name, settings in methods.items())


def _described(settings: object) -> str:
    if not isinstance(settings, Mapping):
        return ""
    told = {str(key): item for key, item in settings.items() if item is not None and item != {}}
    kind = str(told.pop("kind", ""))
    where = "trained on training and validation images" if told.pop("train_on", None) == _ALL else ""
    sentence = _KINDS.get(kind, _plainly)(kind, told)
    return "; ".join(part for part in (sentence, where) if part)


def _fixed(_: str, told: Mapping[str, Any]) -> str:
    values = told.get("values") or {}
    return f"values set beforehand: {_values(values)}" if values else "values of the trainable's settings"


def _random(_: str, told: Mapping[str, Any]) -> str:
    replaced = told.get("parameters") or {}
    other = f", {listed(list(map(str, replaced)))} with a law of its own" if replaced else ""
    return f"the run's random draw from the space{other}, kept throughout"


def _tpe(_: str, told: Mapping[str, Any]) -> str:
    trials = told.get("trials")
    first = plural(trials, "training") if isinstance(trials, int) else "trainings"
    name = str(told.get("library") or "").capitalize()
    return (
        f"TPE{f' by {name}' if name else ''}: {first} judged on the validation part, then the one that counts, with "
        "the best values of them"
    )


def _gradient(_: str, told: Mapping[str, Any]) -> str:
    e1, e2 = told.get("e1"), told.get("e2")
    rhythm = "a gradient step at every iteration"
    idle = {"e1", "e2", "fit"}
    if e1 and e2:
        rhythm = f"{plural(e1, 'iteration')} with a gradient step, then {e2} on a straight line, in turn"
        idle.discard("fit")
    if told.get("hypergradient") != _FINITE_DIFFERENCE:
        idle.add("epsilon")  # only the finite difference has a step
    rest = _values({name: item for name, item in told.items() if name not in idle})
    return f"from the run's random draw, {rhythm}" + (f" ({rest})" if rest else "")


def _plainly(kind: str, told: Mapping[str, Any]) -> str:
    rest = _values(told)
    return f"{kind}: {rest}" if rest else kind


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_item(item)}" for name, item in values.items())


def _item(item: object) -> str:
    return " and ".join(map(str, item)) if isinstance(item, list | tuple) else value(item)


_KINDS = {"fixed": _fixed, "random": _random, "tpe": _tpe, "gradient": _gradient}
