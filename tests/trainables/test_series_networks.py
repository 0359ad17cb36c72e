"""What every network over time keeps to: sizes, blocks, padding, causality, seeds, gradients."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.series.blocks import Blocks
from kdsearch.trainables.series.build import build_network
from kdsearch.trainables.series.networks import Features
from kdsearch.trainables.series.specs import LstmSpec, ResNetSpec, TransformerSpec

HOURS, RECORDS, INPUTS, OUTPUTS, SAMPLES = 9, 3, 4, 2, 45
ROWS = TransformerSpec(units=3, width=12, heads=2, feed_forward=10, causal=True)
ROWS_ONCE = replace(ROWS, causal=False)
PATCHES = TransformerSpec(units=4, width=12, heads=3, feed_forward=10, patch=5)
# Name -> (spec, steps, per_step, distillation)
CASES = {
    "resnet": (ResNetSpec(units=6, filters=2, kernel=4, widen_every=2), SAMPLES, False, False),
    "lstm": (LstmSpec(units=3, hidden=7), None, True, False),
    "lstm once": (LstmSpec(units=3, hidden=7), None, False, False),
    "rows": (ROWS, None, True, False),
    "rows deit": (ROWS, None, True, True),
    "rows once": (ROWS_ONCE, None, False, False),
    "rows once deit": (ROWS_ONCE, None, False, True),
    "patches": (PATCHES, SAMPLES, False, False),
    "patches deit": (PATCHES, SAMPLES, False, True),
    "causal patches": (replace(PATCHES, causal=True), SAMPLES, False, False),
    "causal rows once deit": (ROWS, None, False, True),
}
PER_STEP = [name for name, (_, _, per_step, _) in CASES.items() if per_step]
PADDED = [name for name, (_, steps, _, _) in CASES.items() if steps is None]
DISTILLED = [name for name, (_, _, _, distillation) in CASES.items() if distillation]
ATTENTIVE = [name for name, (spec, _, _, _) in CASES.items() if isinstance(spec, TransformerSpec)]
every = pytest.mark.parametrize("name", CASES)
each_padded = pytest.mark.parametrize("name", PADDED)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(name, *, seed=0, dropout=0.0):
    spec, steps, per_step, distillation = CASES[name]
    return build_network(
        replace(spec, dropout=dropout),
        inputs=INPUTS,
        outputs=OUTPUTS,
        steps=steps,
        per_step=per_step,
        distillation=distillation,
        generator=generator(seed),
    )


def rough(name, *, dropout=0.0):
    """Return a network of float64 in eval mode in which nothing, no bias, norm or statistic, is 0 or 1."""
    network = plain(name, dropout=dropout).double().eval()
    own = generator(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=own, dtype=torch.float64), alpha=0.5)
    return network


def batch(name, seed=2):
    """Return values and mask: nine hours, of which records have 9, 4 and 1, or 45 samples of each."""
    steps = CASES[name][1] or HOURS
    values = torch.randn(RECORDS, steps, INPUTS, dtype=torch.float64, generator=generator(seed))
    if name not in PADDED:
        return values, None
    return values, torch.arange(steps) < torch.tensor([[9], [4], [1]])


@every
def test_depths_and_lengths_are_those_of_the_real_features(name):
    network, (values, real) = rough(name), batch(name)
    features = network.trace(values, real)
    assert len(features) == network.units == len(network.depths)
    assert [f.time.shape[2] for f in features] == list(network.depths)
    assert [f.time.shape[1] for f in features] == list(network.lengths(values.shape[1]))
    assert all(len(f.time) == RECORDS for f in features)
    logits = network(values, real)
    assert logits.shape == ((RECORDS, HOURS, OUTPUTS) if network.per_step else (RECORDS, OUTPUTS))


def test_lengths_and_depths_by_hand():
    """Strides 1, 2, 1, 2, 1, 2 on 45 samples, the filters doubling after every two; nine patches of five."""
    assert plain("resnet").lengths(45) == (45, 23, 23, 12, 12, 6)
    assert plain("resnet").depths == (2, 2, 4, 4, 8, 8)
    assert plain("patches").lengths(45) == (9, 9, 9, 9)
    assert plain("lstm").depths == (7, 7, 7)


@every
def test_units_one_after_another_are_the_network(name):
    network, (values, real) = rough(name), batch(name)
    expected = network(values, real)
    features = network.begin(values, real)
    for index in range(network.units):
        features = network.unit(index, features, real)
    assert torch.equal(network.finish(features, real), expected)
    assert torch.equal(network.encode(values, real).time, features.time)


@every
def test_blocks_one_after_another_are_the_network(name):
    network, (values, real) = rough(name), batch(name)
    expected, traced = network(values, real), network.trace(values, real)
    for count in (n for n in range(1, network.units + 1) if network.units % n == 0):
        blocks = Blocks(network, count)
        each = network.units // count
        features = blocks.first(values, real)
        walked = [features]
        for k in range(1, count):
            features = blocks.run(k, features, real)
            walked.append(features)
        assert len(blocks) == len(blocks.depths) == count
        assert torch.equal(network.finish(features, real), expected)
        for k, own in enumerate(walked):
            assert torch.equal(own.time, traced[each * (k + 1) - 1].time)
        assert blocks.depths == tuple(own.time.shape[2] for own in walked)
        assert blocks.lengths(values.shape[1]) == tuple(own.time.shape[1] for own in walked)
        again = blocks.run(0, network.begin(values, real), real)
        assert torch.equal(again.time, walked[0].time)


@every
def test_blocks_that_do_not_divide_are_refused(name):
    network = plain(name)
    for count in (0, -1, network.units - 1, network.units + 1):
        with pytest.raises(UsageError, match=r"do not divide the \d units(.|\n)*numbers of blocks: 1, "):
            Blocks(network, count)


@every
def test_blocks_run_on_features_of_another_network(name):
    """What block-by-block matching does: other values on the time axis, a network's own tokens beside it."""
    network, (values, real) = rough(name), batch(name)
    features = Blocks(network, network.units).first(values, real)
    moved = Features(features.time + 1, features.beside)
    found = Blocks(network, network.units).run(1, moved, real)
    assert found.time.shape[:2] == (RECORDS, network.lengths(values.shape[1])[1])
    assert not torch.allclose(found.time, network.unit(1, features, real).time)


@each_padded
@pytest.mark.parametrize("junk", [1e30, -1e30, math.nan, math.inf])
def test_padding_changes_nothing(name, junk):
    """Neither more of it nor what stands there: logits, features, attention and gradients of real steps."""
    network, (values, real) = rough(name), batch(name)
    values = values.masked_fill(~real[..., None], 0)
    longer = torch.cat([values, torch.zeros(RECORDS, 5, INPUTS, dtype=torch.float64)], 1)
    mask = torch.cat([real, torch.zeros(RECORDS, 5, dtype=torch.bool)], 1)
    longer = longer.masked_fill(~mask[..., None], junk)
    found, gradients = answers_and_gradients(network, longer, mask)
    expected, slopes = answers_and_gradients(network, values, real)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for own, theirs in zip(gradients, slopes, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-8, atol=1e-9)
    assert network(longer, mask).isfinite().all()
    pairs = zip(network.trace(longer, mask), network.trace(values, real), strict=True)
    for own, theirs in pairs:
        torch.testing.assert_close(own.time[mask], theirs.time[real], rtol=1e-10, atol=1e-10)


def answers_and_gradients(network, values, real):
    logits = network(values, real)
    chosen = logits[real] if network.per_step else logits
    weights = torch.linspace(-1, 1, chosen.numel(), dtype=torch.float64).reshape(chosen.shape)
    loss = (chosen * weights).sum()
    return chosen, torch.autograd.grad(loss, list(network.parameters()))


@each_padded
def test_a_record_in_a_batch_is_the_record_alone(name):
    network, (values, real) = rough(name), batch(name)
    found = network(values, real)
    for row, length in enumerate((9, 4, 1)):
        alone = network(values[row : row + 1, :length], None)
        together = found[row : row + 1, :length] if network.per_step else found[row : row + 1]
        torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


@each_padded
def test_a_record_of_padding_alone_is_finite(name):
    network, (values, real) = rough(name), batch(name)
    nothing = torch.zeros_like(real)
    assert network(values, nothing).isfinite().all()
    if network.has_attention:
        assert all(each.isfinite().all() for each in network.attention(values, nothing))


@pytest.mark.parametrize("name", PER_STEP)
def test_no_answer_sees_the_future(name):
    """Hour t changed: nothing before it moves, everything from it on does, also at units and in both heads."""
    network, (values, _) = rough(name), batch(name)
    outputs = [network(values, None), *(f.time for f in network.trace(values))]
    for hour in range(HOURS):
        changed = values.clone()
        changed[:, hour] += 1
        others = [network(changed, None), *(f.time for f in network.trace(changed))]
        for own, other in zip(outputs, others, strict=True):
            assert torch.equal(own[:, :hour], other[:, :hour])
            moved = (own - other)[:, hour:].abs().amax(2)
            assert (moved > 0).all()


@pytest.mark.parametrize("name", ["causal patches", "causal rows once deit"])
def test_no_causal_token_sees_the_future_and_a_class_token_sees_all(name):
    """Not through the class token either: it sees the end, and is seen by no token on the time axis."""
    network, (values, _) = rough(name), batch(name)
    each = values.shape[1] // network.lengths(values.shape[1])[0]
    own = network.trace(values)
    for step in range(values.shape[1]):
        changed = values.clone()
        changed[:, step] += 1
        token = step // each
        for before, after in zip(own, network.trace(changed), strict=True):
            assert torch.equal(before.time[:, :token], after.time[:, :token])
            assert ((before.time - after.time)[:, token:].abs().amax(2) > 0).all()
            assert ((before.beside - after.beside).abs().amax(2) > 0).all()


def test_distillation_tokens_by_the_hour_see_all_up_to_their_hour_and_nothing_later():
    network, (values, _) = rough("rows deit"), batch("rows deit")
    values.requires_grad_()
    for head in (0, 1):
        for hour in range(HOURS):
            logits = network.finish_both(network.encode(values), None)[head]
            (slope,) = torch.autograd.grad(logits[0, hour].sum(), values)
            seen = slope[0].abs().amax(1) > 0
            assert seen.tolist() == [t <= hour for t in range(HOURS)]
    tokens = network.begin(values, None)
    beside = tokens.beside.detach().requires_grad_()
    features = Features(tokens.time.detach(), beside)
    for index in range(network.units):
        features = network.unit(index, features, None)
    (slope,) = torch.autograd.grad(network.finish_both(features, None)[0][0, 5].sum(), beside)
    assert (slope[0].abs().amax(1) > 0).tolist() == [t <= 5 for t in range(HOURS)]


@pytest.mark.parametrize("name", DISTILLED)
def test_with_a_distillation_token_the_answer_is_the_mean_of_both_heads(name):
    network, (values, real) = rough(name), batch(name)
    first, second = network.finish_both(network.encode(values, real), real)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(network(values, real), (first + second) / 2)
    assert network.distillation


@every
def test_a_network_without_distillation_or_attention_says_so(name):
    network, (values, real) = plain(name), batch(name)
    values = values.float()
    if name not in DISTILLED:
        assert not network.distillation
        with pytest.raises(NotImplementedError, match="no distillation token"):
            network.finish_both(network.encode(values, real), real)
    assert network.has_attention == (name in ATTENTIVE)
    if name not in ATTENTIVE:
        with pytest.raises(NotImplementedError, match="no attention"):
            network.attention(values, real)


@pytest.mark.parametrize("spec", [LstmSpec(), ResNetSpec()])
def test_only_transformers_have_a_distillation_token(spec):
    with pytest.raises(UsageError, match=f"the network {spec.network} has no tokens to distil with"):
        build_network(
            spec, inputs=1, outputs=1, steps=256, per_step=False, distillation=True, generator=generator()
        )


@every
def test_the_same_generator_gives_the_same_weights_and_torchs_own_is_left_alone(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = plain(name, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    two, other = plain(name, seed=3).state_dict(), plain(name, seed=4).state_dict()
    assert list(one) == list(two) == list(other)
    assert all(torch.equal(one[key], two[key]) for key in one)
    drawn = [key for key, tensor in one.items() if tensor.is_floating_point() and tensor.std() > 0]
    assert drawn
    assert all(not torch.equal(one[key], other[key]) for key in drawn)


@every
def test_every_weight_matters_and_has_a_finite_gradient(name):
    """In float32 and training mode, from the weights that it begins with; a bias before the softmax has none."""
    network, (values, real) = plain(name, dropout=0.2), batch(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits = network(values.float(), real)
    (logits[real] if network.per_step else logits).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@every
def test_dropout_acts_in_training_alone(name):
    network, (values, real) = rough(name, dropout=0.5), batch(name)
    still = copy.deepcopy(rough(name))
    assert torch.equal(network(values, real), network(values, real))
    assert torch.equal(network(values, real), still(values, real))
    network.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = network(values, real)
        two = network(values, real)
        torch.manual_seed(0)
        three = network(values, real)
    assert not torch.allclose(one, two)
    assert torch.equal(one, three)


@every
def test_without_dropout_training_draws_nothing(name):
    network, (values, real) = rough(name).train(), batch(name)
    before = torch.get_rng_state()
    assert torch.equal(network(values, real), network(values, real))
    assert torch.equal(torch.get_rng_state(), before)


@every
def test_a_state_dict_makes_an_equal_network(name):
    network, (values, real) = rough(name), batch(name)
    other = plain(name, seed=9).double().eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(values, real), network(values, real))


@pytest.mark.parametrize("name", ["resnet", "patches"])
def test_records_of_one_length_take_no_mask(name):
    network, (values, _) = rough(name), batch(name)
    with pytest.raises(ValueError, match="one length, without padding"):
        network(values, torch.ones(values.shape[:2], dtype=torch.bool))


def test_learned_positions_fit_one_length():
    with pytest.raises(ValueError, match="records of 40 time steps; this network was built for 45"):
        rough("patches")(batch("patches")[0][:, :40])


def test_bad_specifications_are_refused_before_anything_is_built():
    own = {"inputs": 40, "steps": None, "per_step": True, "generator": generator()}
    with pytest.raises(UsageError, match="the hours to come"):
        build_network(ResNetSpec(), outputs=1, **own)
    with pytest.raises(UsageError, match="outputs in the data is 0"):
        build_network(LstmSpec(), outputs=0, **own)
