"""Settings of students and teachers: defaults, reading, what is refused and how it is said; schedules; KTG's keys."""

import json
import math
import pickle
import subprocess
import sys

import pytest

from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.data.synthetic import SyntheticSettings
from kdsearch.trainables.kd.settings import METAPARAMETERS, Distillation, KdSettings, Sees, TeacherSettings
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.training_settings import Precision, Schedule

MINIMAL = {"data": "digits", "student": "resnet8w4", "teacher": {"model": "resnet14w8"}}
STEPS = {"every": 10, "factor": 0.5}
SYNTHETIC = {
    "data": {"name": "synthetic"},
    "student": "resnet8w4",
    "iterations_per_epoch": 100,
    "teacher": {
        "model": "resnet8w4",
        "epochs": 20,
        "iterations_per_epoch": 1000,
        "batch_size": 200,
        "learning_rate": 1e-2,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "constant",
    },
}


def read(**changes):
    return KdSettings.from_mapping(MINIMAL | changes)


def space(**parameters):
    return space_from_spec({"kind": "parameters", "parameters": parameters})


def number(low, high, kind="float"):
    return {"type": kind, "low": low, "high": high}


# Reading


def test_defaults_are_the_papers():
    settings = read()
    assert settings.data == DataSettings(name="digits")
    assert settings.distillation is Distillation.SOFT
    assert (settings.lambda_1, settings.temperature, settings.validation_temperature) == (0.5, 1.0, 1.0)
    assert not settings.temperature_squared
    assert (settings.learning_rate, settings.momentum, settings.weight_decay) == (1.0, 0.0, 0.0)
    assert (settings.batch_size, settings.precision, settings.val_batch_size) == (
        128,
        Precision.FLOAT32,
        None,
    )
    teacher = settings.teacher
    assert (teacher.learning_rate, teacher.momentum, teacher.weight_decay) == (0.1, 0.9, 5e-4)
    assert (teacher.schedule, teacher.sees, teacher.file) == (Schedule(), Sees.TRAINING, None)


@pytest.mark.parametrize(
    "mapping",
    [
        MINIMAL,
        SYNTHETIC,
        MINIMAL | {"schedule": STEPS, "distillation": "deit", "precision": "float64", "val_batch_size": 32},
        MINIMAL | {"distillation": "none", "teacher": None},
        MINIMAL | {"teacher": {"model": "wrn10-1", "sees": "all", "file": "teacher.pt", "schedule": STEPS}},
        MINIMAL | {"data": {"name": "digits", "train_size": 100, "augment": False}},
    ],
)
def test_a_mapping_is_plain_data_there_and_back(mapping):
    settings = KdSettings.from_mapping(mapping)
    again = json.loads(json.dumps(settings.to_mapping()))
    assert again == settings.to_mapping()
    assert KdSettings.from_mapping(again) == settings
    assert hash(settings) == hash(KdSettings.from_mapping(again))


def test_whole_numbers_and_floats_are_one_setting():
    text = [json.dumps(read(learning_rate=rate, lambda_1=1, temperature=2).to_mapping()) for rate in (1, 1.0)]
    assert text[0] == text[1]


def test_synthetic_by_name_or_mapping():
    assert KdSettings.from_mapping(MINIMAL | {"data": "synthetic"}).data == SyntheticSettings()
    data = {"name": "synthetic", "variant": "paper", "noise": 0.25}
    assert KdSettings.from_mapping(MINIMAL | {"data": data}).data == SyntheticSettings(
        variant="paper", noise=0.25
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learningrate": 1.0}, "Did you mean 'learning_rate'"),
        ({"student": "resnet8v4"}, "unknown model 'resnet8v4' in the trainable's settings"),
        (
            {"teacher": {"model": "resnet15"}},
            "unknown model 'resnet15' in teacher in the trainable's settings",
        ),
        ({"teacher": {"model": "resnet14w8", "epoch": 3}}, "Did you mean 'epochs'"),
        ({"teacher": {"model": "resnet14w8", "sees": "both"}}, "Known: training, all"),
        ({"distillation": "softt"}, "Did you mean 'soft'"),
        ({"precision": "float16"}, "Known: float32, bfloat16, float64"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"schedule": STEPS | {"gamma": 1}}, "unknown key 'gamma' in schedule"),
        ({"data": "synthetics"}, "Did you mean 'synthetic'"),
        ({"data": {"name": "synthetic", "size": 3}}, "unknown key 'size'"),
        ({"data": {"name": "digits", "trainsize": 3}}, "Did you mean 'train_size'"),
    ],
)
def test_unknown_names_come_with_the_known_ones(changes, expected):
    with pytest.raises(UnknownNameError, match=expected) as caught:
        read(**changes)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lambda_1": 1.5}, r"lambda_1 .* is 1.5\nIt must be in \[0, 1\]"),
        ({"lambda_1": math.nan}, "lambda_1"),
        ({"temperature": 0}, "temperature .* is 0\nIt must be a finite number above 0"),
        ({"validation_temperature": -1.0}, "validation_temperature"),
        ({"temperature_squared": 1}, "temperature_squared .*\nIt must be true or false"),
        ({"learning_rate": 0.0}, "learning_rate in the trainable's settings"),
        ({"learning_rate": "1e-2"}, "learning_rate in the trainable's settings is '1e-2'"),
        ({"momentum": 1.0}, r"momentum .*\nIt must be in \[0, 1\)"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"epochs": 0}, "epochs .* is 0\nIt must be a whole number, 1 or more"),
        ({"batch_size": True}, "batch_size"),
        ({"val_batch_size": 0}, "val_batch_size"),
        ({"stem_stride": 1.5}, "stem_stride"),
        ({"iterations_per_epoch": 10}, "the data are images"),
        ({"teacher": {"model": "resnet14w8", "iterations_per_epoch": 10}}, "iterations_per_epoch in teacher"),
        (
            {"teacher": {"model": "resnet14w8", "momentum": 1.0}},
            "momentum in teacher in the trainable's settings",
        ),
        ({"teacher": {"model": "resnet14w8", "file": 3}}, "file in teacher"),
        ({"teacher": {"epochs": 3}}, r"has no model"),
        ({"teacher": None}, "name no teacher, and distillation: soft needs one"),
        (
            {"distillation": "mutual", "teacher": {"model": "resnet14w8", "file": "a.pt"}},
            "trains both networks",
        ),
        ({"student": None}, "name no student"),
        ({"student": 3}, "student .* is 3"),
        ({"data": None}, "name no data set"),
        ({"schedule": {"every": 0, "factor": 0.5}}, "every in schedule in the trainable's settings is 0"),
        ({"schedule": {"every": 3, "factor": 1.5}}, "above 0 and at most 1"),
        ({"schedule": 3}, "Write cosine, constant, or"),
        ({"schedule": {"every": 3}}, "Write cosine, constant, or"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(changes, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        read(**changes)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_label_only_and_mutual_learning_need_no_teacher():
    assert read(distillation="none", teacher=None).teacher is None
    mutual = read(distillation="mutual", teacher=None)
    assert mutual.peer == mutual.student
    assert read(distillation="mutual").peer == "resnet14w8"
    assert [each for each in Distillation if each.taught] == ["soft", "hard", "deit"]


# Schedules


def test_schedules_by_formula():
    cosine, steps = Schedule(), Schedule.read(STEPS, "here")
    for epoch in range(50):
        assert cosine.rate(2.0, epoch, 50) == pytest.approx(1 + math.cos(math.pi * epoch / 50))
        assert steps.rate(1.0, epoch, 50) == 0.5 ** (epoch // 10)
        assert Schedule.read("constant", "here").rate(0.3, epoch, 50) == 0.3
    assert steps.to_plain() == STEPS
    assert Schedule.read("cosine", "here").to_plain() == "cosine"


# The teacher


def test_a_teacher_is_a_student_of_the_label_under_its_own_settings():
    settings = KdSettings.from_mapping(SYNTHETIC).for_teacher()
    assert (settings.student, settings.distillation) == ("resnet8w4", Distillation.NONE)
    assert settings.epochs * settings.iterations_per_epoch == 20_000
    assert (settings.learning_rate, settings.momentum, settings.weight_decay) == (1e-2, 0.0, 0.0)
    assert settings.schedule.rate(1e-2, 19, 20) == 1e-2
    assert (settings.batch_size, settings.outputs(2)) == (200, 2)
    assert settings.teacher == TeacherSettings.from_mapping(SYNTHETIC["teacher"])
    with pytest.raises(UsageError, match="name no teacher"):
        read(distillation="none", teacher=None).for_teacher()


def test_what_students_do_is_no_part_of_the_teacher():
    """So students of different methods share one teacher; what it learns from, and how, does change it."""
    same = [
        {"student": "resnet20"},
        {"distillation": "deit"},
        {"lambda_1": 0.1, "temperature": 4.0, "validation_temperature": 0.1, "temperature_squared": True},
        {"epochs": 3, "learning_rate": 0.2, "schedule": STEPS, "val_batch_size": 8, "batch_size": 32},
    ]
    other = [
        {"data": {"name": "digits", "split_seed": 1}},
        {"teacher": {"model": "resnet14w8", "sees": "all"}},
        {"teacher": {"model": "resnet14w8", "epochs": 3}},
        {"stem_stride": 2},
    ]
    teacher = read().for_teacher()
    for changes in same:
        assert read(**changes).for_teacher() == teacher
    for changes in other:
        assert read(**changes).for_teacher() != teacher


# Configurations and spaces


def test_a_configuration_overrides_the_settings():
    settings = read(temperature=3.0, momentum=0.5)
    assert settings.values_of({}) == (0.5, 3.0)
    assert settings.values_of({"lambda_1": 0, "temperature": 0.1, "learning_rate": 0.2}) == (0.0, 0.1)
    assert settings.own("learning_rate", {"learning_rate": 0.2}) == 0.2
    assert settings.own("momentum", {"learning_rate": 0.2}) == 0.5


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({"lambda": 0.5}, "Did you mean 'lambda_1'"),
        ({"lambda_1": 1.01}, "lambda_1 in the configuration of a kd trial is 1.01"),
        ({"temperature": 0.0}, "temperature in the configuration"),
        ({"temperature": math.inf}, "temperature in the configuration"),
        ({"lambda_1": "0.5"}, "lambda_1 in the configuration"),
    ],
)
def test_configurations_that_cannot_be_are_refused(configuration, expected):
    with pytest.raises(UsageError, match=expected):
        read().values_of(configuration)


def test_metaparameters_are_those_that_the_loss_depends_on():
    names = {
        kind: [each.name for each in read(distillation=kind).metaparameters]
        for kind in map(str, Distillation)
    }
    assert names == {
        "soft": ["lambda_1", "temperature"],
        "hard": ["lambda_1"],
        "deit": ["lambda_1"],
        "none": [],
        "mutual": [],
    }
    weight, temperature = METAPARAMETERS
    assert (weight.low, weight.high) == (0.0, 1.0)
    assert temperature.low > 0


def test_good_spaces_pass():
    settings = read()
    settings.check_space(space(lambda_1=number(0, 1), temperature=number(0.1, 10, "log-uniform")))
    settings.check_space(
        space(
            lambda_1={"type": "categorical", "values": [0, 0.5, 1]},
            temperature={"type": "integer", "low": 1, "high": 5},
            learning_rate=number(1e-3, 1, "log-uniform"),
            weight_decay=number(0, 1e-3),
            momentum={"type": "quantised", "low": 0, "high": 0.9, "step": 0.1},
        )
    )
    read(distillation="hard").check_space(space(lambda_1=number(0, 1)))
    read(distillation="mutual").check_space(space(temperature=number(1, 4)))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (
            {"temperature": number(0, 10)},
            r"temperature is in \[0.0, 10.0\] .*which includes 0\nLogits are divided",
        ),
        ({"temperature": number(-1, 10)}, "which includes 0"),
        ({"temperature": {"type": "categorical", "values": [0, 1]}}, "temperature is 0 or 1"),
        (
            {"temperature": {"type": "categorical", "values": ["low", "high"]}},
            "temperature is low or high",
        ),
        ({"lambda_1": number(0, 1.5)}, r"lambda_1 is in \[0.0, 1.5\] .*\nIt weighs the label's term"),
        ({"lambda_1": number(-0.1, 1)}, "lambda_1 is in"),
        ({"learning_rate": number(0, 1)}, "learning_rate is in .*\nIt must be a finite number above 0"),
        ({"momentum": number(0, 1)}, r"momentum is in .*\nIt must be in \[0, 1\)"),
        (
            {"lambda": number(0, 1)},
            "unknown parameter 'lambda' in the space .*\nDid you mean 'lambda_1'",
        ),
    ],
)
def test_bad_spaces_are_refused(parameters, expected):
    with pytest.raises(UsageError, match=expected):
        read().check_space(space(**parameters))


def test_a_parameter_without_effect_is_refused():
    with pytest.raises(UsageError, match="temperature has no effect under distillation: hard"):
        read(distillation="hard").check_space(space(temperature=number(1, 4)))
    with pytest.raises(UsageError, match="lambda_1 has no effect under distillation: none"):
        read(distillation="none").check_space(space(lambda_1=number(0, 1)))


def test_a_space_of_graphs_is_none_of_students():
    graphs = space_from_spec(
        {
            "kind": "ktg",
            "target": "resnet8w4",
            "auxiliary": {"count": 1, "models": ["resnet8w4"]},
            "gates": ["through", "cutoff"],
        }
    )
    with pytest.raises(UnknownNameError, match="in the space of a kd trainable"):
        read().check_space(graphs)


# What KTG shares


def test_ktg_mappings_are_what_they_were():
    """They are part of cache keys and of the identity of checkpoints."""
    mapping = KtgSettings.from_mapping({"data": "digits", "target": "resnet20"}).to_mapping()
    assert mapping == {
        "data": {
            "name": "digits",
            "train_size": None,
            "val_size": None,
            "split_seed": 0,
            "augment": True,
            "purpose": "search",
            "stratified": None,
        },
        "target": "resnet20",
        "epochs": 100,
        "batch_size": 64,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "temperature": 1.0,
        "precision": "float32",
        "eval_batch_size": 256,
        "stem_stride": 1,
    }
    assert list(mapping)[-1] == "stem_stride"
    assert type(mapping["precision"]) is str


def test_ktg_schedules():
    cosine = KtgSettings(data=DataSettings(name="digits"), epochs=7)
    for epoch in range(7):  # to the last bit: trials that were interrupted before go on
        assert cosine.rate(epoch) == 0.5 * 0.1 * (1.0 + math.cos(math.pi * epoch / 7))
    steps = KtgSettings.from_mapping(cosine.to_mapping() | {"schedule": STEPS})
    assert steps.rate(13) == 0.05
    assert KtgSettings.from_mapping(steps.to_mapping()) == steps
    assert KtgSettings.from_mapping(cosine.to_mapping() | {"schedule": "cosine"}) == cosine


def test_torch_is_not_needed():
    code = "import sys; import kdsearch.trainables.kd.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
