"""The engine against the plain reference, K graphs against one, NaN neighbours, frozen nodes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.graph import Gate, Graph
from kdsearch.trainables.data.batches import plain_batches
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.ktg.pack import KtgPack
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.networks.architectures import Role, architecture
from kdsearch.trainables.networks.families import logits
from kdsearch.trainables.networks.files import save_weights
from kdsearch.trainables.networks.layers import PlainLayers
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("ktg_plain", Path(__file__).with_name("ktg_plain.py"))
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

CLASSES = 4
MODELS = ("resnet8w4", "resnet8w6", "wrn10-1")


def images(channels=1, size=8, train=41, test=23) -> ImageData:
    rng = np.random.default_rng(5)

    def part(count):
        labels = rng.integers(0, CLASSES, count)
        pixels = rng.integers(0, 200, (count, channels, size, size)) + 10 * labels[:, None, None, None]
        return pixels.astype(np.uint8), labels

    return ImageData("digits", *part(train), *part(test), tuple("abcd"))


def settings(**changes) -> KtgSettings:
    values = {
        "data": {"name": "digits", "purpose": "evaluate"},
        "target": "resnet8w4",
        "epochs": 3,
        "batch_size": 8,
    }
    return KtgSettings.from_mapping({**values, "precision": "float64", "eval_batch_size": 10, **changes})


def data_for(chosen: KtgSettings, source: ImageData | None = None) -> PackData:
    return PackData.load(chosen, source or images(), "cpu")


def random_members(count: int, nodes: int, seed: int, inputs=None) -> list[Member]:
    """Graphs that can be trained, with all five fixed gates, of which some have frozen nodes."""
    rng = np.random.default_rng(seed)
    fixed = [gate for gate in Gate if gate is not Gate.LEARNED]
    gates = [*fixed, Gate.CUTOFF, Gate.CUTOFF]
    members: list[Member] = []
    while len(members) < count:
        row = [
            [Gate.CUTOFF if s == t else gates[rng.integers(7)] for s in range(nodes + 1)]
            for t in range(1, nodes + 1)
        ]
        models = ("resnet8w4", *(MODELS[rng.integers(3)] for _ in range(nodes - 1)))
        graph = Graph(models, tuple(map(tuple, row)))
        if not graph.is_degenerate:
            number = 10 * len(members) + 3
            configuration = graph.to_configuration()
            members.append(
                Member(number=number, seed=number, configuration=configuration, inputs=inputs or {})
            )
    return members


@pytest.fixture(scope="module")
def teachers(tmp_path_factory) -> dict[str, Path]:
    """Weight files whose batch norms have seen data, so that eval mode differs from training mode."""
    folder = tmp_path_factory.mktemp("teachers")
    paths = {}
    for index, model in enumerate(MODELS):
        built = architecture(model, channels=1, classes=CLASSES)
        rng = np.random.default_rng(index)
        tensors = initial_tensors(built, rng)
        for spec in built.tensors:
            if spec.role is Role.STATISTIC:
                tensors[spec.name] += torch.from_numpy(rng.uniform(0, 0.5, spec.shape)).float()
        paths[f"teacher:{model}"] = folder / f"{model}.pt"
        save_weights(paths[f"teacher:{model}"], built, tensors)
    return paths


def run(pack: KtgPack) -> dict[int, list[dict[str, float]]]:
    curves: dict[int, list[dict[str, float]]] = {number: [] for number in pack.active}
    while pack.active:
        for report in pack.run_epoch():
            timeless = {name: value for name, value in report.metrics.items() if "/" in name}
            curves[report.number].append(timeless)
    return curves


def keep_running(monkeypatch) -> None:
    """Leave complete members in their slots, so that their final weights can be looked at."""
    monkeypatch.setattr(KtgPack, "_remove", lambda _self, _numbers: None)


def states(pack: KtgPack, member: Member) -> dict[int, NodeState]:
    nodes = pack._active(member.number).graph.nodes
    return {node: pack._state(Slot(member.number, node)) for node in nodes}


def plain_network(model: str, channels: int, classes: int, stride: int = 1):
    built = architecture(model, channels=channels, classes=classes)
    network = plain.Network(
        wide=model.startswith("wrn"),
        blocks=built.blocks_per_stage,
        stem=built.stem_width,
        widths=built.widths,
        channels=channels,
        classes=classes,
        stride=stride,
    )
    return network.double()


def fill(network, tensors) -> None:
    missing, unexpected = network.load_state_dict(dict(tensors), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)


def train_plainly(chosen: KtgSettings, data: PackData, member: Member):
    """The reference's curves and nodes for one trial."""
    graph = Graph.from_configuration(member.configuration, chosen.target)
    frozen = graph.frozen_nodes()
    nodes, optimizers = [], []
    for node, model in enumerate(graph.models, 1):
        network = plain_network(model, data.batches.shape[0], CLASSES)
        if node in frozen:
            tensors = torch.load(member.inputs[f"teacher:{model}"], weights_only=True)["tensors"]
        else:
            rng = np.random.default_rng(derive_seed(member.seed, "node", node))
            tensors = initial_tensors(architecture(model, channels=1, classes=CLASSES), rng)
        fill(network, tensors)
        nodes.append(network)
        optimizers.append(None if node in frozen else plain.sgd(network, chosen.learning_rate))
    steps = data.batches.iterations_per_epoch
    curve = []
    for epoch in range(chosen.epochs):
        for optimizer in filter(None, optimizers):
            rate = chosen.learning_rate / 2 * (1 + np.cos(np.pi * epoch / chosen.epochs))
            optimizer.param_groups[0]["lr"] = rate
        plans = data.batches.draw([(member.seed, epoch)])
        batches = [(x[0], y[0]) for x, y in data.batches.epoch(plans)]
        losses = plain.train_epoch(
            graph,
            nodes,
            optimizers,
            batches,
            done=epoch * steps,
            total=chosen.epochs * steps,
            temperature=chosen.temperature,
        )
        metrics = {}
        for node, network in enumerate(nodes, 1):
            metrics[f"{node}/train_loss"] = float(np.mean([float(step[node - 1]) for step in losses]))
            evaluation = plain_batches(data.eval_images, data.eval_labels, batch_size=7, dtype=torch.float64)
            metrics[f"{node}/val_loss"], metrics[f"{node}/val_error"] = plain.evaluate(network, evaluation)
        curve.append(metrics)
    return curve, nodes


def assert_same_states(found: NodeState, expected, tolerance: float) -> None:
    for name, tensor in found.tensors.items():
        torch.testing.assert_close(
            tensor, expected[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("nodes", "temperature"), [(3, 1.0), (2, 2.5)])
def test_each_graph_of_a_pack_equals_the_plain_reference(monkeypatch, teachers, nodes, temperature):
    keep_running(monkeypatch)
    chosen = settings(temperature=temperature)
    members = random_members(6, nodes, seed=nodes, inputs=teachers)
    data = data_for(chosen)
    pack = KtgPack(chosen, members, data)
    assert any(not running.stack.trained for running in pack._stacks)
    curves = {member.number: [] for member in members}
    for _ in range(chosen.epochs):
        for report in pack.run_epoch():
            curves[report.number].append(report.metrics)
    for member in members:
        expected, networks = train_plainly(chosen, data, member)
        for found_epoch, expected_epoch in zip(curves[member.number], expected, strict=True):
            for name, value in expected_epoch.items():
                assert found_epoch[name] == pytest.approx(value, rel=1e-8, abs=1e-9), (member.number, name)
        for node, state in states(pack, member).items():
            assert_same_states(state, networks[node - 1].state_dict(), 1e-8)


def test_graphs_together_equal_graphs_one_by_one(monkeypatch, teachers):
    keep_running(monkeypatch)
    chosen = settings(temperature=1.5)
    members = random_members(5, 3, seed=11, inputs=teachers)
    together = KtgPack(chosen, members, data_for(chosen))
    for _ in range(chosen.epochs):
        reports = {report.number: report for report in together.run_epoch()}
    for member in members:
        alone = KtgPack(chosen, [member], data_for(chosen))
        for _ in range(chosen.epochs):
            (report,) = alone.run_epoch()
        for name, value in report.metrics.items():
            if "/" in name:
                assert reports[member.number].metrics[name] == pytest.approx(value, rel=1e-10, abs=1e-12)
        for node, state in states(alone, member).items():
            same = together._state(Slot(member.number, node))
            assert_same_states(same, state.tensors, 1e-10)
            for name, velocity in state.momentum.items():
                torch.testing.assert_close(same.momentum[name], velocity, rtol=1e-9, atol=1e-11)


def test_frozen_nodes_keep_every_bit(monkeypatch, teachers):
    keep_running(monkeypatch)
    graph = Graph.parse("1=resnet8w4 2=resnet8w6 3=resnet8w4; label->1=through 2->1=linear 3->1=correct")
    member = Member(number=1, seed=1, configuration=graph.to_configuration(), inputs=teachers)
    chosen = settings(precision="float32")
    pack = KtgPack(chosen, [member], data_for(chosen))
    first = pack.run_epoch()[0].metrics
    last = [pack.run_epoch() for _ in range(2)][-1][0].metrics
    for node in (2, 3):
        kept = torch.load(teachers[f"teacher:{graph.models[node - 1]}"], weights_only=True)["tensors"]
        state = pack._state(Slot(1, node))
        assert state.momentum == {}
        for name, tensor in state.tensors.items():
            assert torch.equal(tensor, kept[name]), name
        assert first[f"{node}/val_loss"] == last[f"{node}/val_loss"]
        assert last[f"{node}/train_loss"] == 0.0


def test_a_slot_starts_exactly_as_a_single_network_would():
    built = architecture("resnet8w4", channels=1, classes=CLASSES)
    chosen = settings()
    members = random_members(3, 1, seed=0)
    pack = KtgPack(chosen, members, data_for(chosen))
    for member in members:
        rng = np.random.default_rng(derive_seed(member.seed, "node", 1))
        state = pack._state(Slot(member.number, 1))
        for name, tensor in initial_tensors(built, rng).items():
            assert torch.equal(state.tensors[name].float(), tensor)


def test_first_weights_have_the_spread_they_should():
    built = architecture("wrn28-2", channels=3, classes=100)
    tensors = initial_tensors(built, np.random.default_rng(0))
    kernel = tensors["stage3.block2.conv1.weight"]
    assert kernel.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert tensors["head.weight"].abs().max().item() == pytest.approx(128**-0.5, rel=0.01)
    residual = initial_tensors(architecture("resnet20", channels=3, classes=100), np.random.default_rng(0))
    assert residual["head.weight"].std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)


@pytest.mark.parametrize("model", ["resnet20", "resnet8w5", "wrn10-2"])
@pytest.mark.parametrize("stride", [1, 2])
def test_logits_equal_the_plain_network_in_both_modes(model, stride):
    built = architecture(model, channels=3, classes=CLASSES, stem_stride=stride)
    singles = [initial_tensors(built, np.random.default_rng(seed)) for seed in range(3)]
    stack = NetworkStack(
        built,
        [Slot(0, node) for node in range(3)],
        [NodeState(single) for single in singles],
        trained=True,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    x = torch.rand(
        3, 4, 3, 13, 11, dtype=torch.float64
    )  # odd sizes: a stride of 2 has to round up everywhere
    together = torch.cat(list(x), 1)
    for training in (True, False):
        found = stack.network(training=training).logits(together)
        shared = stack.network(training=False).logits(x[0])
        for slot, single in enumerate(singles):
            network = plain_network(model, 3, CLASSES, stride).train(training)
            fill(network, single if training else stack.state(Slot(0, slot)).tensors)
            torch.testing.assert_close(found[slot], network(x[slot]), rtol=1e-9, atol=1e-10)
            if not training:
                torch.testing.assert_close(shared[slot], network(x[0]), rtol=1e-9, atol=1e-10)


def poisoned(pack: KtgPack, slot: Slot) -> None:
    """Make one slot's weights NaN where they stand."""
    for running in pack._stacks:
        if slot in running.stack.slots:
            index, count = running.stack.slots.index(slot), len(running.stack.slots)
            for view in running.stack._parameters.views.values():
                view.unflatten(0, (count, -1))[index] = torch.nan


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize(
    ("model", "channels"), [("resnet8w4", 1), ("resnet8w5", 3), ("resnet8w8", 1), ("wrn10-1", 3)]
)
def test_a_neighbour_of_nan_leaves_every_bit_of_a_trial_alone(monkeypatch, precision, model, channels):
    keep_running(monkeypatch)
    chosen = settings(precision=precision, target=model)
    source = images(channels)
    text = f"1={model} 2={model}; label->1=through 2->1=linear label->2=correct 1->2=correct"
    configuration = Graph.parse(text).to_configuration()
    members = [Member(number=number, seed=number, configuration=configuration) for number in (1, 2, 3)]
    clean, broken = (KtgPack(chosen, members, data_for(chosen, source)) for _ in range(2))
    poisoned(broken, Slot(2, 1))
    poisoned(broken, Slot(2, 2))
    for _ in range(2):
        for expected, found in zip(clean.run_epoch(), broken.run_epoch(), strict=True):
            if found.number == 2:
                assert found.state is MemberState.DIVERGED
                continue
            timeless = {name: value for name, value in found.metrics.items() if "/" in name}
            assert timeless == {name: expected.metrics[name] for name in timeless}
    for member in (members[0], members[2]):
        for node, state in states(clean, member).items():
            other = broken._state(Slot(member.number, node))
            for name, tensor in state.tensors.items():
                assert torch.equal(tensor, other.tensors[name]), (node, name)
            for name, velocity in state.momentum.items():
                assert torch.equal(velocity, other.momentum[name]), (node, name)


def test_a_node_of_nan_that_cannot_reach_the_target_changes_nothing_else_in_its_trial():
    chosen = settings(precision="float32")
    graph = Graph.parse(
        "1=resnet8w4 2=resnet8w4 3=resnet8w4; label->1=through 2->1=linear label->2=through 1->3=through"
    )
    member = Member(number=1, seed=1, configuration=graph.to_configuration())
    clean, broken = (KtgPack(chosen, [member], data_for(chosen)) for _ in range(2))
    poisoned(broken, Slot(1, 3))
    expected, found = clean.run_epoch()[0], broken.run_epoch()[0]
    assert found.state is MemberState.RUNNING
    assert np.isnan(found.metrics["3/val_loss"])
    for name in ("train_loss", "val_loss", "val_error"):
        assert [found.metrics[f"{node}/{name}"] for node in (1, 2)] == [
            expected.metrics[f"{node}/{name}"] for node in (1, 2)
        ]


def test_bfloat16_is_near_float32(monkeypatch):
    keep_running(monkeypatch)
    member = Member(number=1, seed=1, configuration={"model.1": "resnet8w8", "label->1": "through"})
    found = {}
    for precision in ("float32", "bfloat16"):
        chosen = settings(precision=precision, epochs=1)
        found[precision] = KtgPack(chosen, [member], data_for(chosen)).run_epoch()[0].metrics
    assert found["bfloat16"]["1/train_loss"] == pytest.approx(found["float32"]["1/train_loss"], rel=0.05)
    assert found["bfloat16"]["1/train_loss"] != found["float32"]["1/train_loss"]


def test_the_forward_pass_brings_gradients_back_in_the_memory_order_of_activations():
    built = architecture("resnet8w4", channels=1, classes=CLASSES)
    tensors = {
        name: torch.cat([tensor] * 3)
        for name, tensor in initial_tensors(built, np.random.default_rng(0)).items()
    }
    seen = []

    class Watched(PlainLayers):
        def norm(self, name, hidden):
            out = super().norm(name, hidden)
            out.register_hook(
                lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last))
            )
            return out

    leaves = {name: tensor.requires_grad_("running" not in name) for name, tensor in tensors.items()}
    x = torch.rand(5, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    logits(Watched(leaves, 3, training=True, track=True), built, x).sum().backward()
    assert len(seen) == 7
    assert all(seen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_cuda_equals_the_cpu(precision):
    chosen = settings(precision=precision, epochs=1)
    configuration = Graph.parse(
        "1=resnet8w4 2=wrn10-1; label->1=through 2->1=correct 1->2=linear"
    ).to_configuration()
    members = [Member(number=number, seed=number, configuration=configuration) for number in (1, 2)]
    reports = {}
    for device in ("cpu", "cuda"):
        pack = KtgPack(chosen, members, PackData.load(chosen, images(), device), device=device)
        reports[device] = pack.run_epoch()
    for expected, found in zip(reports["cpu"], reports["cuda"], strict=True):
        tolerance = 1e-6 if precision == "float64" else 0.1
        for name in ("1/train_loss", "2/train_loss", "1/val_loss", "2/val_loss"):
            assert found.metrics[name] == pytest.approx(expected.metrics[name], rel=tolerance)
