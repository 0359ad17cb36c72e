"""`kdsearch retrain` without Ray: what is chosen, what is trained, what comes out, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kdsearch.analysis.paired import paired_table
from kdsearch.analysis.retrained import cannot_decide, retrained, undecidable
from kdsearch.search.baselines import baselines_for
from kdsearch.search.cli import _run
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.config import RetrainSettings, load_sweep, parse_sweep
from kdsearch.search.found_data import check_data
from kdsearch.search.retrain import ALL_THROUGH, LABEL_ONLY, Wish, retraining_of
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.base import Outcome
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces import Graph, parse_yaml
from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
Driver, history_of = _DRIVER.Driver, _DRIVER.history_of

ROOM = {
    "kind": "ktg",
    "target": "resnet8w4",
    "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
    "gates": ["through", "cutoff", "linear"],
}
GRAPHS = {
    "name": "graphs",
    "seed": 5,
    "space": ROOM,
    "trainable": {
        "kind": "ktg",
        "data": {"name": "digits", "train_size": 40, "val_size": 30, "augment": False},
        "epochs": 2,
        "batch_size": 16,
    },
    "searcher": {"kind": "random", "trials": 6},
}
NUMBERS = {
    "name": "numbers",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 2, "metaparameters": {"x": [0, 1]}},
    "searcher": {"kind": "random", "trials": 4},
}
ERRORS = (9.0, 7.5, 4.25, 8.0, 6.0, 5.0)  # of the trials of a search, by number without pre-trainings


class Told(_DRIVER.ConstantPack):
    """Members whose errors are a function of the member, which a test replaces."""

    told = staticmethod(lambda member: 50.0)

    def _error(self, member):
        return type(self).told(member)


@pytest.fixture
def write(tmp_path, clock, monkeypatch):
    """Writes a whole sweep into the test's database, as a driver does; errors: (member) -> per cent."""
    monkeypatch.setattr(_DRIVER, "ConstantPack", Told)
    url = f"sqlite:///{tmp_path / 'trials.db'}"

    def written(sweep, errors, kind="sweep"):
        monkeypatch.setattr(Told, "told", staticmethod(errors))
        needed = baselines_for(sweep, tmp_path / sweep.name, None)
        driver = Driver(sweep, clock, tmp_path, baselines=needed).run()
        with TrialDatabase.open(url) as database:
            given = {"kind": kind, "trainable": sweep.trainable.kind, "settings": sweep.resolved()}
            database.create_sweep(sweep.name, **given, seed=sweep.seed, code_version="0.3.0", environment={})
            database.apply(driver.operations)
            database.apply([op.SetSweepState(sweep.name, (op.StateChange(state="complete", at=clock()),))])
        return driver

    written.url = url
    return written


def sweep_of(file, **changes):
    return parse_sweep({**file, **changes}, "test")


def by_number(first):
    return lambda member: ERRORS[(member.number - first) % len(ERRORS)] if member.number >= first else 20.0


@pytest.fixture
def graphs(write):
    """A search among graphs; the best is trial 4, the third behind two pre-trainings."""
    write(sweep_of(GRAPHS), by_number(2))
    return write.url


def planned(url, name="graphs", **wish):
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        return retraining_of(database, name, Wish(**wish))


def test_the_best_trial_of_the_search_is_retrained_beside_its_all_through_version(graphs):
    sweep = planned(graphs)
    with TrialDatabase.open(graphs, create=False, read_only=True) as database:
        best = next(trial for trial in database.trials("graphs") if trial.number == 4)
    assert best.error == min(ERRORS)
    versions = sweep.searcher.versions
    assert list(versions) == ["trial 4", ALL_THROUGH, LABEL_ONLY]
    assert versions["trial 4"].configuration == best.configuration
    graph = Graph.from_configuration(best.configuration, "resnet8w4")
    through = Graph.from_configuration(versions[ALL_THROUGH].configuration, "resnet8w4")
    assert through.models == graph.models
    assert {str(edge.gate) for edge in through.edges()} == {"through"}
    assert len(through.edges()) == 9  # the label and two others lead to each of three nodes
    assert versions[LABEL_ONLY].configuration == {"model.1": "resnet8w4", "label->1": "through"}
    assert sweep.searcher.train_on == "all"
    assert sweep.searcher.seeds == 5
    assert sweep.trainable_settings()["epochs"] == 2
    assert sweep.searcher.data == {"digits": GRAPHS["trainable"]["data"]}
    words = sweep.searcher.chosen.words
    assert "chosen by kdsearch's rule: the least validation error (4.25 %, 1 training) of 6 graphs" in words
    assert "made on the validation part alone" in words
    assert (sweep.searcher.chosen.sweep, sweep.searcher.chosen.trial) == ("graphs", 4)


def test_a_person_may_name_another_trial_and_is_told_what_the_rule_says(graphs):
    words = planned(graphs, trial=5).searcher.chosen.words
    assert "named by --trial" in words
    assert "Its validation error there is 8.00 %." in words
    assert "rule would choose trial 4" in words
    assert "chooses the same configuration" in planned(graphs, trial=4).searcher.chosen.words


def test_seeds_are_paired_over_versions_and_data_sets_and_are_none_of_the_search(graphs):
    sweep = planned(graphs, seeds=3, data=("digits", "fashion-mnist"))
    requests = make_searcher(sweep, first_number=0).ask(100)
    assert len(requests) == 3 * 3 * 2
    keys = {(r.plan["data"], r.plan["method"], r.plan["run"]): r.seed_key for r in requests}
    assert len(keys) == len(requests)
    assert all(key == ("retrain", run) for (_, _, run), key in keys.items())
    with TrialDatabase.open(graphs, create=False, read_only=True) as database:
        searched = {trial.seed for trial in database.trials("graphs")}
    assert not searched & {derive_seed(sweep.seed, "retrain", run) for run in range(3)}
    assert all(r.plan["final"] and r.plan["objective"] == "test_error" for r in requests)


def test_another_data_set_has_its_own_sizes_and_the_sweeps_way_to_augment(graphs):
    sweep = planned(graphs, data=("fashion-mnist", "{name: cifar-10, train_size: 30, val_size: 10}"))
    assert sweep.settings_by_data()["fashion-mnist"]["data"] == {"name": "fashion-mnist", "augment": False}
    assert sweep.settings_by_data()["cifar-10"]["data"]["train_size"] == 30
    assert sweep.trainable_settings({"data": "cifar-10"})["target"] == "resnet8w4"


def test_what_the_command_line_changes_is_changed(graphs):
    sweep = planned(
        graphs, epochs=7, train_on="training", seed=11, changes=("trainable.learning_rate=0.05", "run.pack=3")
    )
    told = sweep.trainable_settings()
    assert (told["epochs"], told["learning_rate"], sweep.run.pack, sweep.seed) == (7, 0.05, 3, 11)
    assert sweep.searcher.train_on == "training"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"trial": 99}, "has no trial 99.*numbered 0 to 7"),
        ({"trial": 0}, "trial 0 .* is a pre-training"),
        ({"against": 4}, "--against 4 is the trial that is retrained"),
        ({"against": 99}, "has no trial 99"),
        ({"data": ("mnist-1d",)}, "mnist-1d"),
        ({"data": ("digits", "digits")}, "names digits twice"),
        ({"data": ("{size: 3}",)}, "names no data set"),
        ({"data": ("{name: digits, purpose: evaluate}",)}, "never sees the test split"),
        ({"changes": ("searcher.seeds=3",)}, "keeps what was searched"),
        ({"changes": ("space.target=resnet20",)}, "keeps what was searched"),
        ({"changes": ("trainable.data.name=cifar-10",)}, "--data"),
        ({"changes": ("trainable.kind=kd",)}, "keeps what was searched"),
        ({"changes": ("trainable.learning_rat=1",)}, "learning_rat"),
    ],
)
def test_what_cannot_be_retrained_is_refused(graphs, wish, message):
    with pytest.raises(KdsearchError) as caught:
        planned(graphs, **wish)
    told = f"{caught.value.message} {caught.value.hint or ''}"
    assert re.search(message, told), told


def test_trials_that_were_not_trained_to_their_end_are_refused(write, clock):
    write(sweep_of(NUMBERS, trainable={"kind": "constant", "diverge": [1]}), by_number(0))
    with pytest.raises(UsageError, match="trial 1 of the sweep numbers is diverged: told to diverge"):
        planned(write.url, "numbers", trial=1)
    with TrialDatabase.open(write.url) as database:
        database.create_sweep(
            "empty",
            kind="sweep",
            trainable="constant",
            settings=sweep_of(NUMBERS, name="empty").resolved(),
            seed=0,
            code_version="0.3.0",
            environment={},
        )
    with pytest.raises(UsageError, match="has no trial of its search that was trained to its end"):
        planned(write.url, "empty")
    with pytest.raises(UsageError, match="it has none yet"):
        planned(write.url, "empty", trial=3)


def test_a_comparison_has_no_best_trial_but_one_can_be_named(write):
    searcher = {
        "kind": "comparison",
        "runs": 2,
        "reference": "fixed",
        "methods": {"fixed": {"kind": "fixed", "values": {"x": 0.5}}, "search": {"kind": "tpe", "trials": 2}},
    }
    write(sweep_of(NUMBERS, searcher=searcher), by_number(0))
    with pytest.raises(UsageError, match="compares methods: its final trials were measured on the test part"):
        planned(write.url, "numbers")
    final = planned(write.url, "numbers", trial=0).searcher.chosen.words
    assert "is one of the test part: if it was chosen by such errors" in final
    explored = planned(write.url, "numbers", trial=2)
    assert "measured 4 trials on the test part" in explored.searcher.chosen.words
    assert explored.searcher.versions["trial 2"].optimised


def test_a_generic_configuration_is_trained_beside_another_trial_alone(write):
    write(sweep_of(NUMBERS), by_number(0))
    sweep = planned(write.url, "numbers", against=1)
    assert list(sweep.searcher.versions) == ["trial 2", "trial 1"]
    assert sweep.searcher.labels == (None,)
    with pytest.raises(UsageError, match="has no data sets"):
        planned(write.url, "numbers", data=("digits",))
    with pytest.raises(UsageError, match="x is a parameter of the trial"):
        planned(write.url, "numbers", changes=("trainable.x=3",))


def test_metaparameters_that_follow_their_gradient_go_on_to_and_keep_a_validation_part(write):
    write(sweep_of(NUMBERS, searcher={"kind": "gradient", "trials": 3, "rate": 0.5}), by_number(0))
    sweep = planned(write.url, "numbers")
    (version,) = sweep.searcher.versions.values()
    assert version.descent.rate == 0.5
    assert set(version.descent.start) == {"x"}
    assert sweep.searcher.train_on == "training"
    assert "follow the validation loss" in sweep.searcher.chosen.words
    (request, *_) = make_searcher(sweep, first_number=0).ask(9)
    assert request.plan["optimiser"]["start"] == version.optimiser["start"]
    with pytest.raises(UsageError, match="need a validation part"):
        planned(write.url, "numbers", train_on="all")


def test_a_graph_that_is_all_through_has_no_such_version(write):
    through = [{"label->target": "through"}, {"label->auxiliary": ["through"]}]
    through += [{"auxiliary->target": ["through"]}, {"target->auxiliary": ["through"]}]
    room = {**ROOM, "auxiliary": {"count": 1, "models": ["resnet8w4"]}, "restrictions": through}
    write(sweep_of(GRAPHS, space=room, searcher={"kind": "random", "trials": 1}), by_number(1))
    sweep = planned(write.url)
    assert list(sweep.searcher.versions) == ["trial 1", LABEL_ONLY]
    assert "Every edge of it is through" in sweep.searcher.chosen.words


def test_frozen_teachers_are_trained_on_what_the_graph_is_trained_on_and_others_not_at_all(graphs, tmp_path):
    frozen = Graph.parse(
        "1=resnet8w4 2=resnet8w8 3=resnet8w4; label->1=through 2->1=through label->3=through"
    )
    told = planned(graphs, seeds=1).resolved()
    told["searcher"]["versions"]["trial 4"]["configuration"] = frozen.to_configuration()
    sweep = parse_sweep(told, "test")
    (teacher,) = baselines_for(sweep, tmp_path, None)
    assert (teacher.model, teacher.data) == ("resnet8w8", "digits")
    assert teacher.plan["train_on"] == "all"
    alone = {**told, "searcher": {**told["searcher"], "train_on": "training"}}
    (other,) = baselines_for(parse_sweep(alone, "test"), tmp_path, None)
    assert other.path != teacher.path
    searched = {each.model: each for each in baselines_for(sweep_of(GRAPHS), tmp_path, None)}
    assert other.path == searched["resnet8w8"].path  # the search's own can be used again


def test_missing_data_is_refused_by_name_before_anything_runs(graphs, tmp_path, monkeypatch):
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    sweep = planned(graphs, data=("digits", "cifar-10"))
    with pytest.raises(KdsearchError, match="cifar-10"):
        check_data(sweep, tmp_path)
    with pytest.raises(KdsearchError, match="fashion-mnist"):
        check_data(planned(graphs, data=("fashion-mnist",)), None)


def test_a_retraining_is_not_retrained_and_earlier_ones_are_told(graphs, write):
    again = planned(graphs, seeds=1)
    write(again, lambda member: 5.0, kind="retrain")
    assert again.name == "graphs-retrain"
    with pytest.raises(UsageError, match="is a retraining itself") as caught:
        planned(graphs, "graphs-retrain")
    assert "graphs" in caught.value.hint
    assert "was retrained before (graphs-retrain)" in planned(graphs).searcher.chosen.words


# What comes out


ACCURACIES = {  # by data set and version, seed by seed
    ("digits", "trial 4"): (95.0, 94.0, 96.5, 93.0, 95.5, 94.5, 96.0),
    ("digits", ALL_THROUGH): (94.0, 93.5, 95.0, 92.0, 95.0, 93.0, 95.5),
    ("digits", LABEL_ONLY): (95.5, 93.0, 96.0, 93.5, 95.0, 95.0, 95.0),
    ("fashion-mnist", "trial 4"): (85.0, 84.0, 86.5, 83.0, 85.5, 84.5, 86.0),
    ("fashion-mnist", ALL_THROUGH): (85.5, 84.0, 85.0, 84.0, 85.0, 84.0, 87.0),
    ("fashion-mnist", LABEL_ONLY): (80.0, 79.0, 80.5, 78.0, 81.0, 79.5, 80.0),
}


def told(member):
    key = member.plan.get("data"), member.plan.get("method")
    return 100.0 - ACCURACIES[key][member.plan["run"]] if key in ACCURACIES else 30.0


@pytest.fixture
def again(graphs, write):
    sweep = planned(graphs, seeds=7, data=("digits", "fashion-mnist"))
    write(sweep, told, kind="retrain")
    return graphs


def flipped(differences):
    """The two-sided sign-flip p, the long way."""
    total = abs(sum(differences))
    signs = list(itertools.product((-1, 1), repeat=len(differences)))
    hits = [abs(sum(s * d for s, d in zip(row, differences, strict=True))) >= total - 1e-9 for row in signs]
    return sum(hits) / len(signs)


def test_differences_are_those_of_pairs_and_corrected_over_data_sets(again):
    with TrialDatabase.open(again, create=False, read_only=True) as database:
        found = retrained(read_record(database, "graphs-retrain"))
    assert [part.name for part in found.sets] == ["digits", "fashion-mnist"]
    assert found.others == (ALL_THROUGH, LABEL_ONLY)
    for version in found.others:
        p = []
        for part in found.sets:
            pairs = zip(ACCURACIES[part.name, "trial 4"], ACCURACIES[part.name, version], strict=True)
            differences = [subject - other for subject, other in pairs]
            one = part.differences[version]
            assert one.mean == pytest.approx(np.mean(differences))
            assert one.p == pytest.approx(flipped(differences))
            p.append(one.p)
        small, large = sorted(p)
        corrected = sorted(part.differences[version].p_holm for part in found.sets)
        assert corrected == pytest.approx([min(1, 2 * small), min(1, max(2 * small, large))])
    through = found.sets[0].differences[ALL_THROUGH]
    assert through.p == pytest.approx(2 / 2**7)  # every seed speaks for the graph: two flips of 128
    assert through.decided
    row = found.sets[0].rows[0]
    assert row.mean == pytest.approx(np.mean(ACCURACIES["digits", "trial 4"]))
    assert row.spread == pytest.approx(np.std(ACCURACIES["digits", "trial 4"], ddof=1))


def test_summary_status_report_and_files_say_the_same(again, tmp_path, capsys):
    out = tmp_path / "report"
    summary = summary_of("graphs-retrain", again, out, 3.0)
    json.dumps(summary, default=str)
    print_summary(summary)
    printed = capsys.readouterr().out
    reached = ACCURACIES["digits", "trial 4"]
    assert f"{np.mean(reached):.2f} ± {np.std(reached, ddof=1):.2f}" in printed
    assert "+0.93" in printed
    assert "chosen by kdsearch's rule" in printed
    assert _run(["status", "--db", again]) == 0
    assert "fashion-mnist" in capsys.readouterr().out
    assert _run(["status", "graphs-retrain", "--json", "--db", again]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["retrained"]["data"][0]["versions"][1]["difference"]["decided"]
    assert row["best_error"] is None
    with (out / "retrained.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["data"], r["version"]) for r in rows] == list(ACCURACIES)
    assert float(rows[1]["difference"]) == pytest.approx(
        row["retrained"]["data"][0]["versions"][1]["difference"]["mean"]
    )
    with (out / "trials.csv").open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    assert {r["data"] for r in trials if r["role"] == "search"} == {"digits", "fashion-mnist"}
    assert not (out / "methods.csv").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("Retraining graphs-retrain", "What was retrained", "decided on digits"):
        assert words in page
    assert (out / "figures" / "graph-2.svg").exists()


def test_a_retraining_that_has_just_begun_is_reported_too(graphs, write, tmp_path, capsys):
    sweep = planned(graphs, seeds=1)
    with TrialDatabase.open(graphs) as database:
        given = {"kind": "retrain", "trainable": "ktg", "settings": sweep.resolved(), "seed": 5}
        database.create_sweep(sweep.name, **given, code_version="0.3.0", environment={})
    print_summary(summary_of(sweep.name, graphs, tmp_path / "r", 0.0))
    assert "No training has ended yet." in capsys.readouterr().out


def test_trainings_that_diverged_count_and_are_told(graphs, write, capsys, tmp_path):
    sweep = planned(graphs, seeds=2)
    first = len(baselines_for(sweep, tmp_path, None))
    told_to = parse_sweep({**sweep.resolved(), "name": "lost"}, "test")
    write(told_to, lambda member: float("nan") if member.number == first else 10.0, kind="retrain")
    with TrialDatabase.open(graphs, create=False, read_only=True) as database:
        found = retrained(read_record(database, "lost"))
    row = found.sets[0].rows[0]
    assert (row.diverged, row.mean) == (1, 45.0)  # one of 90 % and one that counts as 0
    print_summary(summary_of("lost", graphs, tmp_path / "r", 0.0))
    assert "1 diverged of trial 4 on digits" in " ".join(capsys.readouterr().out.split())


def test_a_retraining_goes_on_where_it_stood(graphs, write, clock, tmp_path):
    sweep = planned(graphs, seeds=3)
    whole = write(sweep, told, kind="retrain")
    rows = whole.rows(op.AddTrials)
    ended = {row.number: row.error for row in whole.rows(op.FinishTrials)}
    needed = baselines_for(sweep, tmp_path / sweep.name, None)
    for upto in range(3, len(whole.operations), 7):
        history = history_of(whole.operations, upto=upto)
        resumed = Driver(sweep, clock, tmp_path, baselines=needed, history=history).run()
        assert resumed.coordinator.done
        assert [(r.number, r.seed) for r in resumed.rows(op.AddTrials)] == [(r.number, r.seed) for r in rows]
        run = {row.number for row in resumed.rows(op.FinishTrials) if row.number >= len(needed)}
        known = {number for number, past in history.items() if past.state == "complete"}
        assert run == {number for number in ended if number >= len(needed)} - known


def test_trials_that_were_run_elsewhere_or_answered_from_a_table_are_not_retrained(graphs, clock):
    with TrialDatabase.open(graphs) as database:
        given = {"kind": "import", "trainable": "import", "settings": {"source": "a.csv"}, "seed": 0}
        database.create_sweep("elsewhere", **given, code_version="0.3.0", environment={})
    with pytest.raises(UsageError, match="run elsewhere and imported"):
        planned(graphs, "elsewhere")


def test_too_few_seeds_are_said_to_decide_nothing():
    # two of 2^5 sign flips: p = 0.0625, on two data sets 0.125 after Holm; 2 * 2/2^7 = 0.03125 can decide
    assert undecidable(5, 1, 0.05).startswith("With 5 seeds the exact sign-flip test cannot decide anything")
    assert "0.062, above 0.05. 6 seeds could" in undecidable(5, 1, 0.05)
    assert "0.125 after Holm over 2 data sets, above 0.05. 7 seeds could" in undecidable(5, 2, 0.05)
    assert undecidable(6, 1, 0.05) == "" == undecidable(7, 2, 0.05)
    assert "no standard deviation and no test" in undecidable(1, 1, 0.05)
    for sets in (1, 2, 3):
        for seeds in range(2, 10):
            rng = np.random.default_rng(seeds)
            best = [(10 + rng.random(seeds), np.zeros(seeds)) for _ in range(sets)]
            assert any(row.decided for row in paired_table(best)) == (undecidable(seeds, sets, 0.05) == "")


@pytest.mark.simulation
def test_no_difference_is_rarely_decided_on_any_data_set(again):
    """Seven seeds on two data sets with shared seeds, and no difference: at most 5 % of families decide something."""
    rng, repeats = np.random.default_rng(3), 2000
    wrong = 0
    for _ in range(repeats):
        shared = rng.normal(0, 1, 7)  # a seed is lucky on both data sets
        pairs = [(shared + rng.normal(0, 1, 7), shared + rng.normal(0, 1, 7)) for _ in range(2)]
        wrong += any(row.decided for row in paired_table(pairs))
    assert wrong / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


def test_a_retraining_can_be_written_by_hand():
    file = {
        **NUMBERS,
        "searcher": {
            "kind": "retrain",
            "seeds": 2,
            "subject": "low",
            "versions": {"low": {"configuration": {"x": 0.25}}, "far": {"configuration": {"x": 7.0}}},
        },
    }
    sweep = parse_sweep(file, "test")
    assert isinstance(sweep.searcher, RetrainSettings)
    searcher = make_searcher(sweep, first_number=0)
    for request in searcher.ask(9):
        searcher.tell(request.number, Outcome(state="complete", error=1.0))
        searcher.tell(request.number, Outcome(state="complete", error=2.0))
    assert searcher.done
    assert [row.auc for row in searcher.overview().conditions] == [99.0, 99.0]
    with pytest.raises(KeyError):
        searcher.tell(99, Outcome(state="complete", error=0.0))
    for change, message in (
        ({"subject": "middle"}, "is no version"),
        ({"seeds": 0}, "seeds"),
        ({"versions": {"low": {"configuration": {"x": [1]}}}}, "must be a number"),
        ({"versions": {"low": {"configuration": {"x": 1}, "optimiser": {"rate": -1}}}}, "optimiser"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_sweep({**file, "searcher": {**file["searcher"], **change}}, "test")
    graph = {**GRAPHS, "searcher": file["searcher"]}
    with pytest.raises(UsageError, match=r"searcher\.versions\.low"):
        parse_sweep(graph, "test")


def test_the_sweep_file_of_the_documentation_is_one():
    text = (Path(__file__).parents[2] / "docs" / "retrain.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    room = {**ROOM, "auxiliary": {"count": 1, "models": ["resnet8w8"]}}
    sweep = sweep_of({**GRAPHS, "space": room}, **parse_yaml(example, "docs"))
    assert len(make_searcher(sweep, first_number=0).ask(100)) == 8 * 3 * 2


def test_how_many_training_images_train_is_said_where_they_are_not_all(graphs):
    notes = check_data(planned(graphs), None).notes
    assert notes == ["Trained on 70 of the 1,440 training images of digits."]
    notes = check_data(planned(graphs, train_on="training"), None).notes
    assert notes == ["Trained on 40 of the 1,440 training images of digits."]
    assert check_data(planned(graphs, data=("{name: digits}",)), None).notes == []


def test_a_search_asks_for_no_trial_that_sees_the_test_part():
    searchers = (
        {"kind": "random", "trials": 30},
        {"kind": "enumeration"},
        {"kind": "refinement", "draws": 30, "limit": 500, "repeats": 1},
        {"kind": "tpe", "trials": 12},
    )
    for searcher in searchers:
        try:
            sweep = sweep_of(GRAPHS, searcher=searcher)
        except UsageError:  # no searcher of graphs
            continue
        search = make_searcher(sweep, first_number=0)
        asked = search.ask(30)
        assert asked
        for request in asked:
            assert not {"evaluate", "final", "train_on"} & {k for k, v in request.plan.items() if v}
            assert request.plan.get("objective", "val_error") == "val_error"


@pytest.mark.parametrize("plan", [{"evaluate": True}, {"objective": "test_error"}])
def test_no_searcher_can_have_a_trial_of_its_search_measured_on_the_test_part(plan, clock, tmp_path):
    driver = Driver(sweep_of(NUMBERS), clock, tmp_path)
    ask = driver.coordinator.searcher.ask
    driver.coordinator.searcher.ask = lambda n: [replace(each, plan=plan) for each in ask(n)]
    with pytest.raises(UsageError, match="asked for trial 0 to be measured on the test part"):
        driver.run()


def test_the_display_tells_versions_and_no_leader(graphs):
    sweep = planned(graphs, seeds=2, data=("digits", "fashion-mnist"))
    overview = make_searcher(sweep, first_number=0).overview()
    assert [row.value for row in overview.conditions][:2] == ["digits: trial 4", f"digits: {ALL_THROUGH}"]
    assert all(row.n == 0 for row in overview.conditions)
    assert overview.planned == 12


def test_a_presets_sweep_is_no_retraining():
    assert retrained(SimpleNamespace(settings=load_sweep("ktg-digits").resolved())) is None


def test_a_single_version_has_nothing_to_be_decided(write):
    write(sweep_of(NUMBERS), by_number(0))
    sweep = planned(write.url, "numbers", seeds=2)
    write(sweep, lambda member: 5.0, kind="retrain")
    with TrialDatabase.open(write.url, create=False, read_only=True) as database:
        record = read_record(database, "numbers-retrain")
    found = retrained(record)
    assert cannot_decide(found) == ""
    assert found.sets[0].rows[0].mean == 95.0
