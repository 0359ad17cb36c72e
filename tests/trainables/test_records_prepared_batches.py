"""Batches of an epoch: every record once, little padding, and the same for the same generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.records import load_patients
from kdsearch.trainables.records.prepared import epoch_batches, padded_share


@given(
    lengths=st.lists(st.integers(1, 336), max_size=60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 100),
    by_length=st.booleans(),
)
def test_every_record_comes_once(lengths: list[int], batch_size: int, seed: int, *, by_length: bool) -> None:
    given_lengths = np.array(lengths, dtype=np.int64) if by_length else None
    batches = epoch_batches(len(lengths), batch_size, np.random.default_rng(seed), lengths=given_lengths)
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    sizes = sorted((len(batch) for batch in batches), reverse=True)
    full, rest = divmod(len(lengths), batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0)


def test_the_generator_decides_alone() -> None:
    lengths = np.random.default_rng(0).integers(8, 60, 500)
    for chosen in (None, lengths):
        first, again, other = (
            epoch_batches(500, 16, np.random.default_rng(seed), lengths=chosen) for seed in (1, 1, 2)
        )
        assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
        assert not np.array_equal(first[0], other[0])


def test_batches_of_like_length_come_in_any_order() -> None:
    lengths = np.arange(1, 1_025)
    batches = epoch_batches(1_024, 8, np.random.default_rng(0), lengths=lengths)
    means = [lengths[batch].mean() for batch in batches]
    # means of batches in random order: next to no correlation with their place (deviation 1/sqrt(128))
    assert abs(np.corrcoef(means, np.arange(128))[0, 1]) < 0.35
    # within a pool of 256 sorted lengths, 8 neighbours span about 7/256 of all; 8 drawn from all, 7/9
    spans = [np.ptp(lengths[batch]) for batch in batches]
    assert np.mean(spans) < 1_024 / 25


def test_who_meets_in_a_batch_changes_from_epoch_to_epoch() -> None:
    lengths = np.repeat(np.arange(10, 20), 40)
    rng = np.random.default_rng(0)
    first, second = (epoch_batches(400, 16, rng, lengths=lengths) for _ in range(2))
    together = {frozenset(batch.tolist()) for batch in first}
    assert not together & {frozenset(batch.tolist()) for batch in second}


def test_the_share_that_is_padding() -> None:
    lengths = np.array([1, 3, 4])
    assert padded_share([np.array([0, 1]), np.array([2])], lengths) == pytest.approx(1 - 8 / 10)
    assert padded_share([np.array([0]), np.array([1]), np.array([2])], lengths) == 0
    assert padded_share([], lengths) == 0


def test_what_cannot_be_cut_into_batches() -> None:
    rng = np.random.default_rng(0)
    assert epoch_batches(0, 4, rng) == []
    assert epoch_batches(0, 4, rng, lengths=np.array([], dtype=np.int64)) == []
    with pytest.raises(UsageError, match="at least one record"):
        epoch_batches(3, 0, rng)
    with pytest.raises(UsageError, match="2 lengths were given for 3 records"):
        epoch_batches(3, 2, rng, lengths=np.array([1, 2]))


@pytest.mark.data
def test_little_of_the_real_patients_is_padding() -> None:
    root = os.environ.get("KDSEARCH_DATA")
    if not root or not (Path(root) / "physionet2019").is_dir():
        pytest.skip("KDSEARCH_DATA is not set, or has no folder physionet2019")
    hours = load_patients(root)[0].hours
    rng = np.random.default_rng(0)
    together = padded_share(epoch_batches(len(hours), 64, rng, lengths=hours), hours)
    shuffled = padded_share(epoch_batches(len(hours), 64, rng), hours)
    assert shuffled > 0.7  # most patients stay two days, a few two weeks
    assert together < 0.2
