"""The Optuna export through Optuna's own eyes, and studies of other programs on their way in."""

from __future__ import annotations

import importlib.util
import math
import sqlite3
from datetime import UTC
from itertools import count
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState as OptunaState

from kdsearch.search.exchange import study_in
from kdsearch.search.exchange.exporting import export_study
from kdsearch.search.exchange.study_in import Asked, read_study
from kdsearch.search.exchange.study_out import study_of
from kdsearch.search.trialdb import TrialDatabase, TrialState, optuna_storage
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UnknownNameError, UsageError

_SPEC = importlib.util.spec_from_file_location(
    "exchange_cases", Path(__file__).with_name("exchange_cases.py")
)
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
ENDS, GRAPHS, MIXED = _CASES.ENDS, _CASES.GRAPHS, _CASES.MIXED
add_pretraining, add_sweep, draws = _CASES.add_pretraining, _CASES.add_sweep, _CASES.draws

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def database(tmp_path, clock):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 'trials.db'}", clock=clock) as database:
        yield database


@pytest.fixture
def exported(tmp_path, database):
    states = [*ENDS, TrialState.LOST, TrialState.RUNNING, TrialState.WAITING] * 3
    add_sweep(database, "mine", MIXED, draws(MIXED, len(states)), states=states)
    export_study(database, "mine", str(tmp_path / "o.db"), study="mine")
    return optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path / 'o.db'}")


def test_values_states_and_times_are_the_trials_own(exported, database):
    assert exported.direction == optuna.study.StudyDirection.MINIMIZE
    assert exported.metric_names == ["error in per cent"]
    expected = {
        TrialState.COMPLETE: OptunaState.COMPLETE,
        TrialState.STOPPED: OptunaState.PRUNED,
        TrialState.DIVERGED: OptunaState.FAIL,
        TrialState.FAILED: OptunaState.FAIL,
        TrialState.LOST: OptunaState.FAIL,
        TrialState.RUNNING: OptunaState.RUNNING,
        TrialState.WAITING: OptunaState.WAITING,
    }
    for theirs, own in zip(exported.trials, database.trials("mine"), strict=True):
        assert theirs.state is expected[own.state]
        assert theirs.value == own.error
        assert theirs.params == own.configuration
        assert theirs.user_attrs["number"] == own.number
        assert int(theirs.user_attrs["seed"]) == own.seed
        assert theirs.user_attrs["state"] == own.state
        assert theirs.user_attrs["design"] == "random"
        assert theirs.user_attrs.get("message", "") == own.message
        if own.ended is not None and own.started is not None:
            assert theirs.datetime_start.astimezone(UTC) == own.started
            assert theirs.datetime_complete.astimezone(UTC) == own.ended
    assert (
        exported.best_trial.user_attrs["number"]
        == min(
            (t for t in database.trials("mine") if t.state is TrialState.COMPLETE), key=lambda t: t.error
        ).number
    )


def test_intermediate_values_are_the_errors_by_epoch(exported, database):
    curves = database.curves_frame("mine", metrics=["val_error"])
    for trial in exported.trials:
        own = curves[curves["trial"] == trial.user_attrs["number"]]
        assert list(trial.intermediate_values) == own["epoch"].tolist()
        np.testing.assert_array_equal(list(trial.intermediate_values.values()), own["value"].to_numpy())
    assert any(math.isnan(v) for t in exported.trials for v in t.intermediate_values.values())


def test_distributions_are_the_spaces_own(exported):
    found = {name: each for trial in exported.trials for name, each in trial.distributions.items()}
    assert found == {
        "rate": FloatDistribution(0.001, 1, log=True),
        "width": IntDistribution(2, 8, step=2),
        "drop": FloatDistribution(0, 0.3, step=0.05),
        "optimiser": CategoricalDistribution(("sgd", "adam")),
        "nesterov": CategoricalDistribution((True, False)),
        "beta": FloatDistribution(0.5, 1),
    }
    sgd = next(trial for trial in exported.trials if trial.params["optimiser"] == "sgd")
    assert "beta" not in sgd.distributions  # conditional: not there


def test_the_lineage_stands_in_study_attributes(exported):
    attributes = exported.user_attrs
    assert attributes["sweep"] == "mine"
    assert attributes["seed"] == str(2**62 + 1)
    assert [space["name"] for space in attributes["spaces"]] == ["A"]
    assert space_from_spec(attributes["spaces"][0]["specification"]) == space_from_spec(MIXED)
    assert attributes["decisions"][0]["policy"] == "best-auc"
    assert "table" not in attributes["decisions"][0]


def test_what_optuna_does_with_studies_works_on_it(exported):
    assert set(optuna.importance.get_param_importances(exported, params=["rate", "width"])) == {
        "rate",
        "width",
    }
    frame = exported.trials_dataframe()
    assert len(frame) == len(exported.trials)
    sampler = optuna.samplers.TPESampler(seed=1)
    again = optuna.load_study(study_name="mine", storage=exported._storage, sampler=sampler)
    trial = again.ask({"rate": FloatDistribution(0.001, 1, log=True)})
    again.tell(trial, 1.0)
    assert again.best_value == 1.0


def test_graphs_have_categorical_parameters(tmp_path, database):
    add_sweep(database, "graphs", GRAPHS, draws(GRAPHS, 12))
    add_pretraining(database, "graphs", 12)
    written = export_study(database, "graphs", str(tmp_path / "o.db"), study="g")
    study = optuna.load_study(study_name="g", storage=f"sqlite:///{tmp_path / 'o.db'}")
    assert len(study.trials) == 12
    assert "Pre-trainings" in written.notes[0]
    assert study.trials[0].distributions["model.2"] == CategoricalDistribution(("resnet8w4", "resnet8w8"))
    assert study.trials[0].distributions["2->1"] == CategoricalDistribution(("through", "cutoff", "linear"))
    assert [t.params for t in study.trials] == [
        dict(t.configuration) for t in database.trials("graphs") if t.role == "search"
    ]


def test_the_fast_way_and_optunas_own_write_the_same(tmp_path, database):
    add_sweep(database, "mine", MIXED, draws(MIXED, 8), states=[*ENDS, *ENDS])
    study = study_of(database, "mine", study="mine").study
    read = []
    for n, add in enumerate([optuna_storage.add_study, optuna_storage.add_slowly]):
        url = f"sqlite:///{tmp_path / f'{n}.db'}"
        storage = optuna_storage.open_storage(url, url, create=True)
        add(storage, study, *([url] if n == 0 else []))
        optuna_storage.close(storage)
        loaded = optuna.load_study(study_name="mine", storage=url)
        read.append(
            (loaded.user_attrs, loaded.metric_names, loaded.direction, [_told(t) for t in loaded.trials])
        )
    assert read[0] == read[1]


def _told(trial):
    curve = {step: str(value) for step, value in trial.intermediate_values.items()}  # NaN is not itself
    return (
        *(trial.number, trial.state, trial.values, trial.params, trial.distributions, trial.user_attrs),
        *(trial.system_attrs, trial.datetime_start, trial.datetime_complete, curve),
    )


def test_values_that_optuna_cannot_tell_apart_are_labels(tmp_path, database):
    spec = {"kind": "parameters", "parameters": {"x": {"type": "categorical", "values": [1, "1.0", True]}}}
    add_sweep(database, "odd", spec, [{"x": 1}, {"x": True}, {"x": "1.0"}])
    written = export_study(database, "odd", str(tmp_path / "o.db"), study="odd")
    study = optuna.load_study(study_name="odd", storage=f"sqlite:///{tmp_path / 'o.db'}")
    assert [t.params["x"] for t in study.trials] == ["1", "true", "1.0"]
    assert "labels" in written.notes[0]


def test_a_thinned_study_keeps_every_last_epoch(tmp_path, database):
    add_sweep(database, "long", MIXED, draws(MIXED, 2), epochs=7)
    export_study(database, "long", str(tmp_path / "o.db"), study="long", every=3)
    study = optuna.load_study(study_name="long", storage=f"sqlite:///{tmp_path / 'o.db'}")
    assert [list(t.intermediate_values) for t in study.trials] == [[3, 6, 7]] * 2


def test_an_export_that_fails_leaves_nothing(tmp_path, database, monkeypatch):
    add_sweep(database, "mine", MIXED, draws(MIXED, 3))
    url = f"sqlite:///{tmp_path / 'o.db'}"
    export_study(database, "mine", url, study="first")

    def fails(*rows):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(optuna_storage, "_intermediate_rows", fails)
    with pytest.raises(RuntimeError):
        export_study(database, "mine", url, study="second")
    assert optuna.study.get_all_study_names(url) == ["first"]
    with pytest.raises(RuntimeError):
        export_study(database, "mine", str(tmp_path / "new.db"), study="second")
    assert not (tmp_path / "new.db").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_a_study_is_never_written_over(tmp_path, database):
    add_sweep(database, "mine", MIXED, draws(MIXED, 3))
    path = tmp_path / "o.db"
    export_study(database, "mine", str(path), study="mine")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is there already") as caught:
        export_study(database, "mine", str(path), study="other")
    assert f"`--out sqlite:///{path}` adds a study" in caught.value.hint
    with pytest.raises(UsageError, match="is a folder") as caught:
        export_study(database, "mine", str(tmp_path), study="other")
    assert "adds a study" not in caught.value.hint
    with pytest.raises(UsageError, match="already has a study 'mine'"):
        export_study(database, "mine", f"sqlite:///{path}", study="mine")
    assert len(optuna.load_study(study_name="mine", storage=f"sqlite:///{path}").trials) == 3
    assert before[:16] == path.read_bytes()[:16]
    with pytest.raises(UsageError, match="no storage of Optuna's"):
        export_study(database, "mine", f"sqlite:///{database.path}", study="mine")
    with pytest.raises(UsageError, match="no database URL"):
        export_study(database, "mine", "nosuch://place", study="mine")


# Studies of other programs


def foreign(path, *, name="theirs", direction="minimize", trials=12, steps=0, first_step=0):
    study = optuna.create_study(
        study_name=name,
        storage=f"sqlite:///{path}",
        direction=direction,
        sampler=optuna.samplers.RandomSampler(seed=3),
        load_if_exists=True,
    )

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        x = trial.suggest_float("x", 1e-3, 1, log=True)
        if trial.number == 4:
            raise ValueError("it broke")
        y = trial.suggest_int("y", 1, 9, step=2) if kind == "a" else 0
        for step in range(steps):
            trial.report(0.5 - step / 100, step + first_step)
        if trial.number == 5:
            raise optuna.TrialPruned
        return min(0.9, x / 2 + y / 100)

    study.optimize(objective, n_trials=trials, catch=(ValueError,))
    return study


def test_a_foreign_study_is_read_and_never_touched(tmp_path):
    path = tmp_path / "theirs.db"
    study = foreign(path, steps=3)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE studies SET study_name = study_name")
    connection.close()
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in tmp_path.iterdir()}
    name, batch = read_study(path, Asked(factor=100))
    assert {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in tmp_path.iterdir()} == before
    assert name == "theirs"
    by_number = {trial.number: trial for trial in batch.trials}
    for theirs in study.trials:
        own = by_number[theirs.number]
        assert dict(own.configuration) == theirs.params
        if theirs.state is OptunaState.COMPLETE:
            assert own.state is TrialState.COMPLETE
            assert own.error == 100 * theirs.value
    assert by_number[4].state is TrialState.FAILED
    assert by_number[5].state is TrialState.STOPPED
    assert list(by_number[6].curve) == [1, 2, 3]  # steps 0, 1, 2
    assert [values["1/val_error"] for values in by_number[6].curve.values()] == [50.0, 49.0, 48.0]
    assert any("count from 0" in note for note in batch.notes)
    assert batch.parameters["y"] == {"type": "integer", "low": 1, "high": 9, "step": 2}


def test_studies_that_are_no_errors_are_refused(tmp_path):
    path = tmp_path / "theirs.db"
    foreign(path, name="up", direction="maximize")
    with pytest.raises(UsageError, match="maximises") as caught:
        read_study(path, Asked())
    assert "--accuracy value" in caught.value.hint
    _, batch = read_study(path, Asked(accuracy=True, factor=100))
    study = optuna.load_study(study_name="up", storage=f"sqlite:///{path}")
    assert {t.number: t.error for t in batch.trials if t.state is TrialState.COMPLETE} == {
        t.number: 100 - 100 * t.value for t in study.trials if t.state is OptunaState.COMPLETE
    }
    optuna.create_study(study_name="down", storage=f"sqlite:///{path}")
    with pytest.raises(UsageError, match="holds 2 studies") as caught:
        read_study(path, Asked())
    assert "down, up" in caught.value.hint
    with pytest.raises(UsageError, match="no accuracy"):
        read_study(path, Asked(study="down", accuracy=True))
    with pytest.raises(UnknownNameError, match="unknown study 'upp'"):
        read_study(path, Asked(study="upp"))
    optuna.create_study(study_name="two", storage=f"sqlite:///{path}", directions=["minimize", "minimize"])
    with pytest.raises(UsageError, match="2 objectives"):
        read_study(path, Asked(study="two"))


def test_other_schemas_and_other_databases_are_refused(tmp_path, database):
    path = tmp_path / "theirs.db"
    foreign(path, trials=1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.0.0.a'")
    connection.close()
    with pytest.raises(UsageError, match="another schema") as caught:
        read_study(path, Asked())
    assert "v9.0.0.a" in caught.value.message
    add_sweep(database, "mine", MIXED, draws(MIXED, 2))
    with pytest.raises(UsageError, match="another schema"):
        export_study(database, "mine", f"sqlite:///{path}", study="mine")
    with pytest.raises(UsageError, match="no database of Optuna's"):
        read_study(database.path, Asked())
    with sqlite3.connect(tmp_path / "empty.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(UsageError, match="no database of Optuna's"):
        read_study(tmp_path / "empty.db", Asked())


def test_a_database_that_is_written_all_the_time_is_refused(tmp_path, monkeypatch):
    path, states, waits = tmp_path / "theirs.db", count(), []
    foreign(path, trials=1)
    monkeypatch.setattr(study_in, "_state", lambda _: next(states))
    with pytest.raises(UsageError, match="being written all the time"):
        read_study(path, Asked(), sleep=waits.append)
    assert len(waits) == 5
    resting = iter([0, 1, 1, 1])
    monkeypatch.setattr(study_in, "_state", lambda _: next(resting))
    assert read_study(path, Asked(), sleep=waits.append)[0] == "theirs"
