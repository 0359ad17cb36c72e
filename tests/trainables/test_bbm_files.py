"""Teachers and checkpoints as files: what is written, what is read back, and what is refused."""

import importlib.util
import math
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm import KIND
from kdsearch.trainables.bbm.files import load_teacher
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.networks.files import FileError
from kdsearch.trainables.protocol import MemberState

_SPEC = importlib.util.spec_from_file_location("bbm_cases", Path(__file__).with_name("bbm_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
HOURS, SETS, SIGNALS = _CASES.HOURS, _CASES.SETS, _CASES.SIGNALS
changed, learned, member, optimised, run = (
    _CASES.changed,
    _CASES.learned,
    _CASES.member,
    _CASES.optimised,
    _CASES.run,
)
make, root, teachers = _CASES.make, _CASES.root, _CASES.teachers


def file_settings(settings, path):
    return changed(settings, teacher={**settings["teacher"], "file": str(path)})


def rewritten(path, target, **changes):
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, target)
    return target


# Teachers


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_what_was_trained_is_what_is_learned_from(make, tmp_path, data):
    pack = make(data, member(0, "teacher"))
    run(pack)
    trained = pack._finished[0].network
    pack.save_output(0, tmp_path / "t.pt")
    teacher = load_teacher(BbmSettings.from_mapping(SETS[data]), tmp_path / "t.pt")
    assert teacher.state_dict().keys() == trained.state_dict().keys()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], tensor)


def test_the_output_of_a_trial_that_still_trains_can_be_written(make, tmp_path):
    pack = make("hours", member(0, "teacher"))
    run(pack, epochs=1)
    pack.save_output(0, tmp_path / "t.pt")
    assert load_teacher(BbmSettings.from_mapping(HOURS), tmp_path / "t.pt").units == 2


def test_a_teacher_can_come_from_a_file(make, root, teachers, tmp_path, monkeypatch):
    settings = file_settings(HOURS, teachers["hours"])
    note = KIND.check_data(settings, root)[-1]
    assert note.startswith("The teacher's weights came from a file (hours.pt, SHA-256 ")
    assert "is not known" in note
    given = learned(run(KIND.make_pack(settings, [member(0)], data_root=root, device="cpu"))[0])
    assert given == learned(run(make("hours", member(0)))[0])
    monkeypatch.chdir(teachers["hours"].parent)
    beside = KIND.make_pack(file_settings(HOURS, "hours.pt"), [member(0)], data_root=root, device="cpu")
    assert learned(run(beside)[0]) == given


def test_a_path_that_is_not_here_is_looked_up_below_the_data_root(root, teachers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "data"
    own.mkdir()
    for folder in root.glob("physionet2019"):
        (own / folder.name).symlink_to(folder)
    (own / "teacher.pt").write_bytes(teachers["hours"].read_bytes())
    notes = KIND.check_data(file_settings(HOURS, "teacher.pt"), own)
    assert "(teacher.pt, SHA-256" in notes[-1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"teacher": {**HOURS["teacher"], "hidden": 5}}, "it was built with hidden 6, not 5"),
        ({"teacher": {**HOURS["teacher"], "units": 4}}, "it was built with units 2, not 4"),
        ({"data": {**HOURS["data"], "indicators": True}}, "it was built with inputs 40, not 80"),
        (SIGNALS, "it was built with network 'lstm', not 'resnet'"),
    ],
)
def test_another_network_is_refused_before_anything_runs(root, teachers, changes, told):
    settings = file_settings(changed(HOURS, **changes), teachers["hours"])
    with pytest.raises(UsageError) as caught:
        KIND.check_data(settings, root)
    assert f"hours.pt does not fit: {told}" in caught.value.message
    with pytest.raises(FileError) as caught:
        KIND.make_pack(settings, [member(0)], data_root=root, device="cpu")
    assert told in caught.value.message


def test_other_dropout_is_no_other_network(root, teachers):
    settings = file_settings(changed(HOURS, dropout=0.3), teachers["hours"])
    assert "hours.pt" in KIND.check_data(settings, root)[-1]


def test_a_distilled_transformer_is_no_plain_one(make, tmp_path):
    """The student of DeiT has one token more."""
    pack = make("hours", member(0, "deit"))
    run(pack)
    pack.save_output(0, tmp_path / "deit.pt")
    settings = changed(HOURS, teacher={**HOURS["student"], "file": str(tmp_path / "deit.pt")})
    with pytest.raises(FileError, match="built with distillation True, not False"):
        load_teacher(BbmSettings.from_mapping(settings), tmp_path / "deit.pt")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


@pytest.mark.parametrize("content", ["text", "bomb", "tensors", "folder", "half"])
def test_a_file_that_is_no_teacher_is_refused_and_nothing_in_it_runs(
    root, teachers, tmp_path, monkeypatch, content
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "teacher.pt"
    if content == "text":
        path.write_text("not a teacher", encoding="utf-8")
    elif content == "bomb":
        torch.save({"format": "kdsearch series weights 1", "built": {}, "tensors": Bomb()}, path)
    elif content == "tensors":
        torch.save({"weight": torch.zeros(2)}, path)
    elif content == "folder":
        path.mkdir()
    else:
        whole = teachers["hours"].read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"teacher\.pt is not a weight file of a network over time"):
        KIND.check_data(file_settings(HOURS, path), root)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_missing_teacher_is_named(root, tmp_path):
    with pytest.raises(UsageError, match=r"none\.pt does not exist"):
        KIND.check_data(file_settings(HOURS, tmp_path / "none.pt"), root)


@pytest.mark.parametrize("damage", ["built", "none", "missing", "shape", "nan", "number"])
def test_a_damaged_teacher_is_refused(teachers, tmp_path, damage):
    tensors = torch.load(teachers["hours"], weights_only=True)["tensors"]
    (name, *_) = tensors
    changes = {
        "built": {"built": None},
        "none": {"tensors": None},
        "missing": {"tensors": {key: value for key, value in tensors.items() if key != name}},
        "shape": {"tensors": {**tensors, name: torch.zeros(2)}},
        "nan": {"tensors": {**tensors, name: tensors[name] * math.nan}},
        "number": {"tensors": {**tensors, name: 3.0}},
    }[damage]
    path = rewritten(teachers["hours"], tmp_path / "damaged.pt", **changes)
    with pytest.raises(FileError, match=r"damaged\.pt (does not fit|is damaged): \S"):
        load_teacher(BbmSettings.from_mapping(HOURS), path)


# Checkpoints


@pytest.fixture
def checkpoint(make, tmp_path):
    """(the member, its checkpoint after an epoch)."""
    each = optimised(0)
    pack = make("hours", each)
    run(pack, epochs=1)
    pack.save(0, tmp_path / "0.pt")
    return each, tmp_path / "0.pt"


def test_another_trials_checkpoint_is_refused(make, checkpoint):
    each, path = checkpoint
    for other, told in (
        (replace(each, seed=7), "its seed: 100, not 7"),
        (replace(each, configuration={**each.configuration, "lambda": 0.5}), "its configuration: "),
        (replace(each, plan={**each.plan, "evaluate": True}), "its plan: "),
    ):
        with pytest.raises(FileError) as caught:
            make("hours", replace(other, checkpoint=path))
        assert f"{path} is another trial's checkpoint: {told}" in caught.value.message
    with pytest.raises(FileError, match="another trial's checkpoint: its settings"):
        make("hours", replace(each, checkpoint=path), blocks=1)


@pytest.mark.parametrize(
    "damage", ["text", "half", "state", "adam", "moments", "network", "shape", "maps", "path"]
)
def test_a_damaged_checkpoint_is_refused(make, checkpoint, tmp_path, damage):
    each, path = checkpoint
    state = torch.load(path, weights_only=True)["state"]
    network = dict(state["network"])
    name = next(iter(network))
    states = {
        "state": None,
        "adam": {key: value for key, value in state.items() if key != "adam"},
        "moments": {**state, "adam": {**state["adam"], "first": state["adam"]["first"][:-1]}},
        "network": {**state, "network": None},
        "shape": {**state, "network": {**network, name: torch.zeros(1)}},
        "maps": {**state, "maps": {}},
        "path": {**state, "path": None},
    }
    if damage == "text":
        path.write_text("nothing", encoding="utf-8")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:500])
    else:
        rewritten(path, path, state=states[damage])
    with pytest.raises(FileError, match=r"0\.pt is not a checkpoint"):
        make("hours", replace(each, checkpoint=path))


def test_a_checkpoint_that_is_not_there_is_named(make, tmp_path):
    with pytest.raises(FileError, match=r"none\.pt does not exist"):
        make("hours", replace(member(0), checkpoint=tmp_path / "none.pt"))


def test_a_whole_checkpoint_is_taken(make, checkpoint):
    each, path = checkpoint
    reports = run(make("hours", replace(each, checkpoint=path)))[0]
    assert [report.epoch for report in reports] == [2, 3]
    assert reports[-1].state is MemberState.COMPLETE


def test_errors_of_files_survive_a_process_border(teachers):
    with pytest.raises(FileError) as caught:
        load_teacher(BbmSettings.from_mapping(SIGNALS), teachers["hours"])
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.message, error.hint) == (caught.value.message, caught.value.hint)
