"""Steps of every method against plain loops in float64, hypergradients against differences, and what chance decides."""

import copy
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm import learner as learner_module
from kdsearch.trainables.bbm.optimising import Adam
from kdsearch.trainables.bbm.tensors import TensorBatch, tensor_batch
from kdsearch.trainables.bbm.terms import pieces as pieces_of
from kdsearch.trainables.records import Part
from kdsearch.trainables.series.networks import Features

_SPEC = importlib.util.spec_from_file_location("bbm_cases", Path(__file__).with_name("bbm_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
CPU, HOURS, METHODS, SETS, SIGNALS = (
    _CASES.CPU,
    _CASES.HOURS,
    _CASES.METHODS,
    _CASES.SETS,
    _CASES.SIGNALS,
)
changed, learned, learner_of, member = _CASES.changed, _CASES.learned, _CASES.learner_of, _CASES.member
make, optimised, root, run, teachers = (
    _CASES.make,
    _CASES.optimised,
    _CASES.root,
    _CASES.run,
    _CASES.teachers,
)
bbm_plain = _CASES.loaded("bbm_plain")


@pytest.fixture
def double(root, teachers, monkeypatch):
    """Learners in float64 on a few records; which records their batches held, in order, is kept in `.seen`."""

    class Builder:
        seen: list

        def __call__(self, data, each, /, *, records=None, **changes):
            settings = changed(SETS[data], **changes)
            learner, teacher = learner_of(settings, each, root, teachers[data], dtype=torch.float64)
            learner.network.double()
            if learner.maps is not None:
                learner.maps.double()
            learner.adam = Adam(learner._parameters, weight_decay=learner.trial.training.weight_decay)
            if records is not None:
                parts = learner._records.parts
                few = {**parts, Part.TRAINING: parts[Part.TRAINING][:records]}
                learner._records = replace(learner._records, parts=few)
            return learner, teacher

    builder = Builder()
    builder.seen = []

    def recording(records, chosen, device):
        builder.seen.append(chosen)
        return in_double(tensor_batch(records, chosen, device))

    monkeypatch.setattr(learner_module, "tensor_batch", recording)
    return builder


def in_double(batch):
    return TensorBatch(batch.values.double(), batch.labels, batch.real)


# Steps


def pieces(network, count):
    """A network's blocks as functions of what is on the time axis and what is beside it."""
    each = network.units // count

    def piece(k):
        def apply(time, beside):
            features = network.begin(time, None) if k == 0 else Features(time, beside)
            for index in range(k * each, (k + 1) * each):
                features = network.unit(index, features, None)
            return features.time, features.beside

        return apply

    return [piece(k) for k in range(count)]


def one_by_one(records, chosen):
    """(values [1, T, F], labels [1, C] or [1, T, 1]) of each record, without padding."""
    for at in chosen:
        batch = records.batch(np.array([at]))
        yield torch.from_numpy(np.array(batch.values)).double(), torch.from_numpy(batch.labels).double()


def cross_entropy(logits, labels):
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")


def plain_loss(method, network, maps, teacher, records, chosen, settings):
    """The loss of a batch: record by record, no padding, no masks."""
    pairs = list(one_by_one(records, chosen))
    answers = sum(labels.numel() for _, labels in pairs)
    if method == "deit":
        by_class, by_teacher = 0.0, 0.0
        for values, labels in pairs:
            own, taught = network.finish_both(network.encode(values), None)
            by_class = by_class + cross_entropy(own, labels)
            by_teacher = by_teacher + cross_entropy(taught, (torch.sigmoid(teacher(values)) > 0.5).double())
        return (settings["ratio"] * by_class + (1 - settings["ratio"]) * by_teacher) / answers
    loss = sum(cross_entropy(network(values), labels) for values, labels in pairs) / answers
    if method == "bbm":
        terms = bbm_plain.matching(
            pieces(network, settings["blocks"]),
            pieces(teacher, settings["blocks"]),
            list(maps.to_teacher),
            list(maps.to_student),
            [values[0] for values, _ in pairs],
        )
        loss = loss + settings["lambda"] * sum(term.sum() for term in terms)
    return loss


@pytest.mark.parametrize(
    ("data", "method", "rows"),
    [
        *(("hours", method, rows) for method in METHODS for rows in (10_000, 70)),
        *(("signals", method, 10_000) for method in METHODS[1:]),
    ],
)
def test_steps_equal_those_of_a_plain_loop_with_torchs_adam(double, monkeypatch, data, method, rows):
    """Two epochs of two batches; warm-up over the first of three epochs, then half a cosine over four iterations.

    With 70 rows at a time, every batch of patients goes through the networks in pieces.
    """
    monkeypatch.setattr(learner_module, "pieces", lambda batch: pieces_of(batch, rows))
    settings = {"blocks": 2, "lambda": 0.03, "ratio": 0.3, "weight_decay": 0.02, "dropout": 0.0}
    teacher = {**SETS[data]["teacher"], "dropout": 0.0, "batch_size": 3, "epochs": 3, "weight_decay": 0.02}
    learner, taught_by = double(data, member(0, method), records=5, batch_size=3, teacher=teacher, **settings)
    network, maps = copy.deepcopy(learner.network), copy.deepcopy(learner.maps)
    parameters = [*network.parameters(), *(maps.parameters() if maps else ())]
    adam = torch.optim.Adam(parameters, weight_decay=0.02)
    rates = [0.005, 0.01, 0.01, 0.01 * (1 + math.cos(math.pi / 4)) / 2]
    for epoch in range(2):
        double.seen.clear()
        sums = learner.train_epoch()
        assert (sums.iterations, sums.judged) == (2, 0)
        assert sorted(map(len, double.seen)) == [2, 3]
        losses = []
        for turn, chosen in enumerate(double.seen):
            loss = plain_loss(method, network, maps, taught_by, learner._records, chosen, settings)
            adam.param_groups[0]["lr"] = rates[2 * epoch + turn]
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
        assert sums.loss == pytest.approx(np.mean(losses), rel=1e-9)
    compare(learner.network, network)
    if method == "bbm":
        compare(learner.maps, maps)
        assert (learner.maps.to_teacher[0] - learner_maps(double, data, teacher)).abs().max() > 1e-3


def compare(network, other):
    expected = dict(other.named_parameters())
    for name, parameter in network.named_parameters():
        found, wanted = parameter.detach(), expected[name].detach()
        if name.endswith(
            ".projection.bias"
        ):  # softmax does not see the keys' bias: Adam blows up rounding there
            found, wanted = (torch.cat([each[:8], each[16:]]) for each in (found, wanted))
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def learner_maps(double, data, teacher):
    """The maps' initial values: they come from the trial's seed."""
    start, _ = double(data, member(0, "bbm"), teacher=teacher)
    return start.maps.to_teacher[0].detach()


def test_a_cnn_takes_a_step_like_a_plain_one(double):
    """Batch normalisation sees the batch: all records at once here, too."""
    teacher = {**SIGNALS["teacher"], "dropout": 0.0, "learning_rate": 0.004, "warm_up": 0}
    learner, _ = double("signals", member(0, "teacher"), records=30, teacher=teacher)
    network = copy.deepcopy(learner.network).train()
    adam = torch.optim.Adam(network.parameters(), lr=0.004)
    learner.train_epoch()
    (chosen,) = double.seen
    batch = in_double(tensor_batch(learner._records, chosen, CPU))
    functional.binary_cross_entropy_with_logits(network(batch.values), batch.labels.double()).backward()
    adam.step()
    expected = network.state_dict()
    for name, tensor in learner.network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-12)


def test_the_loss_of_matching_is_reported_beside_the_whole_loss(double):
    learner, _ = double("signals", member(0, "bbm"), dropout=0.0)
    sums = learner.train_epoch()
    plain, _ = double("signals", member(0, "bbm"), dropout=0.0, **{"lambda": 0.0})
    without = plain.train_epoch()
    assert sums.matching > 1
    assert without.matching > 1  # it is measured even where it counts for nothing
    cross_entropy_alone = sums.loss - 0.01 * sums.matching
    assert 0.3 < cross_entropy_alone < 1.5
    assert 0.3 < without.loss < 1.5


# Hypergradients


def validation_loss(learner):
    """Over all validation records, one by one."""
    learner.network.eval()
    with torch.no_grad():
        pairs = list(one_by_one(learner._records, learner._records.parts[Part.VALIDATION]))
        total = sum(float(cross_entropy(learner.network(values), labels)) for values, labels in pairs)
    return total / sum(labels.numel() for _, labels in pairs)


@pytest.mark.parametrize("data", ["hours", "signals"])
@pytest.mark.parametrize(("method", "start"), [("bbm", 0.01), ("deit", 0.4)])
def test_a_hypergradient_is_the_slope_of_the_validation_loss_after_one_step(double, data, method, start):
    """With Adam's moments and dropout; a batch of all records makes an epoch one step."""
    name = _CASES.WEIGHT[method]
    wide = {"bounds": {name: [-1e6, 1e6]}, "e1": 1, "e2": 0}

    def built(value, rate):
        each = optimised(0, method, start, rate=rate, **wide)
        learner, _ = double(data, each, records=20, batch_size=60, weight_decay=0.01)
        if state is not None:
            path = {**state["path"], "values": torch.tensor([value], dtype=torch.float64)}
            learner.restore(2, {**state, "path": path})
        return learner

    state = None
    still = built(start, 1e-30)
    still.train_epoch()
    still.train_epoch()
    assert still.metaparameters == {name: start}
    state = copy.deepcopy(still.state())
    moving = built(start, 1.0)
    assert moving.train_epoch().judged == 1
    step = 1e-5
    losses = []
    for value in (start + step, start - step):
        beside = built(value, 1e-30)
        beside.train_epoch()
        losses.append(validation_loss(beside))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert abs(slope) > 1e-5
    assert start - moving.metaparameters[name] == pytest.approx(slope, rel=1e-5)


def test_steps_of_optimised_and_plain_trials_are_the_same(double):
    """The gradient is put together of two parts where there is a hypergradient."""
    for method, start in (("bbm", 0.01), ("deit", 0.4)):
        name = _CASES.WEIGHT[method]
        moved, _ = double("hours", optimised(0, method, start, rate=1e-30, e2=0))
        plain, _ = double("hours", member(0, method, **{name: start}))
        assert moved.train_epoch().loss == pytest.approx(plain.train_epoch().loss, rel=1e-9)
        compare(moved.network, plain.network)


def test_gradient_and_predicted_iterations_take_turns(double):
    """84 patients in batches of 32: three iterations an epoch, of which e1 = 2 in turn with e2 = 1 are judged."""
    learner, _ = double("hours", optimised(0, e1=2, e2=1))
    assert [learner.train_epoch().judged for _ in range(2)] == [2, 2]
    learner, _ = double("hours", optimised(0, e1=1, e2=1))
    assert [learner.train_epoch().judged for _ in range(2)] == [2, 1]


def test_there_are_validation_batches_for_every_step(double):
    """18 validation patients, and 12 steps that each want 7 of them."""
    learner, _ = double("hours", optimised(0, e1=1, e2=0), batch_size=7)
    assert learner.train_epoch().judged == 12
    assert learner.skipped == 0


@pytest.mark.parametrize("rate", [1e6, -1e6])
def test_a_value_stays_in_its_bounds(double, rate):
    bounds = {"lambda": [0.005, 0.015]}
    learner, _ = double("hours", optimised(0, rate=abs(rate), bounds=bounds, e2=0))
    seen = set()
    for _ in range(3):
        learner.train_epoch()
        seen.add(learner.metaparameters["lambda"])
    assert seen <= {0.005, 0.015}


def test_a_method_cannot_optimise_what_its_loss_does_not_have(root, teachers):
    plan = {"optimiser": {"start": {"ratio": 0.5}, "bounds": {"ratio": [0, 1]}}}
    for method, told in (
        ("bbm", "bbm cannot optimise ratio"),
        ("transformer", "transformer cannot optimise ratio"),
    ):
        with pytest.raises(UsageError, match=told):
            learner_of(HOURS, member(0, method, plan), root, teachers["hours"])


def test_a_method_that_learns_from_a_teacher_needs_one(root):
    for method in ("bbm", "deit"):
        with pytest.raises(UsageError, match=f"trial 4: the method {method} got no teacher"):
            learner_of(HOURS, member(4, method), root, None)


# The teacher


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_the_teacher_stays_as_it_is(make, data):
    pack = make(
        data,
        *(member(n, method, {"evaluate": True}) for n, method in enumerate(METHODS)),
        optimised(4),
        optimised(5, "deit", 0.5),
    )
    teacher = pack._teacher
    before = copy.deepcopy(teacher.state_dict())
    assert any("running_mean" in name for name in before) == (data == "signals")
    run(pack)
    assert teacher.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())


# Chance


@pytest.mark.parametrize("data", ["hours", "signals"])
@pytest.mark.parametrize("method", METHODS)
def test_the_seed_alone_decides(make, data, method):
    changes = {"augment_number": 2} if data == "signals" else {}

    def result(seed, torchs_seed):
        torch.manual_seed(torchs_seed)
        before = torch.get_rng_state()
        found = learned(run(make(data, member(0, method, seed=seed), **changes))[0])
        assert torch.equal(torch.get_rng_state(), before)
        return found

    first = result(5, 1)
    assert result(5, 2) == first
    assert result(6, 1)[-1]["1/train_loss"] != first[-1]["1/train_loss"]


def test_dropout_and_augmentation_do_something(make):
    def result(**changes):
        return learned(run(make("signals", member(0, "transformer"), **changes))[0])

    plain = result(dropout=0.0)
    assert plain != result(dropout=0.3)
    assert plain != result(dropout=0.0, augment_number=2)
    assert result(dropout=0.0, augment_number=2) != result(
        dropout=0.0, augment_number=2, augment_intensity=1.0
    )


def test_augmentation_is_keyed_by_the_epoch_and_leaves_labels_alone(root):
    learner, _ = learner_of(changed(SIGNALS, augment_number=2), member(0, "transformer"), root, None)
    batches = learner._batches(Part.TRAINING, "order")

    def values(epoch):
        learner.epoch = epoch
        return [batch.values for batch in learner._augmented(batches)]

    first = values(0)
    assert all(torch.equal(one, other) for one, other in zip(first, values(0), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(first, values(1), strict=True))
    assert first[0].shape == (32, 100, 12)
    labels = [batch.labels for batch in learner._augmented(batches)]
    for chosen, found in zip(batches, labels, strict=True):
        assert torch.equal(found, torch.from_numpy(learner._records.batch(chosen).labels))


def test_dropout_is_keyed_by_the_epoch(root):
    learner, _ = learner_of(HOURS, member(0, "transformer"), root, None)

    def drawn(epoch, seed=100):
        learner.epoch = epoch
        learner.member = replace(learner.member, seed=seed)
        with learner._dropout():
            return torch.rand(5).tolist()

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    assert drawn(0) != drawn(0, seed=101)


def test_every_epoch_shuffles_anew_and_sees_every_training_record_once(root):
    learner, _ = learner_of(HOURS, member(0, "transformer"), root, None)
    orders = []
    for epoch in range(2):
        learner.epoch = epoch
        orders.append(np.concatenate(learner._batches(Part.TRAINING, "order")).tolist())
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == learner._records.parts[Part.TRAINING].tolist()
