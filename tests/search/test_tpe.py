"""TPE through Optuna and Hyperopt: proposals, what they learn, and that nothing but seed and settings decides them."""

from __future__ import annotations

import numpy as np
import pytest

from kdsearch.search.searcher_settings import TpeSettings
from kdsearch.search.searchers.base import Draw, Note, Outcome, Stage
from kdsearch.search.searchers.tpe import TpeSearch, make_proposer
from kdsearch.search.searchers.tpe_domains import Domains
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError

LIBRARIES = ["optuna", "hyperopt"]
PARAMETERS = {
    "x": {"type": "float", "low": 0, "high": 1},
    "t": {"type": "log-uniform", "low": 0.1, "high": 10},
    "n": {"type": "integer", "low": 2, "high": 10, "step": 2},
    "q": {"type": "quantised", "low": 0, "high": 0.3, "step": 0.05},
    "c": {"type": "categorical", "values": ["a", "b", 3]},
    "fixed": {"type": "float", "low": 2, "high": 2},
}


def space_of(parameters=PARAMETERS, **more):
    return space_from_spec({"kind": "parameters", "parameters": parameters, **more}, name="A")


def error_of(configuration):
    far = (configuration["x"] - 0.3) ** 2 + (np.log10(configuration["t"]) - 0.5) ** 2 / 4
    return 100 * min(1.0, far + 0.1 * (configuration["c"] != "b"))


def search_of(library, *, space=None, seed=1, trials=24, generation=4, startup=5):
    settings = TpeSettings(kind="tpe", library=library, trials=trials, generation=generation, startup=startup)
    return TpeSearch(space or space_of(), settings, seed=seed, first_number=3)


def play(search, *, at_a_time=100, shuffle=None):
    """Ask, train and tell to the end; return the configurations by number."""
    asked, waiting = {}, []
    while not search.done:
        requests = search.ask(at_a_time)
        asked |= {request.number: request.configuration for request in requests}
        waiting += requests
        if shuffle is not None:
            shuffle.shuffle(waiting)
        assert waiting
        # with fewer than all asked for at a time, results come back before the rest is handed out
        request = waiting.pop()
        search.tell(request.number, Outcome(state="complete", error=error_of(request.configuration)))
    return asked


@pytest.mark.parametrize("library", LIBRARIES)
def test_proposals_are_configurations_of_the_space_and_come_without_a_word(library, capfd):
    space = space_of()
    search = search_of(library, space=space)
    asked = play(search)
    assert list(asked) == list(range(3, 27))
    assert all(configuration in space for configuration in asked.values())
    assert all(type(configuration["n"]) is int for configuration in asked.values())
    assert {c["c"] for c in asked.values()} == {"a", "b", 3}
    records = search.drain()
    assert isinstance(records[0], Stage)
    assert [r.trial for r in records if isinstance(r, Draw)] == list(asked)
    assert not [r for r in records if isinstance(r, Note)]
    out, err = capfd.readouterr()
    assert not out + err


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_order_of_results_and_the_number_of_workers_change_nothing(library):
    whole = play(search_of(library))
    assert play(search_of(library), at_a_time=1, shuffle=np.random.default_rng(0)) == whole
    assert play(search_of(library, seed=2)) != whole


@pytest.mark.parametrize("library", LIBRARIES)
def test_later_proposals_are_better_than_random_ones(library):
    # each search against its own random draws; without learning, the chance of 6 in 6 is 0.016
    better = 0
    for seed in range(6):
        errors = [error_of(c) for c in play(search_of(library, seed=seed, trials=30, startup=10)).values()]
        better += np.mean(errors[-10:]) < np.mean(errors[:10])
    assert better == 6


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_search_is_rebuilt_by_asking_and_telling_again(library):
    errors = {}
    first = make_proposer(search_of(library)._settings, Domains.of(space_of()), 7)
    asked = []
    for index in range(12):
        asked.append(first.ask())
        errors[index] = error_of(asked[-1])
        first.tell(index, errors[index])
    again = make_proposer(search_of(library)._settings, Domains.of(space_of()), 7)
    for index in range(12):
        assert again.ask() == asked[index]
        again.tell(index, errors[index])
    assert again.ask() == first.ask()


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_outermost_whole_numbers_have_their_full_share(library):
    space = space_of({"n": {"type": "integer", "low": 1, "high": 3}})
    search = search_of(library, space=space, trials=300, generation=300, startup=300)
    drawn = [request.configuration["n"] for request in search.ask(300)]
    counts = [drawn.count(value) for value in (1, 2, 3)]
    assert min(counts) > 70  # 100 each; 70 is 3.7 standard deviations below


def test_a_search_that_ends_before_anything_is_estimated_says_so():
    for library, startup in (("optuna", 10), ("hyperopt", 20)):
        notes = [r.text for r in search_of(library, trials=5, startup=None).drain() if isinstance(r, Note)]
        assert len(notes) == 1
        assert f"the library {library} draws its first {startup} trials at random" in notes[0]


@pytest.mark.parametrize(
    ("space", "word"),
    [
        (
            space_of({**PARAMETERS, "m": {"type": "float", "low": 0, "high": 1, "when": {"c": "a"}}}),
            "conditional parameters: m",
        ),
        (space_of({"x": {"type": "float", "low": 1, "high": 1}}), "a single configuration"),
        (space_of(constraints=[{"forbid": {"c": "a", "n": 2}}]), "does not keep constraints"),
        (
            space_from_spec(
                {
                    "kind": "ktg",
                    "target": "s",
                    "auxiliary": {"count": 1, "models": ["s"]},
                    "gates": ["through", "cutoff"],
                }
            ),
            "space of kind parameters",
        ),
    ],
)
def test_spaces_that_cannot_be_searched_are_refused(space, word):
    with pytest.raises(UsageError, match=word):
        Domains.of(space)


def test_a_restriction_is_searched_as_what_it_leaves():
    space = space_from_spec(
        {
            "kind": "parameters",
            "parameters": PARAMETERS,
            "restrictions": [{"c": {"only": ["b", "3"]}}],
        },
        name="A",
    )
    assert {c["c"] for c in play(search_of("optuna", space=space)).values()} == {"b", 3}
