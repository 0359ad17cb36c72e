"""Equations 1 to 4 against loops in float64, and what each term may train."""

import importlib.util
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.matching import (
    Maps,
    block_features,
    check_matching,
    matching_loss,
    resize,
    transform,
)
from kdsearch.trainables.series.blocks import Blocks
from kdsearch.trainables.series.build import build_network
from kdsearch.trainables.series.networks import Features
from kdsearch.trainables.series.specs import LstmSpec, ResNetSpec, TransformerSpec

_SPEC = importlib.util.spec_from_file_location("bbm_plain", Path(__file__).with_name("bbm_plain.py"))
bbm_plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bbm_plain)

INPUTS = 3
TERMS = ("first", "second", "third")


class Piece(nn.Module):
    """A block: convolution over time, perhaps batch norm and dropout, and tokens beside time that mix in."""

    def __init__(self, inputs, outputs, stride, *, norm=False, dropout=0.0, token=False, begins=False):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, stride, padding=1)
        self.norm = nn.BatchNorm1d(outputs) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.token = nn.Parameter(torch.randn(1, 2, outputs)) if token and begins else None
        self.mix = nn.Linear(outputs if begins else inputs, outputs) if token else None
        self.calls = 0

    def forward(self, time, beside, real):
        self.calls += 1
        if real is not None:
            time = time.masked_fill(~real[..., None], 0)
        if self.token is not None:
            beside = self.token.expand(len(time), -1, -1)
        out = self.dropout(torch.tanh(self.norm(self.conv(time.transpose(1, 2))))).transpose(1, 2)
        if self.mix is None:
            return out, None
        beside = torch.tanh(self.mix(beside))
        return out + beside.mean(1, keepdim=True), beside + out[:, :1]


class ToyBlocks:
    """Blocks of `Piece`s: a depth and a stride for each."""

    def __init__(self, depths, strides, *, seed=0, token=False, **options):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            widths = (INPUTS, *depths)
            self.network = nn.ModuleList(
                Piece(widths[k], depths[k], strides[k], token=token, begins=k == 0, **options)
                for k in range(len(depths))
            ).double()
        self.depths, self.strides = tuple(depths), tuple(strides)

    def lengths(self, steps):
        found = []
        for stride in self.strides:
            steps = -(-steps // stride)
            found.append(steps)
        return tuple(found)

    def first(self, values, real):
        return Features(*self.network[0](values, None, real))

    def run(self, k, features, real, values=None):
        return Features(*self.network[k](features.time, features.beside, real))

    @property
    def calls(self):
        return [piece.calls for piece in self.network]


def networks(count, *, masked=False, token=False, seed=0, **options):
    """Return student, teacher and maps of `count` blocks; all depths differ, and the steps where they may."""
    student_strides = (1, 1, 1) if masked else (4, 1, 1)
    teacher_strides = (1, 1, 1) if masked else (1, 2, 3)
    student = ToyBlocks((4, 5, 3)[:count], student_strides[:count], seed=seed, token=token, **options)
    teacher = ToyBlocks((2, 6, 4)[:count], teacher_strides[:count], seed=seed + 1, token=token, norm=True)
    settle(teacher, seed)
    maps = Maps(student, teacher, generator=torch.Generator().manual_seed(seed + 2)).double()
    return student, teacher, maps


def settle(teacher, seed):
    """Give batch norm statistics of its own, then freeze."""
    for piece in teacher.network:
        if isinstance(piece.norm, nn.BatchNorm1d):
            piece.norm.running_mean.normal_(generator=torch.Generator().manual_seed(seed))
            piece.norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(seed))
    teacher.network.eval()
    teacher.network.requires_grad_(requires_grad=False)


def batch(masked, *, steps=10, seed=0):
    values = torch.randn(3, steps, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    real = torch.arange(steps)[None, :] < torch.tensor([steps, 1, 7])[:, None] if masked else None
    return values, real


def plain(student, teacher, maps, values, real):
    """The reference on single records, cut to their real hours."""
    lengths = [values.shape[1]] * len(values) if real is None else real.sum(1).tolist()
    return bbm_plain.matching(
        [lambda time, beside, piece=piece: piece(time, beside, None) for piece in student.network],
        [lambda time, beside, piece=piece: piece(time, beside, None) for piece in teacher.network],
        list(maps.to_teacher),
        list(maps.to_student),
        [record[:length] for record, length in zip(values, lengths, strict=True)],
    )


def parameters(student, maps):
    return [*student.network.parameters(), *maps.parameters()]


def gradients(loss, student, maps):
    found = torch.autograd.grad(
        loss, parameters(student, maps), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("token", [False, True])
def test_terms_and_their_gradients_equal_the_loops(count, masked, token):
    student, teacher, maps = networks(count, masked=masked, token=token)
    values, real = batch(masked)
    found = matching_loss(student, teacher, maps, values, real)
    expected = plain(student, teacher, maps, values, real)
    blend = torch.linspace(0.5, 1.5, count, dtype=torch.float64)  # all blocks' gradients at once, none alike
    for name, theirs in zip(TERMS, expected, strict=True):
        own = getattr(found, name)
        assert own.shape == (count,)
        torch.testing.assert_close(own, theirs, rtol=1e-11, atol=1e-11)
        pairs = zip(
            gradients(own @ blend, student, maps), gradients(theirs @ blend, student, maps), strict=True
        )
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.total, sum(term.sum() for term in expected))


RESNET = ResNetSpec(units=4, filters=2, kernel=3, widen_every=2)
PATCHES = TransformerSpec(units=4, width=6, heads=2, feed_forward=5, patch=4)
LSTM = LstmSpec(units=4, hidden=4)
ROWS = TransformerSpec(units=4, width=6, heads=2, feed_forward=5, patch=0, causal=True)


def real_blocks(spec, count, *, masked, seed):
    network = build_network(
        spec,
        inputs=INPUTS,
        outputs=2,
        steps=None if masked else 12,
        per_step=masked,
        generator=torch.Generator().manual_seed(seed),
    )
    for parameter in network.parameters():  # the initial weights of transformers hardly mix tokens
        with torch.no_grad():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)), alpha=0.2
            )
    return Blocks(network.double(), count)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("one", "other", "masked"),
    [(PATCHES, RESNET, False), (RESNET, PATCHES, False), (ROWS, LSTM, True), (LSTM, ROWS, True)],
)
def test_all_networks_can_be_matched(one, other, masked, count):
    """Any network teaches any other; a transformer's class token is beside time, and hours end where they end."""
    student = real_blocks(one, count, masked=masked, seed=0)
    teacher = real_blocks(other, count, masked=masked, seed=1)
    teacher.network.eval().requires_grad_(requires_grad=False)
    student.network.eval()
    check_matching(student, teacher, steps=12, masked=masked)
    maps = Maps(student, teacher, generator=torch.Generator().manual_seed(2)).double()
    values, real = batch(masked, steps=12)
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    features = block_features(student, values, real)
    found = matching_loss(student, teacher, maps, values, real, student_features=features)
    torch.testing.assert_close(student.network.finish(features[-1], real), student.network(values, real))
    expected = bbm_plain.matching(
        cut(student),
        cut(teacher),
        list(maps.to_teacher),
        list(maps.to_student),
        [record[:length] for record, length in zip(values, real.sum(1), strict=True)]
        if masked
        else list(values),
    )
    for name, theirs in zip(TERMS, expected, strict=True):
        torch.testing.assert_close(getattr(found, name), theirs, rtol=1e-10, atol=1e-10)
    theirs = gradients(sum(term.sum() for term in expected), student, maps)
    for a, b in zip(gradients(found.total, student, maps), theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.network.state_dict().items())


def cut(blocks):
    """Return blocks as functions of (time, beside), as the reference takes them."""

    def block(k):
        def apply(time, beside):
            out = blocks.first(time) if k == 0 else blocks.run(k, Features(time, beside))
            return out.time, out.beside

        return apply

    return [block(k) for k in range(len(blocks))]


def test_the_first_blocks_second_and_third_terms_are_the_same():
    student, teacher, maps = networks(3)
    found = matching_loss(student, teacher, maps, *batch(masked=False))
    assert found.second[0] == found.third[0]
    assert found.second[1] != found.third[1]


def test_each_term_trains_what_occurs_in_it():
    """L1_n and L3_n: student up to n; L2_n: f_n alone. Maps: those that the equations name."""
    student, teacher, maps = networks(3, token=True)
    found = matching_loss(student, teacher, maps, *batch(masked=False))
    for n in range(3):
        expected = {
            "first": {*range(n + 1), f"student {n}"} | ({f"teacher {n - 1}"} if n else set()),
            "second": {n, f"teacher {n}"} | ({f"student {n - 1}"} if n else set()),
            "third": {*range(n + 1), f"teacher {n}"},
        }
        for name in TERMS:
            assert trained(getattr(found, name)[n], student, maps) == expected[name], (name, n)


def trained(loss, student, maps):
    groups = {k: list(piece.parameters()) for k, piece in enumerate(student.network)}
    groups |= {f"teacher {n}": [w] for n, w in enumerate(maps.to_teacher)}
    groups |= {f"student {n}": [w] for n, w in enumerate(maps.to_student)}
    found = set()
    for name, group in groups.items():
        slopes = torch.autograd.grad(
            loss, group, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        if any(slope.abs().max() > 0 for slope in slopes):
            found.add(name)
    return found


def test_the_teacher_stays_as_it_is():
    student, teacher, maps = networks(3, token=True)
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    assert any("running_mean" in name for name in before)
    optimizer = torch.optim.Adam(parameters(student, maps), 0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = matching_loss(student, teacher, maps, *batch(masked=False)).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    for name, tensor in teacher.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module.training for module in teacher.network.modules())


def test_no_block_runs_more_often_than_it_must():
    """Once on its own way, and once more on the other's features where it is not the first."""
    student, teacher, maps = networks(3)
    values, real = batch(masked=False)
    found = matching_loss(student, teacher, maps, values, real)
    assert student.calls == teacher.calls == [1, 2, 2]
    own = block_features(student, values, real)
    given = matching_loss(student, teacher, maps, values, real, student_features=own)
    assert student.calls == [2, 4, 4]
    assert teacher.calls == [2, 4, 4]
    taught = block_features(teacher, values, real)  # not under no_grad: they are constants all the same
    again = matching_loss(student, teacher, maps, values, real, student_features=own, teacher_features=taught)
    assert student.calls == [2, 5, 5]
    assert teacher.calls == [3, 6, 6]
    for other in (given, again):
        for name in TERMS:
            assert torch.equal(getattr(other, name), getattr(found, name))


def test_given_teacher_features_are_constants():
    student, teacher, maps = networks(2, token=True)
    values, real = batch(masked=False)
    taught = [
        Features(f.time.requires_grad_(), f.beside.requires_grad_())
        for f in block_features(teacher, values, real)
    ]
    matching_loss(student, teacher, maps, values, real, teacher_features=taught).total.backward()
    assert all(f.time.grad is None and f.beside.grad is None for f in taught)


def test_a_students_runs_of_a_block_draw_dropout_of_their_own():
    student, teacher, maps = networks(2, dropout=0.5)
    values, real = batch(masked=False)
    student.network.train()
    torch.manual_seed(3)
    one = matching_loss(student, teacher, maps, values, real)
    two = matching_loss(student, teacher, maps, values, real)
    torch.manual_seed(3)
    three = matching_loss(student, teacher, maps, values, real)
    assert not torch.equal(one.first, two.first)
    assert torch.equal(one.first, three.first)
    assert torch.equal(one.second, three.second)
    # As draws follow one another, the run on mapped features sees what the next pass of the block would.
    torch.manual_seed(3)
    own = block_features(student, values, real)
    kept = matching_loss(student, teacher, maps, values, real, student_features=own)
    assert torch.equal(kept.second, one.second)
    student.network.eval()
    still = matching_loss(student, teacher, maps, values, real)
    assert not torch.equal(still.second, one.second)


def test_equal_networks_and_maps_that_do_nothing_leave_no_error():
    student = ToyBlocks((4, 4, 4), (1, 2, 1), seed=5)
    teacher = ToyBlocks((4, 4, 4), (1, 2, 1), seed=5)
    settle(teacher, 0)
    maps = Maps(student, teacher, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for weight in maps.parameters():
            weight.copy_(torch.eye(4))
    found = matching_loss(student, teacher, maps, *batch(masked=False))
    assert found.total.item() == 0


def test_padding_counts_for_nothing():
    student, teacher, maps = networks(3, masked=True, token=True)
    values, real = batch(masked=True)
    found = matching_loss(student, teacher, maps, values, real)
    junk = torch.full((3, 4, INPUTS), math.nan, dtype=torch.float64)
    longer = torch.cat([values.masked_fill(~real[..., None], math.nan), junk], 1)
    mask = torch.cat([real, torch.zeros(3, 4, dtype=torch.bool)], 1)
    again = matching_loss(student, teacher, maps, longer, mask)
    for name in TERMS:
        torch.testing.assert_close(getattr(again, name), getattr(found, name), rtol=1e-12, atol=1e-12)
    again.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in parameters(student, maps) if p.grad is not None)


def test_errors_of_low_precision_are_summed_in_float32():
    student, teacher, maps = networks(2)
    for module in (student.network, teacher.network, maps):
        module.to(torch.bfloat16)
    values, _ = batch(masked=False)
    found = matching_loss(student, teacher, maps, values.to(torch.bfloat16))
    assert {getattr(found, name).dtype for name in TERMS} == {torch.float32}
    exact = plain(student, teacher, maps, values.to(torch.bfloat16), None)
    for name, theirs in zip(TERMS, exact, strict=True):
        torch.testing.assert_close(getattr(found, name).double(), theirs.double(), rtol=0.05, atol=0.05)


def test_a_teacher_that_could_change_is_refused():
    student, teacher, maps = networks(2)
    values, real = batch(masked=False)
    teacher.network[1].norm.train()
    with pytest.raises(ValueError, match="training mode"):
        matching_loss(student, teacher, maps, values, real)
    teacher.network.eval()
    teacher.network[0].conv.weight.requires_grad_()
    with pytest.raises(ValueError, match="take gradients"):
        matching_loss(student, teacher, maps, values, real)


class Recurrent(nn.Module):
    """One LSTM layer that notes the mode it is run in."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.rest = nn.Dropout(0.9)
        self.modes = []

    def forward(self, time, beside, real):
        self.modes.append((torch.is_grad_enabled(), self.lstm.training, self.rest.training))
        return self.rest(self.lstm(time)[0]), None


def test_a_recurrent_teacher_lets_gradients_through_without_changing():
    """cuDNN refuses the backward pass of a recurrent layer in eval mode: layers without dropout are in training mode
    for just the runs that are differentiated, and what else there is stays in eval mode."""
    student, teacher, _ = networks(2, masked=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher.network = nn.ModuleList([Recurrent(INPUTS, 2), Recurrent(2, 6)]).double()
    settled = [p.clone() for p in teacher.network.parameters()]
    teacher.network.eval().requires_grad_(requires_grad=False)
    maps = Maps(student, teacher, generator=torch.Generator().manual_seed(0)).double()
    values, _ = batch(masked=True)
    # `settle` is for batch norm; these blocks have none.
    found = matching_loss(student, teacher, maps, values)
    assert [piece.modes for piece in teacher.network] == [
        [(False, False, False)],
        [(False, False, False), (True, True, False)],
    ]
    assert not any(module.training for module in teacher.network.modules())
    assert all(torch.equal(a, b) for a, b in zip(settled, teacher.network.parameters(), strict=True))
    expected = plain(student, teacher, maps, values, None)
    torch.testing.assert_close(found.first, expected[0], rtol=1e-11, atol=1e-11)
    assert f"teacher {0}" in trained(found.first[1], student, maps)


def test_features_that_do_not_fit_are_refused():
    student, teacher, maps = networks(2, masked=True)
    values, real = batch(masked=True)
    own = block_features(student, values, real)
    with pytest.raises(ValueError, match="1 and 2 blocks' features and 2 maps"):
        matching_loss(student, teacher, maps, values, real, student_features=own[:1])
    student, teacher, maps = networks(2, masked=False)
    with pytest.raises(ValueError, match="a mask of"):
        matching_loss(
            student,
            teacher,
            maps,
            values,
            real,
            student_features=block_features(student, values),
            teacher_features=block_features(teacher, values),
        )


def test_networks_that_cannot_be_matched_are_refused():
    student, teacher, _ = networks(3)
    check_matching(student, teacher, steps=24, masked=False)
    with pytest.raises(UsageError, match=r"24 hours into \(6, 6, 6\) steps") as caught:
        check_matching(student, teacher, steps=24, masked=True)
    assert "hour by hour" in pickle.loads(pickle.dumps(caught.value)).hint
    two, _, _ = networks(2)
    for refused in (
        lambda: check_matching(two, teacher, steps=24, masked=False),
        lambda: Maps(two, teacher, generator=torch.Generator()),
    ):
        with pytest.raises(UsageError, match="2 blocks and the teacher into 3"):
            refused()
    student, teacher, _ = networks(3, masked=True)
    check_matching(student, teacher, steps=24, masked=True)


def test_maps_come_from_the_generator_alone():
    student, teacher, _ = networks(3)
    state = torch.random.get_rng_state()
    one, two = (Maps(student, teacher, generator=torch.Generator().manual_seed(s)) for s in (1, 1))
    other = Maps(student, teacher, generator=torch.Generator().manual_seed(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [tuple(w.shape) for w in one.to_teacher] == [(4, 2), (5, 6), (3, 4)]
    assert [tuple(w.shape) for w in one.to_student] == [(2, 4), (6, 5), (4, 3)]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_maps_keep_the_size_of_features():
    wide, narrow = ToyBlocks((400,), (1,)), ToyBlocks((300,), (1,))
    maps = Maps(wide, narrow, generator=torch.Generator().manual_seed(0))
    for weight in maps.parameters():
        z = torch.randn(200, len(weight), generator=torch.Generator().manual_seed(1))
        assert (z @ weight).std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("steps", "wanted"), [(10, 4), (10, 7), (4, 10), (1, 5), (5, 1), (125, 100), (6, 6)])
def test_resizing_is_linear_interpolation_between_middles(steps, wanted):
    z = torch.randn(2, steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = resize(z, wanted)
    assert found.shape == (2, wanted, 3)
    for own, record in zip(found, z, strict=True):
        torch.testing.assert_close(own, bbm_plain.resized(record, wanted), rtol=1e-12, atol=1e-12)
    weight = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.cat([bbm_plain.mapped(record[None], weight, wanted) for record in z])
    torch.testing.assert_close(transform(z, weight, wanted), expected, rtol=1e-12, atol=1e-12)


def test_resizing_to_the_same_steps_does_nothing():
    z = torch.randn(2, 7, 3)
    assert resize(z, 7) is z


def test_middles_by_hand():
    """Four steps at 0, 1, 2, 3: two stretches have their middles at 0.5 and 2.5, eight at -0.25, 0.25, ..."""
    z = torch.arange(4.0).reshape(1, 4, 1)
    assert resize(z, 2).flatten().tolist() == [0.5, 2.5]
    assert resize(z, 8).flatten().tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
