"""Mean attention with patients of different length, and the distance's closed forms."""

import math

import numpy as np
import pytest
import torch

from kdsearch.trainables.similarity.attention import MeanAttention


def draw(batch, heads, steps, *, seed=0, lengths=None, causal=False):
    """Softmax of noise among the keys that may be seen; rows of padding are NaN, as a softmax over nothing is."""
    scores = 2 * torch.randn(batch, heads, steps, steps, generator=torch.Generator().manual_seed(seed))
    if causal:
        scores = scores.masked_fill(torch.ones(steps, steps).triu(1).bool(), -math.inf)
    if lengths is None:
        return scores.softmax(-1), None
    real = torch.arange(steps)[None] < torch.tensor(lengths)[:, None]
    scores = scores.masked_fill(~real[:, None, None, :], -math.inf)
    return scores.masked_fill(~real[:, None, :, None], -math.inf).softmax(-1), real


def summary(attention, real=None, limit=50):
    mean = MeanAttention(limit)
    mean.add(attention, real)
    return mean.result()


def test_mean_over_samples_and_heads():
    units = [draw(5, 3, 7, seed=s)[0] for s in (0, 1)]
    found = summary(units)
    expected = np.stack([unit.double().mean((0, 1)).numpy() for unit in units])
    assert found.attention == pytest.approx(expected, abs=1e-7)
    assert found.attention.sum(-1) == pytest.approx(np.ones((2, 7)), abs=1e-6)
    assert (found.counts == 5).all()
    assert found.queries == 35


def by_hand(batches, steps):
    """Value by value: sums over samples that have both tokens, and over all real queries."""
    sums, counts, distance, queries = np.zeros((steps, steps)), np.zeros((steps, steps)), 0.0, 0
    for attention, lengths in batches:
        for sample, length in zip(attention.double(), lengths, strict=True):
            heads = len(sample)
            for i in range(length):
                queries += 1
                for j in range(length):
                    value = sum(float(head[i, j]) for head in sample) / heads
                    sums[i, j] += value
                    counts[i, j] += 1
                    distance += value * abs(i - j)
    with np.errstate(invalid="ignore"):
        return sums / counts, counts, distance / queries


@pytest.mark.parametrize("causal", [False, True])
def test_patients_of_different_length_in_batches_of_different_length(causal):
    lengths = ([3, 5, 1], [8, 2], [6])
    batches = [
        draw(len(own), 2, max(own), seed=s, lengths=own, causal=causal) for s, own in enumerate(lengths)
    ]
    mean = MeanAttention(50)
    for attention, real in batches:
        mean.add([attention, attention.roll(1, 1)], real)
    found = mean.result()
    expected, counts, distance = by_hand(
        [(attention, own) for (attention, _), own in zip(batches, lengths, strict=True)], 8
    )
    assert found.attention.shape == (2, 8, 8)
    for unit in found.attention:
        assert unit == pytest.approx(expected, abs=1e-7, nan_ok=True)
    assert (found.counts == counts).all()
    assert found.counts[0, 0] == 6
    assert found.counts[7, 0] == found.counts[0, 7] == found.counts[7, 7] == 1
    assert found.distance == pytest.approx([distance, distance], rel=1e-6)
    assert found.queries == 25
    if causal:
        assert found.attention[0].sum(-1) == pytest.approx(np.ones(8), abs=1e-6)


def test_places_that_no_sample_has_are_nan():
    attention, real = draw(2, 1, 4, lengths=[2, 3])
    found = summary([attention], real)
    assert np.isnan(found.attention[0, 3]).all()
    assert np.isnan(found.attention[0, :, 3]).all()
    assert np.isfinite(found.attention[0, :3, :3]).all()


def test_the_mean_keeps_the_first_tokens_and_the_distance_all():
    attention, real = draw(4, 2, 9, lengths=[9, 4, 7, 2])
    whole, cut = summary([attention], real), summary([attention], real, limit=3)
    assert cut.attention.shape == (1, 3, 3)
    assert (cut.attention == whole.attention[:, :3, :3]).all()
    assert (cut.counts == whole.counts[:3, :3]).all()
    assert cut.distance == whole.distance
    assert cut.queries == whole.queries == 22


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_distance_of_known_attention(steps):
    """Itself: 0. All alike: sum_ij |i - j| = T (T^2 - 1) / 3, over T^2. Causal: query i (from 0) looks back i / 2
    on average, and the mean of that over i is (T - 1) / 4."""
    itself = torch.eye(steps)
    full = torch.full((steps, steps), 1 / steps)
    causal = torch.ones(steps, steps).tril()
    causal /= causal.sum(-1, keepdim=True)
    previous = torch.eye(steps).roll(-1, 1)  # i looks at i - 1, the first at the last: 2 (T - 1) / T
    units = [x.expand(3, 2, -1, -1) for x in (itself, full, causal, previous.T)]
    found = summary(units).distance
    expected = [0, (steps**2 - 1) / (3 * steps), (steps - 1) / 4, 2 * (steps - 1) / steps]
    assert found == pytest.approx(expected, abs=1e-5)


def test_distance_is_over_real_queries_of_all_patients():
    """Two patients of 3 and 5 hours that look at all their hours alike: weights 3 and 5."""
    real = torch.arange(5)[None] < torch.tensor([3, 5])[:, None]
    attention = real[:, None, None, :] / real.sum(1)[:, None, None, None]
    found = summary([attention.expand(-1, 4, 5, -1)], real)
    assert found.distance == pytest.approx([(3 * (8 / 9) + 5 * (24 / 15)) / 8], abs=1e-6)


def test_units_may_have_different_heads():
    one, two = draw(3, 1, 4)[0], draw(3, 8, 4, seed=1)[0]
    found = summary([one, two])
    assert found.attention[0] == pytest.approx(one.mean((0, 1)).numpy(), abs=1e-6)
    assert found.attention[1] == pytest.approx(two.mean((0, 1)).numpy(), abs=1e-6)


def test_what_was_given_stays_as_it_is():
    attention, real = draw(3, 1, 4, lengths=[4, 2, 1])
    before = attention.clone()
    summary([attention], real)
    assert torch.equal(attention.nan_to_num(-1), before.nan_to_num(-1))


def test_nothing_real_has_no_distance():
    attention, real = draw(2, 2, 3, lengths=[0, 0])
    found = summary([attention], real)
    assert np.isnan(found.distance).all()
    assert np.isnan(found.attention).all()
    with pytest.raises(ValueError, match="no attention was added"):
        MeanAttention(3).result()


def test_attention_that_does_not_fit_is_refused():
    mean = MeanAttention(10)
    good = draw(2, 2, 4)[0]
    for units, real, message in [
        ([], None, "without attention"),
        ([good[0]], None, r"shape \(2, 4, 4\)"),
        ([good, good[:1]], None, r"shape \(1, 2, 4, 4\), not \[2, H, 4, 4\]"),
        ([good[..., :3, :]], None, r"\(2, 2, 3, 4\)"),
        ([good], torch.ones(2, 3, dtype=torch.bool), "a mask of"),
    ]:
        with pytest.raises(ValueError, match=message):
            mean.add(units, real)
    mean.add([good])
    with pytest.raises(ValueError, match="2 units after 1"):
        mean.add([good, good])
    with pytest.raises(ValueError, match="a mean of 0 tokens"):
        MeanAttention(0)
