"""Settings, members and packs that the tests of the trainable bbm share; loaded by path, as tests are no package."""

import importlib.util
from pathlib import Path

import pytest
import torch

from kdsearch.trainables.bbm import KIND
from kdsearch.trainables.bbm.files import load_teacher
from kdsearch.trainables.bbm.learner import Learner, frozen
from kdsearch.trainables.bbm.parts import load_records
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.records import sample_records

CPU = torch.device("cpu")
METHODS = ("teacher", "transformer", "deit", "bbm")
_COMMON = {
    "blocks": 2,
    "lambda": 0.01,
    "epochs": 3,
    "warm_up": 1,
    "batch_size": 32,
    "learning_rate": 0.01,
    "dropout": 0.1,
    "eval_batch_size": 7,
}
HOURS = {
    "data": {"name": "physionet2019"},
    "student": {
        "network": "transformer",
        "units": 2,
        "width": 8,
        "heads": 2,
        "feed_forward": 8,
        "causal": True,
    },
    "teacher": {"network": "lstm", "units": 2, "hidden": 6, "epochs": 2, "batch_size": 40},
    **_COMMON,
}
SIGNALS = {
    "data": {"name": "physionet2021", "window_s": 1.0, "rate_hz": 100},
    "student": {
        "network": "transformer",
        "units": 2,
        "width": 8,
        "heads": 2,
        "feed_forward": 8,
        "patch": 10,
    },
    "teacher": {
        "network": "resnet",
        "units": 4,
        "filters": 4,
        "kernel": 5,
        "widen_every": 2,
        "epochs": 2,
        "batch_size": 40,
    },
    **_COMMON,
}
SETS = {"hours": HOURS, "signals": SIGNALS}
WEIGHT = {"bbm": "lambda", "deit": "ratio"}
OPTIMISER = {
    "start": {"lambda": 0.01},
    "bounds": {"lambda": [0.0, 1.0]},
    "rate": 1e-3,
    "e1": 2,
    "e2": 1,
}


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(settings, **changes):
    return {**settings, **changes}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with the made-up sets, made once a session for all modules."""
    folder = tmp_path_factory.getbasetemp() / "bbm-records"
    for name in ("physionet2019", "physionet2021", "hangzhou", "eicu"):
        if not any(folder.glob(f"done-{name}")):
            sample_records(name, folder)
            (folder / f"done-{name}").touch()
    return folder


@pytest.fixture(scope="module")
def teachers(root, tmp_path_factory):
    """A trained teacher's file for each set."""
    folder = tmp_path_factory.mktemp("teachers")
    found = {}
    for name, settings in SETS.items():
        each = Member(number=0, seed=11, configuration={"method": "teacher"})
        pack = KIND.make_pack(settings, [each], data_root=root, device="cpu")
        reports = run(pack)[0]
        assert [report.state for report in reports] == [MemberState.RUNNING, MemberState.COMPLETE]
        found[name] = folder / f"{name}.pt"
        pack.save_output(0, found[name])
    return found


@pytest.fixture
def make(root, teachers):
    """Build a pack of one of the sets; every member is given the teacher."""

    def build(data, /, *members, **changes):
        settings = changed(SETS[data], **changes)
        return KIND.make_pack(
            settings, [with_teacher(each, data, teachers) for each in members], data_root=root, device="cpu"
        )

    return build


def with_teacher(member, data, teachers):
    role = f"teacher:{SETS[data]['teacher']['network']}"
    return Member(**{**vars(member), "inputs": {role: teachers[data]}})


def member(number, method="bbm", plan=None, seed=None, **configuration):
    return Member(
        number=number,
        seed=100 + number if seed is None else seed,
        configuration={"method": method, **configuration},
        plan=plan or {},
    )


def optimised(number, method="bbm", start=0.01, seed=None, **optimiser):
    name = WEIGHT[method]
    own = {**OPTIMISER, "start": {name: start}, "bounds": {name: [0.0, 1.0]}, **optimiser}
    return member(number, method, {"optimiser": own}, seed, **{name: start})


def run(pack, epochs=99):
    """All reports, by trial."""
    found = {number: [] for number in pack.active}
    for _ in range(epochs):
        for report in pack.run_epoch():
            found[report.number].append(report)
    return found


def learned(reports):
    """All that does not depend on a clock or on who else is in the pack."""
    return [
        {name: value for name, value in report.metrics.items() if "/" in name or "." in name}
        for report in reports
    ]


def learner_of(settings, each, root, teacher_file, *, dtype=torch.float32):
    """A learner outside of any pack, and its teacher."""
    read = BbmSettings.from_mapping(settings)
    teacher = None if teacher_file is None else frozen(load_teacher(read, teacher_file).to(dtype))
    return Learner(read, each, load_records(read.data, root), teacher, CPU), teacher
