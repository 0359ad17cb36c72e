"""The registry's entry of students, and the synthetic set."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.kd import KIND
from kdsearch.trainables.protocol import Member

_SPEC = importlib.util.spec_from_file_location("kd_cases", Path(__file__).with_name("kd_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
OPTIMISER = _CASES.OPTIMISER
SETTINGS = _CASES.SETTINGS
START = _CASES.START
changed = _CASES.changed
learned = _CASES.learned
member = _CASES.member
optimised = _CASES.optimised
run = _CASES.run
teacher = _CASES.teacher


SYNTHETIC = {
    "data": {"name": "synthetic", "variant": "fair"},
    "student": "linear",
    "teacher": {
        "model": "linear",
        "epochs": 2,
        "iterations_per_epoch": 50,
        "batch_size": 200,
        "learning_rate": 0.1,
        "momentum": 0.0,
    },
    "epochs": 2,
    "iterations_per_epoch": 20,
    "batch_size": 15,
    "val_batch_size": 200,
    "validation_temperature": 0.1,
}


@pytest.mark.parametrize("variant", ["fair", "paper"])
def test_the_synthetic_set_is_taught_and_optimised(tmp_path, variant):
    settings = changed(SYNTHETIC, data={"name": "synthetic", "variant": variant})
    assert len(KIND.check_data(settings, None)) == (variant == "paper")
    path = tmp_path / "teacher.pt"
    pack = KIND.make_pack(
        settings,
        [Member(number=0, seed=1, configuration={"teacher": "linear"})],
        data_root=None,
        device="cpu",
    )
    assert run(pack)[0][-1].metrics["iterations"] == 50
    pack.save_output(0, path)
    inputs = {"teacher:linear": path}
    plan = {"optimised": True, "evaluate": True, "optimiser": OPTIMISER}
    student = KIND.make_pack(
        settings, [replace(member(0, plan), inputs=inputs)], data_root=None, device="cpu"
    )
    product = student._parts.training.inputs[:, 2, 0, 0].abs().bool().all()  # sign(x1 x2) is 1 or -1
    assert product == (variant == "paper")
    reports = run(student)[0]
    assert reports[-1].metrics["iterations"] == 20
    assert reports[-1].metrics["meta.temperature"] != START["temperature"]
    if variant == "paper":  # validation is the test part
        assert reports[-1].metrics["1/val_error"] == reports[-1].metrics["1/test_error"]


def test_every_run_of_the_fair_variant_has_objects_of_its_own(tmp_path):
    path = tmp_path / "teacher.pt"
    pack = KIND.make_pack(
        SYNTHETIC,
        [Member(number=0, seed=1, configuration={"teacher": "linear"})],
        data_root=None,
        device="cpu",
    )
    run(pack)
    pack.save_output(0, path)

    def students(*runs):
        members = [
            replace(member(n, {"run": n, "evaluate": True}), inputs={"teacher:linear": path}, seed=7)
            for n in runs
        ]
        return {n: learned(reports) for n, reports in run(make_pack_of(members)).items()}

    def make_pack_of(members):
        return KIND.make_pack(changed(SYNTHETIC, precision="float64"), members, data_root=None, device="cpu")

    together = students(0, 1, 4)
    assert together[0] != together[1] != together[4]
    for n in (0, 1, 4):
        assert students(n)[n] == [pytest.approx(each, rel=1e-9) for each in together[n]]


def test_trials_of_one_shape_share_settings_momentum_and_weight_decay():
    assert KIND.shape(SETTINGS, START) == KIND.shape(SETTINGS, {"lambda_1": 0.1, "learning_rate": 0.2})
    assert KIND.shape(SETTINGS, START) != KIND.shape(SETTINGS, {**START, "momentum": 0.5})
    assert KIND.shape(SETTINGS, START) != KIND.shape(SETTINGS, {"teacher": "resnet8w4"})


def test_images_too_small_for_a_student_are_refused_before_anything_runs():
    with pytest.raises(UsageError, match="cnn8-16-32"):
        KIND.check_data(changed(student="cnn8-16-32"), None)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match="does not fit"):
        KIND.check_data(changed(batch_size=100), None)


def test_a_teachers_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match="teacher's batch_size of 100 does not fit 48"):
        KIND.check_data(changed(teacher={**SETTINGS["teacher"], "batch_size": 100}), None)


def test_mutual_learning_is_for_images():
    with pytest.raises(UsageError, match="is for images"):
        KIND.check(changed(SYNTHETIC, distillation="mutual", teacher=None), ())


def test_no_search_sees_the_test_part_of_mutual_learning_and_none_trains_on_it():
    with pytest.raises(UsageError, match="never sees the test part"):
        KIND.check_plan(changed(distillation="mutual"), {"evaluate": True})
    KIND.check_plan(changed(distillation="mutual"), {"final": True, "evaluate": True, "train_on": "training"})
    paper = changed(SYNTHETIC, data={"name": "synthetic", "variant": "paper"})
    with pytest.raises(UsageError, match="would train on the test part"):
        KIND.check_plan(paper, {"train_on": "all"})
    KIND.check_plan(SYNTHETIC, {"train_on": "all", "evaluate": True})


def test_graphs_are_no_space_of_students():
    spec = {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 1, "models": ["resnet8w4"]},
        "gates": ["through", "cutoff"],
    }
    with pytest.raises(UsageError, match="needs a space of kind parameters"):
        KIND.check_space(SETTINGS, space_from_spec(spec))


def test_importing_the_kind_imports_no_torch():
    import subprocess
    import sys

    code = "import sys; import kdsearch.trainables.kd; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_validation_batch_larger_than_the_validation_part_is_refused():
    with pytest.raises(UsageError, match="val_batch_size of 33 does not fit 32 validation images"):
        KIND.check_data(changed(val_batch_size=33), None)
