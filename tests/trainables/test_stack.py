"""Vectors of a stack: whose element is whose, sums by slot, and steps whose settings differ from slot to slot."""

import numpy as np
import pytest
import torch

from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot
from kdsearch.trainables.networks.stacked import initial_tensors

BUILT = architecture("resnet8w4", channels=1, classes=3)
SLOTS = 3


def stack(*numbers: int) -> NetworkStack:
    states = [NodeState(initial_tensors(BUILT, np.random.default_rng(number))) for number in numbers]
    slots = [Slot(number, 1) for number in numbers]
    return NetworkStack(BUILT, slots, states, trained=True, device=torch.device("cpu"), dtype=torch.float64)


@pytest.fixture
def three() -> NetworkStack:
    return stack(0, 1, 2)


def like(flat: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(len(flat)))


def images(slots: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(9).standard_normal((5, slots, 8, 8)))


def test_parameters_are_live_and_views_share_their_layout(three):
    flat = three.parameters
    assert len(flat) == SLOTS * BUILT.parameter_count
    views = three.views(flat)
    assert torch.equal(torch.cat([view.reshape(-1) for view in views.values()]), flat)
    flat += 1.0
    for index, slot in enumerate(three.slots):
        for name, tensor in three.state(slot).momentum.items():
            assert torch.equal(three.state(slot).tensors[name], views[name].chunk(SLOTS)[index])
            assert tensor.shape == three.state(slot).tensors[name].shape


def test_spread_and_sums_by_slot_are_each_others_counterpart(three):
    numbers = [2.0, -1.0, 0.5]
    spread = three.spread(numbers)
    assert torch.equal(spread, three.spread(torch.tensor(numbers, dtype=torch.float64)))
    for view in three.views(spread).values():
        for index, part in enumerate(view.chunk(SLOTS)):
            assert (part == numbers[index]).all()
    ones = torch.ones_like(spread)
    expected = BUILT.parameter_count * torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(three.per_slot_dot(spread, ones), expected)


def test_inner_products_and_norms_are_those_of_single_networks(three):
    one, other = like(three.parameters, 1), like(three.parameters, 2)
    dots, norms = three.per_slot_dot(one, other), three.per_slot_norm(one)
    for index in range(SLOTS):
        a, b = (
            torch.cat([view.chunk(SLOTS)[index].reshape(-1) for view in three.views(flat).values()])
            for flat in (one, other)
        )
        torch.testing.assert_close(dots[index], a @ b)
        torch.testing.assert_close(norms[index], torch.linalg.vector_norm(a))


def test_descend_is_gradient_then_step(three):
    other = stack(0, 1, 2)
    at_logits = torch.from_numpy(np.random.default_rng(1).standard_normal((SLOTS, 5, 3)))
    options = {"learning_rates": three.spread([0.1, 0.2, 0.3]), "momentum": 0.9, "weight_decay": 5e-4}
    for _ in range(3):
        logits = three.network(training=True).logits(images(SLOTS))
        three.descend(logits, at_logits, **options)
        logits = other.network(training=True).logits(images(SLOTS))
        other.step(other.gradient(logits, at_logits), **options)
    assert torch.equal(three.parameters, other.parameters)


def test_momentum_and_weight_decay_may_differ_from_slot_to_slot(three):
    rates, momenta, decays = [0.1, 0.2, 0.3], [0.0, 0.5, 0.9], [0.0, 1e-3, 1e-2]
    singles = [stack(number) for number in range(SLOTS)]
    rng = np.random.default_rng(1)
    for _ in range(3):
        gradients = [torch.from_numpy(rng.standard_normal(BUILT.parameter_count)) for _ in range(SLOTS)]
        parts = [single.views(each) for single, each in zip(singles, gradients, strict=True)]
        together = torch.cat([part[name].reshape(-1) for name in parts[0] for part in parts])
        three.step(
            together,
            learning_rates=three.spread(rates),
            momentum=three.spread(momenta),
            weight_decay=three.spread(decays),
        )
        for index, single in enumerate(singles):
            single.step(
                gradients[index],
                learning_rates=single.spread(rates[index : index + 1]),
                momentum=momenta[index],
                weight_decay=decays[index],
            )
    for index, single in enumerate(singles):
        found = three.state(Slot(index, 1))
        for name, tensor in single.state(Slot(index, 1)).tensors.items():
            torch.testing.assert_close(found.tensors[name], tensor)


@pytest.mark.parametrize("track", [False, True])
def test_a_network_at_other_weights_moves_statistics_only_if_told_to(three, track):
    old = [three.state(slot).tensors for slot in three.slots]
    flat = three.parameters + 0.1 * like(three.parameters, 3)
    logits = three.network_at(flat, track=track).logits(images(SLOTS))
    assert not logits.requires_grad
    by_view = three.network_at(three.views(flat)).logits(images(SLOTS))
    assert torch.equal(logits, by_view)
    new = [three.state(slot).tensors for slot in three.slots]
    for one, other in zip(old, new, strict=True):
        moved = {name for name in one if not torch.equal(one[name], other[name])}
        assert moved == {name for name in one if track and "running" in name}


def test_a_pass_that_is_not_tracked_gives_the_same_gradient(three):
    at_logits = torch.from_numpy(np.random.default_rng(1).standard_normal((SLOTS, 5, 3)))
    gradients = []
    for track in (True, False):
        logits = three.network(training=True, track=track).logits(images(SLOTS))
        gradients.append(three.gradient(logits, at_logits).clone())
    torch.testing.assert_close(*gradients)
