"""What every searcher must do, as checks of a subject; `test_searcher_conformance.py` runs them over all kinds.

They play the runner's part: ask, train, tell; and the database's: remember outcomes and bring them back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from kdsearch.search.searchers.base import Decision, Draw, Note, Outcome, Searcher, Stage
from kdsearch.spaces import configuration_key

FIRST = 2  # number of the first trial: two were pre-trained


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A searcher to be checked."""

    make: Callable[..., Searcher]  # keywords `seed`, and `trials` where it `extends`
    own_values: bool = False  # configurations may lie outside the space
    draws: bool = True  # other seeds give other trials
    extends: bool = False  # takes a number of trials


@dataclass
class Played:
    """All that a search asked for and said."""

    asked: dict[int, tuple[object, ...]] = field(default_factory=dict)
    records: list[object] = field(default_factory=list)
    order: list[int] = field(default_factory=list)  # in which trials were told
    searcher: Searcher | None = None


def error_of(configuration: Mapping[str, object]) -> float:
    """An error in [0, 100) that depends on each parameter."""
    parts = [
        int(hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:8], 16) / 2**32
        for name, value in configuration.items()
    ]
    return 100 * float(np.mean(parts))


def complete(number: int, configuration: Mapping[str, object]) -> Outcome:
    """All trials are trained to their end."""
    return Outcome(state="complete", error=error_of(configuration))


def mishaps(number: int, configuration: Mapping[str, object]) -> Outcome:
    """Every second trial is lost or stopped."""
    error = error_of(configuration)
    match number % 8:
        case 1:
            return Outcome(state="diverged", error=100.0)
        case 3:
            return Outcome(state="failed", error=100.0)
        case 5:
            curve = ((1, error + 5), (2, float("nan")), (3, error))
            return Outcome(state="stopped", error=error, curve=curve)
        case 7:
            return Outcome(state="stopped", error=error)
    return Outcome(state="complete", error=error)


def lost(number: int, configuration: Mapping[str, object]) -> Outcome:
    """No trial ends well."""
    return Outcome(state="failed", error=100.0)


def play(
    searcher: Searcher,
    outcome: Callable[[int, Mapping[str, object]], Outcome] = complete,
    *,
    at_a_time: int = 1000,
    shuffle: np.random.Generator | None = None,
    known: Mapping[int, Outcome] | None = None,
) -> Played:
    """Ask, train and tell to the end.

    at_a_time: trials asked for at once. shuffle: the order in which trials end. known: outcomes that the database has;
    they are told as soon as their trials are asked for, as on a resume.
    """
    played, waiting = Played(searcher=searcher), {}
    for _ in range(10_000):
        requests = searcher.ask(at_a_time)
        for request in requests:
            assert request.number not in played.asked
            played.asked[request.number] = (
                configuration_key(request.configuration),
                dict(request.plan),
                request.design,
                request.seed_key,
            )
            if known and request.number in known:
                searcher.tell(request.number, known[request.number])
            else:
                waiting[request.number] = request
        played.records += searcher.drain()
        if not requests and not waiting:
            assert searcher.done
            return played
        if waiting and not (known and requests):
            numbers = list(waiting)
            number = numbers[-1] if shuffle is None else int(shuffle.choice(numbers))
            searcher.tell(number, outcome(number, waiting.pop(number).configuration))
            played.order.append(number)
    raise AssertionError("the search does not end")


def by_kind(records: list[object]) -> dict[type, list[object]]:
    """Records by what they are; draws and decisions come in one order, notes may come between them anywhere."""
    return {
        kind: [each for each in records if isinstance(each, kind)] for kind in (Stage, Draw, Decision, Note)
    }


def check_space(subject: Subject) -> None:
    """Every trial is a configuration of the space, canonical, with its orbit; numbers have no gaps."""
    searcher = subject.make(seed=1)
    numbers = []
    while requests := searcher.ask(3):
        space = searcher.space
        for request in requests:
            numbers.append(request.number)
            if not subject.own_values:
                assert request.configuration in space
                assert request.configuration == space.canonical(request.configuration)
                assert request.orbit_size == space.orbit_size(request.configuration)
            searcher.tell(request.number, complete(request.number, request.configuration))
    assert searcher.done
    assert sorted(numbers) == list(range(FIRST, FIRST + len(numbers)))
    overview = searcher.overview()
    assert overview.done == overview.planned
    draws = [each for each in searcher.drain() if isinstance(each, Draw)]
    assert {draw.trial for draw in draws} <= set(numbers)


def check_seed(subject: Subject) -> None:
    """The same seed gives the same search, another one another."""
    once = play(subject.make(seed=1))
    again = play(subject.make(seed=1))
    assert again.asked == once.asked
    assert again.records == once.records
    others = [play(subject.make(seed=seed)).asked for seed in (2, 3, 4)]
    assert any(other != once.asked for other in others) == subject.draws


def check_order(subject: Subject) -> None:
    """Neither the number of workers nor the order of results changes what is tried."""
    once = play(subject.make(seed=1), mishaps)
    for seed, at_a_time in enumerate((1, 3, 1000)):
        other = play(subject.make(seed=1), mishaps, at_a_time=at_a_time, shuffle=np.random.default_rng(seed))
        assert other.asked == once.asked
        assert by_kind(other.records) == by_kind(once.records)


def check_replay(subject: Subject) -> None:
    """Rebuilt by asking and telling again, after any number of results, a search goes on as if nothing had been."""
    shuffle = np.random.default_rng(5)
    once = play(subject.make(seed=1), mishaps, at_a_time=3, shuffle=shuffle)
    configurations = {}
    watched = subject.make(seed=1)
    while requests := watched.ask(1000):
        for request in requests:
            configurations[request.number] = request.configuration
            watched.tell(request.number, mishaps(request.number, request.configuration))
    outcomes = {number: mishaps(number, configurations[number]) for number in once.order}
    for told in range(len(once.order) + 1):
        known = {number: outcomes[number] for number in once.order[:told]}
        again = play(subject.make(seed=1), mishaps, at_a_time=3, known=known)
        assert again.asked == once.asked
        assert by_kind(again.records) == by_kind(once.records)


def check_mishaps(subject: Subject) -> None:
    """A search ends, whatever becomes of its trials."""
    for outcome in (mishaps, lost):
        played = play(subject.make(seed=1), outcome, at_a_time=2)
        assert played.asked


def check_repeated(subject: Subject) -> None:
    """The first result of a trial counts; one of a trial that was never asked for is refused."""
    once = play(subject.make(seed=1))
    searcher = subject.make(seed=1)
    with pytest.raises(KeyError):
        searcher.tell(FIRST + 100_000, Outcome(state="complete", error=1.0))
    asked = {}
    while requests := searcher.ask(2):
        for request in requests:
            asked[request.number] = configuration_key(request.configuration)
            outcome = complete(request.number, request.configuration)
            searcher.tell(request.number, outcome)
            searcher.tell(request.number, Outcome(state="failed", error=100.0))
            searcher.tell(request.number, outcome)
    assert asked == {number: key for number, (key, *_) in once.asked.items()}


def check_prefix(subject: Subject) -> None:
    """The trials of a shorter search are the first ones of a longer one; of a subject that `extends`."""
    longest = play(subject.make(seed=1, trials=10), mishaps).asked
    for trials in (1, 3, 6, 8):
        shorter = play(subject.make(seed=1, trials=trials), mishaps).asked
        assert shorter == {number: longest[number] for number in list(longest)[: len(shorter)]}


CHECKS = (check_space, check_seed, check_order, check_replay, check_mishaps, check_repeated)


def checks_of(subject: Subject) -> tuple[Callable[[Subject], None], ...]:
    """The checks that apply to a subject."""
    return (*CHECKS, check_prefix) if subject.extends else CHECKS
