"""r^2 of two networks' answers against numpy's correlation of all answers at once."""

import math

import numpy as np
import pytest
import torch

from kdsearch.trainables.similarity.outputs import OutputAgreement


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=shape)
    other = own + rng.normal(size=shape)
    return [1 / (1 + np.exp(-x)) for x in (own, other)]


def stream(first, second, sizes, real=None):
    agreement, start = OutputAgreement(), 0
    for size in sizes:
        part = slice(start, start + size)
        agreement.add(first[part], second[part], None if real is None else real[part])
        start += size
    return agreement.result()


@pytest.mark.parametrize("sizes", [(50,), (20, 29, 1)])
def test_all_records_and_classes_are_one_sample(sizes):
    own, other = draw(50, 26)
    found = stream(own, other, sizes)
    assert found.r2 == pytest.approx(np.corrcoef(own.ravel(), other.ravel())[0, 1] ** 2, abs=1e-12)
    assert 0.3 < found.r2 < 0.8
    assert found.count == 1300
    assert found.reason is None


def test_real_hours_of_all_patients_are_one_sample():
    own, other = draw(8, 12, 1)
    real = np.arange(12)[None] < np.array([12, 1, 5, 7, 2, 12, 3, 4])[:, None]
    expected = np.corrcoef(own[real].ravel(), other[real].ravel())[0, 1] ** 2
    dirty = [np.where(real[..., None], x, np.nan) for x in (own, other)]
    found = stream(*dirty, (3, 5), real)
    assert found.r2 == pytest.approx(expected, abs=1e-12)
    assert found.count == int(real.sum())
    tensors = [torch.from_numpy(x) for x in dirty]
    assert stream(*tensors, (8,), torch.from_numpy(real)).r2 == pytest.approx(expected, abs=1e-12)


def test_only_rising_and_falling_together_counts():
    own, other = draw(40, 3)
    plain = stream(own, other, (40,)).r2
    assert stream(own, own, (15, 25)).r2 == pytest.approx(1, abs=1e-12)
    assert stream(own, 0.3 - 0.001 * own, (15, 25)).r2 == pytest.approx(1, abs=1e-10)
    assert stream(other, own, (40,)).r2 == pytest.approx(plain, abs=1e-14)
    assert stream(own, 1 - other, (40,)).r2 == pytest.approx(plain, abs=1e-12)


def test_independent_answers_do_not_agree():
    own, other = draw(5000, 4)[0], draw(5000, 4, seed=1)[0]
    assert stream(own, other, (5000,)).r2 < 0.001


def test_rare_confident_answers_keep_their_digits():
    """Probabilities near 1e-6, where sums of raw squares in float32 would be nothing but noise."""
    own, other = (1e-6 * (1 + 1e-3 * x) for x in draw(100, 5))
    expected = np.corrcoef(own.ravel(), other.ravel())[0, 1] ** 2
    assert stream(own, other, (60, 40)).r2 == pytest.approx(expected, abs=1e-8)


def test_a_network_that_answers_the_same_to_everything():
    own, _ = draw(30, 2)
    constant = np.full((30, 2), 0.1, np.float32)
    assert stream(constant, own, (9, 21)).reason == "the first network answers the same to everything"
    found = stream(own, constant, (9, 21))
    assert math.isnan(found.r2)
    assert found.reason == "the second network answers the same to everything"
    assert found.count == 60


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_answer_that_is_not_finite(broken):
    own, other = draw(30, 2)
    other[4, 1] = broken
    found = stream(own, other, (10, 20))
    assert math.isnan(found.r2)
    assert found.reason == "an answer of the second network is not finite"


def test_too_few_answers():
    assert OutputAgreement().result().reason == "0 answers are too few"
    found = stream(*draw(2, 1), (2,))
    assert math.isnan(found.r2)
    assert found.reason == "2 answers are too few"
    assert np.isfinite(stream(*draw(3, 1), (3,)).r2)


def test_answers_that_do_not_fit_are_refused():
    own, other = draw(4, 3)
    with pytest.raises(ValueError, match=r"shapes \(4, 3\) and \(4, 2\)"):
        OutputAgreement().add(own, other[:, :2])
    with pytest.raises(ValueError, match="a mask of"):
        OutputAgreement().add(own, other, np.ones((4, 2), bool))
