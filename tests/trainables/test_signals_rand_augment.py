"""RandAugment on batches: what is drawn, what is kept, what is refused, and real records."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.roots import resolve_data_root
from kdsearch.trainables.records import load_records
from kdsearch.trainables.records.sets import PHYSIONET_2021, record_set
from kdsearch.trainables.signals import rand_augment
from kdsearch.trainables.signals.policy import Policy, Transform
from kdsearch.trainables.signals.rand_augment import RandAugment
from kdsearch.trainables.signals.transforms import TRANSFORMS


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(batch: int = 16, samples: int = 200, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn((batch, 12, samples), generator=draws(1), dtype=dtype)


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shape_type_and_finite_values_are_kept(number: int, dtype: torch.dtype) -> None:
    signals = noise(40, dtype=dtype)
    before = signals.clone()
    result = RandAugment(number, 1.0, 200)(signals, draws())
    assert result.shape == signals.shape
    assert result.dtype is dtype
    assert torch.isfinite(result).all()
    assert torch.equal(signals, before)
    assert (result != signals).flatten(1).any(dim=1).all()  # each record got something


@pytest.mark.parametrize("number", range(1, 7))
def test_intensity_0_is_exactly_the_identity(number: int) -> None:
    signals = noise()
    result = RandAugment(number, 0.0, 200)(signals, draws())
    assert torch.equal(result, signals)
    assert result.data_ptr() != signals.data_ptr()


def test_the_same_seed_gives_the_same_result() -> None:
    augment, signals = RandAugment(3, 0.7, 200), noise()
    assert torch.equal(augment(signals, draws(5)), augment(signals, draws(5)))
    assert not torch.equal(augment(signals, draws(5)), augment(signals, draws(6)))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    RandAugment(6, 0.7, 200)(noise(), draws())
    assert torch.equal(torch.get_rng_state(), state)


def record_names(monkeypatch: pytest.MonkeyPatch, number: int, batch: int) -> list[list[Transform]]:
    """Run with stand-ins that write down, in each record's samples, which of them came and when."""

    def stand_in(transform: Transform) -> object:
        digit = list(Transform).index(transform) + 1
        return lambda signals, policy, generator: signals * 10 + digit

    monkeypatch.setattr(rand_augment, "TRANSFORMS", {one: stand_in(one) for one in Transform})
    result = RandAugment(number, 0.5, 200)(torch.zeros(batch, 12, 1, dtype=torch.float64), draws())
    return [[list(Transform)[int(d) - 1] for d in str(int(value))] for value in result[:, 0, 0]]


def test_each_record_gets_the_stated_number_drawn_with_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = record_names(monkeypatch, 3, 6000)
    assert all(len(names) == 3 for names in drawn)
    for slot in range(3):
        counts = Counter(names[slot] for names in drawn)
        assert set(counts) == set(Transform)
        assert max(abs(count - 1000) for count in counts.values()) < 5 * (6000 * 5 / 36) ** 0.5
    twice = sum(len(set(names)) < 3 for names in drawn) / len(drawn)
    assert twice == pytest.approx(1 - 5 / 6 * 4 / 6, abs=0.03)  # two equal ones among three of six
    assert len({tuple(names) for names in drawn}) == 216  # every order


def test_what_is_drawn_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = RandAugment(3, 0.5, 200).drawn(50, draws()).T.tolist()
    names = record_names(monkeypatch, 3, 50)
    assert [[list(Transform)[one] for one in record] for record in drawn] == names


def test_all_records_get_the_one_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[Policy] = set()

    def stand_in(signals: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
        seen.add(policy)
        return signals

    monkeypatch.setattr(rand_augment, "TRANSFORMS", dict.fromkeys(Transform, stand_in))
    RandAugment(4, 0.35, 250)(noise(), draws())
    assert seen == {Policy(4, 0.35, 250)}


def test_records_of_one_batch_are_augmented_apart() -> None:
    result = RandAugment(1, 0.7, 200)(noise(1).expand(60, -1, -1), draws())
    different = {tuple(record.flatten().tolist()) for record in result}
    assert len(different) > 40  # smoothing alone, a sixth of them, draws nothing


def test_a_record_does_not_see_the_signals_of_its_neighbours() -> None:
    augment, signals = RandAugment(4, 0.8, 200), noise()
    others = signals.clone()
    others[1:] *= 3
    torch.testing.assert_close(augment(signals, draws())[0], augment(others, draws())[0], rtol=0, atol=1e-5)


def test_strides_and_read_only_memory_do_not_matter() -> None:
    signals = noise()
    turned = signals.transpose(1, 2).contiguous().transpose(1, 2)
    augment = RandAugment(3, 0.8, 200)
    torch.testing.assert_close(augment(turned, draws()), augment(signals, draws()))


def test_no_gradient_is_recorded() -> None:
    assert not RandAugment(6, 1.0, 200)(noise().requires_grad_(), draws()).requires_grad


def test_records_never_lose_all_their_leads_to_channel_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    only = dict.fromkeys(Transform, TRANSFORMS[Transform.CHANNEL_MASK])
    monkeypatch.setattr(rand_augment, "TRANSFORMS", only)
    result = RandAugment(6, 1.0, 200)(noise(500, 10), draws())
    assert (result != 0).flatten(1).any(dim=1).all()


def test_an_empty_batch_stays_one() -> None:
    assert RandAugment(3, 0.5, 200)(torch.zeros(0, 12, 100), draws()).shape == (0, 12, 100)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_draws_are_the_same_on_every_device() -> None:
    signals, augment = noise(64), RandAugment(5, 0.8, 200)
    on_device = augment(signals.cuda(), draws())
    torch.testing.assert_close(on_device.cpu(), augment(signals, draws()), rtol=0, atol=1e-4)


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "intensity"), [(0, 0.5), (7, 0.5), (3, 1.1), (3, -0.1), (3, float("nan"))]
)
def test_numbers_and_intensities_that_are_refused(number: int, intensity: float) -> None:
    with pytest.raises(UsageError, match=r"RandAugment: the (number|intensity)"):
        RandAugment(number, intensity, 200)


@pytest.mark.parametrize(
    "shape", [(12, 100), (4, 100, 12), (4, 8, 100), (4, 12, 0), (1, 4, 12, 100)], ids=str
)
def test_shapes_that_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"signals must be \[B, 12, T\], not \["):
        RandAugment(3, 0.5, 200)(torch.zeros(shape), draws())


@pytest.mark.parametrize("dtype", [torch.int16, torch.float16, torch.complex64], ids=str)
def test_types_that_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UsageError, match=f"float32 or float64, not {dtype}"):
        RandAugment(3, 0.5, 200)(torch.zeros(2, 12, 10, dtype=dtype), draws())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_signals_that_are_not_finite_are_named(bad: float) -> None:
    signals = noise()
    signals[3, 4, 5] = signals[9, 0, 0] = bad
    with pytest.raises(UsageError, match=r"NaN or infinity in records 3, 9 of the batch"):
        RandAugment(3, 0.5, 200)(signals, draws())
    signals[:, 0, 0] = bad
    with pytest.raises(UsageError, match=r"in records 0, 1, 2, … of the batch"):
        RandAugment(3, 0.5, 200)(signals, draws())


def test_infinities_that_cancel_in_the_sum_are_found_and_huge_values_are_not_taken_for_them() -> None:
    signals = noise()
    signals[0, 0, 0], signals[1, 0, 0] = float("inf"), -float("inf")
    with pytest.raises(UsageError, match="records 0, 1 of"):
        RandAugment(3, 0.5, 200)(signals, draws())
    huge = torch.full((2, 12, 100), 1e37)
    assert RandAugment(1, 0.0, 200)(huge, draws()).equal(huge)


# -- real records ---------------------------------------------------------------------------------------------------


def real_signals() -> Tensor:
    root = resolve_data_root(None)
    if root is None:
        pytest.skip("KDSEARCH_DATA is not set: no real data sets")
    if not any((root / folder).is_dir() for folder in record_set(PHYSIONET_2021).folders):
        pytest.skip(f"KDSEARCH_DATA has no folder {PHYSIONET_2021}")
    return torch.from_numpy(load_records(root)[0].signals[:64])


@pytest.mark.data
def test_real_records_under_all_intensities() -> None:
    signals = real_signals()
    for step in range(11):
        result = RandAugment(5, step / 10, 200)(signals, draws(step))
        assert torch.isfinite(result).all()
        assert (result != 0).flatten(1).any(dim=1).all()
        assert result.abs().max() < 100  # standard deviations
