"""The simulator drives the coordinator, searchers and schedulers as Ray does, on a virtual clock."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from kdsearch.search.config import parse_sweep
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.schedulers import make_scheduler
from kdsearch.search.searchers import make_searcher
from kdsearch.search.simulator import START, Simulator, VirtualClock, epoch_of, table_packs
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces import space_from_spec
from kdsearch.trainables.table.kind import load_table
from kdsearch.trainables.table.settings import TableSettings

EPOCHS = 8
SPACE = {
    "kind": "parameters",
    "parameters": {
        "a": {"type": "categorical", "values": ["w", "x", "y", "z"]},
        "b": {"type": "integer", "low": 1, "high": 9},
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """36 configurations, two curves each, with different lengths of epochs."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "repeat", "epoch", "1/val_error", "seconds"])
        for configuration in space_from_spec(SPACE).enumerate():
            level, lasts = rng.uniform(5, 40), rng.uniform(0.5, 2)
            for repeat in range(2):
                for epoch in range(1, EPOCHS + 1):
                    error = level + 30 / epoch + rng.normal(0, 1)
                    writer.writerow(
                        [*configuration.values(), repeat, epoch, round(error, 6), round(lasts, 6)]
                    )
    return path


def simulated(path, *, workers=1, pack=1, searcher=None, scheduler=None, stop=None, staged=True, **more):
    data = {
        "name": "simulated",
        "space": SPACE,
        "trainable": {"kind": "table", "file": str(path), "epochs": EPOCHS},
        "searcher": searcher or {"kind": "random", "trials": 30},
        "run": {"pack": pack},
        **more,
    }
    if scheduler:
        data["scheduler"] = scheduler
    sweep = parse_sweep(data, "test")
    curves = load_table(TableSettings.from_mapping(sweep.trainable_settings()), None)
    clock, operations = VirtualClock(), []
    coordinator = Coordinator(
        sweep,
        make_searcher(sweep, first_number=0),
        operations.append,
        baselines=[],
        folder=path.parent / "none",
        concurrency=workers,
        clock=clock,
        host="simulator",
        device="cpu",
        scheduler=make_scheduler(sweep),
    )
    simulator = Simulator(
        coordinator, table_packs(curves), clock, workers=workers, timed=curves.timed, staged=staged
    )
    progress = simulator.run(stop)
    return coordinator, progress, operations, curves


def ends(operations):
    return [row for each in operations if isinstance(each, op.FinishTrials) for row in each.rows]


def test_one_worker_takes_as_long_as_all_epochs_together(table):
    coordinator, progress, operations, _ = simulated(table)
    found = ends(operations)
    assert coordinator.done
    assert progress.epochs == EPOCHS * len(found)
    assert progress.seconds == pytest.approx(sum(row.seconds for row in found))
    assert (found[-1].at - START).total_seconds() == pytest.approx(progress.seconds, abs=1e-5)


def test_every_trial_has_the_error_of_its_curve(table):
    _, _, operations, curves = simulated(table)
    trials = {row.number: row for each in operations if isinstance(each, op.AddTrials) for row in each.rows}
    for row in ends(operations):
        trial = trials[row.number]
        curve = curves.curve(trial.configuration, trial.seed)
        assert row.error == curve.final_error
        assert row.best_error == curve.errors.min()


@pytest.mark.parametrize("workers", [2, 5])
def test_more_workers_are_sooner_done_with_the_same_trials(table, workers):
    _, alone, first, _ = simulated(table)
    _, together, second, _ = simulated(table, workers=workers)
    assert {(row.number, row.error) for row in ends(first)} == {
        (row.number, row.error) for row in ends(second)
    }
    assert alone.seconds / workers <= together.seconds < alone.seconds
    assert alone.epochs == together.epochs


def test_packs_change_neither_trials_nor_the_time_of_one_worker(table):
    _, alone, first, _ = simulated(table)
    _, packed, second, _ = simulated(table, pack=7)
    assert {(row.number, row.error) for row in ends(first)} == {
        (row.number, row.error) for row in ends(second)
    }
    assert packed.seconds == pytest.approx(alone.seconds)
    assert packed.jobs < alone.jobs


def test_stopped_trials_cost_the_epochs_that_they_had(table):
    rungs = {"kind": "asha", "rungs": [1, 2, 4], "reduction_factor": 2}
    _, progress, operations, _ = simulated(table, scheduler=rungs, pack=4)
    found = ends(operations)
    assert {str(row.state) for row in found} == {"complete", "stopped"}
    assert progress.epochs == sum(row.last_epoch for row in found)
    assert all(row.last_epoch in {1, 2, 4} for row in found if row.state == "stopped")


def test_promoted_trials_go_on_behind_the_rung_that_they_waited_at(table):
    rungs = {"kind": "asha", "rungs": [1, 2, 4], "reduction_factor": 2, "mode": "promote"}
    coordinator, progress, operations, _ = simulated(table, scheduler=rungs, pack=4, workers=2)
    found = ends(operations)
    assert coordinator.done
    assert {str(row.state) for row in found} == {"complete", "stopped"}
    assert progress.epochs == sum(row.last_epoch for row in found)  # no epoch twice


def test_it_ends_when_it_is_told_to(table):
    coordinator, progress, _, _ = simulated(table, stop=lambda progress: progress.epochs >= 20)
    assert progress.epochs == 20
    assert not coordinator.done


def test_a_configuration_that_the_table_lacks_fails_its_trial(table, tmp_path):
    lines = table.read_text().splitlines(keepends=True)
    short = tmp_path / "short.csv"
    short.write_text("".join(line for line in lines if not line.startswith("z,")))
    trainable = {"kind": "table", "file": str(short), "epochs": EPOCHS, "missing": "fail"}
    _, _, operations, _ = simulated(short, searcher={"kind": "enumeration"}, pack=4, trainable=trainable)
    failed = [row for row in ends(operations) if row.state == "failed"]
    assert len(failed) == 9
    assert all("does not have a=z" in row.message for row in failed)
    assert sum(row.state == "complete" for row in ends(operations)) == 27


def test_the_same_simulation_twice(table):
    rungs = {"kind": "asha", "grace": 1, "reduction_factor": 3}
    first, second = (simulated(table, workers=3, scheduler=rungs, pack=2)[2] for _ in range(2))
    assert ends(first) == ends(second)


def test_virtual_checkpoints_are_named_by_number_and_epoch(table):
    _, _, operations, _ = simulated(table, run={"pack": 2, "checkpoint_every": 3})
    saved = [row for each in operations if isinstance(each, op.SaveCheckpoints) for row in each.rows]
    assert {row.epoch for row in saved} == {3, 6}
    from pathlib import Path

    assert all(epoch_of(Path(row.path)) == row.epoch for row in saved)
