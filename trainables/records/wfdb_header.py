"""The header (.hea) of a WFDB record, read leniently.

Source: the WFDB applications' header(5): a record line `name signals rate samples ...`, a line for each signal
`file format gain resolution zero first checksum blocksize description`, and comments. What is needed is read by its
place, and everything else is let be: dates in any form, `16x1+24`, gains such as `1000.0(0)/mV`, `#Dx:` and `# Dx`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from kdsearch.trainables.data.findings import reason
from kdsearch.trainables.records.leads import LEAD_AT, LEADS
from kdsearch.trainables.records.summary import UnreadableRecordError

MAX_HEADER_BYTES: Final = 1 << 20
DEFAULT_GAIN: Final = 200.0  # per millivolt, where a header gives none (header(5))
RATES_HZ: Final = (20.0, 20_000.0)
_MILLIVOLTS: Final = {"mv": 1.0, "millivolt": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6, "v": 1e3}
_GAIN = re.compile(r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(\S+))?")
_CODES = re.compile(r"#\s*dx\b\s*[:=]?(.*)", re.IGNORECASE)
_BLOCK_SIZE_AT, _CHECKSUM_AT, _ZERO_AT, _GAIN_AT = 7, 6, 4, 2


class HeaderRepair(StrEnum):
    """What was repaired in a header, or noted."""

    RECORD_NAME = "headers that name another record than their file"
    SIGNAL_COUNT = "headers that count other signals than they list"
    LEAD_NAME = "signals without the name of a lead, taken in the official order"
    GAIN = "signals without a gain, taken as 200 for 1 mV"
    UNIT = "signals in an unknown unit, taken as mV"
    NOT_A_CODE = "diagnoses that are no code"


@dataclass(frozen=True)
class SignalLine:
    """One signal: millivolts are (samples - baseline) / gain. `lead` is None where it is none of the twelve."""

    file: str
    gain: float
    baseline: float
    checksum: int | None
    lead: str | None


@dataclass(frozen=True)
class Header:
    """What a header says that is needed here; `samples` is None where it does not say."""

    rate_hz: float
    samples: int | None
    signals: tuple[SignalLine, ...]
    codes: tuple[str, ...]


def read_header(path: Path, repairs: Counter[StrEnum]) -> Header:
    """Return what the header file says. Raises `UnreadableRecordError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_HEADER_BYTES + 1)
    except OSError as error:
        raise UnreadableRecordError("a WFDB header", reason(error)) from error
    if len(content) > MAX_HEADER_BYTES or b"\0" in content:
        raise UnreadableRecordError("a WFDB header", "a file that is no text, or far too long")
    return parse_header(content.decode("utf-8-sig", errors="replace"), path.stem, repairs)


def parse_header(text: str, name: str, repairs: Counter[StrEnum]) -> Header:
    """Return what the header of the record `name` says; lenient, and counting what it repairs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = [line for line in lines if line.startswith("#")]
    fields = [line.split() for line in lines if not line.startswith("#")]
    if not fields:
        raise UnreadableRecordError("a WFDB header", "comments alone" if comments else "an empty file")
    record, *signals = fields
    rate_hz, samples = _record_line(record, len(signals), repairs)
    repairs[HeaderRepair.RECORD_NAME] += record[0] != name
    codes = _codes(comments, repairs)
    return Header(rate_hz, samples, _signal_lines(signals, repairs), codes)


def _record_line(record: Sequence[str], signals: int, repairs: Counter[StrEnum]) -> tuple[float, int | None]:
    """Return sampling rate and number of samples."""
    expected = "a first line with name, number of signals, sampling rate and number of samples"
    if "/" in record[0]:
        raise UnreadableRecordError("a record of one segment", f"several segments ({record[0]})")
    count = _whole(record[1]) if len(record) > 1 else None
    if count is None:
        raise UnreadableRecordError(expected, repr(" ".join(record)[:60]))
    if signals == 0:
        raise UnreadableRecordError("a line for each signal", "none")
    repairs[HeaderRepair.SIGNAL_COUNT] += count != signals
    rate = _number(re.split(r"[/(]", record[2])[0]) if len(record) > len(("name", "signals")) else None
    low, high = RATES_HZ
    if rate is None or not low <= rate <= high:
        found = "none" if rate is None else f"{rate:g}"
        raise UnreadableRecordError(f"a sampling rate of {low:g} to {high:g} Hz", found)
    return rate, _whole(record[3]) if len(record) > len(("name", "signals", "rate")) else None


def _signal_lines(lines: Sequence[Sequence[str]], repairs: Counter[StrEnum]) -> tuple[SignalLine, ...]:
    signals = [_signal_line(line, repairs) for line in lines]
    if all(signal.lead is None for signal in signals) and len(signals) == len(LEADS):
        repairs[HeaderRepair.LEAD_NAME] += len(signals)
        signals = [
            SignalLine(signal.file, signal.gain, signal.baseline, signal.checksum, lead)
            for signal, lead in zip(signals, LEADS, strict=True)
        ]
    named = Counter(signal.lead for signal in signals if signal.lead is not None)
    if not named:
        raise UnreadableRecordError("signals with the names of leads", "none")
    lead, times = named.most_common(1)[0]
    if times > 1:
        raise UnreadableRecordError("each lead once", f"{lead} {times} times")
    return tuple(signals)


def _signal_line(line: Sequence[str], repairs: Counter[StrEnum]) -> SignalLine:
    given = _GAIN.fullmatch(line[_GAIN_AT]) if len(line) > _GAIN_AT else None
    gain = _number(given[1]) if given is not None else None
    if not gain:
        repairs[HeaderRepair.GAIN] += 1
        gain = DEFAULT_GAIN
    unit = (given[3] or "mv").lower() if given is not None else "mv"
    repairs[HeaderRepair.UNIT] += unit not in _MILLIVOLTS
    # as header(5) has it, the baseline is the ADC zero unless the gain field says otherwise
    zero = line[_ZERO_AT] if len(line) > _ZERO_AT else "0"
    baseline = _number(given[2] if given is not None and given[2] is not None else zero)
    checksum = _whole(line[_CHECKSUM_AT]) if len(line) > _BLOCK_SIZE_AT else None
    at = LEAD_AT.get(line[-1].upper())
    return SignalLine(
        file=line[0],
        gain=gain / _MILLIVOLTS.get(unit, 1.0),
        baseline=0.0 if baseline is None else baseline,
        checksum=checksum,
        lead=None if at is None else LEADS[at],
    )


def _codes(comments: Sequence[str], repairs: Counter[StrEnum]) -> tuple[str, ...]:
    """Return the codes of all lines of diagnoses, each once, in their order."""
    given = [found[1] for found in map(_CODES.fullmatch, comments) if found is not None]
    if not given:
        raise UnreadableRecordError("a line with diagnoses (#Dx: or # Dx:)", "none")
    words = [word for text in given for word in re.split(r"[\s,;|]+", text) if word]
    codes = tuple(dict.fromkeys(word for word in words if word.isdecimal()))
    if not codes:
        raise UnreadableRecordError("at least one diagnosis code", repr(" ".join(words)) if words else "none")
    repairs[HeaderRepair.NOT_A_CODE] += sum(not word.isdecimal() for word in words)
    return codes


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _number(text: str) -> float | None:
    """Return the finite number that the text says, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
