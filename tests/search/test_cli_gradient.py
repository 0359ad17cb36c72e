"""What the end of a run says of a searcher that moves metaparameters, and which folder its report goes to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kdsearch.search.cli.folders import new_folder, own_folder
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.trialdb import (
    AttemptStart,
    DrawRow,
    MetricRow,
    ResultRow,
    SpaceRow,
    TrialDatabase,
    TrialRow,
    TrialState,
)
from kdsearch.spaces import space_from_spec

START = datetime(2026, 1, 2, tzinfo=UTC)
REALS = {"kind": "parameters", "parameters": {"lambda_1": {"type": "float", "low": 0.0, "high": 1.0}}}
GRAPHS = {
    "kind": "ktg",
    "target": "resnet8w4",
    "auxiliary": {"count": 1, "models": ["resnet8w4"]},
    "gates": ["learned", "cutoff"],
}
GRAPH = {
    "label->1": "learned",
    "model.2": "resnet8w4",
    "2->1": "learned",
    "label->2": "cutoff",
    "1->2": "cutoff",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def swept(
    folder: Path, spec: dict, configurations: list[dict], moved: dict[str, float], name: str = "g"
) -> str:
    """A finished gradient sweep; its first trial is the best, and ends where `moved` says."""
    place = f"sqlite:///{folder / 'kdsearch.db'}"
    with TrialDatabase.open(place) as database:
        settings = {
            "name": name,
            "space": spec,
            "searcher": {"kind": "gradient", "trials": len(configurations)},
        }
        database.create_sweep(
            name, kind="sweep", trainable="kd", settings=settings, seed=1, code_version="0", environment={}
        )
        space = space_from_spec(spec, name="A")
        row = SpaceRow(
            name="A", specification=space.to_spec(), hash="0" * 64, counts=space.counts().to_dict()
        )
        database.add_spaces(name, [row])
        for number, configuration in enumerate(configurations):
            _trial(
                database,
                name,
                number,
                configuration,
                {key: last + number / 10 for key, last in moved.items()},
            )
        draws = [DrawRow(space="A", draw=n, trial=n, fresh=True) for n in range(len(configurations))]
        database.add_draws(name, draws)
    return place


def _trial(database, name, number, configuration, last):
    start = dict.fromkeys(last, 0.5)
    row = TrialRow(
        number=number,
        configuration=configuration,
        configuration_hash="0" * 64,
        seed=number,
        created=START,
        sampling_design="gradient",
        plan={"optimiser": {"start": start, "bounds": {key: [0.0, 1.0] for key in last}}},
    )
    database.add_trials(name, [row])
    at, error = START + timedelta(seconds=number), 5.0 + number
    database.start_attempts(name, [AttemptStart(number=number, n=1, host="here", device="cpu", at=at)])
    told = {"1/val_error": error, "seconds": 1.0} | {f"meta.{key}": value for key, value in last.items()}
    database.record_metrics(name, [MetricRow(number=number, attempt=1, step=1, values=told)])
    result = ResultRow(
        number=number, attempt=1, state=TrialState.COMPLETE, at=at, error=error, last_epoch=1, seconds=1.0
    )
    database.finish_trials(name, [result])


def said(summary, capsys) -> str:
    print_summary(summary)
    return capsys.readouterr().out


def test_the_best_configuration_says_where_its_values_went(here, capsys):
    place = swept(here, REALS, [{"lambda_1": 0.5}, {"lambda_1": 0.25}], {"lambda_1": 0.125})
    summary = summary_of("g", place, here / "out", 1.0)
    assert summary["best"]["configuration"] == {"lambda_1": 0.5}
    assert summary["best"]["ended"] == {"lambda_1": 0.125}
    json.dumps(summary)
    text = said(summary, capsys)
    assert "lambda_1=0.5 -> 0.125" in text
    assert "AUC" not in text
    assert "classes" not in text


def test_a_graph_says_the_weights_that_it_learned(here, capsys):
    moved = {"weight.label->1": 0.25, "weight.2->1": 0.75}
    place = swept(here, GRAPHS, [GRAPH, GRAPH | {"label->2": "learned"}], moved)
    text = said(summary_of("g", place, here / "out", 1.0), capsys)
    assert "learned weights at the end: " in text
    assert "label->1 0.250" in text
    assert "2->1 0.750" in text
    assert "classes" in text  # a finite space has a number to tell
    assert "AUC" not in text


def test_a_new_sweep_leaves_the_report_of_another_one_alone(here):
    first = new_folder("g")
    assert first == Path("g-report")
    created = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    place = swept(here, REALS, [{"lambda_1": 0.5}, {"lambda_1": 0.25}], {"lambda_1": 0.125})
    summary_of("g", place, here / "g-report", 1.0)
    with TrialDatabase.open(place) as database:
        mine = database.sweep("g").created
    assert new_folder("g") == Path("g-report-2")
    assert own_folder("g", mine) == Path("g-report")  # resumed, it goes on writing its own
    assert own_folder("g", created) == Path("g-report-2")  # another database's sweep of that name
    summary_of("g", place, here / "g-report-2", 1.0)
    assert new_folder("g") == Path("g-report-3")


def test_a_report_of_an_earlier_version_is_the_own_one_of_its_name(here):
    place = swept(here, REALS, [{"lambda_1": 0.5}, {"lambda_1": 0.25}], {"lambda_1": 0.125})
    summary_of("g", place, here / "g-report", 1.0)
    lineage = here / "g-report" / "lineage.json"
    told = json.loads(lineage.read_text())
    del told["sweeps"][0]["created"]
    lineage.write_text(json.dumps(told))
    assert own_folder("g", START) == Path("g-report")
    lineage.write_text("{")
    assert own_folder("g", START) == Path("g-report-2")
