"""What a retraining came to, in sentences with numbers. Every name from a record is escaped on its way in."""

from __future__ import annotations

from markupsafe import Markup

from kdsearch.analysis.methods import MethodRow, PairedDifference
from kdsearch.analysis.retrained import Retrained, RetrainedSet, cannot_decide
from kdsearch.analysis.story_methods import equals
from kdsearch.analysis.wording import interval, listed, p_value, percent, plural, signed


def headline(found: Retrained) -> Markup:
    """The subject's accuracy on each data set, and how it stands to each other version."""
    reached = [text for part in found.sets if (text := _reached(found, part))]
    if not reached:
        return Markup("No training has ended yet, so there is nothing to tell.")
    what = "training and validation images" if found.on_all else "training images alone"
    opening = Markup(
        "Trained on {} and measured on the test part, <b>{}</b> has a mean test {} of {}."
    ).format(what, found.subject, found.measure, _and(reached))
    verdicts = [text for version in found.others if (text := _verdict(found, version))]
    few = cannot_decide(found)
    return Markup(" ").join([opening, *verdicts, *([Markup("{}").format(few)] if few else [])])


def _reached(found: Retrained, part: RetrainedSet) -> Markup | None:
    row = next((row for row in part.rows if row.name == found.subject), None)
    if row is None:
        return None
    where = f" on {part.name}" if part.name else ""
    return Markup("<b>{} %</b>{} ({})").format(spread(row), where, plural(row.runs, "training"))


def spread(row: MethodRow) -> str:
    """`94.10 ± 0.52`: mean and standard deviation; the mean alone of one training."""
    return percent(row.mean) + ("" if row.spread is None else f" ± {percent(row.spread)}")


def _verdict(found: Retrained, version: str) -> Markup | None:
    """The differences to one version on all data sets, and which of them are decided."""
    told = [(part.name, part.differences[version]) for part in found.sets if version in part.differences]
    if not told:
        return None
    parts = [
        Markup("<b>{}</b>{}{}").format(signed(one.mean), f" on {name}" if name else "", _within(one))
        for name, one in told
    ]
    unit = " points" if len(told) == 1 else " (points)"
    return Markup("Less <b>{}</b> that is {}{}: {}.").format(version, _and(parts), unit, _decided(told))


def _within(one: PairedDifference) -> Markup:
    inside = [text for text in (interval(one.low, one.high), _p(one)) if text]
    return Markup(" (<span class=interval>{}</span>)").format(", ".join(inside)) if inside else Markup("")


def _p(one: PairedDifference) -> str:
    return "" if one.p_holm is None else f"p {equals(p_value(one.p_holm))}"


def _decided(told: list[tuple[str, PairedDifference]]) -> str:
    sure = [name or "the test part" for name, one in told if one.decided]
    if not sure:
        return "no difference is decided" if len(told) > 1 else "not decided"
    if len(sure) == len(told):
        return "decided" if len(told) == 1 else "all decided"
    return f"decided on {listed(sure)} alone"


def _and(parts: list[Markup]) -> Markup:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) == 1:
        return parts[0]
    return Markup(" and ").join([Markup(", ").join(parts[:-1]), parts[-1]])


def legend(found: Retrained) -> list[str]:
    """What the columns of the table mean, and what the numbers do not cover."""
    level = f"{100 * (1 - found.alpha):g} %"
    part = "training and validation images together" if found.on_all else "training images alone"
    told = [
        f"Test {found.measure} in per cent after the last epoch, mean ± standard deviation over seeds.",
        f"Trained on {part}.",
    ]
    if found.others:
        sets = len(found.sets)
        over = f", corrected by Holm over {plural(sets, 'data set')} for each version" if sets > 1 else ""
        told.append(
            f"{found.subject} less the version: mean difference over seeds, with its {level} interval; p: exact "
            f"sign-flip test, two-sided{over}."
        )
    unlucky = [
        f"{count} {word} of {row.name}{f' on {part.name}' if part.name else ''}"
        for part in found.sets
        for row in part.rows
        for word, count in (("diverged", row.diverged), ("failed", row.failed))
        if count
    ]
    if unlucky:
        told.append(f"Trainings that count with their fixed error: {', '.join(unlucky)}.")
    short = [
        f"{row.name}{f' on {part.name}' if part.name else ''} ({row.runs} of {found.seeds})"
        for part in found.sets
        for row in part.rows
        if row.unfinished
    ]
    if short:
        told.append(f"Not all trainings have ended: {', '.join(short)}.")
    told += [text for text in (scope(found), cannot_decide(found)) if text]
    return told


def scope(found: Retrained) -> str:
    """What intervals and p do not cover."""
    taught = any(part.teachers for part in found.sets)
    teacher = " and one training of each frozen teacher" if taught else ""
    return (
        f"Intervals and p cover the training seed alone: all seeds share one division of the data{teacher}."
        if found.seeds > 1 and found.others
        else ""
    )
