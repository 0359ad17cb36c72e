"""Teachers: what trained them, the files they come from, and the logits that are kept of them."""

import importlib.util
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.trainables.kd import KIND, KdSettings
from kdsearch.trainables.kd.parts import load_parts
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.files import FileError, save_weights
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member, MemberState

_SPEC = importlib.util.spec_from_file_location("kd_cases", Path(__file__).with_name("kd_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
SETTINGS = _CASES.SETTINGS
START = _CASES.START
changed = _CASES.changed
file_settings = _CASES.file_settings
learned = _CASES.learned
member = _CASES.member
run = _CASES.run
teacher = _CASES.teacher
make = _CASES.make


def test_the_teacher_never_saw_the_validation_part():
    def inputs(part):
        return {bytes(image.numpy().tobytes()) for image in part.inputs}

    def parts(settings, *, teacher):
        return load_parts(
            KdSettings.from_mapping(settings),
            [{}],
            data_root=None,
            device=torch.device("cpu"),
            dtype=torch.float32,
            teacher=teacher,
        )

    student, fair = parts(SETTINGS, teacher=False), parts(SETTINGS, teacher=True)
    assert torch.equal(fair.training.inputs, student.training.inputs)
    assert not inputs(fair.training) & inputs(student.validation)
    leak = changed(teacher={**SETTINGS["teacher"], "sees": "all"})
    assert inputs(student.validation) <= inputs(parts(leak, teacher=True).training)
    assert KIND.check_data(SETTINGS, None) == []
    assert "validation part too" in KIND.check_data(leak, None)[0]
    keys = [KIND.pretraining(each, ())[0].defined_by for each in (SETTINGS, leak)]
    assert keys[0] != keys[1]


def test_a_teacher_is_defined_by_its_own_settings_alone():
    def key(**changes):
        return KIND.pretraining(changed(**changes), ())[0].defined_by

    assert key() == key(
        student="linear", epochs=9, lambda_1=0.1, temperature=4.0, learning_rate=0.7, batch_size=8
    )
    assert key() != key(teacher={**SETTINGS["teacher"], "epochs": 3})
    assert key() != key(data={**SETTINGS["data"], "split_seed": 1})
    assert key() != key(data={**SETTINGS["data"], "train_size": 47})


def test_the_teachers_logits_are_kept_beside_its_weights_and_belong_to_them(make, teacher, tmp_path):
    own = tmp_path / "teacher.pt"
    own.write_bytes(teacher.read_bytes())
    inputs = {"teacher:resnet8w4": own}

    def reports():
        pack = KIND.make_pack(SETTINGS, [replace(member(0), inputs=inputs)], data_root=None, device="cpu")
        return learned(run(pack)[0])

    first = reports()
    (kept,) = tmp_path.glob("teacher.logits-*.pt")
    assert reports() == first
    before = kept.read_bytes()
    network = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    save_weights(own, network, initial_tensors(network, np.random.default_rng(5)))
    os.utime(own, (1, 1))
    assert reports() != first  # another teacher: the kept logits are not its own
    assert kept.read_bytes() != before
    kept.write_bytes(b"broken")
    assert reports() != first


def test_a_teacher_can_come_from_a_file(teacher):
    settings = file_settings(teacher)
    KIND.check_data(settings, None)
    assert KIND.pretraining(settings, ()) == ()
    assert KIND.inputs(settings, START) == ()
    pack = KIND.make_pack(settings, [member(0)], data_root=None, device="cpu")
    assert run(pack)[0][-1].state is MemberState.COMPLETE


def test_a_teacher_of_other_classes_is_refused_before_anything_runs(tmp_path):
    network = architecture("resnet8w4", channels=1, classes=7, size=(8, 8))
    path = tmp_path / "seven.pt"
    save_weights(path, network, initial_tensors(network, np.random.default_rng(0)))
    with pytest.raises(UsageError, match=r"seven\.pt does not fit: it was made with classes 7, not 10"):
        KIND.check_data(file_settings(path), None)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


@pytest.mark.parametrize("content", ["text", "pickle", "tensors"])
def test_a_file_that_is_no_teacher_is_refused_and_nothing_in_it_runs(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "teacher.pt"
    if content == "text":
        path.write_text("not a teacher", encoding="utf-8")
    elif content == "pickle":
        torch.save({"format": "kdsearch weights 1", "built": {}, "tensors": Bomb()}, path)
    else:
        torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match=r"teacher\.pt is not a weight file"):
        KIND.check_data(file_settings(path), None)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_missing_teacher_is_named(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        KIND.check_data(file_settings(tmp_path / "none.pt"), None)
    with pytest.raises(FileError, match="no weights are given for its teacher"):
        KIND.make_pack(SETTINGS, [member(0)], data_root=None, device="cpu")


def test_errors_of_files_survive_a_process_border():
    error = pickle.loads(pickle.dumps(FileError("what", "hint")))
    assert isinstance(error, KdsearchError)
    assert (error.message, error.hint) == ("what", "hint")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"tensors": {}}, "does not say what it was made with"),
        ({"built": None, "tensors": {}}, "does not say what it was made with"),
        ({"built": "ours"}, "no set of named tensors"),
        ({"built": "ours", "tensors": None}, "no set of named tensors"),
        ({"built": "ours", "tensors": "numbers"}, "no tensor of floating-point numbers"),
        ({"built": "ours", "tensors": "whole"}, "no tensor of floating-point numbers"),
        ({"built": "ours", "tensors": "nan"}, "not finite numbers"),
    ],
)
def test_a_teacher_file_that_is_put_together_wrongly_is_refused_by_name(tmp_path, content, told):
    network = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    tensors = initial_tensors(network, np.random.default_rng(0))
    made = {
        "numbers": dict.fromkeys(tensors, 1.0),
        "whole": {name: tensor.long() for name, tensor in tensors.items()},
        "nan": {name: tensor * float("nan") for name, tensor in tensors.items()},
    }
    built = {"model": "resnet8w4", "channels": 1, "classes": 10, "stem_stride": 1}
    content = {**content, "format": "kdsearch weights 1"}
    if content.get("built") == "ours":
        content["built"] = built
    if isinstance(content.get("tensors"), str):
        content["tensors"] = made[content["tensors"]]
    path = tmp_path / "teacher.pt"
    torch.save(content, path)
    with pytest.raises(UsageError, match=told):
        KIND.check_data(file_settings(path), None)


def test_logits_of_other_images_under_the_same_name_are_not_taken_for_these(tmp_path, teacher):
    """Two data roots, or a folder whose files were replaced: the teacher is asked again."""
    from PIL import Image

    def answers(root: Path, seed: int):
        for part, count in (("train", 24), ("test", 6)):
            rng = np.random.default_rng(seed)
            for label in ("a", "b"):
                folder = root / "set" / part / label
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    pixels = rng.integers(0, 256, (8, 8)).astype(np.uint8)
                    Image.fromarray(pixels, mode="L").save(folder / f"{number}.png")
        settings = changed(
            data={"name": "folder:set", "train_size": 32, "val_size": 12, "augment": False},
            teacher={"model": "resnet8w4", "file": str(own)},
        )
        pack = KIND.make_pack(settings, [member(0)], data_root=root, device="cpu")
        return KIND.content(settings, root), pack._teacher._logits

    own = tmp_path / "teacher.pt"
    network = architecture("resnet8w4", channels=1, classes=2, size=(8, 8))
    save_weights(own, network, initial_tensors(network, np.random.default_rng(0)))
    first, second = answers(tmp_path / "one", 1), answers(tmp_path / "two", 2)
    assert first[0] != second[0]
    assert not torch.equal(first[1], second[1])
    again = answers(tmp_path / "three", 1)
    assert again[0] == first[0]
    assert torch.equal(again[1], first[1])


def test_it_is_said_what_is_known_of_the_images_of_a_teacher_from_a_file(teacher, tmp_path):
    def note(path=teacher, **changes):
        (found,) = KIND.check_data(changed(file_settings(path), **changes), None)
        return found

    assert teacher.name in note()
    assert "trained on the students' training images" in note()
    assert "another split" in note(data={**SETTINGS["data"], "split_seed": 3})
    assert "another split" in note(data={**SETTINGS["data"], "val_size": 40})
    network = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    bare = tmp_path / "bare.pt"
    tensors = initial_tensors(network, np.random.default_rng(5))
    save_weights(bare, network, tensors)
    assert "is not known" in note(bare)
    other = {"data": {}, "content": "of other images", "all": False}
    save_weights(bare, network, tensors, other)
    assert "other data than the students'" in note(bare)
    leak = changed(teacher={**SETTINGS["teacher"], "sees": "all", "epochs": 1})
    pack = KIND.make_pack(
        leak, [Member(number=0, seed=1, configuration={"teacher": "resnet8w4"})], data_root=None, device="cpu"
    )
    run(pack)
    pack.save_output(0, bare)
    assert "validation images too" in note(bare)
