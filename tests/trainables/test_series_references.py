"""Networks over time against plain float64 versions, parameter counts and initial values."""

import math

import pytest
import torch
from torch import nn

from kdsearch.trainables.series.build import build_network
from kdsearch.trainables.series.networks import Features
from kdsearch.trainables.series.specs import LstmSpec, ResNetSpec, TransformerSpec
from kdsearch.trainables.series.transformers import sinusoidal

SIGNALS = {"inputs": 12, "outputs": 26, "steps": 2000, "per_step": False}
HOURS = {"inputs": 40, "outputs": 1, "steps": None, "per_step": True}


def build(spec, *, seed=0, **options):
    return build_network(spec, generator=torch.Generator().manual_seed(seed), **options)


def roughened(module):
    """Return the module in float64 and eval mode with no norm, bias or statistic that is 0 or 1."""
    module = module.double().eval()
    own = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=own, dtype=torch.float64), alpha=0.5)
    return module


def normal(*shape, seed=2):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


# Parameter counts


def counted(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_hannuns_network():
    """Stem 12 * 32 * 16 and its norm 2 * 32. Convolutions, kernel 16: eight of 32^2; then for c = 64, 128, 256 one of
    c^2 / 2 and seven of c^2. Norms, two a channel: between convolutions four of each width; before them 3 * 32, 32 +
    3 * 64, 64 + 3 * 128, 128 + 3 * 256 channels; the last one 256. Head 256 * 26 + 26."""
    convolutions = 16 * (8 * 32**2 + 15 * (64**2 + 128**2 + 256**2) // 2)
    norms = 2 * (32 + 4 * (32 + 64 + 128 + 256) + (96 + 224 + 448 + 896) + 256)
    expected = 12 * 32 * 16 + convolutions + norms + 256 * 26 + 26
    assert expected == 10_473_562
    assert counted(build(ResNetSpec(), **SIGNALS)) == expected


def test_parameters_of_the_residual_lstm():
    """Projection 40 * 256 + 256; a layer: four gates of 256 * (256 + 256) and two biases; head 256 + 1."""
    expected = 40 * 256 + 256 + 3 * 4 * 256 * (512 + 2) + 257
    assert expected == 1_589_761
    assert counted(build(LstmSpec(), **HOURS)) == expected


def unit_parameters(d, f):
    """Queries, keys, values and what joins them: 4 (d^2 + d); feed-forward: 2 d f + d + f; two norms: 4 d."""
    return 4 * (d * d + d) + 2 * d * f + d + f + 4 * d


def test_parameters_of_the_papers_row_transformer():
    """Width 512, feed-forward 128: embedding 40 * 512 + 512, the last norm 2 * 512, head 512 + 1."""
    spec = TransformerSpec(units=3, width=512, heads=8, feed_forward=128, causal=True)
    expected = 41 * 512 + 3 * unit_parameters(512, 128) + 2 * 512 + 513
    assert expected == 3_575_681
    assert counted(build(spec, **HOURS)) == expected
    # with distillation one token's vector and one more head
    assert counted(build(spec, distillation=True, **HOURS)) == expected + 512 + 513


def test_parameters_of_a_patch_transformer():
    """Patches of 20 samples of 12 leads: embedding 240 * 128 + 128, 100 positions, class token, head 128 * 26 + 26."""
    spec = TransformerSpec(units=8, width=128, heads=8, feed_forward=256, patch=20)
    expected = 241 * 128 + 100 * 128 + 128 + 8 * unit_parameters(128, 256) + 2 * 128 + 129 * 26
    assert expected == 1_107_226
    assert counted(build(spec, **SIGNALS)) == expected
    assert counted(build(spec, distillation=True, **SIGNALS)) == expected + 128 + 129 * 26


# Initial values


def test_convolutions_begin_he_normal():
    network = build(ResNetSpec(), **SIGNALS)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv1d | nn.Conv2d)]
    assert len(convolutions) == 33
    for each in convolutions:
        fan_in = each.in_channels * 16
        # the deviation of n draws is known to 1 / sqrt(2 n) of itself; four of these
        slack = 4 / math.sqrt(2 * each.weight.numel())
        assert each.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=slack)
    assert network.head.bias.abs().max() == 0


def test_lstms_begin_as_torchs_do():
    network = build(LstmSpec(hidden=64), **HOURS)
    for module, bound in [*((layer, 1 / 8) for layer in network.layers), (network.projection, 40**-0.5)]:
        for parameter in module.parameters():
            assert parameter.abs().max() <= bound
        assert next(iter(module.parameters())).abs().max() > 0.99 * bound


def test_transformers_begin_truncated_normal():
    """Cut at two deviations, a normal keeps 0.8796 of its deviation: sqrt(1 - 2 * 2 * phi(2) / (2 Phi(2) - 1))."""
    kept = math.sqrt(1 - 4 * 0.05399097 / 0.95449974)
    network = build(TransformerSpec(width=128, patch=20), **SIGNALS)
    for block in network.blocks:
        for linear in (block.projection, block.joined, block.widen, block.narrow):
            assert linear.weight.abs().max() <= 0.04
            assert linear.weight.std().item() == pytest.approx(0.02 * kept, rel=0.03)
            assert linear.bias.abs().max() == 0
    assert network.positions.std().item() == pytest.approx(0.02 * kept, rel=0.03)
    assert network.embedding.weight.std().item() == pytest.approx(240**-0.5 * kept, rel=0.03)


# The residual CNN


def same_convolution(values, weight, stride):
    """[C, T] to [C', ceil(T / stride)], sum by sum; zeros around, the odd one behind."""
    weight = weight.flatten(2)
    outputs, inputs, kernel = weight.shape
    steps = values.shape[1]
    length = math.ceil(steps / stride)
    before = max((length - 1) * stride + kernel - steps, 0) // 2
    found = torch.zeros(outputs, length, dtype=torch.float64)
    for o in range(outputs):
        for t in range(length):
            for c in range(inputs):
                for k in range(kernel):
                    at = t * stride + k - before
                    if 0 <= at < steps:
                        found[o, t] += weight[o, c, k] * values[c, at]
    return found


def normed(values, norm):
    """Batch norm in eval mode, then ReLU."""
    found = torch.zeros_like(values)
    for c in range(len(values)):
        scale = norm.weight[c] / math.sqrt(norm.running_var[c] + 1e-5)
        found[c] = torch.clamp((values[c] - norm.running_mean[c]) * scale + norm.bias[c], min=0)
    return found


def shortcut(values, stride, channels):
    """The maximum of each `stride` steps, of what there is of them; zeros for new channels."""
    length = math.ceil(values.shape[1] / stride)
    found = torch.zeros(channels, length, dtype=torch.float64)
    for c in range(len(values)):
        for t in range(length):
            found[c, t] = values[c, t * stride : (t + 1) * stride].max()
    return found


def residual(values, unit):
    inner = values if unit.before is None else normed(values, unit.before)
    inner = same_convolution(inner, unit.convolution_1.weight, unit.stride)
    inner = same_convolution(normed(inner, unit.between), unit.convolution_2.weight, 1)
    return inner + shortcut(values, unit.stride, len(inner))


@pytest.mark.parametrize("steps", [7, 8, 11])
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("widen_every", [1, 8])
@torch.no_grad()
def test_a_residual_unit_equals_the_loops(steps, kernel, widen_every):
    """Unit 0 has no norm in front, 1 and 3 have stride 2; they keep their filters, or each but 0 doubles them."""
    spec = ResNetSpec(units=4, filters=1, kernel=kernel, widen_every=widen_every, dropout=0.5)
    network = roughened(build(spec, inputs=1, outputs=1, steps=steps, per_step=False))
    depths = (1, *network.depths)
    for index, unit in enumerate(network.residual):
        values = normal(2, steps, depths[index])
        found = network.unit(index, Features(values), None).time
        for own, record in zip(found, values, strict=True):
            close(own.T, residual(record.T, unit))


@torch.no_grad()
def test_the_whole_residual_cnn_equals_the_loops():
    spec = ResNetSpec(units=4, filters=2, kernel=4, widen_every=2, dropout=0.5)
    network = roughened(build(spec, inputs=3, outputs=5, steps=10, per_step=False))
    values = normal(2, 10, 3)
    for own, record in zip(network(values), values, strict=True):
        hidden = normed(same_convolution(record.T, network.stem.weight, 1), network.stem_norm)
        for unit in network.residual:
            hidden = residual(hidden, unit)
        pooled = normed(hidden, network.norm).sum(1) / 3  # ten steps, halved twice: 5, 3
        close(own, network.head.weight @ pooled + network.head.bias)


def test_which_units_widen_halve_and_begin_with_a_norm():
    network = build(ResNetSpec(), **SIGNALS)
    assert [unit.stride for unit in network.residual] == [1, 2] * 8
    assert [i for i, unit in enumerate(network.residual) if unit.widened] == [4, 8, 12]
    assert [i for i, unit in enumerate(network.residual) if unit.before is None] == [0]
    assert network.depths == (32,) * 4 + (64,) * 4 + (128,) * 4 + (256,) * 4
    assert (
        network.lengths(2000)
        == tuple(n for n in (2000, 1000, 500, 250, 125, 63, 32, 16, 8) for _ in "ab")[1:-1]
    )


# The residual LSTM


def lstm(rows, layer):
    """One layer over [T, D], gate by gate in torch's order: input, forget, cell, output."""
    hidden = cell = torch.zeros(layer.hidden_size, dtype=torch.float64)
    found = []
    for row in rows:
        gates = layer.weight_ih_l0 @ row + layer.bias_ih_l0 + layer.weight_hh_l0 @ hidden + layer.bias_hh_l0
        i, f, g, o = gates.chunk(4)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        found.append(hidden)
    return torch.stack(found)


@pytest.mark.parametrize("per_step", [True, False])
@torch.no_grad()
def test_the_residual_lstm_equals_the_loops(per_step):
    spec = LstmSpec(units=2, hidden=5, dropout=0.5)
    network = roughened(build(spec, inputs=3, outputs=2, steps=None, per_step=per_step))
    values = normal(2, 6, 3)
    for own, record in zip(network(values), values, strict=True):
        hidden = record @ network.projection.weight.T + network.projection.bias
        for layer in network.layers:
            hidden = hidden + lstm(hidden, layer)
        hidden = hidden if per_step else hidden.mean(0)
        close(own, hidden @ network.head.weight.T + network.head.bias)


def test_a_still_lstm_lets_gradients_through_to_its_input():
    """What matching needs of a teacher, also where torch has fused layers, which float32 on the CPU has."""
    network = build(LstmSpec(units=2, hidden=5), **HOURS).requires_grad_(requires_grad=False)
    values = normal(2, 6, 40).float().requires_grad_()
    slopes = []
    for training in (True, False):
        network.train(training)
        slopes.append(torch.autograd.grad(network(values).square().sum(), values)[0])
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-7)
    exact = torch.autograd.grad(network.double()(values.double()).square().sum(), values)[0]
    torch.testing.assert_close(slopes[0], exact, rtol=1e-3, atol=1e-6)


# Transformers


def layer_norm(token, norm):
    centred = token - token.mean()
    return centred / math.sqrt(centred.square().mean() + 1e-5) * norm.weight + norm.bias


def linear(token, layer):
    return layer.weight @ token + layer.bias


def gelu(token):
    return torch.stack([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in token])


def attended(tokens, block, may_see):
    """One encoder block on [S, D], query by query; returns tokens and weights [H, S, S]."""
    count, width = tokens.shape
    each = width // block.heads
    parts = [linear(layer_norm(token, block.norm_1), block.projection) for token in tokens]
    weights = torch.zeros(block.heads, count, count, dtype=torch.float64)
    after = []
    for i in range(count):
        mixed = []
        for h in range(block.heads):
            own = slice(h * each, (h + 1) * each)
            query = parts[i][:width][own]
            keys = {j: parts[j][width : 2 * width][own] for j in range(count) if may_see(i, j)}
            scores = {j: math.exp(float(query @ key) / math.sqrt(each)) for j, key in keys.items()}
            for j, score in scores.items():
                weights[h, i, j] = score / sum(scores.values())
            mixed.append(sum(weights[h, i, j] * parts[j][2 * width :][own] for j in keys))
        token = tokens[i] + linear(torch.cat(mixed), block.joined)
        inner = gelu(linear(layer_norm(token, block.norm_2), block.widen))
        after.append(token + linear(inner, block.narrow))
    return torch.stack(after), weights


def small(*, distillation, patch=0, causal=False, steps=None, per_step=False):
    spec = TransformerSpec(units=2, width=6, heads=2, feed_forward=5, patch=patch, causal=causal, dropout=0.5)
    options = {"inputs": 3, "outputs": 2, "steps": steps, "per_step": per_step, "distillation": distillation}
    return roughened(build(spec, **options))


def answer(token, network, head):
    return linear(layer_norm(token, network.norm), head)


def renormalised(weights, first):
    """The columns of tokens beside time left out, rows adding up to 1 again."""
    own = weights[:, first:, first:]
    return own / own.sum(2, keepdim=True)


@pytest.mark.parametrize("distillation", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_the_patch_transformer_equals_the_loops(distillation, causal):
    """Tokens beside time see all; on the time axis a causal one sees those up to its own, and none beside it."""
    network = small(distillation=distillation, patch=2, steps=8, causal=causal)
    values = normal(2, 8, 3)
    found, attention = network(values), network.attention(values)
    beside = 1 + distillation

    def may_see(i, j):
        return not causal or i < beside or beside <= j <= i

    for row, record in enumerate(values):
        tokens = [network.tokens[n] for n in range(beside)]
        for p in range(4):
            patch = torch.cat([record[2 * p], record[2 * p + 1]])
            tokens.append(linear(patch, network.embedding) + network.positions[p])
        tokens = torch.stack(tokens)
        for unit, block in enumerate(network.blocks):
            tokens, weights = attended(tokens, block, may_see)
            close(attention[unit][row], renormalised(weights, beside))
        expected = answer(tokens[0], network, network.head)
        if distillation:
            expected = (expected + answer(tokens[1], network, network.distillation_head)) / 2
        close(found[row], expected)


@pytest.mark.parametrize("distillation", [False, True])
@torch.no_grad()
def test_the_row_transformer_equals_the_loops(distillation):
    """Records of 5 and 2 hours; with distillation tokens 0 to T - 1 are those and T to 2 T - 1 the rows."""
    network = small(distillation=distillation, causal=True, per_step=True)
    values = normal(2, 5, 3)
    real = torch.arange(5) < torch.tensor([[5], [2]])
    found, attention = network(values, real), network.attention(values, real)
    for row, hours in enumerate((5, 2)):
        places = sinusoidal(torch.zeros(1, hours, 6, dtype=torch.float64))
        rows = [linear(values[row, t], network.embedding) + places[t] for t in range(hours)]
        taught = [network.tokens[0] + places[t] for t in range(hours)] if distillation else []
        tokens, first = torch.stack(taught + rows), len(taught)
        for unit, block in enumerate(network.blocks):
            tokens, weights = attended(tokens, block, lambda i, j, n=hours: j % n <= i % n)
            close(attention[unit][row, :, :hours, :hours], renormalised(weights, first))
        for t in range(hours):
            expected = answer(tokens[first + t], network, network.head)
            if distillation:
                expected = (expected + answer(tokens[t], network, network.distillation_head)) / 2
            close(found[row, t], expected)


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_rows_with_one_answer_see_all_but_padding(causal):
    network = small(distillation=False, causal=causal)
    values = normal(2, 5, 3)
    real = torch.arange(5) < torch.tensor([[5], [2]])
    found, attention = network(values, real), network.attention(values, real)
    for row, hours in enumerate((5, 2)):
        places = sinusoidal(torch.zeros(1, hours, 6, dtype=torch.float64))
        rows = [linear(values[row, t], network.embedding) + places[t] for t in range(hours)]
        tokens = torch.stack([network.tokens[0], *rows])
        for unit, block in enumerate(network.blocks):
            tokens, weights = attended(tokens, block, lambda i, j: not causal or i == 0 or 1 <= j <= i)
            close(attention[unit][row, :, :hours, :hours], renormalised(weights, 1))
            assert attention[unit][row, :, :hours, hours:].abs().sum() == 0
        close(found[row], answer(tokens[0], network, network.head))


@torch.no_grad()
def test_attention_rows_add_up_to_one():
    for network, values, real in (
        (small(distillation=True, patch=2, steps=8), normal(2, 8, 3), None),
        (
            small(distillation=True, causal=True, per_step=True),
            normal(2, 5, 3),
            torch.arange(5) < torch.tensor([[5], [2]]),
        ),
        (small(distillation=True), normal(2, 5, 3), torch.arange(5) < torch.tensor([[5], [2]])),
    ):
        for unit in network.attention(values, real):
            close(unit.sum(3), torch.ones_like(unit[..., 0]))


@pytest.mark.parametrize("width", [4, 5])
def test_positions_by_hand(width):
    found = sinusoidal(torch.zeros(1, 3, width, dtype=torch.float64))
    for t in range(3):
        for column in range(width):
            angle = t / 10_000 ** ((column - column % 2) / width)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert found[t, column].item() == pytest.approx(expected, abs=1e-14)
    assert torch.equal(sinusoidal(torch.zeros(1, 9, width)), sinusoidal(torch.zeros(1, 20, width))[:9])
