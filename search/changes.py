"""What differs between a sweep's settings and a sweep file, and what of it a sweep that has begun may take.

A trial's result must not depend on when it was trained. So a resume takes what no result depends on (how trials run,
the title; what a scheduler decides depends on the order of results, and with it on packs and workers), and more trials
of a searcher whose first N trials are those of a search of N: all else is another sweep.
Statistics are fixed before data is seen; changed afterwards, they would be chosen by what they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kdsearch.search.config import SweepFile, parse_sweep
from kdsearch.search.trialdb.operations import EventRow
from kdsearch.search.trialdb.record import CHANGE, note_event
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.declared import resolved_settings

TRIALS = "searcher.trials"
_FREE = ("run", "title")  # sections and keys that no result depends on
_FIXED = {
    "statistics": "fixed before any data was seen",
    "trainable": "the trials that are there were trained by it",
    "space": "the trials that are there were drawn from it",
    "configurations": "the trials that are there were trained by it",
    "seed": "the trials that are there were drawn and trained by it",
    "searcher": "the trials that are there were chosen by it",
    "scheduler": "the trials that are there were judged by it",
}
_ABSENT = object()  # no value of a key
_LONGEST = 60  # characters of a value that is shown
_NOT_BY_TRIALS = {
    "refinement": "a refinement is asked for draws of each space, and its decisions were made on them",
    "enumeration": "an enumeration trains every configuration; there is none to add",
    "comparison": "a comparison's trials are numbered by method, round and run; further runs would be other trials",
    "named": "named configurations are trained as often as searcher.runs says",
    "retrain": "seeds are fixed before the test part is looked at; else they could be added until p pleases",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A key that differs; `refused`: why it cannot be taken, "" where it can."""

    key: str
    stored: Any  # None where there is no such key
    wanted: Any
    refused: str = ""


def differences(stored: SweepFile, wanted: SweepFile, *, confirming: bool = False) -> tuple[Difference, ...]:
    """What differs, key by key, in the order of the file; names are not compared.

    confirming: trials that confirm the search's best configuration have begun.
    """
    ours, theirs = _flat(_whole(stored)), _flat(_whole(wanted))
    same_space = stored.design_space().hash == wanted.design_space().hash
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        before, after = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
        if before == after or key == "name" or (same_space and key.partition(".")[0] == "space"):
            continue
        before, after = (None if each is _ABSENT else each for each in (before, after))
        refused = _refusal(key, before, after, confirming=confirming)
        found.append(Difference(key=key, stored=before, wanted=after, refused=refused))
    return tuple(found)


def _whole(sweep: SweepFile) -> dict[str, Any]:
    """The settings with the trainable's defaults too: a key that says what is so anyway makes no difference."""
    kind = sweep.trainable.kind
    trainable = resolved_settings(kind, sweep.trainable.settings())
    return {**sweep.resolved(), "trainable": {"kind": kind, **trainable}}


def extended(sweep: SweepFile, trials: int) -> SweepFile:
    """The sweep with so many trials in all.

    Raises:
        UsageError: its searcher has no number of trials that could grow, or has more already.

    """
    asked = getattr(sweep.searcher, "trials", None)
    if asked is None:
        kind = sweep.searcher.kind
        why = _NOT_BY_TRIALS.get(kind, f"the searcher {kind} has no number of trials")
        raise UsageError(f"--trials {trials}: {why}", "Start a new sweep instead.")
    if trials < asked:
        raise UsageError(
            f"--trials {trials}: sweep {sweep.name} was asked for {asked} already, and trials are never taken back",
            f"Give {asked} or more; without --trials, `kdsearch resume` goes on to {asked}.",
        )
    resolved = sweep.resolved()
    resolved["searcher"]["trials"] = trials
    return parse_sweep(resolved, f"sweep {sweep.name}")


def check_unconfirmed(name: str, *, confirming: bool) -> None:
    """Refuse further trials of a sweep that is being confirmed.

    Raises:
        UsageError: the test part was looked at.

    """
    if confirming:
        raise UsageError(
            f"sweep {name} cannot be extended: trainings that confirm its best configuration have begun, and they look "
            "at the test part; a best one that is chosen anew would be confirmed by a part that was looked at",
            "Start a new sweep with more trials.",
        )


def _refusal(key: str, before: Any, after: Any, *, confirming: bool) -> str:
    section = key.partition(".")[0]
    if section in _FREE:
        return ""
    if key != TRIALS or before is None or after is None:
        return _FIXED[section]
    if after < before:
        return "trials are never taken back"
    return "trials that confirm the best configuration have begun" if confirming else ""


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; lists and empty sections are values, and None is no value."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{key}.")
        elif value is not None and value != {}:
            found[key] = value
    return found


def change_events(
    found: Sequence[Difference], *, command: str, now: datetime, withdrawn: Sequence[str] = ()
) -> list[EventRow]:
    """What a sweep keeps of a change: an event of kind `change` and, where it was extended, a note for the reader.

    withdrawn: notes that were right of the sweep as it was, and are not of what it becomes.
    """
    changed = [{"key": each.key, "from": each.stored, "to": each.wanted} for each in found]
    data = {"changed": changed, "withdrawn": list(withdrawn), "command": command}
    events = [EventRow(kind=CHANGE, at=now, data=data)]
    for each in found:
        if each.key == TRIALS:
            text = f"The search was asked for {each.stored} trials at first, and extended to {each.wanted} later."
            events.append(note_event(text, now))
    return events


def told(found: Sequence[Difference]) -> str:
    """Differences in one line."""
    return "; ".join(f"{each.key}: {shown(each.stored)} -> {shown(each.wanted)}" for each in found)


def shown(value: Any) -> str:
    """A value in one short line."""
    if value is None:
        return "(not given)"
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def check_accepted(
    name: str, found: Sequence[Difference], *, accepted: bool, flag: str, began: int | None = None
) -> None:
    """Refuse differences that a sweep never takes, and others unless they are accepted.

    flag: the option that accepts them, for the message. began: the trials that it was asked for at first, if it was
    extended since.

    Raises:
        UsageError: what differs, and what can be done.

    """
    never = [each for each in found if each.refused]
    if never:
        reasons = "; ".join(f"{each.key} ({each.refused})" for each in never)
        raise UsageError(
            f"this is not the sweep that {name} is now: {told(found)}. A sweep that has begun keeps {reasons}",
            _way_out(never, began),
        )
    if found and not accepted:
        raise UsageError(
            f"this is not what sweep {name} is now: {told(found)}",
            f"None of it changes a result that is there. Give {flag} to go on with it.",
        )


def _way_out(never: Sequence[Difference], began: int | None) -> str:
    fewer = [each for each in never if each.key == TRIALS and each.wanted is not None]
    if fewer and len(never) == 1:
        now = fewer[0].stored
        since = f"The sweep was extended from {began} to {now} trials since it began. " if began else ""
        return f"{since}Give `--trials {now}` with the file, or write {TRIALS} {now} into it."
    return "Run it as a new sweep (`kdsearch sweep FILE`), or give the file that this one began with."


def trials_at_first(events: Sequence[Mapping[str, Any]]) -> int | None:
    """What a sweep was asked for before its first extension; None: it was never extended. events: data of changes."""
    grown = (change for data in events for change in data["changed"] if change["key"] == TRIALS)
    first = next(grown, None)
    return None if first is None else first["from"]
