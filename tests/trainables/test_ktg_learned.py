"""Learned gates: their hypergradients against double backward, packs against singles, resuming, and what is refused."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.graph import Gate, Graph
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.ktg import KIND, KtgSettings
from kdsearch.trainables.ktg.losses import edge_losses
from kdsearch.trainables.ktg.pack import KtgPack
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.files import FileError, save_weights
from kdsearch.trainables.networks.stack import Slot
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("ktg_plain", Path(__file__).with_name("ktg_plain.py"))
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

CLASSES = 4
SETTINGS = {
    "data": {"name": "digits", "train_size": 26, "val_size": 20},
    "target": "resnet8w4",
    "epochs": 3,
    "batch_size": 8,
    "precision": "float64",
    "eval_batch_size": 10,
    "temperature": 2.0,
}
FULL = (
    "1=resnet8w4 2=resnet8w4 3=resnet8w6; label->1=learned 2->1=learned 3->1=linear label->2=through "
    "1->2=learned label->3=correct 2->3=through"
)
SIDE = "1=resnet8w4 2=resnet8w4 3=resnet8w6; label->1=through 3->1=learned label->2=through 2->3=learned"
FIXED = "1=resnet8w4 2=resnet8w4 3=resnet8w6; label->1=through 3->1=linear label->2=through 2->3=through"


def settings(**changes) -> KtgSettings:
    return KtgSettings.from_mapping({**SETTINGS, **changes})


def data_for(chosen: KtgSettings, device: str = "cpu") -> PackData:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, CLASSES, 60)
    pixels = rng.integers(0, 200, (60, 1, 8, 8)) + 10 * labels[:, None, None, None]
    pixels = pixels.astype(np.uint8)
    source = ImageData("digits", pixels[:50], labels[:50], pixels[50:], labels[50:], tuple("abcd"))
    return PackData.load(chosen, source, device)


def plan_for(text: str, *, seed: int = 0, low=0.0, high=1.0, **options) -> dict:
    """What a gradient searcher hands over: starts drawn from the bounds of every learned gate."""
    names = [f"weight.{edge.source}->{edge.target}" for edge in Graph.parse(text).learned_edges()]
    rng = np.random.default_rng(seed)
    start = {name: float(rng.uniform(low, high)) for name in names}
    bounds = dict.fromkeys(names, (low, high))
    return {"optimiser": OptimiserSettings(start=start, bounds=bounds, **options).to_mapping()}


def member(number: int, text: str, plan: dict | None = None, **changes) -> Member:
    configuration = Graph.parse(text).to_configuration()
    return Member(number=number, seed=number, configuration=configuration, plan=plan or {}, **changes)


def timeless(report) -> dict[str, float]:
    clocks = ("seconds", "train_seconds", "images_per_s", "members")
    return {name: value for name, value in report.metrics.items() if name not in clocks}


def keep_running(monkeypatch) -> None:
    """Leave complete members in their slots, so that their final weights can be looked at."""
    monkeypatch.setattr(KtgPack, "_remove", lambda _self, _numbers: None)


# The plain way: double backward through one step of torch operations


def plain_node(trial: Member, node: int, model: str):
    built = architecture(model, channels=1, classes=CLASSES, size=(8, 8))
    network = plain.Network(
        wide=False,
        blocks=built.blocks_per_stage,
        stem=built.stem_width,
        widths=built.widths,
        channels=1,
        classes=CLASSES,
        stride=1,
    ).double()
    rng = np.random.default_rng(derive_seed(trial.seed, "node", node))
    network.load_state_dict(dict(initial_tensors(built, rng)), strict=False)
    return network


def edge_loss(graph: Graph, edge, logits, labels, temperature: float, k: int, total: int):
    own = logits[edge.target - 1]
    if edge.source == "label":
        losses, right = functional.cross_entropy(own, labels, reduction="none"), torch.ones_like(labels) > 0
    else:
        source = logits[edge.source - 1].detach()
        p, log_p = functional.softmax(source / temperature, 1), functional.log_softmax(own / temperature, 1)
        losses = temperature**2 * functional.kl_div(log_p, p, reduction="none").sum(1)
        right = source.argmax(1) == labels
    gate = Gate.THROUGH if edge.gate is Gate.LEARNED else edge.gate
    return plain.gated(gate, losses, right, k, total)


def learn_plainly(chosen: KtgSettings, data: PackData, trial: Member):
    """Each epoch's weights, and the nodes, by double backward through every step."""
    graph = Graph.from_configuration(trial.configuration, chosen.target)
    optimiser = OptimiserSettings.from_mapping(trial.plan["optimiser"])
    weights = {name: torch.tensor(value, dtype=torch.float64) for name, value in optimiser.start.items()}
    nodes = [plain_node(trial, node, model).train() for node, model in enumerate(graph.models, 1)]
    velocity = [{name: torch.zeros_like(p) for name, p in node.named_parameters()} for node in nodes]
    steps, curve = data.batches.iterations_per_epoch, []
    for epoch in range(chosen.epochs):
        rate = chosen.learning_rate / 2 * (1 + np.cos(np.pi * epoch / chosen.epochs))
        judged = data.validation_batches([(trial.seed, epoch)])
        for i, (x, y) in enumerate(data.batches.epoch(data.batches.draw([(trial.seed, epoch)]))):
            logits = [node(x[0]) for node in nodes]
            found = {}
            for t, node in enumerate(nodes, 1):
                own = {name: w.clone().requires_grad_() for name, w in weights.items()}
                loss = torch.zeros((), dtype=torch.float64)
                for edge in graph.edges():
                    if edge.target == t:
                        carried = edge_loss(
                            graph,
                            edge,
                            logits,
                            y[0],
                            chosen.temperature,
                            epoch * steps + i + 1,
                            chosen.epochs * steps,
                        )
                        loss = loss + own.get(f"weight.{edge.source}->{t}", 1.0) * carried
                names, parameters = zip(*node.named_parameters(), strict=True)
                gradients = torch.autograd.grad(loss, parameters, create_graph=True)
                stepped = {}
                for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
                    step = gradient + chosen.weight_decay * parameter
                    moved = chosen.momentum * velocity[t - 1][name] + step
                    stepped[name] = parameter - rate * (step + chosen.momentum * moved)
                    velocity[t - 1][name] = moved.detach()
                vx, vy = judged.batch(i)
                buffers = {name: buffer.clone() for name, buffer in node.named_buffers()}
                answer = functional_call(node, {**stepped, **buffers}, (vx[0],))
                mine = [name for name in own if name.endswith(f"->{t}")]
                if mine:
                    slopes = torch.autograd.grad(
                        functional.cross_entropy(answer, vy[0]), [own[n] for n in mine]
                    )
                    found |= dict(zip(mine, slopes, strict=True))
                with torch.no_grad():
                    for name, parameter in node.named_parameters():
                        parameter.copy_(stepped[name])
            for name, slope in found.items():
                low, high = optimiser.bounds[name]
                weights[name] = (weights[name] - optimiser.rate * slope).clamp(low, high)
        curve.append({f"meta.{name}": float(value) for name, value in weights.items()})
    return curve, nodes


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({}, 1e-9), ({"hypergradient": "finite-difference", "epsilon": 1e-6}, 1e-6)],
)
def test_weights_follow_the_gradient_of_double_backward(monkeypatch, options, tolerance):
    keep_running(monkeypatch)
    chosen = settings()
    data = data_for(chosen)
    members = [
        member(3, FULL, plan_for(FULL, seed=1, rate=0.5, **options)),
        member(5, SIDE, plan_for(SIDE, seed=2, rate=0.5, **options)),
    ]
    pack = KtgPack(chosen, members, data)
    curves = {trial.number: [] for trial in members}
    for _ in range(chosen.epochs):
        for report in pack.run_epoch():
            curves[report.number].append(report.metrics)
    for trial in members:
        expected, networks = learn_plainly(chosen, data, trial)
        start = trial.plan["optimiser"]["start"]
        for found, there in zip(curves[trial.number], expected, strict=True):
            assert {name for name in found if name.startswith("meta.")} == set(there)
            for name, value in there.items():
                assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance)
        moved = [abs(value - start[name.removeprefix("meta.")]) for name, value in expected[-1].items()]
        assert min(moved) > 1e-3  # else the comparison would say little
        for node, network in enumerate(networks, 1):
            state = network.state_dict()
            for name, tensor in pack._state(Slot(trial.number, node)).tensors.items():
                torch.testing.assert_close(tensor, state[name], rtol=100 * tolerance, atol=100 * tolerance)


def test_edge_losses_are_those_of_the_plain_way_up_to_a_constant():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    sources = torch.randn(3, 2, 6, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(5, (3, 6), generator=generator)
    taught_by = functional.softmax(sources / 3.0, -1)
    found = edge_losses(logits, taught_by, labels, temperature=3.0)
    assert found.shape == (3, 3)
    graph = Graph.parse("1=m 2=m 3=m; label->1=through 2->1=through 3->1=through")
    for slot in range(3):
        outputs = [logits[slot], *sources[slot]]
        for column, edge in enumerate(graph.edges()):
            expected = edge_loss(graph, edge, outputs, labels[slot], 3.0, 1, 1)
            one = torch.autograd.grad(found[slot, column], logits, retain_graph=True)[0][slot]
            other = torch.autograd.grad(expected, logits, retain_graph=True)[0][slot]
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("e2", [0, 2])
def test_learned_graphs_together_equal_graphs_alone(e2):
    chosen = settings(epochs=2)
    data = data_for(chosen)
    options = {"rate": 2.0, "e1": 2, "e2": e2}
    members = [
        member(3, FULL, plan_for(FULL, seed=1, **options)),
        member(4, FIXED),
        member(5, SIDE, plan_for(SIDE, seed=2, **options)),
        member(6, FULL, plan_for(FULL, seed=3, **options)),
    ]
    together = KtgPack(chosen, members, data)
    alone = [KtgPack(chosen, [each], data) for each in members]
    for _ in range(chosen.epochs):
        for report, pack in zip(together.run_epoch(), alone, strict=True):
            (single,) = pack.run_epoch()
            assert timeless(report) == pytest.approx(timeless(single), rel=1e-9, abs=1e-10)


def test_a_fixed_graph_beside_learned_ones_reports_what_it_always_did():
    chosen = settings(epochs=1)
    pack = KtgPack(chosen, [member(4, FIXED), member(3, SIDE, plan_for(SIDE))], data_for(chosen))
    fixed, learned = pack.run_epoch()
    costs = ["train_seconds", "iterations", "forward_passes", "backward_passes", "tangent_passes", "members"]
    assert list(fixed.metrics)[-2:] == ["seconds", "images_per_s"]
    assert list(learned.metrics)[len(fixed.metrics) :] == [
        "meta.weight.3->1",
        "meta.weight.2->3",
        "skipped_hypergradients",
        *costs,
    ]
    assert learned.metrics["members"] == 2


@pytest.mark.parametrize(
    ("method", "e2", "expected"),
    # three iterations of three nodes; two of them learn, and look at a validation batch in every gradient step
    [
        ("exact", 0, (9 + 6, 9 + 6, 6)),
        ("finite-difference", 0, (9 + 6 + 12, 9 + 6, 0)),
        ("exact", 1, (9 + 4, 9 + 4, 4)),  # the second iteration is predicted
    ],
)
def test_passes_are_counted_for_each_trial(method, e2, expected):
    chosen = settings(epochs=1)
    plan = plan_for(SIDE, hypergradient=method, e1=1, e2=e2)
    (report,) = KtgPack(chosen, [member(3, SIDE, plan)], data_for(chosen)).run_epoch()
    names = ("forward_passes", "backward_passes", "tangent_passes")
    assert tuple(report.metrics[name] for name in names) == expected
    assert report.metrics["iterations"] == 3


@pytest.mark.parametrize(("e1", "e2"), [(10, 0), (2, 3)])
def test_a_resumed_trial_with_learned_gates_equals_an_uninterrupted_one_to_the_bit(tmp_path, e1, e2):
    chosen = settings(precision="float32")
    data = data_for(chosen)
    options = {"rate": 2.0, "e1": e1, "e2": e2, "fit": "increment"}
    members = [member(n, FULL, plan_for(FULL, seed=n, **options)) for n in (3, 8)]
    whole, first = KtgPack(chosen, members, data), KtgPack(chosen, members, data)
    assert list(map(timeless, whole.run_epoch())) == list(map(timeless, first.run_epoch()))
    for each in members:
        first.save(each.number, tmp_path / f"{each.number}.pt")
    again = [Member(**{**vars(each), "checkpoint": tmp_path / f"{each.number}.pt"}) for each in members]
    resumed = KtgPack(chosen, again, data)
    for _ in range(2):
        one, other = whole.run_epoch(), resumed.run_epoch()
        assert [(r.number, r.epoch, r.state, timeless(r)) for r in one] == [
            (r.number, r.epoch, r.state, timeless(r)) for r in other
        ]
    assert one[0].state is MemberState.COMPLETE


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    chosen = settings(epochs=2)
    data = data_for(chosen)
    pack = KtgPack(chosen, [member(3, SIDE, plan_for(SIDE))], data)
    pack.run_epoch()
    pack.save(3, tmp_path / "3.pt")
    other = member(3, SIDE, plan_for(SIDE, rate=0.5), checkpoint=tmp_path / "3.pt")
    with pytest.raises(FileError, match="its optimiser:"):
        KtgPack(chosen, [other], data)


def test_a_trial_goes_on_as_before_when_its_neighbour_leaves():
    chosen = settings()
    data = data_for(chosen)
    members = [
        member(n, text, plan_for(text, seed=n, rate=2.0, e1=2, e2=2)) for n, text in ((3, FULL), (4, SIDE))
    ]
    pack, alone = KtgPack(chosen, members, data), KtgPack(chosen, members[1:], data)
    pack.run_epoch(), alone.run_epoch()
    pack.drop(3)
    for _ in range(2):
        (found,), (expected,) = pack.run_epoch(), alone.run_epoch()
        assert timeless(found) == pytest.approx(timeless(expected), rel=1e-9, abs=1e-10)


def test_weights_that_stay_at_one_are_through():
    chosen = settings()
    data = data_for(chosen)
    stays = plan_for(FULL, low=1.0, rate=1e-12)
    learned = KtgPack(chosen, [member(3, FULL, stays)], data)
    through = KtgPack(chosen, [member(3, FULL.replace("learned", "through"))], data)
    for _ in range(chosen.epochs):
        (one,), (other,) = learned.run_epoch(), through.run_epoch()
        assert {name: one.metrics[name] for name in other.metrics if "/" in name} == pytest.approx(
            {name: value for name, value in other.metrics.items() if "/" in name}, rel=1e-9
        )
        assert one.metrics["meta.weight.2->1"] == 1.0


def test_a_hypergradient_that_is_no_number_leaves_the_weight_and_is_counted(tmp_path):
    text = "1=resnet8w4 2=resnet8w4 3=resnet8w6; label->1=through 1->2=learned 3->2=learned"
    built = architecture("resnet8w6", channels=1, classes=CLASSES, size=(8, 8))
    tensors = initial_tensors(built, np.random.default_rng(0))
    tensors["head.bias"][:] = torch.nan
    save_weights(tmp_path / "broken.pt", built, tensors)
    chosen = settings(epochs=1)
    plan = plan_for(text, seed=4, rate=1.0)
    plan["optimiser"]["start"]["weight.3->2"] = 0.0  # so that node 2's loss is a number
    broken = member(3, text, plan, inputs={"teacher:resnet8w6": tmp_path / "broken.pt"})
    (report,) = KtgPack(chosen, [broken], data_for(chosen)).run_epoch()
    assert report.state is MemberState.COMPLETE
    assert report.metrics["meta.weight.3->2"] == 0.0
    assert report.metrics["meta.weight.1->2"] != plan["optimiser"]["start"]["weight.1->2"]
    assert report.metrics["skipped_hypergradients"] == report.metrics["iterations"]


def test_a_teacher_of_wrong_answers_loses_its_say(tmp_path):
    """A frozen node that is sure of the next class over and over: following it raises the validation loss."""
    text = "1=resnet8w4 2=resnet8w6; label->1=through 2->1=learned"
    built = architecture("resnet8w6", channels=1, classes=10, size=(8, 8))
    tensors = initial_tensors(built, np.random.default_rng(0))
    tensors["head.bias"] = torch.tensor([30.0] + [0.0] * 9)
    save_weights(tmp_path / "wrong.pt", built, tensors)
    plan = plan_for(text, rate=20.0)
    plan["optimiser"]["start"]["weight.2->1"] = 0.5
    wrong = member(3, text, plan, inputs={"teacher:resnet8w6": tmp_path / "wrong.pt"})
    pack = KIND.make_pack(
        {
            "data": {"name": "digits", "train_size": 160, "val_size": 96},
            "target": "resnet8w4",
            "epochs": 2,
            "batch_size": 32,
        },
        [wrong],
        data_root=None,
        device="cpu",
    )
    for _ in range(2):
        (report,) = pack.run_epoch()
    assert report.metrics["meta.weight.2->1"] < 0.25


def test_bfloat16_learns_gates_too():
    once = {
        "epochs": 1,
        "batch_size": 24,
    }  # one iteration: the arithmetic differs, and no path has parted yet
    plan = plan_for(SIDE, rate=0.2)

    def report_of(precision):
        chosen = settings(precision=precision, **once)
        (report,) = KtgPack(chosen, [member(3, SIDE, plan)], data_for(chosen)).run_epoch()
        return report

    report, exact = report_of("bfloat16"), report_of("float64")
    assert report.metrics["skipped_hypergradients"] == 0
    for name, start in plan["optimiser"]["start"].items():
        moved, expected = (each.metrics[f"meta.{name}"] - start for each in (report, exact))
        assert moved == pytest.approx(expected, rel=0.5)


def test_validation_batches_are_shuffles_of_the_trials_own():
    chosen = settings()
    data = data_for(chosen)
    held_out = data.eval_images.double().mul(1 / 255)
    seen = []
    epochs = [data.validation_batches([(7, epoch), (8, epoch)]) for epoch in (0, 0, 1)]
    for batches in epochs:
        images = torch.cat([batches.batch(i)[0] for i in range(data.batches.iterations_per_epoch)], 1)
        assert images.shape == (2, 24, 1, 8, 8)  # three batches of 8 from shuffles of 20 images, 16 of each
        order = (images[:, :, None] - held_out).abs().amax((3, 4, 5)).argmin(2)
        assert all(len(set(row[:16].tolist())) == 16 for row in order)
        seen.append(order)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0][0], seen[0][1])
    (alone,) = [data.validation_batches([(8, 0)]).batch(2)]
    assert torch.equal(alone[0][0], epochs[0].batch(2)[0][1])


def test_the_kind_declares_a_weight_for_each_learned_gate():
    declared = KIND.metaparameters(SETTINGS, Graph.parse(FULL).to_configuration())
    assert [(each.name, each.low, each.high) for each in declared] == [
        ("weight.label->1", 0.0, 1.0),
        ("weight.2->1", 0.0, 1.0),
        ("weight.1->2", 0.0, 1.0),
    ]
    assert KIND.metaparameters(SETTINGS, Graph.parse(FIXED).to_configuration()) == ()
    assert KIND.metaparameters(SETTINGS, {"model.1": "resnet8w4"}) == ()


@pytest.mark.parametrize(
    ("text", "plan", "changes", "message"),
    [
        (SIDE, {}, {}, r"nothing optimises weight\.3->1, weight\.2->3 of the learned gates"),
        (SIDE, plan_for(FULL), {}, r"are \[weight\.1->2.*but those of .* are \[weight\.3->1, weight\.2->3\]"),
        (FIXED, plan_for(SIDE), {}, r"but those of .* are \[\]"),
        (SIDE, plan_for(SIDE, high=1.5), {}, r"bounds of weight\.3->1 are \[0\.0, 1\.5\]"),
        (FIXED, {"train_on": "all"}, {}, "never sees the test part, nor trains on the validation part"),
        (SIDE, plan_for(SIDE), {"data": {"name": "digits", "purpose": "evaluate"}}, "holds none out"),
    ],
)
def test_plans_that_do_not_fit_are_refused(text, plan, changes, message):
    chosen = settings(**changes)
    with pytest.raises(UsageError, match=message):
        KtgPack(chosen, [member(3, text, plan)], data_for(chosen))


def test_the_trials_of_a_pack_share_their_optimiser():
    chosen = settings()
    members = [member(3, SIDE, plan_for(SIDE, rate=0.1)), member(4, SIDE, plan_for(SIDE, rate=0.2))]
    with pytest.raises(UsageError, match="must share the optimiser"):
        KtgPack(chosen, members, data_for(chosen))


def test_a_graph_without_learned_gates_takes_an_optimiser_of_nothing():
    chosen = settings(epochs=1)
    found = [
        KtgPack(chosen, [member(3, FIXED, plan)], data_for(chosen)).run_epoch()[0].metrics["1/val_loss"]
        for plan in ({}, {"optimiser": OptimiserSettings().to_mapping()})
    ]
    assert found[0] == found[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_weights_on_cuda_equal_those_on_the_cpu():
    chosen = settings(epochs=1)
    trial = member(3, FULL, plan_for(FULL, rate=0.5, e1=2, e2=1))
    reports = {}
    for device in ("cpu", "cuda"):
        (reports[device],) = KtgPack(chosen, [trial], data_for(chosen, device), device=device).run_epoch()
    for name, value in timeless(reports["cpu"]).items():
        assert reports["cuda"].metrics[name] == pytest.approx(value, rel=1e-6, abs=1e-8)
