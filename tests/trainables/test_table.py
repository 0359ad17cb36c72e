"""The trainable `table`: what is read, what is refused and how, and which curve answers a trial."""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.table.kind import load_table
from kdsearch.trainables.table.settings import TableSettings

SPACE = {
    "kind": "parameters",
    "parameters": {
        "optimiser": {"type": "categorical", "values": ["sgd", "adam"]},
        "layers": {"type": "integer", "low": 1, "high": 3},
        "momentum": {"type": "quantised", "low": 0, "high": 0.5, "step": 0.5, "when": {"optimiser": "sgd"}},
    },
}
KTG = {
    "kind": "ktg",
    "target": "resnet8w4",
    "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
    "gates": ["through", "cutoff"],
    "restrictions": [{"label->auxiliary": ["through", "through"]}],
}
EPOCHS = 3


def rows_of(space, *, repeats=2, epochs=EPOCHS):
    """A whole table: the error is 10 x configuration + repeat + 1 / epoch."""
    root = space_from_spec({key: value for key, value in space.items() if key != "restrictions"})
    for place, configuration in enumerate(root.enumerate(classes=True)):
        for repeat in range(repeats):
            for epoch in range(1, epochs + 1):
                told = {name: configuration.get(name, "") for name in root.parameter_names}
                error = 10 * place + repeat + 1 / epoch
                yield {**told, "repeat": repeat, "epoch": epoch, "1/val_error": error, "seconds": 0.5}


def write(path: Path, rows):
    rows = list(rows)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def settings_for(path, space=SPACE, **more):
    return {"file": str(path), "space": space, **more}


def loaded(path, space=SPACE, **more):
    return load_table(TableSettings.from_mapping(settings_for(path, space, **more)), None)


def refusal(path, space=SPACE, **more):
    with pytest.raises(UsageError) as caught:
        trainable_kind("table").check_data(settings_for(path, space, **more), None)
    return str(caught.value)


@pytest.fixture
def rows():
    return list(rows_of(SPACE))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_the_same_table_is_read_from_every_format(tmp_path, rows, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        frame = pd.DataFrame(rows)
        frame["momentum"] = pd.to_numeric(
            frame["momentum"]
        )  # NaN where it is not active: so pandas writes it
        frame["momentum"] = frame["momentum"].astype(object).where(frame["momentum"].notna(), None)
        frame.to_parquet(path)
    else:
        write(path, rows)
    table = loaded(path)
    assert len(table.configurations) == 3 * 2 + 3  # sgd: layers x momentum; adam: layers
    assert table.epochs == EPOCHS
    curves = table.curves({"optimiser": "adam", "layers": 2})
    assert [curve.repeat for curve in curves] == ["0", "1"]
    assert table.has({"optimiser": "sgd", "layers": 1, "momentum": 0.5})
    assert not table.has({"optimiser": "sgd", "layers": 1})
    assert curves[1].metrics(2)["1/val_error"] == pytest.approx(curves[0].metrics(2)["1/val_error"] + 1)
    assert curves[0].seconds == pytest.approx(1.5)


def test_a_pack_reports_the_curve_and_goes_on_from_a_checkpoint(tmp_path, rows):
    path = write(tmp_path / "t.csv", rows)
    kind = trainable_kind("table")
    configuration = {"optimiser": "adam", "layers": 3}

    def pack(checkpoint=None):
        member = Member(number=4, seed=11, configuration=configuration, checkpoint=checkpoint)
        return kind.make_pack(settings_for(path), [member], data_root=None, device="cpu")

    first = pack()
    whole = [first.run_epoch()[0] for _ in range(EPOCHS)]
    assert [report.state for report in whole] == ["running", "running", "complete"]
    assert [report.epoch for report in whole] == [1, 2, 3]
    assert whole[-1].metrics["seconds"] == 0.5
    assert first.active == ()
    second = pack()
    second.run_epoch()
    second.save(4, tmp_path / "4-1.pt")
    third = pack(tmp_path / "4-1.pt")
    assert [third.run_epoch()[0], third.run_epoch()[0]] == whole[1:]


def test_the_seed_decides_which_repeat_answers_and_each_is_as_likely(tmp_path):
    table = loaded(write(tmp_path / "t.csv", rows_of(SPACE, repeats=4)))
    configuration = {"optimiser": "adam", "layers": 1}
    counts = Counter(table.curve(configuration, seed).repeat for seed in range(4000))
    assert sorted(counts) == ["0", "1", "2", "3"]
    # binomial(4000, 1/4): mean 1000, standard deviation 27.4; 4 of them either way
    assert all(890 < count < 1110 for count in counts.values())
    assert table.curve(configuration, 7) is table.curve(configuration, 7)


def test_graphs_are_found_by_their_mirror_images(tmp_path):
    space = space_from_spec(KTG)
    table = loaded(write(tmp_path / "t.csv", rows_of(KTG)), KTG)
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = space.sample(rng)
        mirrored = space.permuted(drawn, (1, 0))
        assert table.curves(drawn) is table.curves(mirrored)


def test_mirror_images_in_the_file_are_one_configuration(tmp_path):
    rows = list(rows_of(KTG, repeats=1))
    space = space_from_spec(KTG)
    mirrored = []
    for row in rows[:EPOCHS]:
        image = space.permuted({name: row[name] for name in space.parameter_names}, (1, 0))
        mirrored.append({**row, **image, "repeat": 9})
    table = loaded(write(tmp_path / "t.csv", [*rows, *mirrored]), KTG)
    configuration = {name: rows[0][name] for name in space.parameter_names}
    assert [curve.repeat for curve in table.curves(configuration)] == ["0", "9"]


def test_a_diverged_curve_ends_where_it_diverged(tmp_path, rows):
    rows[1]["1/val_error"] = "nan"
    del rows[2]
    table = loaded(write(tmp_path / "t.csv", rows))
    curve = table.curves({"optimiser": "sgd", "layers": 1, "momentum": 0.0})[0]
    assert curve.state(1)[0] is MemberState.RUNNING
    assert curve.state(2)[0] is MemberState.DIVERGED
    assert curve.final_error is None


def test_fewer_epochs_are_the_first_ones(tmp_path, rows):
    table = loaded(write(tmp_path / "t.csv", rows), epochs=2)
    assert table.curves({"optimiser": "adam", "layers": 1})[0].state(2)[0] is MemberState.COMPLETE
    assert "epochs is 4, and the curves of" in refusal(tmp_path / "t.csv", epochs=4)


def test_missing_configurations_are_counted_and_named(tmp_path, rows):
    path = write(tmp_path / "t.csv", rows[: 4 * 2 * EPOCHS])
    told = refusal(path)
    assert "lacks 5 of the 9 configurations of the space" in told
    assert "optimiser=sgd layers=3 momentum=0.0" in told
    assert "missing: fail" in told
    settings = settings_for(path, missing="fail")
    assert trainable_kind("table").check_data(settings, None)
    member = Member(number=0, seed=0, configuration={"optimiser": "adam", "layers": 3})
    with pytest.raises(UsageError, match="does not have optimiser=adam layers=3"):
        trainable_kind("table").make_pack(settings, [member], data_root=None, device="cpu")


def test_a_restricted_space_needs_only_its_own_part(tmp_path, rows):
    path = write(tmp_path / "t.csv", [row for row in rows if row["optimiser"] == "sgd"])
    space = {**SPACE, "restrictions": [{"optimiser": "sgd"}]}
    assert trainable_kind("table").check_data(settings_for(path, space), None)


def changed(rows, row, **cells):
    return [{**each, **(cells if place == row else {})} for place, each in enumerate(rows)]


def without(rows, column):
    return [{name: cell for name, cell in each.items() if name != column} for each in rows]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: [*r[:1], r[2], r[1], *r[3:]], "line 3: epoch 3 of .* stands before epoch 2"),
        (lambda r: [*r[:1], *r[2:]], "line 3: epoch 2 of .* is missing; the row has epoch 3"),
        (lambda r: [r[0], *r], "line 3: epoch 1 of .* stands in line 2 already"),
        (lambda r: [*r[:2], *r[3:]], "line 3: the curve of .* ends after epoch 2, and others have 3"),
        (lambda r: changed(r, 4, epoch="two"), "line 6: epoch is 'two'"),
        (lambda r: changed(r, 4, epoch="0"), "line 6: epoch is '0'"),
        (lambda r: changed(r, 4, epoch="1.5"), "line 6: epoch is '1.5'"),
        (lambda r: changed(r, 4, **{"1/val_error": "bad"}), "line 6: 1/val_error is 'bad', no number"),
        (lambda r: changed(r, 4, **{"1/val_error": ""}), "line 6: 1/val_error is empty, no number"),
        (lambda r: changed(r, 4, seconds="-1"), "line 6: seconds is -1"),
        (lambda r: changed(r, 4, seconds="inf"), "line 6: seconds is inf"),
        (lambda r: changed(r, 0, layers="7"), "line 2: layers is '7', which the space does not have"),
        (lambda r: changed(r, 0, optimiser="SGD"), "line 2: optimiser is 'SGD'"),
        (lambda r: changed(r, 0, momentum=""), "line 2: optimiser=sgd layers=1 is no valid configuration"),
        (lambda r: [{**each, "note": "x"} for each in r], "column 'note' is no parameter of the space"),
        (lambda r: without(r, "layers"), "no column for the parameter layers"),
        (lambda r: without(r, "epoch"), "has no column 'epoch'"),
        (lambda r: without(r, "1/val_error"), "no column '1/val_error'"),
        (lambda r: without(r, "repeat"), "several trainings need a column repeat"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path, rows, change, words):
    path = write(tmp_path / "t.csv", change(rows))
    with pytest.raises(UsageError, match=words) as caught:
        trainable_kind("table").check_data(settings_for(path), None)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_rows_outside_the_space_can_be_left_out(tmp_path, rows):
    outside = [{**row, "layers": 7} for row in rows[: 2 * EPOCHS]]
    path = write(tmp_path / "t.csv", [*rows, *outside])
    assert "layers is '7'" in refusal(path)
    notes = trainable_kind("table").check_data(settings_for(path, outside="ignore"), None)
    assert any("1 configurations" in note and "left out" in note for note in notes)


def test_errors_that_may_be_fractions_are_remarked_on(tmp_path, rows):
    scaled = [{**row, "1/val_error": row["1/val_error"] / 100} for row in rows]
    scaled[-1]["1/val_error"] = "nan"
    path = write(tmp_path / "t.csv", scaled)
    notes = trainable_kind("table").check_data(settings_for(path), None)
    assert any("all errors (column 1/val_error) lie in [0, 1]" in n and "by 100" in n for n in notes)
    assert loaded(write(tmp_path / "u.csv", rows)).notes == ()


def test_columns_of_the_users_own_names(tmp_path, rows):
    own = [{("err" if key == "1/val_error" else key): value for key, value in row.items()} for row in rows]
    path = write(tmp_path / "t.csv", [{**row, "note": "x"} for row in own])
    table = loaded(path, error="err", ignore=["note"])
    assert table.curves({"optimiser": "adam", "layers": 1})[0].metrics(1)["1/val_error"] > 0
    assert "unknown column 'nothing'" in refusal(path, error="err", ignore=["note", "nothing"])


def test_a_metric_that_was_not_reported_is_not_there(tmp_path, rows):
    more = [{**row, "1/test_error": row["1/val_error"] if row["epoch"] == EPOCHS else ""} for row in rows]
    curve = loaded(write(tmp_path / "t.csv", more)).curves({"optimiser": "adam", "layers": 1})[0]
    assert "1/test_error" not in curve.metrics(1)
    assert math.isfinite(curve.metrics(EPOCHS)["1/test_error"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "need either file or sweep .found neither."),
        ({"file": "a.csv", "sweep": "b"}, "found both"),
        ({"file": "a.csv", "db": "sqlite:///x.db"}, "db in .* goes with sweep"),
        ({"file": 3}, "file in .* is 3"),
        ({"file": "a.csv", "missing": "skip"}, "unknown answer to missing 'skip'"),
        ({"file": "a.csv", "outside": "skip"}, "unknown answer to outside 'skip'"),
        ({"file": "a.csv", "epochs": 0}, "epochs in .* is 0"),
        ({"file": "a.csv", "ignore": "note"}, "ignore in .* is 'note'"),
        ({"file": "a.csv", "path": "x"}, "unknown key 'path'"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(UsageError, match=words):
        trainable_kind("table").check(settings, ())


def test_files_that_are_no_tables(tmp_path, rows):
    assert "there is no file" in refusal(tmp_path / "none.csv")
    (tmp_path / "t.txt").write_text("x")
    assert "neither CSV nor Parquet" in refusal(tmp_path / "t.txt")
    (tmp_path / "empty.csv").write_text("")
    assert "empty.csv" in refusal(tmp_path / "empty.csv")
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    assert "cannot be read" in refusal(tmp_path / "bad.csv.gz")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    assert "cannot be read" in refusal(tmp_path / "bad.parquet")
    path = write(tmp_path / "t.csv", rows)
    path.write_text(path.read_text().replace("seconds", "epoch", 1))
    assert "has the column 'epoch' twice" in refusal(path)
    (tmp_path / "heading.csv").write_text("optimiser,layers,momentum,epoch,1/val_error\n")
    assert "has no rows" in refusal(tmp_path / "heading.csv")


def test_a_table_has_no_test_part():
    with pytest.raises(UsageError, match="a table answers searches alone"):
        trainable_kind("table").check_plan({"file": "a.csv"}, {"evaluate": True})
    assert isinstance(UnknownNameError("a", "b", ["c"]), UsageError)
