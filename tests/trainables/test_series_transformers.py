"""Causal transformers with one answer for a record; devices; what an LSTM in eval mode does for gradients."""

import pytest
import torch
from torch import nn

from kdsearch.trainables.series.build import build_network
from kdsearch.trainables.series.networks import Features
from kdsearch.trainables.series.specs import LstmSpec, ResNetSpec, TransformerSpec

STEPS, INPUTS = 12, 3


def build(spec, *, steps=STEPS, per_step=False, distillation=False):
    network = build_network(
        spec,
        inputs=INPUTS,
        outputs=2,
        steps=steps,
        per_step=per_step,
        distillation=distillation,
        generator=torch.Generator().manual_seed(0),
    )
    own = torch.Generator().manual_seed(1)
    with torch.no_grad():  # the weights that it begins with hardly mix tokens
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=own), alpha=0.3)
    return network.double().eval()


def values(seed=2):
    own = torch.Generator().manual_seed(seed)
    return torch.randn(2, STEPS, INPUTS, dtype=torch.float64, generator=own)


def causal(patch):
    return TransformerSpec(units=3, width=8, heads=2, feed_forward=6, patch=patch, causal=True)


@pytest.mark.parametrize("distillation", [False, True])
def test_causal_patches_see_none_after_them_and_the_class_token_sees_all(distillation):
    network, own = build(causal(3), distillation=distillation), values()
    traced, logits = network.trace(own), network(own)
    for token in range(4):
        changed = own.clone()
        changed[:, 3 * token : 3 * token + 3] += 1
        for before, after in zip(traced, network.trace(changed), strict=True):
            assert torch.equal(before.time[:, :token], after.time[:, :token])
            assert (before.time - after.time)[:, token:].abs().amax(2).min() > 0
            assert (before.beside - after.beside).abs().amax(2).min() > 0
        assert (network(changed) - logits).abs().min() > 0
    for unit in network.attention(own):
        assert unit.triu(1).abs().max() == 0
        torch.testing.assert_close(unit.sum(3), torch.ones_like(unit[..., 0]))


def test_causal_time_tokens_do_not_look_at_tokens_that_have_seen_all():
    network = build(causal(3), distillation=True)
    features = network.begin(values(), None)
    moved = network.unit(0, Features(features.time, features.beside + 1), None)
    assert torch.equal(moved.time, network.unit(0, features, None).time)


def test_causal_records_of_different_length_without_their_padding():
    network, own = build(causal(0), steps=None), values()
    real = torch.arange(STEPS) < torch.tensor([[STEPS], [5]])
    found = network(own.masked_fill(~real[..., None], torch.nan), real)
    torch.testing.assert_close(found[:1], network(own[:1]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1:], network(own[1:, :5]), rtol=1e-10, atol=1e-10)


def test_a_distillation_token_learns_from_its_own_head_and_the_other():
    """Both tokens attend to each other: a loss of either head trains both, and its own head alone."""
    network = build(TransformerSpec(units=2, width=8, heads=2, feed_forward=6, patch=3), distillation=True)
    for chosen, own, other in (
        (0, network.head, network.distillation_head),
        (1, network.distillation_head, network.head),
    ):
        network.zero_grad()
        network.finish_both(network.encode(values()), None)[chosen].square().sum().backward()
        assert network.tokens.grad.abs().amax(1).min() > 0
        assert own.weight.grad.abs().min() > 0
        assert other.weight.grad is None or other.weight.grad.abs().max() == 0


NETWORKS = {
    "resnet": (ResNetSpec(units=2, filters=2, kernel=3, dropout=0.1), STEPS, False, False),
    "lstm": (LstmSpec(units=2, hidden=4, dropout=0.1), None, True, False),
    "rows": (TransformerSpec(units=2, width=8, heads=2, causal=True, dropout=0.1), None, True, False),
    "rows deit": (TransformerSpec(units=2, width=8, heads=2, causal=True, dropout=0.1), None, True, True),
    "rows once": (TransformerSpec(units=2, width=8, heads=2, dropout=0.1), None, False, True),
    "patches": (TransformerSpec(units=2, width=8, heads=2, patch=3, dropout=0.1), STEPS, False, True),
    "causal patches": (TransformerSpec(units=2, width=8, heads=2, patch=3, causal=True), STEPS, False, True),
}
DEVICES = [
    "meta",  # computes no values, but refuses tensors of another device just so
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_masks_positions_and_dropout_are_on_the_values_device(name, device):
    spec, steps, per_step, distillation = NETWORKS[name]
    network = (
        build(spec, steps=steps, per_step=per_step, distillation=distillation).float().to(device).train()
    )
    own = values().float().to(device)
    real = None if steps else torch.ones(2, STEPS, dtype=torch.bool, device=device)
    logits = network(own, real)
    assert logits.device.type == device
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.device.type == device for p in network.parameters())
    if network.has_attention:
        assert all(unit.device.type == device for unit in network.attention(own, real))


@pytest.mark.parametrize("gradients", [False, True])
def test_an_lstm_in_eval_mode_is_in_training_mode_only_while_it_is_run_for_gradients(gradients):
    """cuDNN has a backward pass in training mode alone."""
    network = build(LstmSpec(units=2, hidden=4), steps=None, per_step=True)
    modes = []
    for layer in network.layers:
        layer.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    with torch.set_grad_enabled(gradients):
        network(values())
    assert modes == [gradients] * 2
    assert not any(module.training for module in network.modules())
    assert all(isinstance(layer, nn.LSTM) and layer.dropout == 0 for layer in network.layers)
