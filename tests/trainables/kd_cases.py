"""Settings, members and packs that the tests of the trainable kd share; loaded by path, as tests are no package."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from kdsearch.trainables.kd import KIND
from kdsearch.trainables.protocol import Member, MemberState


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kd_plain, ktg_plain = loaded("kd_plain"), loaded("ktg_plain")

SETTINGS = {
    "data": {"name": "digits", "train_size": 48, "val_size": 32, "augment": False},
    "student": "cnn4-8p",
    "teacher": {"model": "resnet8w4", "epochs": 2, "batch_size": 16},
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.3,
    "schedule": {"every": 2, "factor": 0.5},
    "precision": "float64",
}
BOUNDS = {"lambda_1": [0.0, 1.0], "temperature": [0.1, 10.0]}
START = {"lambda_1": 0.6, "temperature": 2.0}
OPTIMISER = {"start": START, "bounds": BOUNDS, "rate": 0.5, "e1": 3, "e2": 0}


def changed(settings=SETTINGS, **changes):
    return {**settings, **changes}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "teacher.pt"
    pack = KIND.make_pack(
        SETTINGS,
        [Member(number=0, seed=11, configuration={"teacher": "resnet8w4"}, plan={"evaluate": True})],
        data_root=None,
        device="cpu",
    )
    while pack.active:
        (report,) = pack.run_epoch()
    assert report.state is MemberState.COMPLETE
    assert {"1/val_error", "1/test_error"} <= report.metrics.keys()
    pack.save_output(0, path)
    return path


@pytest.fixture
def make(teacher):
    def build(*members: Member, **changes):
        inputs = {"teacher:resnet8w4": teacher}
        with_teacher = [replace(member, inputs=inputs) for member in members]
        return KIND.make_pack(changed(**changes), with_teacher, data_root=None, device="cpu")

    return build


def member(number: int, plan=None, **configuration) -> Member:
    return Member(number=number, seed=100 + number, configuration=configuration or START, plan=plan or {})


def optimised(number: int, start=START, **optimiser) -> Member:
    plan = {"optimiser": {**OPTIMISER, **optimiser, "start": start}}
    return Member(number=number, seed=100 + number, configuration=start, plan=plan)


def run(pack, epochs=99):
    """All reports, by trial."""
    found = {number: [] for number in pack.active}
    for _ in range(epochs):
        for report in pack.run_epoch():
            found[report.number].append(report)
    return found


def learned(reports) -> list[dict[str, float]]:
    return [
        {name: value for name, value in report.metrics.items() if "/" in name or "." in name}
        for report in reports
    ]


def file_settings(path: Path):
    return changed(teacher={"model": "resnet8w4", "file": str(path)})
