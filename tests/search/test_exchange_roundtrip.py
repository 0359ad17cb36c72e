"""Export, then import: the same trials, whatever the file between."""

from __future__ import annotations

import importlib.util
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsearch.analysis.results import analyse
from kdsearch.search.config import StatisticsSettings
from kdsearch.search.exchange.curves_in import trials_from_curves, with_curves
from kdsearch.search.exchange.exporting import What, export_study, export_table
from kdsearch.search.exchange.importing import Design, Order, import_batch
from kdsearch.search.exchange.study_in import Asked, read_study
from kdsearch.search.exchange.table_in import Naming, roles_of, trials_of
from kdsearch.search.exchange.text_tables import read_text_table
from kdsearch.search.tables import sweep_table, write_table
from kdsearch.search.trialdb import SweepState, TrialDatabase, TrialState, read_record
from kdsearch.spaces import space_from_spec

_SPEC = importlib.util.spec_from_file_location(
    "exchange_cases", Path(__file__).with_name("exchange_cases.py")
)
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
ENDS, GRAPHS, MIXED = _CASES.ENDS, _CASES.GRAPHS, _CASES.MIXED
add_pretraining, add_sweep, draws = _CASES.add_pretraining, _CASES.add_sweep, _CASES.draws

few = settings(max_examples=8, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def order(name="back", *, space=None, design=Design.STATED):
    return Order(
        name=name, title="", space=space, design=design, statistics=StatisticsSettings(), command="kdsearch"
    )


def back(database, path, *, curves=None, space=None, name="back"):
    """Import a file as the sweep `back`."""
    table, naming = read_text_table(path), Naming()
    batch = trials_of(table, naming, roles_of(table, naming, space))
    if curves is not None:
        batch = with_curves(batch, read_text_table(curves), naming, space)
    return import_batch(database, batch, order(name, space=space))


def told(trial):
    return {key: value for key, value in vars(trial).items() if key != "created"}


def assert_same(database, name="mine", copy="back"):
    """Two sweeps have the same trials."""
    for own, other in zip(database.trials(name), database.trials(copy), strict=True):
        assert told(other) == told(own)


@st.composite
def sweeps(draw):
    spec = draw(st.sampled_from([MIXED, GRAPHS]))
    n = draw(st.integers(1, 9))
    states = draw(st.lists(st.sampled_from(ENDS), min_size=n, max_size=n))
    errors = draw(st.lists(st.floats(0, 100), min_size=n, max_size=n))
    return spec, draws(spec, n, seed=draw(st.integers(0, 99))), states, errors


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one database for all examples: making one takes longer than an example."""
    folder = tmp_path_factory.mktemp("round")
    with TrialDatabase.open(f"sqlite:///{folder / 'trials.db'}") as database:
        yield folder, database


_examples = count()


def added(database, sweep):
    """Names of a new sweep like this and of what is made of it."""
    spec, configurations, states, errors = sweep
    name = f"mine{next(_examples)}"
    add_sweep(database, name, spec, configurations, states=states, errors=errors)
    return name, f"back-{name}"


@few
@given(sweep=sweeps(), form=st.sampled_from(["csv", "parquet"]))
def test_trials_and_curves_come_back_from_tables(place, sweep, form):
    folder, database = place
    name, copy = added(database, sweep)
    paths = {what: folder / f"{name}-{what}.{form}" for what in (What.TRIALS, What.CURVES)}
    for what, path in paths.items():
        export_table(database, name, path, parquet=form == "parquet", what=what)
    space = space_from_spec(sweep[0], name="A") if form == "csv" else None  # Parquet files carry it
    back(database, paths[What.TRIALS], curves=paths[What.CURVES], space=space, name=copy)
    assert_same(database, name, copy)
    assert [t.created for t in database.trials(copy)] == [t.created for t in database.trials(name)]
    assert database.spaces(copy) == database.spaces(name)
    assert database.curves_frame(copy).equals(database.curves_frame(name))
    assert drawn(database, copy) == drawn(database, name)


@few
@given(sweep=sweeps())
def test_trials_and_errors_by_epoch_come_back_through_optuna(place, sweep):
    folder, database = place
    name, copy = added(database, sweep)
    export_study(database, name, str(folder / f"{name}.o.db"), study=name)
    found, batch = read_study(folder / f"{name}.o.db", Asked())
    assert found == name
    import_batch(database, batch, order(copy))
    assert_same(database, name, copy)
    assert database.spaces(copy) == database.spaces(name)
    mine, theirs = (database.curves_frame(each, metrics=["val_error"]) for each in (name, copy))
    assert theirs.equals(mine)
    assert drawn(database, copy) == drawn(database, name)


def drawn(database, name):
    """Which trials answer draws, each as often as it does."""
    return sorted(database.draws_frame(name)["trial"])


def test_an_imported_sweep_has_the_same_auc(tmp_path, clock):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as database:
        add_sweep(database, "mine", GRAPHS, draws(GRAPHS, 30), states=[*ENDS[::3], TrialState.COMPLETE] * 10)
        add_pretraining(database, "mine", 30)
        export_table(database, "mine", tmp_path / "t.parquet", parquet=True, what=What.TRIALS)
        back(database, tmp_path / "t.parquet")
        assert_same(database)
        mine, theirs = (analyse(read_record(database, name)).estimated[0] for name in ("mine", "back"))
        assert theirs.auc == mine.auc
        assert theirs.population.n == mine.population.n == 31  # 30 trials, one of which answers two draws
        assert theirs.conditions[0].n == mine.conditions[0].n


def test_a_table_for_replay_is_an_import_too(tmp_path, clock):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as database:
        add_sweep(database, "mine", MIXED, draws(MIXED, 8), states=[*ENDS, *ENDS])
        database.update_sweep_state("mine", SweepState.COMPLETE)
        write_table(sweep_table(database, "mine"), tmp_path / "t.csv")  # as `kdsearch table` does
        table = read_text_table(tmp_path / "t.csv")
        batch = trials_from_curves(table, Naming(), roles_of(table, Naming(), None))
        import_batch(database, batch, order(design=Design.UNKNOWN))
        whole_ones = [
            t for t in database.trials("mine") if t.state in {TrialState.COMPLETE, TrialState.DIVERGED}
        ]
        for own, other in zip(whole_ones, database.trials("back"), strict=True):
            assert other.configuration == own.configuration
            assert (other.state, other.error) == (own.state, own.error)
        frame = database.curves_frame("back", metrics=["train_loss"])
        assert len(frame) == 3 * len(whole_ones)


def test_what_had_not_ended_is_lost_here(tmp_path, clock):
    states = [TrialState.WAITING, TrialState.RUNNING, TrialState.LOST, TrialState.COMPLETE]
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as database:
        add_sweep(database, "mine", MIXED, draws(MIXED, 4), states=states)
        export_table(database, "mine", tmp_path / "t.csv", parquet=False, what=What.TRIALS)
        back(database, tmp_path / "t.csv", space=space_from_spec(MIXED, name="A"))
        assert [t.state for t in database.trials("back")] == [*["lost"] * 3, "complete"]
        assert "waiting" in database.trials("back")[0].message


def test_a_parameter_that_has_the_name_of_a_column(tmp_path, clock):
    spec = {
        "kind": "parameters",
        "parameters": {
            "seed": {"type": "integer", "low": 0, "high": 9},
            "epoch": {"type": "float", "low": 0, "high": 1},
        },
    }
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as database:
        add_sweep(database, "mine", spec, draws(spec, 5))
        written = export_table(database, "mine", tmp_path / "t.csv", parquet=False, what=What.TRIALS)
        assert written.columns[-2:] == ("parameter:seed", "parameter:epoch")
        back(database, tmp_path / "t.csv", space=space_from_spec(spec, name="A"))
        assert_same(database)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_numbers_are_written_in_full(tmp_path, clock, form):
    errors = [0.1 + 0.2, 1 / 3, 5e-324, 100.0]
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as database:
        add_sweep(database, "mine", MIXED, draws(MIXED, 4), errors=errors)
        export_table(database, "mine", tmp_path / f"t.{form}", parquet=form == "parquet", what=What.TRIALS)
        back(database, tmp_path / f"t.{form}", space=space_from_spec(MIXED, name="A"))
        assert [t.error for t in database.trials("back")] == errors


@pytest.mark.parametrize(
    ("form", "given", "kind"),
    [("csv", False, "log-uniform"), ("csv", True, "float"), ("parquet", False, "float")],
)
def test_laws_of_parameters_come_back_from_parquet_or_a_given_space(tmp_path, clock, form, given, kind):
    spec = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as database:
        add_sweep(database, "mine", spec, draws(spec, 400))  # the least of so many is below a hundredth
        path = tmp_path / f"t.{form}"
        export_table(database, "mine", path, parquet=form == "parquet", what=What.TRIALS)
        told = back(database, path, space=space_from_spec(spec, name="A") if given else None)
        assert told.space["parameters"]["x"]["type"] == kind
