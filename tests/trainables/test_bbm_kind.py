"""The registry's entry of block-by-block matching: spaces, plans, pre-training and records."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from kdsearch.search.config import parse_sweep
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import KdsearchError, UnknownNameError, UsageError
from kdsearch.trainables.bbm import KIND, parts
from kdsearch.trainables.bbm.parts import load_records
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.data.marker import MARKER_FILE
from kdsearch.trainables.records import Part, sample_records
from kdsearch.trainables.registry import trainable_kind

_SPEC = importlib.util.spec_from_file_location("bbm_cases", Path(__file__).with_name("bbm_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
HOURS, SIGNALS = _CASES.HOURS, _CASES.SIGNALS
changed = _CASES.changed
root = _CASES.root


def space(**parameters):
    return space_from_spec({"kind": "parameters", "parameters": parameters})


def categorical(*values):
    return {"type": "categorical", "values": list(values)}


def test_it_is_registered():
    assert trainable_kind("bbm") is KIND


def test_a_space_of_known_parameters_is_taken():
    KIND.check_space(
        SIGNALS,
        space(
            method=categorical("teacher", "transformer", "deit", "bbm"),
            learning_rate={"type": "log-uniform", "low": 1e-4, "high": 0.1},
            weight_decay={"type": "log-uniform", "low": 1e-5, "high": 0.1},
            dropout={"type": "quantised", "low": 0, "high": 0.3, "step": 0.05},
            augment_number={"type": "integer", "low": 0, "high": 6},
            augment_intensity={"type": "float", "low": 0.0, "high": 1.0},
            ratio={"type": "float", "low": 0.0, "high": 1.0},
            blocks=categorical(1, 2),
            heads=categorical(1, 2, 4),
            width=categorical(8, 16),
            feed_forward=categorical(4),
            batch_size=categorical(8, 16),
            **{"lambda": {"type": "log-uniform", "low": 1e-6, "high": 1.0}},
        ),
    )


def test_an_unknown_parameter_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        KIND.check_space(SIGNALS, space(learning_rat=categorical(0.1)))
    assert "unknown parameter 'learning_rat' in the space" in caught.value.message
    assert "Did you mean 'learning_rate'" in caught.value.hint


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"blocks": categorical(1, 4)}, ["'blocks': 4", "4 blocks do not divide"]),
        ({"heads": categorical(2, 3)}, ["'heads': 3", "cannot be divided among 3 heads"]),
        ({"method": categorical("bbm", "bmm")}, ["'method': 'bmm'", "unknown method 'bmm'"]),
        ({"dropout": {"type": "float", "low": 0.5, "high": 1.5}}, ["'dropout': ", "dropout in"]),
        ({"hidden": categorical(4)}, ["'hidden': 4", "hidden is no setting of the networks"]),
        (
            {"lambda": {"type": "float", "low": -1.0, "high": 1.0}},
            ["'lambda': -", "lambda in the trainable's settings is -"],
        ),
    ],
)
def test_values_that_no_trial_could_take_are_refused_with_the_configuration(parameters, told):
    with pytest.raises(UsageError) as caught:
        KIND.check_space(SIGNALS, space(**parameters))
    assert caught.value.message.startswith("the space holds {")
    assert all(each in caught.value.message for each in told)
    assert caught.value.hint is None or "{" not in caught.value.hint


def test_graphs_are_no_space_of_it():
    graphs = {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 1, "models": ["resnet8w4"]},
        "gates": ["through", "cutoff"],
    }
    with pytest.raises(UsageError, match="needs a space of kind parameters"):
        KIND.check_space(SIGNALS, space_from_spec(graphs))


def test_the_validation_part_is_never_trained_on():
    KIND.check_plan(HOURS, {"evaluate": True, "train_on": "training"})
    with pytest.raises(UsageError, match="train_on: all is not possible"):
        KIND.check_plan(HOURS, {"train_on": "all"})


@pytest.mark.parametrize(
    ("method", "names"),
    [("bbm", [("lambda", 0.0)]), ("deit", [("ratio", 0.0)]), ("teacher", []), ("transformer", [])],
)
def test_the_weight_of_each_loss_can_be_optimised(method, names):
    found = KIND.metaparameters(HOURS, {"method": method})
    assert [(each.name, each.low) for each in found] == names
    if method == "deit":
        assert found[0].high == 1.0


# What is trained before the trials


def key(settings, **changes):
    return KIND.pretraining(changed(settings, **changes), ())[0].defined_by


COMPLETE = {
    **HOURS["teacher"],
    "learning_rate": 0.02,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "warm_up": 0,
    "augment_number": 0,
    "augment_intensity": 0.5,
}


def test_the_teacher_is_trained_before_students():
    (first,) = KIND.pretraining(HOURS, ())
    assert (first.model, first.configuration) == ("lstm", {"method": "teacher"})
    assert KIND.pretraining(changed(HOURS, method="teacher"), ()) == ()
    assert KIND.pretraining(changed(HOURS, teacher={**HOURS["teacher"], "file": "t.pt"}), ()) == ()
    assert KIND.pretraining(changed(HOURS, teacher=None, method="transformer"), ()) == ()


def test_a_teacher_is_defined_by_its_own_settings_and_records_alone():
    own = changed(HOURS, teacher=COMPLETE)
    assert key(own) == key(
        own,
        epochs=9,
        batch_size=8,
        learning_rate=0.7,
        weight_decay=0.1,
        dropout=0.3,
        warm_up=2,
        student={**HOURS["student"], "width": 16},
        method="deit",
        blocks=1,
        ratio=0.2,
        eval_batch_size=4,
        similarity=False,
        data={**HOURS["data"], "elsewhere": "eicu"},
        **{"lambda": 0.5},
    )
    for changes in ({"epochs": 3}, {"hidden": 7}, {"learning_rate": 0.03}, {"dropout": 0.1}, {"warm_up": 1}):
        assert key(own) != key(own, teacher={**COMPLETE, **changes})
    assert key(own) != key(own, objective="f1")  # its kept error is made of it
    for changes in ({"seed": 1}, {"indicators": True}, {"validation": 0.2}):
        assert key(own) != key(own, data={**HOURS["data"], **changes})


def test_what_the_teachers_settings_leave_out_is_the_students():
    assert key(HOURS) != key(HOURS, learning_rate=0.7)
    assert key(HOURS) == key(HOURS, epochs=9)  # which the teacher's own settings say


def test_students_and_what_is_compared_need_the_teacher():
    def needed(method, **changes):
        return KIND.inputs(changed(HOURS, **changes), {"method": method})

    assert [needed(method) for method in _CASES.METHODS] == [(), ("lstm",), ("lstm",), ("lstm",)]
    assert needed("transformer", similarity=False) == ()
    assert needed("bbm", similarity=False) == ("lstm",)
    assert needed("bbm", teacher={**HOURS["teacher"], "file": "t.pt"}) == ()
    assert KIND.inputs(changed(HOURS, method="teacher"), {}) == ()


def test_trials_of_equal_settings_share_a_shape():
    assert KIND.shape(HOURS, {"method": "bbm"}) == KIND.shape(HOURS, {"method": "deit", "lambda": 3})
    assert KIND.shape(HOURS, {}) != KIND.shape(changed(HOURS, epochs=4), {})


# Records


def test_what_was_read_is_said_and_that_it_is_made_up(root):
    notes = KIND.check_data(HOURS, root)
    assert notes[0].startswith("Read: PhysioNet/CinC 2019 (sepsis), 120 of 120 files read (120 patients")
    assert "made-up sample: the numbers are no results" in notes[-1]
    notes = KIND.check_data(SIGNALS, root)
    assert notes[1].startswith("Repaired or noted: ")
    assert "resampled: 100 files" in notes[1]


def elsewhere(name="eicu"):
    return changed(HOURS, data={**HOURS["data"], "elsewhere": name})


def test_a_set_from_elsewhere_is_read_and_does_not_make_the_sweep_a_made_up_one(root, tmp_path):
    shutil.copytree(root / "physionet2019", tmp_path / "physionet2019")
    (tmp_path / "physionet2019" / MARKER_FILE).unlink()  # as if real
    notes = KIND.check_data(elsewhere(), tmp_path)
    assert notes[-1].startswith("No outputs are compared on eicu: none of its folders")
    shutil.copytree(root / "eicu", tmp_path / "eicu")
    load_elsewhere_again()
    notes = KIND.check_data(elsewhere(), tmp_path)
    assert any(note.startswith("Read: eICU") and "60 patients" in note for note in notes)
    assert "from elsewhere" in notes[-1]
    assert "are made up" in notes[-1]
    assert not any("made-up sample" in note for note in notes)


def test_where_records_are_made_up_those_from_elsewhere_are_too(root, tmp_path):
    shutil.copytree(root / "physionet2019", tmp_path / "physionet2019")
    notes = KIND.check_data(elsewhere(), tmp_path)
    assert sum("made-up sample" in note for note in notes) == 1
    assert "are made up" in notes[-1]


def test_a_set_from_elsewhere_that_is_broken_is_refused(root, tmp_path):
    shutil.copytree(root / "physionet2019", tmp_path / "physionet2019")
    (tmp_path / "eicu").mkdir()
    (tmp_path / "eicu" / "patient.csv").write_text("a,b\n1,2\n", encoding="ascii")
    with pytest.raises(KdsearchError, match="eicu"):
        KIND.check_data(elsewhere(), tmp_path)


def load_elsewhere_again():
    """A process opens a set once: this is another one."""
    parts._elsewhere.cache_clear()


def test_missing_records_are_refused_unless_a_sample_may_stand_in(tmp_path):
    with pytest.raises(KdsearchError, match="2019"):
        KIND.check_data(HOURS, tmp_path)
    notes = KIND.check_data(changed(HOURS, data={**HOURS["data"], "or_sample": True}), tmp_path)
    assert "made-up sample" in notes[-1]


@pytest.fixture
def damaged(tmp_path):
    """A data root with a set of its own to be damaged: its folder."""
    return sample_records("physionet2019", tmp_path, seed=5)


def test_content_changes_with_the_records_and_their_form(root, tmp_path, damaged):
    first = KIND.content(HOURS, root)
    assert first == KIND.content(changed(HOURS, epochs=9), root)
    assert first != KIND.content(HOURS, tmp_path)
    assert first != KIND.content(changed(HOURS, data={**HOURS["data"], "indicators": True}), root)


def test_files_that_are_left_out_are_named(tmp_path, damaged):
    paths = sorted(damaged.rglob("*.psv"))
    for path in paths[:4]:
        path.write_text("HR|O2Sat\n1|2\n", encoding="ascii")
    notes = KIND.check_data(HOURS, tmp_path)
    (left_out,) = [note for note in notes if note.startswith("Left out: 4 files: ")]
    assert all(path.name in left_out for path in paths[:3])
    assert paths[3].name not in left_out
    assert left_out.endswith("; and 1 more.")


def test_broken_records_are_refused(tmp_path, damaged):
    for path in damaged.rglob("*.psv"):
        path.write_text("no table", encoding="ascii")
    with pytest.raises(KdsearchError):
        KIND.check_data(HOURS, tmp_path)


@pytest.mark.parametrize("settings", [HOURS, SIGNALS])
def test_every_record_stands_in_one_part_and_batches_have_the_networks_form(settings, root):
    data = BbmSettings.from_mapping(settings).data
    records = load_records(data, root)
    count = len(records.held)
    assert sorted(at for part in Part for at in records.parts[part]) == list(range(count))
    chosen = records.parts[Part.TEST][:3]
    batch = records.batch(chosen)
    if data.per_step:
        hours = records.lengths[chosen]
        assert batch.values.shape == (3, max(hours), data.inputs)
        assert batch.labels.shape == (3, max(hours), data.outputs)
        assert batch.real.sum(1).tolist() == hours.tolist()
    else:
        signals, labels = records.held.batch(chosen)
        assert (data.steps, data.inputs, data.outputs) == (100, 12, 26)
        assert batch.values[1, 30, 4] == signals[1, 4, 30]
        assert batch.values.shape == (3, 100, 12)
        assert batch.labels.tolist() == labels.tolist()
        assert batch.real is None
        assert records.lengths is None


def test_finite_differences_are_refused_as_the_exact_derivative_is_there():
    for searcher in (
        {"kind": "gradient", "trials": 2, "metaparameters": ["lambda"]},
        {"kind": "gradient", "trials": 2, "metaparameters": ["lambda"], "hypergradient": "finite-difference"},
    ):
        data = {
            "name": "s",
            "space": {"kind": "parameters", "parameters": {"lambda": {"type": "float", "low": 0, "high": 1}}},
            "trainable": {"kind": "bbm", **HOURS},
            "searcher": searcher,
        }
        if "hypergradient" not in searcher:
            parse_sweep(data, "test")
            continue
        with pytest.raises(UsageError, match="finite-difference is not possible"):
            parse_sweep(data, "test")


@pytest.mark.parametrize(
    ("settings", "parameters", "name"),
    [
        (HOURS, {"hidden": categorical(6, 8)}, "hidden"),  # the teacher's, which no trial trains
        (HOURS, {"ratio": categorical(0.1, 0.2)}, "ratio"),
        (HOURS, {"method": categorical("transformer"), "blocks": categorical(1, 2)}, "blocks"),
        (HOURS, {"method": categorical("teacher"), "lambda": categorical(1.0, 2.0)}, "lambda"),
        (SIGNALS, {"augment_intensity": categorical(0.1, 0.5)}, "augment_intensity"),
    ],
)
def test_parameters_without_effect_are_refused(settings, parameters, name):
    with pytest.raises(UsageError, match=f"{name} has no effect"):
        KIND.check_space(settings, space(**parameters))


def test_a_value_that_stands_alone_is_taken_with_or_without_effect():
    KIND.check_space(HOURS, space(method=categorical("teacher"), blocks=categorical(2)))


def test_parameters_with_effect_in_some_trials_are_taken():
    both = {"method": categorical("deit", "bbm"), "ratio": categorical(0.1, 0.2), "lambda": categorical(1.0)}
    KIND.check_space(HOURS, space(**both))
