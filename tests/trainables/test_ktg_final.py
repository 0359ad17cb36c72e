"""Final trials of graphs: trained on training and validation images, measured on the test part, and nobody else is."""

import importlib.util
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.spaces.graph import Graph
from kdsearch.trainables.data.batches import plain_batches
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.ktg import KIND, KtgSettings
from kdsearch.trainables.ktg.pack import KtgPack
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("ktg_plain", Path(__file__).with_name("ktg_plain.py"))
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

SETTINGS = {
    "data": {"name": "digits", "train_size": 26, "val_size": 18, "augment": False},
    "target": "resnet8w4",
    "epochs": 3,
    "batch_size": 8,
    "precision": "float64",
    "eval_batch_size": 10,
}
GRAPH = "1=resnet8w4 2=resnet8w4; label->1=through 2->1=linear label->2=through"
ON_ALL = {"final": True, "train_on": "all", "evaluate": True, "objective": "test_error"}
ON_TRAINING = ON_ALL | {"train_on": "training"}


def source(test_seed: int = 1) -> ImageData:
    rng, other = np.random.default_rng(5), np.random.default_rng(test_seed)
    pixels = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    test = other.integers(0, 256, (17, 1, 8, 8)).astype(np.uint8)
    return ImageData("digits", pixels, rng.integers(0, 4, 60), test, other.integers(0, 4, 17), tuple("abcd"))


class NoTestPart:
    """A data set whose test part must not be looked at."""

    def __init__(self, images: ImageData) -> None:
        for field in fields(images):
            if not field.name.startswith("test_"):
                setattr(self, field.name, getattr(images, field.name))
        self.classes, self.shape, self.digest = images.classes, images.shape, images.digest

    def __getattr__(self, name: str):
        raise AssertionError(f"the search looked at {name}")


def chosen(**changes) -> KtgSettings:
    return KtgSettings.from_mapping({**SETTINGS, **changes})


def member(number: int = 3, plan=None, text: str = GRAPH, **changes) -> Member:
    configuration = Graph.parse(text).to_configuration()
    return Member(number=number, seed=number, configuration=configuration, plan=plan or {}, **changes)


def pack_of(*members: Member, images=None, **changes) -> KtgPack:
    settings = chosen(**changes)
    data = PackData.load(settings, images or source(), "cpu", members[0].plan)
    return KtgPack(settings, members, data)


def curve(pack: KtgPack) -> list[dict[str, float]]:
    found = []
    while pack.active:
        (report,) = pack.run_epoch()
        found.append({name: value for name, value in report.metrics.items() if "/" in name})
    return found


def test_a_trial_on_all_images_equals_a_plain_loop_on_the_same_images():
    settings, images = chosen(), source()
    found = curve(pack_of(member(plan=ON_ALL)))
    split = make_split(images, settings.data)
    x = torch.from_numpy(np.concatenate([split.train_images, split.eval_images])).double() / 255
    y = torch.from_numpy(np.concatenate([split.train_labels, split.eval_labels]))
    assert len(y) == 26 + 18
    assert not {image.tobytes() for image in split.train_images} & {i.tobytes() for i in split.eval_images}
    graph = Graph.parse(GRAPH)
    built = architecture("resnet8w4", channels=1, classes=4)
    nodes, optimizers = [], []
    for node in graph.nodes:
        network = plain.Network(
            wide=False,
            blocks=built.blocks_per_stage,
            stem=built.stem_width,
            widths=built.widths,
            channels=1,
            classes=4,
            stride=1,
        ).double()
        tensors = initial_tensors(built, np.random.default_rng(derive_seed(3, "node", node)))
        network.load_state_dict(dict(tensors), strict=False)
        nodes.append(network)
        optimizers.append(plain.sgd(network, 0.1))
    steps = 44 // 8
    for epoch, reported in enumerate(found):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * epoch / 3))
        order = np.random.default_rng(derive_seed(3, "order", epoch)).permutation(44)[: steps * 8]
        batches = [(x[part], y[part]) for part in order.reshape(steps, 8)]
        losses = plain.train_epoch(graph, nodes, optimizers, batches, done=epoch * steps, total=3 * steps)
        for node, network in enumerate(nodes, 1):
            test = plain_batches(
                torch.tensor(images.test_images),
                torch.tensor(images.test_labels),
                batch_size=7,
                dtype=torch.float64,
            )
            loss, error = plain.evaluate(network, test)
            mean = float(np.mean([float(step[node - 1]) for step in losses]))
            assert reported[f"{node}/train_loss"] == pytest.approx(mean, rel=1e-8)
            if epoch == 2:  # the test part is measured once, after the last epoch
                assert reported[f"{node}/test_loss"] == pytest.approx(loss, rel=1e-8)
                assert reported[f"{node}/test_error"] == pytest.approx(error, abs=1e-9)
            else:
                assert f"{node}/test_loss" not in reported


def test_validation_images_are_measured_unless_they_train():
    (*before, last) = curve(pack_of(member(plan=ON_TRAINING)))
    names = ("train_loss", "val_loss", "val_error", "test_loss", "test_error")
    assert list(last) == [f"{node}/{name}" for node in (1, 2) for name in names]
    assert all(list(one) == [f"{node}/{name}" for node in (1, 2) for name in names[:3]] for one in before)
    (*before, last) = curve(pack_of(member(plan=ON_ALL)))
    assert list(last) == [f"{node}/{name}" for node in (1, 2) for name in ("train_loss", *names[3:])]
    assert all(list(one) == ["1/train_loss", "2/train_loss"] for one in before)


def test_members_that_end_at_other_epochs_are_measured_at_their_own_ends(tmp_path):
    whole = curve(pack_of(member(plan=ON_ALL)))
    ahead = pack_of(member(plan=ON_ALL))
    ahead.run_epoch()
    ahead.save(3, tmp_path / "3.pt")
    resumed = member(plan=ON_ALL, checkpoint=tmp_path / "3.pt")
    pack = pack_of(resumed, member(4, plan=ON_ALL))
    told = {3: [], 4: []}
    while pack.active:
        for report in pack.run_epoch():
            told[report.number].append(report.metrics)
    assert ["1/test_error" in one for one in told[3]] == [False, True]
    assert ["1/test_error" in one for one in told[4]] == [False, False, True]
    assert told[3][-1]["1/test_loss"] == pytest.approx(whole[-1]["1/test_loss"], rel=1e-9)


def test_a_trial_of_a_search_never_looks_at_the_test_part():
    plans = [{}, {"evaluate": False, "objective": "val_error", "train_on": "training"}]
    told = [curve(pack_of(member(plan=plan), images=NoTestPart(source()))) for plan in plans]
    assert told[0] == told[1]
    assert not [name for name in told[0][-1] if "test" in name]


def test_the_test_part_has_no_effect_on_what_is_trained():
    first = curve(pack_of(member(plan=ON_TRAINING), images=source(test_seed=1)))
    second = curve(pack_of(member(plan=ON_TRAINING), images=source(test_seed=2)))
    search = curve(pack_of(member(plan={})))
    for one, other, searched in zip(first, second, search, strict=True):
        own = {name: value for name, value in one.items() if "test" not in name}
        assert own == {name: value for name, value in other.items() if "test" not in name} == searched
    assert first[-1]["1/test_loss"] != second[-1]["1/test_loss"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"evaluate": True}, "never sees the test part"),
        ({"objective": "test_error"}, "never sees the test part"),
        ({"train_on": "all"}, "never sees the test part"),
        ({"final": False, "evaluate": True, "objective": "test_error"}, "never sees the test part"),
        ({"final": True, "train_on": "all"}, "nothing to be judged by"),
        ({"final": True, "train_on": "all", "evaluate": True}, "nothing to be judged by"),
    ],
)
def test_plans_of_a_search_that_ask_for_more_are_refused(plan, message):
    with pytest.raises(UsageError, match=message):
        KIND.check_plan(SETTINGS, plan)
    with pytest.raises(UsageError, match=message):
        pack_of(member(plan=plan))


def test_learned_gates_need_images_that_do_not_train():
    text = "1=resnet8w4 2=resnet8w4; label->1=through 2->1=learned label->2=through"
    name = "weight.2->1"
    optimiser = {"start": {name: 0.5}, "bounds": {name: [0.0, 1.0]}}
    for refuse in (
        lambda plan: KIND.check_plan(SETTINGS, plan),
        lambda plan: pack_of(member(plan=plan, text=text)),
    ):
        with pytest.raises(UsageError, match="holds none out"):
            refuse(ON_ALL | {"optimiser": optimiser})
    found = curve(pack_of(member(plan=ON_TRAINING | {"optimiser": optimiser}, text=text)))
    assert np.isfinite(found[-1]["1/test_error"])
    searched = curve(pack_of(member(plan={"optimiser": optimiser}, text=text)))
    assert found[-1]["1/val_loss"] == searched[-1]["1/val_loss"]


def test_a_final_trial_cannot_be_one_of_the_purpose_evaluate():
    with pytest.raises(UsageError, match=r"data\.purpose is evaluate"):
        pack_of(member(plan=ON_ALL), data={"name": "digits", "purpose": "evaluate"})


def test_a_resumed_final_trial_equals_an_uninterrupted_one(tmp_path):
    whole = pack_of(member(plan=ON_ALL))
    expected = curve(whole)
    first = pack_of(member(plan=ON_ALL))
    first.run_epoch()
    first.save(3, tmp_path / "3.pt")
    resumed = pack_of(member(plan=ON_ALL, checkpoint=tmp_path / "3.pt"))
    assert curve(resumed) == expected[1:]
    with pytest.raises(KdsearchError, match="train_on"):  # one of other images does not go on from it
        pack_of(member(plan=ON_TRAINING, checkpoint=tmp_path / "3.pt"))


def test_frozen_teachers_are_measured_on_the_test_part_too(tmp_path):
    single = {"model.1": "resnet8w4", "label->1": "through"}
    teacher = pack_of(Member(number=1, seed=1, configuration=single, plan=ON_ALL))
    errors = curve(teacher)
    teacher.save_output(1, tmp_path / "teacher.pt")
    text = "1=resnet8w4 2=resnet8w4; label->1=through 2->1=linear"
    taught = member(plan=ON_ALL, text=text, inputs={"teacher:resnet8w4": tmp_path / "teacher.pt"})
    found = curve(pack_of(taught))
    assert found[-1]["2/test_error"] == errors[-1]["1/test_error"]
    assert {row["2/train_loss"] for row in found} == {0.0}


def test_a_loss_on_the_test_part_that_is_not_finite_is_a_divergence():
    pack = pack_of(member(plan=ON_ALL), learning_rate=1e300)
    (report,) = pack.run_epoch()
    assert report.state is MemberState.DIVERGED
