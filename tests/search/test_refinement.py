from __future__ import annotations

import numpy as np
import pytest

from kdsearch.analysis.auc import auc
from kdsearch.search.config import RefinementSettings, StatisticsSettings
from kdsearch.search.searchers.base import Decision, Draw, Note, Outcome, Stage
from kdsearch.search.searchers.enumeration import Enumeration
from kdsearch.search.searchers.policies import BestAuc, Interactive, policy_for
from kdsearch.search.searchers.random_search import RandomSearch
from kdsearch.search.searchers.refinement import Refinement
from kdsearch.spaces import space_from_spec

SPEC = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
}
EFFECTS = {
    "label->1=cutoff": 25.0,
    "2->1=linear": -6.0,
    "3->1=linear": -6.0,
    "model.2=w": -3.0,
    "model.3=w": -3.0,
}


def error_of(configuration, rng, noise=4.0):
    shift = sum(EFFECTS.get(f"{name}={value}", 0.0) for name, value in configuration.items())
    return float(np.clip(50 + shift + rng.normal(0, noise), 0, 100))


def searcher(policy="best-auc", seed=0, **settings):
    named = policy if isinstance(policy, str) else "best-auc"
    read = RefinementSettings(**{"draws": 120, "repeats": 2, "policy": named, **settings})
    statistics = StatisticsSettings()
    chosen = policy_for(read, None) if isinstance(policy, str) else policy
    return Refinement(space_from_spec(SPEC, name="A"), read, statistics, chosen, seed=seed, first_number=2)


def play(search, rng, *, batch=50, error=error_of, shuffle=None):
    """Ask, train, tell until done; return configurations, outcomes and records."""
    asked, outcomes, records = {}, {}, list(search.drain())
    for _ in range(10_000):
        if search.done:
            break
        requests = list(search.ask(batch))
        assert requests, "nothing to do, yet not done"
        for request in requests:
            asked[request.number] = request
            outcomes[request.number] = error(request.configuration, rng)
        order = list(requests)
        if shuffle is not None:
            shuffle.shuffle(order)
        for request in order:
            search.tell(request.number, Outcome(state="complete", error=outcomes[request.number]))
        records += search.drain()
    return asked, outcomes, records


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]


def test_refines_a_to_x_and_finds_what_matters():
    asked, outcomes, records = play(searcher(), np.random.default_rng(1))
    stages = of(Stage, records)
    assert stages[0].space.name == "A"
    assert stages[-1].space.name == "X"
    assert stages[-1].exhaustive
    assert [stage.parent for stage in stages] == [None, *[stage.space.name for stage in stages[:-1]]]
    chosen = {decision.group: decision.value for decision in of(Decision, records)}
    assert chosen["label->target"] in {"through", "linear"}
    assert min(outcomes, key=outcomes.get) in asked


def test_numbers_count_up_and_configurations_are_canonical():
    asked, _, _ = play(searcher(), np.random.default_rng(1))
    assert list(asked) == list(range(2, 2 + len(asked)))
    space = space_from_spec(SPEC)
    for request in asked.values():
        assert space.canonical(request.configuration) == request.configuration
        assert space.orbit_size(request.configuration) == request.orbit_size


def test_every_space_but_the_last_has_its_draws_and_reuses_its_parents():
    asked, _, records = play(searcher(), np.random.default_rng(1))
    spaces = {stage.space.name: stage.space for stage in of(Stage, records)}
    draws = {name: [d for d in of(Draw, records) if d.space == name] for name in spaces}
    for name, space in spaces.items():
        assert [d.draw for d in draws[name]] == list(range(len(draws[name])))
        assert all(asked[d.trial].configuration in space for d in draws[name])
        if name != "X":
            assert len(draws[name]) == 120
    inside = [d.trial for d in draws["A"] if asked[d.trial].configuration in spaces["B"]]
    reused = [d.trial for d in draws["B"] if not d.fresh]
    assert reused[: len(inside)] == inside
    assert any(d.fresh for d in draws["B"])


def test_the_last_space_is_trained_in_full_with_repeats():
    asked, _, records = play(searcher(), np.random.default_rng(1))
    last = of(Stage, records)[-1]
    draws = [d for d in of(Draw, records) if d.space == "X"]
    assert len(draws) == 2 * last.space.counts().valid_encodings
    trainings = {}
    for d in draws:
        key = tuple(sorted(asked[d.trial].configuration.items()))
        trainings.setdefault(key, []).append(d.trial)
    assert len(trainings) == last.space.counts().valid_classes
    for key, trials in trainings.items():
        assert len(set(trials)) == 2
        assert len(trials) == 2 * last.space.orbit_size(dict(key))


def test_without_reuse_no_trial_answers_two_spaces():
    _, _, records = play(searcher(reuse=False, repeats=1), np.random.default_rng(1))
    homes = {}
    for d in of(Draw, records):
        assert d.fresh
        assert homes.setdefault(d.trial, d.space) == d.space


def test_symmetric_duplicates_are_trained_once_and_keep_their_multiplicity():
    small = {
        **SPEC,
        "restrictions": [{"label->auxiliary": ["through", "through"]}, {"auxiliary models": ["w", "w"]}],
    }
    space = space_from_spec(small, name="A")
    search = RandomSearch(space, trials=3_000, seed=0, first_number=0)
    draws = of(Draw, search.drain())
    requests = search.ask(10_000)
    keys = [tuple(sorted(r.configuration.items())) for r in requests]
    assert len(set(keys)) == len(keys) < 3_000 == len(draws)


def test_the_same_seed_asks_for_the_same_whatever_the_order_of_results():
    first = play(searcher(), np.random.default_rng(1), batch=7)
    # the same outcomes, in another order and in other batches
    known = first[1]
    again = searcher()
    numbers = iter(known)

    def told(configuration, rng):
        return known[next(numbers)]

    second = play(again, np.random.default_rng(9), batch=64, error=told, shuffle=np.random.default_rng(3))
    assert {n: r.configuration for n, r in first[0].items()} == {
        n: r.configuration for n, r in second[0].items()
    }
    assert of(Decision, first[2]) == of(Decision, second[2])


def test_another_seed_draws_others():
    a, _, _ = play(searcher(seed=0), np.random.default_rng(1))
    b, _, _ = play(searcher(seed=1), np.random.default_rng(1))
    assert a[2].configuration != b[2].configuration or a[3].configuration != b[3].configuration


def test_the_evidence_can_be_computed_again_from_draws_and_outcomes():
    asked, outcomes, records = play(searcher(), np.random.default_rng(1))
    first = of(Decision, records)[0]
    group = next(g for g in space_from_spec(SPEC).groups() if g.name == first.group)
    errors = [
        outcomes[d.trial]
        for d in of(Draw, records)
        if d.space == "A" and group.value_of(asked[d.trial].configuration) == first.value
    ]
    row = next(r for r in first.table if (r["group"], r["value"]) == (first.group, first.value))
    assert row["n"] == len(errors)
    assert row["auc"] == pytest.approx(auc(errors))
    assert row["auc"] == max(r["auc"] for r in first.table if r["n"] >= 10)


def test_significant_draws_more_and_stops_when_nothing_matters():
    def noise(configuration, rng):
        return float(rng.uniform(40, 60))

    search = searcher(policy="significant", draws=60, budget=180)
    _, _, records = play(search, np.random.default_rng(4), error=noise)
    decisions = of(Decision, records)
    assert [d.look for d in decisions] == [1, 2, 3]
    assert [d.draws for d in decisions] == [60, 120, 180]
    assert decisions[-1].child is None
    assert "within the budget of 180 draws" in decisions[-1].reason
    assert of(Note, records)
    assert len(of(Stage, records)) == 1


def test_significant_fixes_what_is_decided():
    search = searcher(policy="significant")
    _, _, records = play(search, np.random.default_rng(4))
    fixed = [d for d in of(Decision, records) if d.child]
    assert fixed
    for decision in fixed:
        row = next(r for r in decision.table if (r["group"], r["value"]) == (decision.group, decision.value))
        assert row["p_holm"] <= decision.alpha


def test_a_person_chooses_and_is_recorded():
    def choose(look, rows):
        return (rows[-1] if look.step == 1 else None), "someone"

    _, _, records = play(searcher(policy=Interactive(2, choose)), np.random.default_rng(4))
    first, second = of(Decision, records)
    assert (first.chooser, second.chooser) == ("someone", "someone")
    assert first.child == "B"
    assert second.child is None
    assert "someone chose to stop" in of(Note, records)[0].text


def test_diverged_trials_count_with_the_error_they_are_told():
    search = searcher(policy=BestAuc(10))
    requests = list(search.ask(1_000))
    for request in requests:
        search.tell(request.number, Outcome(state="diverged", error=100.0))
    table = of(Decision, search.drain())[0].table
    assert all(row["auc"] == 0.0 for row in table if row["n"])


def test_enumeration_covers_every_class_once():
    spec = {
        **SPEC,
        "restrictions": [{"auxiliary models": ["w", "w"]}, {"label->auxiliary": ["through", "through"]}],
    }
    space = space_from_spec(spec, name="A")
    search = Enumeration(space, repeats=1, first_number=0)
    requests = search.ask(10_000)
    assert len(requests) == space.counts().valid_classes
    assert len(of(Draw, search.drain())) == space.counts().valid_encodings
    assert sum(r.orbit_size for r in requests) == space.counts().valid_encodings


def test_telling_twice_changes_nothing_and_strangers_are_refused():
    search = RandomSearch(space_from_spec(SPEC, name="A"), trials=2, seed=0, first_number=0)
    request = search.ask(1)[0]
    search.tell(request.number, Outcome(state="complete", error=1.0))
    search.tell(request.number, Outcome(state="complete", error=2.0))
    assert search.overview().conditions[0].auc >= 0
    with pytest.raises(KeyError):
        search.tell(99, Outcome(state="complete", error=1.0))
