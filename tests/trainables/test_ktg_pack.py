"""The pack as the runner sees it: reports, divergence, drop, checkpoints, outputs; and the registry's entry."""

import os
import pickle
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.errors import KdsearchError, UnknownNameError, UsageError
from kdsearch.spaces.graph import Graph
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.ktg import KIND, KtgSettings
from kdsearch.trainables.ktg.pack import KtgPack
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.ktg.reach import reaching_nodes
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.files import FileError, load_weights
from kdsearch.trainables.networks.stack import Slot
from kdsearch.trainables.protocol import Member, MemberState, Pack

SETTINGS = {
    "data": {"name": "digits", "train_size": 40, "val_size": 30, "augment": True},
    "target": "resnet8w4",
    "epochs": 4,
    "batch_size": 16,
}
GRAPH = (
    "1=resnet8w4 2=resnet8w4 3=resnet8w6; "
    "label->1=through 2->1=linear 3->1=correct label->2=negative-linear 1->2=through"
)


def single(number: int, **changes) -> Member:
    """A trial of pre-training: one node, the label alone."""
    configuration = {"model.1": "resnet8w4", "label->1": "through"}
    return Member(**{"number": number, "seed": number, "configuration": configuration, **changes})


def make(*members: Member, **changes) -> KtgPack:
    return KIND.make_pack({**SETTINGS, **changes}, members, data_root=None, device="cpu")


def timeless(report) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if "/" in name}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """Node 1 of a finished label-only trial of the model of GRAPH's frozen node 3."""
    path = tmp_path_factory.mktemp("pre-trained") / "resnet8w6.pt"
    pack = make(single(7, configuration={"model.1": "resnet8w6", "label->1": "through"}), epochs=1)
    (report,) = pack.run_epoch()
    assert report.state is MemberState.COMPLETE
    pack.save_output(7, path)
    return path


def graph_member(number: int, teacher: Path, text: str = GRAPH, **changes) -> Member:
    inputs = {"teacher:resnet8w6": teacher}
    configuration = Graph.parse(text).to_configuration()
    return Member(
        **{"number": number, "seed": number, "configuration": configuration, "inputs": inputs, **changes}
    )


def test_reports_name_every_node_and_share_the_time():
    chosen = KtgSettings.from_mapping(SETTINGS)
    ticks = count(100.0, 6.0)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 1, 8, 8)).astype(np.uint8)
    source = ImageData(
        "digits", pixels[:80], np.arange(80) % 10, pixels[80:], np.arange(10), tuple("0123456789")
    )
    text = "1=resnet8w4 2=resnet8w4; label->1=through 1->2=through"
    members = [
        Member(number=n, seed=n, configuration=Graph.parse(text).to_configuration()) for n in (4, 9, 5)
    ]
    pack: Pack = KtgPack(chosen, members, PackData.load(chosen, source, "cpu"), clock=lambda: next(ticks))
    assert pack.active == (4, 9, 5)
    reports = pack.run_epoch()
    assert [report.number for report in reports] == [4, 9, 5]
    for report in reports:
        assert (report.epoch, report.state, report.message) == (1, MemberState.RUNNING, "")
        assert list(report.metrics) == [
            *(f"{node}/{name}" for node in (1, 2) for name in ("train_loss", "val_loss", "val_error")),
            "seconds",
            "images_per_s",
        ]
        assert report.metrics["seconds"] == 2.0  # six seconds shared by three trials
        assert report.metrics["images_per_s"] == 16.0  # 40 images are two batches of 16
        assert 0 <= report.metrics["1/val_error"] <= 100


def test_members_complete_at_the_last_epoch_and_leave():
    pack = make(single(1), single(2), epochs=2)
    assert {report.state for report in pack.run_epoch()} == {MemberState.RUNNING}
    assert {report.state for report in pack.run_epoch()} == {MemberState.COMPLETE}
    assert pack.active == ()
    assert pack.run_epoch() == []


def test_networks_learn_the_digits():
    pack = make(
        single(1), data={"name": "digits", "train_size": 256, "val_size": 200}, epochs=8, batch_size=32
    )
    while pack.active:
        (report,) = pack.run_epoch()
    assert report.metrics["1/val_error"] < 50  # guessing has 90 per cent


def test_the_learning_rate_follows_the_cosine_from_the_full_rate():
    chosen = KtgSettings.from_mapping({**SETTINGS, "learning_rate": 0.4})
    assert [chosen.rate(epoch) for epoch in range(4)] == pytest.approx(
        [0.4, 0.2 * (1 + 0.5**0.5), 0.2, 0.2 * (1 - 0.5**0.5)]
    )


def test_a_resumed_pack_equals_an_uninterrupted_one_to_the_bit(tmp_path, teacher):
    members = [graph_member(number, teacher) for number in (3, 8)]
    whole, first = make(*members), make(*members)
    for _ in range(2):
        assert [timeless(r) for r in whole.run_epoch()] == [timeless(r) for r in first.run_epoch()]
    for member in members:
        first.save(member.number, tmp_path / f"{member.number}.pt")
    resumed = make(
        *(graph_member(m.number, Path("gone"), checkpoint=tmp_path / f"{m.number}.pt") for m in members)
    )
    # the same in every bit that a later step may use
    for member in members:
        for node in (1, 2, 3):
            before, after = (pack._state(Slot(member.number, node)) for pack in (first, resumed))
            for kind in ("tensors", "momentum"):
                assert getattr(before, kind).keys() == getattr(after, kind).keys()
                for name, tensor in getattr(before, kind).items():
                    assert torch.equal(tensor, getattr(after, kind)[name])
    while whole.active:
        expected, found = whole.run_epoch(), resumed.run_epoch()
        assert [timeless(r) for r in expected] == [timeless(r) for r in found]
        assert [(r.epoch, r.state) for r in expected] == [(r.epoch, r.state) for r in found]
    for number in (3, 8):
        whole.save_output(number, tmp_path / "whole.pt")
        resumed.save_output(number, tmp_path / "resumed.pt")
        built = architecture("resnet8w4", channels=1, classes=10)
        expected_tensors, found_tensors = (
            load_weights(tmp_path / f"{n}.pt", built) for n in ("whole", "resumed")
        )
        assert all(torch.equal(tensor, found_tensors[name]) for name, tensor in expected_tensors.items())


def test_members_at_different_epochs_train_side_by_side_as_they_would_alone(tmp_path, teacher):
    changes = {"precision": "float64"}
    early = make(graph_member(1, teacher), **changes)
    early.run_epoch()
    early.save(1, tmp_path / "1.pt")
    mixed = make(graph_member(1, teacher, checkpoint=tmp_path / "1.pt"), graph_member(2, teacher), **changes)
    late = make(graph_member(2, teacher), **changes)
    for epoch in range(4):
        reports = {report.number: report for report in mixed.run_epoch()}
        for alone in (early, late):
            for report in alone.run_epoch():
                assert reports[report.number].epoch == report.epoch
                assert timeless(reports[report.number]) == pytest.approx(timeless(report), rel=1e-9)
        assert (1 in reports) == (epoch < 3)


def test_a_dropped_member_frees_its_slots_and_the_others_go_on(teacher):
    changes = {"precision": "float64"}
    pack, alone = (
        make(*(graph_member(n, teacher) for n in (1, 2, 3)), **changes),
        make(graph_member(3, teacher), **changes),
    )
    pack.run_epoch(), alone.run_epoch()
    pack.drop(2)
    assert pack.active == (1, 3)
    assert sum(len(running.stack.slots) for running in pack._stacks) == 2 * 3
    while alone.active:
        reports = pack.run_epoch()
        assert [report.number for report in reports] == [1, 3]
        assert timeless(reports[1]) == pytest.approx(timeless(alone.run_epoch()[0]), rel=1e-9)
    with pytest.raises(UsageError, match="trial 2 does not train in this pack"):
        pack.drop(2)


def test_the_last_member_can_be_dropped():
    pack = make(single(1))
    pack.drop(1)
    assert pack.active == ()
    assert pack.run_epoch() == []


def test_a_member_that_diverges_says_which_node_and_when_and_leaves(teacher):
    pack = make(graph_member(1, teacher), graph_member(2, teacher), epochs=3)
    pack.run_epoch()
    for running in pack._stacks:
        for index, slot in enumerate(running.stack.slots):
            if slot == Slot(1, 2):
                running.stack._parameters.views["head.bias"].unflatten(0, (-1, 10))[index] = torch.inf
    reports = pack.run_epoch()
    assert reports[0].state is MemberState.DIVERGED
    assert reports[0].message.startswith("the training loss of node 1 (resnet8w4) is nan at epoch 2")
    assert reports[1].state is MemberState.RUNNING
    assert pack.active == (2,)
    with pytest.raises(UsageError):
        pack.save_output(1, Path("nowhere"))


def test_a_learning_rate_out_of_all_bounds_diverges():
    (report,) = make(single(1), learning_rate=1e30).run_epoch()
    assert report.state is MemberState.DIVERGED
    assert "node 1 (resnet8w4)" in report.message


def test_nodes_that_reach_the_target():
    graph = Graph.parse("1=m 2=m 3=m 4=m; 2->1=linear 3->2=through 1->4=through label->4=through")
    assert reaching_nodes(graph) == (1, 2, 3)
    assert reaching_nodes(Graph.parse("1=m 2=m; label->1=through 1->2=through")) == (1,)


# Teachers and checkpoints


def test_an_output_serves_as_a_frozen_teacher(teacher):
    pack = make(graph_member(1, teacher))
    tensors = load_weights(teacher, architecture("resnet8w6", channels=1, classes=10))
    state = pack._state(Slot(1, 3))
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in tensors.items())


def test_a_missing_teacher_is_named():
    member = Member(number=5, seed=1, configuration=Graph.parse(GRAPH).to_configuration())
    with pytest.raises(FileError, match=r"trial 5: node 3 is a frozen resnet8w6") as caught:
        make(member)
    assert "teacher:resnet8w6" in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.message == caught.value.message


@pytest.mark.parametrize(
    ("model", "channels", "classes", "message"),
    [
        ("resnet8w4", 1, 10, "with model 'resnet8w6', not 'resnet8w4'"),
        ("resnet8w6", 3, 10, "with channels 1, not 3"),
        ("resnet8w6", 1, 7, "with classes 10, not 7"),
    ],
)
def test_weights_of_another_network_are_refused(teacher, model, channels, classes, message):
    with pytest.raises(FileError, match=message) as caught:
        load_weights(teacher, architecture(model, channels=channels, classes=classes))
    assert str(teacher) in str(caught.value)


def test_weights_with_another_stem_stride_are_refused(teacher):
    with pytest.raises(FileError, match="with stem_stride 1, not 2"):
        load_weights(teacher, architecture("resnet8w6", channels=1, classes=10, stem_stride=2))


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_files_that_are_no_weights_are_refused(tmp_path, teacher):
    built = architecture("resnet8w6", channels=1, classes=10)
    text, cut, code, other = (tmp_path / name for name in ("text", "cut", "code", "other"))
    text.write_text("no weights here")
    cut.write_bytes(teacher.read_bytes()[:2000])
    torch.save({"format": Evil()}, code)
    torch.save([1, 2], other)
    for path, message in (
        (tmp_path / "absent", "does not exist"),
        (text, "is not a weight file, or is damaged"),
        (cut, "is not a weight file, or is damaged"),
        (code, "is not a weight file, or is damaged"),
        (other, "its format is None"),
        (tmp_path, "is not a weight file"),
    ):
        with pytest.raises(FileError, match=message) as caught:
            load_weights(path, built)
        assert str(path) in str(caught.value)


def test_weights_whose_tensors_do_not_fit_are_refused(tmp_path, teacher):
    content = torch.load(teacher, weights_only=True)
    built = architecture("resnet8w6", channels=1, classes=10)
    for change, message in (
        (lambda t: t.pop("head.bias"), "the network lacks head.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "the network has extra"),
        (
            lambda t: t.update({"head.bias": torch.zeros(3)}),
            r"head.bias of the network has shape \[3\], not \[10\]",
        ),
    ):
        tensors = dict(content["tensors"])
        change(tensors)
        torch.save({**content, "tensors": tensors}, tmp_path / "bad.pt")
        with pytest.raises(FileError, match=message):
            load_weights(tmp_path / "bad.pt", built)


@pytest.mark.parametrize(
    ("changes", "member", "message"),
    [
        ({"epochs": 9}, {}, "its settings:"),
        ({}, {"seed": 99}, "its seed: 1, not 99"),
        ({}, {"configuration": {"model.1": "resnet8w6", "label->1": "through"}}, "its configuration:"),
    ],
)
def test_another_trials_checkpoint_is_refused(tmp_path, changes, member, message):
    pack = make(single(1))
    pack.run_epoch()
    pack.save(1, tmp_path / "1.pt")
    with pytest.raises(FileError, match=message):
        make(single(1, checkpoint=tmp_path / "1.pt", **member), **changes)


def test_a_checkpoint_may_go_on_under_another_number_and_weights_are_no_checkpoint(tmp_path, teacher):
    pack = make(single(1))
    pack.run_epoch()
    pack.save(1, tmp_path / "1.pt")
    resumed = make(single(40, seed=1, checkpoint=tmp_path / "1.pt"))
    assert resumed.run_epoch()[0].epoch == 2
    with pytest.raises(FileError, match="is not a checkpoint: its format"):
        make(single(1, checkpoint=teacher))


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    pack = make(single(1))
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        pack.save(1, tmp_path / "file" / "1.pt")

    def full(_content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FileError, match="No space left on device"):
        pack.save(1, tmp_path / "1.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_complete_member_has_an_output_until_it_is_dropped(tmp_path):
    pack = make(single(1), epochs=1)
    pack.run_epoch()
    pack.save_output(1, tmp_path / "1.pt")
    with pytest.raises(UsageError):
        pack.save(1, tmp_path / "2.pt")
    pack.drop(1)
    with pytest.raises(UsageError):
        pack.save_output(1, tmp_path / "1.pt")


# Settings and the registry's entry


def test_settings_read_back():
    chosen = KtgSettings.from_mapping({**SETTINGS, "precision": "bfloat16", "stem_stride": 2})
    assert KtgSettings.from_mapping(chosen.to_mapping()) == chosen
    assert KtgSettings.from_mapping({"data": "digits"}).data.name == "digits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch' in the trainable's settings"),
        ({"data": {"name": "digits", "size": 3}}, "unknown key 'size' in data in the trainable's settings"),
        ({"data": {"name": "digit"}}, "unknown data set 'digit'"),
        ({"data": {}}, "data in the trainable's settings is"),
        ({"data": None}, "name no data set"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"epochs": 0}, "epochs in .* is 0"),
        ({"epochs": 2.5}, "epochs in .* is 2.5"),
        ({"batch_size": True}, "batch_size in .* is True"),
        ({"eval_batch_size": -1}, "eval_batch_size"),
        ({"stem_stride": 0}, "stem_stride"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate in .* is 'fast'"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        KtgSettings.from_mapping({**SETTINGS, **change})


def test_check_refuses_unknown_models():
    KIND.check(SETTINGS, ["resnet32", "wrn28-2"])
    with pytest.raises(UnknownNameError, match="unknown model 'resnet33'"):
        KIND.check(SETTINGS, ["resnet33"])
    with pytest.raises(UnknownNameError, match="unknown model 'resnet7'"):
        KIND.check({**SETTINGS, "target": "resnet7"}, [])


def test_check_data_refuses_what_cannot_be_loaded(tmp_path):
    KIND.check_data(SETTINGS, None)
    with pytest.raises(KdsearchError, match="cifar-10"):
        KIND.check_data({**SETTINGS, "data": "cifar-10"}, tmp_path)
    with pytest.raises(UsageError, match="batch_size of 41 does not fit 40"):
        KIND.check_data({**SETTINGS, "batch_size": 41}, None)


def test_inputs_are_the_models_of_frozen_nodes():
    assert KIND.inputs(SETTINGS, Graph.parse(GRAPH).to_configuration()) == ("resnet8w6",)
    assert KIND.inputs(SETTINGS, single(1).configuration) == ()


def test_shapes_tell_models_and_settings_apart_and_nothing_else():
    def shape(text, **changes):
        return KIND.shape({**SETTINGS, **changes}, Graph.parse(text).to_configuration())

    first = shape("1=resnet8w4 2=resnet8w4 3=resnet8w6; label->1=through")
    assert shape("1=resnet8w4 2=resnet8w6 3=resnet8w4; label->1=linear 2->3=through") == first
    assert shape("1=resnet8w4 2=resnet8w6 3=resnet8w6; label->1=through") != first
    assert shape("1=resnet8w4 2=resnet8w4 3=resnet8w6; label->1=through", epochs=5) != first


def test_graphs_that_cannot_be_trained_are_refused():
    degenerate = Graph.parse("1=resnet8w4 2=resnet8w4; label->2=through").to_configuration()
    for configuration, message in (
        (degenerate, "no edge reaches the target"),
        ({"model.1": "resnet8w4", "label->1": "cutoff"}, "no edge reaches the target"),
        ({"model.1": "resnet8w4", "model.2": "resnet8w4"}, "unknown key 'model.2'"),
        ({"model.1": "resnet8w4", "label->1": "thru"}, "unknown gate 'thru'"),
    ):
        with pytest.raises(UsageError, match=message):
            make(single(1, configuration=configuration))
    without_target = {name: value for name, value in SETTINGS.items() if name != "target"}
    with pytest.raises(UsageError, match="name no target"):
        KIND.shape(without_target, degenerate)


def test_graphs_of_unequal_size_do_not_share_a_pack(teacher):
    with pytest.raises(UsageError, match="equally many nodes"):
        make(single(1), graph_member(2, teacher))


def test_the_entry_does_not_import_torch():
    code = (
        "import sys; from kdsearch.trainables.ktg import KIND;"
        f"KIND.check({SETTINGS!r}, ['resnet32']); KIND.shape({SETTINGS!r}, {dict(single(1).configuration)!r});"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
