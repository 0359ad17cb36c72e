"""How numbers and counts read in a report. Errors, accuracies and AUCs are in per cent."""

from __future__ import annotations

from datetime import datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SMALLEST_P = 0.001
_MOST_NEEDED = 10_000
NONE = "–"


def percent(value: float | None, digits: int = 2) -> str:
    """`98.61`; a dash for nothing."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """`+1.40` or `−0.20`, with a real minus."""
    return NONE if value is None else f"{value:+.{digits}f}".replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """`[97.90, 98.80]`; nothing where there is none."""
    return "" if low is None or high is None else f"[{percent(low)}, {percent(high)}]"


def p_value(p: float | None) -> str:
    """Three decimals, or `< 0.001`."""
    if p is None:
        return NONE
    return f"< {_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"


def count(value: int | None) -> str:
    """Thousands apart; a space without end is infinite."""
    return "∞" if value is None else f"{value:,}"


def needed(draws: int) -> str:
    """Draws still needed; beyond 10,000 the figure says only that they are out of reach."""
    return f"> {_MOST_NEEDED:,}" if draws > _MOST_NEEDED else f"{draws:,}"


def about(draws: int) -> str:
    """Draws still needed, in a sentence."""
    return (
        f"more than {_MOST_NEEDED:,} more draws"
        if draws > _MOST_NEEDED
        else f"about {plural(draws, 'more draw')}"
    )


def plural(value: int, one: str, many: str | None = None) -> str:
    """`1 trial`, `2,000 trials`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """The two largest units: `3 min 5 s`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"  # noqa: PLR2004
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def short_time(seconds: float) -> str:
    """Three figures in the unit that fits: `450 µs`, `2.31 ms`, `1.20 s`; from a minute on as `duration`."""
    if seconds >= _MINUTE:
        return duration(seconds)
    unit, size = ("s", 1.0) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("µs", 1e-6)  # noqa: PLR2004
    shown = seconds / size
    return f"{shown:.{2 if shown < 10 else 1 if shown < 100 else 0}f} {unit}"  # noqa: PLR2004


def moment(when: datetime) -> str:
    """Date and time to the minute, in UTC as stored."""
    return when.strftime("%Y-%m-%d %H:%M UTC")


def value(item: object) -> str:
    """A parameter's value as it fits into a table."""
    return f"{item:.6g}" if isinstance(item, float) else str(item)


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def arrow(name: str) -> str:
    """`label->target` as people write it: `label → target`."""
    return str(name).replace("->", " → ")


def heading(name: str) -> str:
    """A key as people write it: `memory_gib` becomes `memory (GiB)`."""
    words = str(name).replace("_", " ")
    return words.removesuffix(" gib") + " (GiB)" if words.endswith(" gib") else words
