"""Linear CKA streamed over batches against Gram matrices of all samples, and its known values."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.trainables.similarity.cka import LinearCka

_SPEC = importlib.util.spec_from_file_location("bbm_plain", Path(__file__).with_name("bbm_plain.py"))
bbm_plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bbm_plain)


def draw(records, units, *, seed=0, offset=0.0):
    """Return features [B, T, D] of units (T, D) which share a part, so that they are alike to some degree."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(records, 1, 2, dtype=torch.float64, generator=generator)
    return [
        torch.randn(records, steps, depth, dtype=torch.float64, generator=generator)
        + (shared @ torch.randn(2, depth, dtype=torch.float64, generator=generator)).expand(-1, steps, -1)
        + offset
        for steps, depth in units
    ]


def stream(first, second, sizes, real=None):
    similar, start = LinearCka(), 0
    for size in sizes:
        part = slice(start, start + size)
        mask = None if real is None else real[part]
        similar.add([x[part] for x in first], [x[part] for x in second], mask)
        start += size
    assert start == len(first[0])
    return similar.result()


def rotation(depth, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(depth, depth, dtype=torch.float64, generator=generator)).Q


def windows(features, count):
    """The mean over each of `count` windows of time, by hand: [B * count, D]."""
    steps = features.shape[1]
    parts = [slice(k * steps // count, -(-(k + 1) * steps // count)) for k in range(count)]
    return torch.stack([record[part].mean(0) for record in features for part in parts])


@pytest.mark.parametrize("sizes", [(40,), (16, 16, 8), (1, 38, 1)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_streaming_agrees_with_all_samples_at_once(sizes, offset):
    first = draw(40, [(6, 5), (6, 3)], offset=offset)
    second = draw(40, [(6, 4), (6, 7), (6, 2)], seed=1, offset=-offset)
    for own, other in zip(first, second, strict=False):  # something in common
        other[..., :2] += own[..., :2]
    found = stream(first, second, sizes)
    assert found.cka.shape == (2, 3)
    assert (found.rows == 240).all()
    assert found.reasons == ()
    for (i, j), value in np.ndenumerate(found.cka):
        direct = bbm_plain.linear_cka(
            first[i].flatten(0, 1) - first[i].mean(), second[j].flatten(0, 1) - second[j].mean()
        )
        assert value == pytest.approx(direct, abs=1e-10)
        assert 0.001 < value < 0.99


def test_units_of_different_length_are_compared_in_the_fewer_windows():
    first, second = draw(30, [(12, 4), (5, 3)]), draw(30, [(12, 4), (8, 6), (3, 2)], seed=1)
    found = stream(first, second, (11, 19))
    assert found.rows.tolist() == [[360, 240, 90], [150, 150, 90]]
    for (i, j), value in np.ndenumerate(found.cka):
        count = min(first[i].shape[1], second[j].shape[1])
        direct = bbm_plain.linear_cka(windows(first[i], count), windows(second[j], count))
        assert value == pytest.approx(direct, abs=1e-10)


def test_hours_count_where_they_are_real():
    first, second = draw(20, [(9, 4), (9, 3)]), draw(20, [(9, 5)], seed=1)
    real = torch.arange(9)[None, :] < torch.arange(20)[:, None] % 9 + 1
    expected = [bbm_plain.linear_cka(x[real], second[0][real]) for x in first]
    padded = [x.masked_fill(~real[..., None], math.nan) for x in (*first, *second)]
    found = stream(padded[:2], padded[2:], (7, 13), real)
    assert found.cka[:, 0] == pytest.approx(expected, abs=1e-10)
    assert (found.rows == int(real.sum())).all()


def test_hours_may_be_padded_to_another_length_in_each_batch():
    first, second = draw(30, [(9, 4)]), draw(30, [(9, 5)], seed=1)
    real = torch.arange(9)[None, :] < torch.tensor([4] * 15 + [9] * 15)[:, None]
    similar = LinearCka()
    similar.add([first[0][:15, :4]], [second[0][:15, :4]], real[:15, :4])
    similar.add([first[0][15:]], [second[0][15:]], real[15:])
    assert similar.result().cka == pytest.approx(stream(first, second, (30,), real).cka, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rotated_scaled_and_shifted_features_are_the_same(dtype):
    first = [x.to(dtype) for x in draw(40, [(6, 5)], offset=2.0)]
    turned = first[0].double() @ rotation(5)
    second = [first[0], -3.7 * first[0].double(), turned, 1e-5 * turned + 4.0]
    found = stream(first, second, (25, 15))
    assert found.cka == pytest.approx(np.ones((1, 4)), abs=1e-10)
    assert (found.cka <= 1).all()


def test_a_rotation_of_either_side_changes_nothing():
    first, second = draw(40, [(6, 5)]), draw(40, [(3, 4)], seed=1)
    second[0][..., :2] += first[0].unflatten(1, (3, 2)).mean(2)[..., :2]
    plain = stream(first, second, (40,)).cka
    turned = stream([first[0] @ rotation(5)], [0.01 * second[0] @ rotation(4)], (40,)).cka
    assert turned == pytest.approx(plain, abs=1e-12)
    sheared = stream([first[0] @ torch.diag(torch.arange(1.0, 6).double())], second, (40,)).cka
    assert sheared != pytest.approx(plain, abs=1e-2)  # other linear maps do change it


def test_a_network_with_itself_is_symmetric():
    units = draw(40, [(12, 4), (5, 3), (8, 6)])
    found = stream(units, units, (24, 16)).cka
    assert np.diag(found) == pytest.approx(np.ones(3), abs=1e-12)
    assert found == pytest.approx(found.T, abs=1e-12)


def test_independent_features_come_to_what_chance_gives():
    """Of independent normal columns E ||Y^T X||^2 = n D1 D2, and E ||X^T X||^2 = n D1 (n + D1 + 1)."""
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.randn(4000, 5, depth, dtype=torch.float64, generator=generator) for depth in (8, 12)
    )
    found = stream([first], [second], (1000,) * 4)
    n, d1, d2 = 20_000, 8, 12
    chance = d1 * d2 * n / math.sqrt(n * d1 * (n + d1 + 1) * n * d2 * (n + d2 + 1))
    assert chance == pytest.approx(math.sqrt(d1 * d2) / n, rel=0.01)
    assert found.cka[0, 0] == pytest.approx(chance, rel=0.5)
    assert found.cka[0, 0] < 0.001


def test_too_few_samples_are_not_defined():
    first, second = draw(10, [(2, 4), (2, 20)]), draw(10, [(2, 3)], seed=1)
    found = stream(first, second, (10,))
    assert found.rows.tolist() == [[20], [20]]
    assert np.isfinite(found.cka[0, 0])
    assert np.isnan(found.cka[1, 0])
    assert found.reasons == ("20 samples are too few for units of 20 features",)


def test_constant_and_broken_features_are_not_defined():
    good = draw(20, [(4, 3)])[0]
    constant = torch.full((20, 4, 2), 0.1)
    broken = good.clone()
    broken[3, 2, 1] = math.inf
    found = stream([good, constant, torch.zeros(20, 4, 2), broken], [good, constant], (7, 13))
    assert np.isnan(found.cka).tolist() == [[False, True], [True, True], [True, True], [True, True]]
    assert set(found.reasons) == {
        "a unit of the first network answers the same to everything",
        "a unit of the second network answers the same to everything",
        "features of the first network are not finite",
    }


def test_a_constant_is_one_though_its_mean_is_rounded():
    """The mean of a thousand times 0.7 need not be 0.7 in float64."""
    constant = torch.full((250, 4, 1), 0.7, dtype=torch.float64)
    found = stream([constant], draw(250, [(4, 1)]), (250,))
    assert found.reasons == ("a unit of the first network answers the same to everything",)


def test_no_record_is_not_defined():
    empty = LinearCka()
    with pytest.raises(ValueError, match="no features were added"):
        empty.result()
    empty.add([torch.zeros(0, 3, 2)], [torch.zeros(0, 3, 2)])
    found = empty.result()
    assert np.isnan(found.cka).all()
    assert found.reasons == ("no record was added",)
    padded = stream(draw(3, [(3, 2)]), draw(3, [(3, 2)]), (3,), torch.zeros(3, 3, dtype=torch.bool))
    assert padded.reasons == ("no record was added",)


def test_many_records_at_once_are_taken_in_parts():
    first, second = draw(2100, [(20, 3)]), draw(2100, [(20, 3), (4, 2)], seed=1)
    whole, small = stream(first, second, (2100,)), stream(first, second, (100,) * 21)
    assert whole.cka == pytest.approx(small.cka, abs=1e-12)
    assert whole.rows.tolist() == [[42_000, 8_400]]


def test_gradients_are_not_followed():
    first = draw(30, [(4, 3)])[0].requires_grad_()
    assert stream([first], [first], (30,)).cka == pytest.approx(np.ones((1, 1)))


def test_features_that_do_not_fit_are_refused():
    similar = LinearCka()
    unit = torch.zeros(4, 3, 2)
    for first, second, real, message in [
        ([], [unit], None, "without units"),
        ([unit[0]], [unit], None, r"shape \(3, 2\)"),
        ([unit], [unit[:3]], None, r"shape \(3, 3, 2\)"),
        ([unit], [unit], torch.ones(4, 2, dtype=torch.bool), "a mask of"),
    ]:
        with pytest.raises(ValueError, match=message):
            similar.add(first, second, real)
    similar.add([unit], [unit])
    with pytest.raises(ValueError, match="after"):
        similar.add([unit], [torch.zeros(4, 3, 5)])
