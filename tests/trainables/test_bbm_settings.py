"""What a sweep file says of block-by-block matching: what is read, what is refused, and what a trial comes to."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.bbm import KIND
from kdsearch.trainables.bbm.objectives import Objective
from kdsearch.trainables.bbm.settings import BbmSettings, Method, Training
from kdsearch.trainables.series.specs import LstmSpec, ResNetSpec, TransformerSpec

_SPEC = importlib.util.spec_from_file_location("bbm_cases", Path(__file__).with_name("bbm_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
HOURS, SIGNALS = _CASES.HOURS, _CASES.SIGNALS
changed = _CASES.changed

ALL = {
    "data": {
        "name": "physionet2021",
        "validation": 0.2,
        "test": 0.1,
        "seed": 3,
        "window_s": 2.0,
        "rate_hz": 100,
        "indicators": False,
        "elsewhere": "hangzhou",
        "or_sample": True,
    },
    "student": {
        "network": "transformer",
        "units": 6,
        "width": 12,
        "heads": 3,
        "feed_forward": 5,
        "patch": 25,
        "causal": True,
    },
    "teacher": {
        "network": "resnet",
        "units": 9,
        "filters": 3,
        "kernel": 7,
        "widen_every": 5,
        "epochs": 11,
        "batch_size": 12,
        "learning_rate": 0.13,
        "weight_decay": 0.14,
        "dropout": 0.15,
        "warm_up": 2,
        "augment_number": 1,
        "augment_intensity": 0.16,
        "file": None,
    },
    "method": "deit",
    "blocks": 3,
    "lambda": 0.25,
    "ratio": 0.75,
    "objective": "auprc",
    "eval_batch_size": 17,
    "similarity": False,
    "epochs": 21,
    "batch_size": 22,
    "learning_rate": 0.23,
    "weight_decay": 0.24,
    "dropout": 0.25,
    "warm_up": 4,
    "augment_number": 6,
    "augment_intensity": 0.26,
}


def test_every_key_is_read():
    read = BbmSettings.from_mapping(ALL)
    assert vars(read.data) == ALL["data"]
    assert read.student == TransformerSpec(
        units=6, width=12, heads=3, feed_forward=5, patch=25, causal=True, dropout=0.0
    )
    assert read.training == Training(
        epochs=21,
        batch_size=22,
        learning_rate=0.23,
        weight_decay=0.24,
        dropout=0.25,
        warm_up=4,
        augment_number=6,
        augment_intensity=0.26,
    )
    assert read.teacher.network == ResNetSpec(units=9, filters=3, kernel=7, widen_every=5)
    assert read.teacher.training == Training(
        epochs=11,
        batch_size=12,
        learning_rate=0.13,
        weight_decay=0.14,
        dropout=0.15,
        warm_up=2,
        augment_number=1,
        augment_intensity=0.16,
    )
    assert read.teacher.file is None
    assert (read.method, read.blocks, read.matching, read.ratio) == (Method.DEIT, 3, 0.25, 0.75)
    assert (read.objective, read.eval_batch_size, read.similarity) == (Objective.AUPRC, 17, False)


@pytest.mark.parametrize("settings", [ALL, HOURS, SIGNALS])
def test_settings_survive_being_written_as_plain_data(settings):
    read = BbmSettings.from_mapping(settings)
    assert BbmSettings.from_mapping(read.to_mapping()) == read
    assert BbmSettings.from_mapping(read.to_mapping()).to_mapping() == read.to_mapping()


def test_what_is_read_is_what_is_written():
    assert BbmSettings.from_mapping(ALL).to_mapping() == ALL


def test_a_name_alone_stands_for_a_set_of_records():
    settings = {"data": "physionet2019", "method": "transformer", "student": HOURS["student"]}
    assert BbmSettings.from_mapping(settings).data.name == "physionet2019"


@pytest.mark.parametrize(
    ("changes", "told", "hint"),
    [
        ({"lamda": 0.1}, "unknown key 'lamda'", "Did you mean 'lambda'"),
        ({"data": {"name": "physionet2020"}}, "unknown set of records 'physionet2020'", "physionet2021"),
        ({"data": {"name": "physionet2021", "rate": 3}}, "unknown key 'rate' in data", "'rate_hz'"),
        (
            {"data": {**HOURS["data"], "elsewhere": "hangzhou"}},
            "unknown set of records 'hangzhou'",
            "Known: eicu",
        ),
        ({"student": {"network": "transfomer"}}, "unknown network 'transfomer'", "mean 'transformer'"),
        ({"student": {**HOURS["student"], "head": 2}}, "unknown key 'head'", "Did you mean 'heads'"),
        ({"teacher": {"network": "lstm", "hiden": 2}}, "unknown key 'hiden'", "Did you mean 'hidden'"),
        ({"method": "bmm"}, "unknown method 'bmm'", "Did you mean 'bbm'"),
        ({"objective": "auc"}, "unknown objective 'auc'", "Did you mean 'auroc'"),
    ],
)
def test_unknown_names_are_listed_with_the_nearest(changes, told, hint):
    with pytest.raises(UnknownNameError) as caught:
        KIND.check(changed(HOURS, **changes), ())
    assert told in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 0}, "epochs in the trainable's settings is 0"),
        ({"epochs": True}, "epochs in the trainable's settings is True"),
        ({"batch_size": 1.5}, "batch_size in the trainable's settings is 1.5"),
        ({"learning_rate": 0}, "learning_rate in the trainable's settings is 0"),
        ({"learning_rate": "fast"}, "learning_rate in the trainable's settings is 'fast'"),
        ({"weight_decay": -1e-9}, "weight_decay in"),
        ({"dropout": 1.0}, "dropout in"),
        ({"augment_intensity": 1.1}, "augment_intensity in"),
        ({"augment_number": 7}, "augment_number in the trainable's settings is 7"),
        ({"augment_number": -1}, "augment_number in"),
        ({"warm_up": 3}, "warm_up is 3 epochs of 3"),
        ({"warm_up": -1}, "warm_up in"),
        ({"lambda": -0.1}, "lambda in"),
        ({"lambda": float("inf")}, "lambda in"),
        ({"ratio": 1.01}, "ratio in"),
        ({"blocks": 0}, "blocks in"),
        ({"eval_batch_size": 0}, "eval_batch_size in"),
        ({"similarity": "yes"}, "similarity in the trainable's settings must be true or false"),
        ({"data": None}, "name no set of records"),
        ({"data": {"name": "physionet2021", "validation": 0.6, "test": 0.4}}, "leave nothing to train on"),
        ({"data": {"name": "physionet2021", "test": "much"}}, "test in data in"),
        ({"data": {"name": "physionet2021", "window_s": "ten"}}, "window_s in data in"),
        ({"data": {"name": "physionet2021", "rate_hz": 0}}, "rate_hz must be"),
        ({"data": {"name": "physionet2021", "seed": -1}}, "seed must be"),
        ({"data": {"name": "physionet2021", "or_sample": 1}}, "or_sample of data in"),
        ({"data": {"name": "physionet2021", "indicators": True}}, "belong to physionet2019"),
        ({"student": "transformer"}, "student in the trainable's settings is 'transformer'"),
        ({"student": {**SIGNALS["student"], "dropout": 0.3}}, "dropout stands in student"),
        ({"student": {**SIGNALS["student"], "heads": 3}}, "width 8 cannot be divided among 3 heads"),
        ({"student": {**SIGNALS["student"], "patch": 30}}, "patches of 30 do not divide 100 time steps"),
        ({"teacher": "resnet"}, "teacher in the trainable's settings is 'resnet'"),
        ({"teacher": {**SIGNALS["teacher"], "file": 3}}, "file in teacher in"),
        ({"teacher": {**SIGNALS["teacher"], "epochs": 0}}, "epochs in teacher in"),
        ({"teacher": {**SIGNALS["teacher"], "warm_up": 2}}, "warm_up is 2 epochs of 2"),
        ({"blocks": 3}, "3 blocks do not divide the 2 units of the network transformer"),
        (
            {"blocks": 3, "student": {**SIGNALS["student"], "units": 6}},
            "3 blocks do not divide the 4 units of the network resnet",
        ),
        ({"teacher": None}, "the method bbm needs a teacher"),
        ({"teacher": None, "method": "deit"}, "the method deit needs a teacher"),
        ({"teacher": None, "method": "teacher"}, "the method teacher needs a teacher"),
        ({"method": "deit", "student": {"network": "lstm", "units": 2}}, "a lstm has none"),
    ],
)
def test_values_outside_their_ranges_are_refused(changes, told):
    with pytest.raises(UsageError) as caught:
        KIND.check(changed(SIGNALS, **changes), ())
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"augment_number": 1}, "augment_number is 1 for physionet2019"),
        ({"teacher": {**HOURS["teacher"], "augment_number": 2}}, "augment_number is 2 for physionet2019"),
        ({"teacher": {"network": "resnet", "units": 2}}, "a resnet cannot answer for every hour"),
        (
            {"teacher": {"network": "resnet", "units": 2}, "method": "transformer"},
            "a resnet cannot answer for every hour",
        ),
        ({"student": {"network": "resnet", "units": 2}}, "a resnet cannot answer for every hour"),
        ({"student": {**HOURS["student"], "causal": False}}, "must not see the hours to come"),
        ({"student": {**HOURS["student"], "patch": 2}}, "takes rows for tokens"),
    ],
)
def test_what_is_for_ecgs_is_refused_by_the_hour(changes, told):
    with pytest.raises(UsageError) as caught:
        KIND.check(changed(HOURS, **changes), ())
    assert told in caught.value.message


def test_the_ends_of_ranges_are_taken():
    KIND.check(
        changed(
            SIGNALS,
            weight_decay=0.0,
            dropout=0.0,
            augment_number=6,
            augment_intensity=1.0,
            warm_up=0,
            ratio=1.0,
            teacher={**SIGNALS["teacher"], "augment_intensity": 0.0, "warm_up": 0},
            **{"lambda": 0.0},
        ),
        (),
    )


def test_a_configuration_takes_the_place_of_settings():
    values = {
        "method": "bbm",
        "learning_rate": 0.5,
        "weight_decay": 0.4,
        "dropout": 0.3,
        "augment_number": 2,
        "augment_intensity": 0.9,
        "batch_size": 5,
        "ratio": 0.1,
        "lambda": 0.2,
        "blocks": 1,
        "heads": 4,
        "width": 16,
        "feed_forward": 9,
    }
    trial = BbmSettings.from_mapping(SIGNALS).trial(values)
    assert trial.training == Training(
        epochs=3,
        batch_size=5,
        learning_rate=0.5,
        weight_decay=0.4,
        dropout=0.3,
        warm_up=1,
        augment_number=2,
        augment_intensity=0.9,
    )
    assert trial.network == TransformerSpec(units=2, width=16, heads=4, feed_forward=9, patch=10, dropout=0.3)
    assert (trial.method, trial.blocks, trial.matching, trial.ratio) == (Method.BBM, 1, 0.2, 0.1)


def test_without_a_configuration_the_settings_hold():
    trial = BbmSettings.from_mapping(SIGNALS).trial({})
    assert (trial.method, trial.blocks, trial.matching, trial.ratio) == (Method.BBM, 2, 0.01, 0.5)
    assert trial.training.dropout == trial.network.dropout == 0.1


def test_the_method_teacher_takes_the_teachers_settings():
    settings = BbmSettings.from_mapping(
        changed(HOURS, teacher={**HOURS["teacher"], "dropout": 0.2, "learning_rate": 0.7})
    )
    teacher = settings.trial({"method": "teacher"})
    assert teacher.network == LstmSpec(units=2, hidden=6, dropout=0.2)
    assert (teacher.training.epochs, teacher.training.batch_size) == (2, 40)
    assert teacher.training.learning_rate == 0.7
    assert teacher.training.warm_up == 1  # said nowhere but for the students
    larger = settings.trial({"method": "teacher", "hidden": 9, "learning_rate": 0.1})
    assert larger.network.hidden == 9
    assert larger.training == replace(teacher.training, learning_rate=0.1)
    student = settings.trial({"method": "transformer"})
    assert student.training == settings.training
    # what is trained and what trials learn from are built alike
    assert settings.teacher_network == teacher.network


def test_a_sweep_of_teachers_has_no_teacher_for_students():
    alone = BbmSettings.from_mapping(changed(HOURS, method="teacher"))
    with pytest.raises(UsageError, match="none is trained before the trials"):
        alone.trial({"method": "bbm"})
    given = changed(HOURS, method="teacher", teacher={**HOURS["teacher"], "file": "teacher.pt"})
    assert BbmSettings.from_mapping(given).trial({"method": "bbm"}).method is Method.BBM


def test_a_parameter_that_no_network_of_the_sweep_has_is_refused():
    with pytest.raises(UsageError, match="hidden is no setting of the networks"):
        BbmSettings.from_mapping(SIGNALS).trial({"hidden": 5})
    assert BbmSettings.from_mapping(HOURS).trial({"hidden": 5}).network.width == 8


def test_blocks_that_do_not_divide_name_those_that_do():
    with pytest.raises(UsageError) as caught:
        BbmSettings.from_mapping(SIGNALS).trial({"blocks": 4})
    assert "4 blocks do not divide the 2 units" in caught.value.message
    assert caught.value.hint == "Possible numbers of blocks: 1, 2."
    for method in ("teacher", "transformer", "deit"):  # which have no blocks
        assert BbmSettings.from_mapping(SIGNALS).trial({"method": method, "blocks": 4}).blocks == 4


def test_importing_the_kind_and_checking_settings_imports_no_torch():
    code = (
        "import sys; from kdsearch.trainables.bbm import KIND;"
        f"settings = {HOURS!r};"
        "KIND.check(settings, ()); KIND.pretraining(settings, ());"
        "KIND.shape(settings, {}); KIND.inputs(settings, {}); KIND.metaparameters(settings, {});"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
