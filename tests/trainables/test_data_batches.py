"""Augmented batches for K trials against a plain NumPy version that goes image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data import NO_AUGMENTATION, PAPER_AUGMENTATION, Augmentation, PadMode, data_set
from kdsearch.trainables.data.batches import ImageBatches, on_device, plain_batches
from kdsearch.trainables.seeds import derive_seed

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
CASES = [
    pytest.param(data_set("digits").augmentation, (1, 8, 8), id="digits"),
    pytest.param(data_set("fashion-mnist").augmentation, (1, 28, 28), id="fashion-mnist"),
    pytest.param(PAPER_AUGMENTATION, (3, 32, 32), id="cifar"),
    pytest.param(PAPER_AUGMENTATION, (3, 5, 7), id="small and not square"),
    pytest.param(
        Augmentation(pad=9, mode=PadMode.ZERO, flip=True), (2, 4, 6), id="padding wider than the image"
    ),
    pytest.param(NO_AUGMENTATION, (3, 6, 6), id="none"),
    pytest.param(Augmentation(flip=True), (1, 6, 6), id="flips alone"),
]


def make(
    shape: tuple[int, int, int],
    augmentation: Augmentation,
    *,
    count: int = 53,
    batch_size: int = 8,
    **other: object,
) -> tuple[ImageBatches, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(0, 10, count)
    batches = ImageBatches(images, labels, batch_size=batch_size, augmentation=augmentation, **other)  # type: ignore[arg-type]
    return batches, images, labels


def naive(image: np.ndarray, augmentation: Augmentation, variant: int) -> np.ndarray:
    """Pad, crop, flip one image [C, H, W] with NumPy's own padding."""
    pad, (_, rows, columns) = augmentation.pad, image.shape
    mode = "reflect" if augmentation.mode is PadMode.REFLECT else "constant"
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode=mode)
    top, left, flipped = augmentation.decode(variant)
    crop = padded[:, top : top + rows, left : left + columns]
    return (crop[:, :, ::-1] if flipped else crop).astype(np.float32) * np.float32(1 / 255)


def naive_epoch(
    images: np.ndarray, augmentation: Augmentation, seed: int, epoch: int, batch_size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (images of the batch, numbers of the images) of a trial's epoch."""
    used = len(images) // batch_size * batch_size
    order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(images))[:used]
    rng = np.random.default_rng(derive_seed(seed, "augment", epoch))
    variants = rng.integers(0, augmentation.variants, used)
    made = [naive(images[i], augmentation, int(v)) for i, v in zip(order, variants, strict=True)]
    return [
        (np.stack(made[first : first + batch_size]), order[first : first + batch_size])
        for first in range(0, used, batch_size)
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("augmentation", "shape"), CASES)
def test_bit_for_bit_as_the_plain_version(
    augmentation: Augmentation, shape: tuple[int, int, int], device: str
) -> None:
    batches, images, labels = make(shape, augmentation, device=device)
    trials = [(11, 1), (2**62, 4), (0, 1)]
    plans = batches.draw(trials)
    wanted = [naive_epoch(images, augmentation, seed, epoch, 8) for seed, epoch in trials]
    seen = list(batches.epoch(plans))
    assert len(seen) == batches.iterations_per_epoch == 53 // 8
    for i, (x, y) in enumerate(seen):
        assert x.shape == (3, 8, *shape)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        for k in range(3):
            np.testing.assert_array_equal(x[k].cpu().numpy(), wanted[k][i][0])
            np.testing.assert_array_equal(y[k].cpu().numpy(), labels[wanted[k][i][1]])


@pytest.mark.parametrize("pixels", [1, 1000, 1 << 30])
def test_blocks_of_any_size_hold_the_same_batches(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    batches, _, _ = make((3, 8, 8), PAPER_AUGMENTATION)
    plans = batches.draw([(1, 1), (2, 1)])
    single = [batches.batch(plans, i) for i in range(batches.iterations_per_epoch)]
    monkeypatch.setattr("kdsearch.trainables.data.batches.BLOCK_PIXELS", pixels)
    for (x, y), (one_x, one_y) in zip(batches.epoch(plans), single, strict=True):
        assert torch.equal(x, one_x)
        assert torch.equal(y, one_y)
        assert x.is_contiguous()


def test_a_trial_sees_the_same_alone_in_company_and_after_a_break() -> None:
    batches, images, labels = make((1, 8, 8), PAPER_AUGMENTATION)
    together = [x for x, _ in batches.epoch(batches.draw([(7, 3), (8, 3), (9, 1)]))]
    alone = [x for x, _ in batches.epoch(batches.draw([(8, 3)]))]
    assert all(torch.equal(many[1], one[0]) for many, one in zip(together, alone, strict=True))
    fresh = ImageBatches(
        images, labels, batch_size=8, augmentation=PAPER_AUGMENTATION
    )  # epochs 1 and 2 never drawn
    resumed = [x for x, _ in fresh.epoch(fresh.draw([(8, 3)]))]
    assert all(torch.equal(x, one) for x, one in zip(resumed, alone, strict=True))


def test_trials_and_epochs_differ() -> None:
    batches, _, _ = make((1, 8, 8), PAPER_AUGMENTATION)
    low = 5  # torch's CPU generator takes these two for the same seed
    plans = batches.draw([(low, 1), (low, 2), (low + 2**32, 1)])
    for values in (plans.order, plans.variant):
        assert len({tuple(values[:, k].flatten().tolist()) for k in range(3)}) == 3


def test_an_epoch_draws_no_image_twice_and_leaves_out_the_remainder() -> None:
    batches, _, _ = make((1, 4, 4), NO_AUGMENTATION, count=53, batch_size=10)
    assert batches.iterations_per_epoch == 5
    left_out = set()
    for epoch in range(1, 40):
        order = batches.draw([(1, epoch)]).order.flatten().tolist()
        assert len(set(order)) == len(order) == 50
        left_out |= set(range(53)) - set(order)
    assert len(left_out) > 40  # the remainder is another one each time


def test_every_variant_is_equally_likely() -> None:
    augmentation = Augmentation(pad=1, flip=True)
    batches, _, _ = make((1, 4, 4), augmentation, count=18_000, batch_size=18_000)
    counts = torch.bincount(batches.draw([(3, 1)]).variant.flatten(), minlength=18)
    assert augmentation.variants == len(counts) == 18
    # 18,000 draws of 18: mean 1,000, standard deviation 31; five of them
    assert (counts - 1000).abs().max() < 155


def test_decode_names_every_variant_once() -> None:
    augmentation = Augmentation(pad=2, flip=True)
    seen = {augmentation.decode(variant) for variant in range(augmentation.variants)}
    assert seen == {(top, left, flip) for top in range(5) for left in range(5) for flip in (False, True)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_bytes_become_the_closed_unit_interval(dtype: torch.dtype) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    ((x, y),) = plain_batches(on_device(images), torch.arange(256), batch_size=256, dtype=dtype)
    assert x.dtype is dtype
    assert (float(x[0]), float(x[255])) == (0.0, 1.0)
    exact = torch.float64 if dtype is torch.float64 else torch.float32
    assert torch.equal(x.flatten(), (torch.arange(256).to(exact) * (1 / 255)).to(dtype))
    assert torch.equal(y, torch.arange(256))


def test_evaluation_keeps_order_and_the_last_partial_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), dtype=np.uint8)
    labels = np.arange(10)
    seen = list(plain_batches(on_device(images), on_device(labels), batch_size=4))
    assert [len(y) for _, y in seen] == [4, 4, 2]
    assert torch.cat([y for _, y in seen]).tolist() == labels.tolist()
    np.testing.assert_array_equal(
        torch.cat([x for x, _ in seen]).numpy(), images.astype(np.float32) * np.float32(1 / 255)
    )


def test_read_only_arrays_are_copied_and_writable_ones_shared() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    assert on_device(images).data_ptr() == images.ctypes.data
    images.flags.writeable = False
    assert on_device(images).data_ptr() != images.ctypes.data


def test_wrong_use_is_refused() -> None:
    images, labels = np.zeros((9, 1, 4, 4), np.uint8), np.zeros(9, np.int64)
    for size in (0, 10):
        with pytest.raises(UsageError, match=f"batch size of {size} does not fit 9 training images"):
            ImageBatches(images, labels, batch_size=size)
    with pytest.raises(UsageError, match="4x4 are too small to be padded by reflection of 4"):
        ImageBatches(images, labels, batch_size=3, augmentation=PAPER_AUGMENTATION)
    with pytest.raises(UsageError, match="must be uint8"):
        ImageBatches(images.astype(np.float32), labels, batch_size=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="padding"):
        Augmentation(pad=-1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_synchronisation_inside_an_epoch() -> None:
    batches, _, _ = make((3, 32, 32), PAPER_AUGMENTATION, device="cuda")
    plans = batches.draw([(1, 1), (2, 1)])
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in batches.epoch(plans):
            pass
    finally:
        torch.cuda.set_sync_debug_mode(before)
