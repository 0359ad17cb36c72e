import pytest

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.networks.architectures import Role, architecture


def residual_count(n: int, width: int, channels: int, classes: int) -> int:
    """He et al., section 4.2, counted by hand: 3x3 convolutions without bias, two values a channel for batch norm."""
    w1, w2, w3 = width, 2 * width, 4 * width
    stem = 9 * channels * w1 + 2 * w1
    stage1 = 2 * n * (9 * w1 * w1 + 2 * w1)
    stage2 = 9 * w1 * w2 + (2 * n - 1) * 9 * w2 * w2 + 2 * n * 2 * w2
    stage3 = 9 * w2 * w3 + (2 * n - 1) * 9 * w3 * w3 + 2 * n * 2 * w3
    return stem + stage1 + stage2 + stage3 + w3 * classes + classes


@pytest.mark.parametrize(
    ("name", "channels", "classes", "count"),
    [
        # n = 3. He et al., table 6: 0.27 M.
        ("resnet20", 3, 10, 269_722),
        # n = 5: 464 + 23,360 + 88,192 + 351,488 + 650. He et al., table 6: 0.46 M.
        ("resnet32", 3, 10, 464_154),
        # the same with 100 classes: 90 more rows of 65.
        ("resnet32", 3, 100, 470_004),
        # n = 18. He et al., table 6: 1.7 M.
        ("resnet110", 3, 10, 1_727_962),
        # n = 1 with widths 4-8-16 and 8-16-32 on grey images.
        ("resnet8w4", 1, 10, 4_934),
        ("resnet8w8", 1, 10, 19_074),
    ],
)
def test_residual_networks_have_the_published_number_of_parameters(name, channels, classes, count):
    found = architecture(name, channels=channels, classes=classes)
    depth, _, width = name.removeprefix("resnet").partition("w")
    assert found.parameter_count == count
    assert residual_count((int(depth) - 2) // 6, int(width or 16), channels, classes) == count


def test_wrn28_2_has_the_published_number_of_parameters():
    # stem 3*16*9 = 432; widths 32, 64, 128, four blocks each. A block from i to o channels: 2i + 9io + 2o + 9oo, and io
    # for the first block's 1x1 shortcut. Zagoruyko and Komodakis give 1.5 M for WRN-28-2.
    def stage(i: int, o: int) -> int:
        return (2 * i + 9 * i * o + 2 * o + 9 * o * o + i * o) + 3 * (4 * o + 18 * o * o)

    head = 2 * 128 + 128 * 10 + 10
    expected = 432 + stage(16, 32) + stage(32, 64) + stage(64, 128) + head
    assert architecture("wrn28-2", channels=3, classes=10).parameter_count == expected == 1_467_610


def test_shortcuts_of_residual_networks_hold_no_parameters_and_wide_ones_change_channels_by_1x1():
    names = [spec.name for spec in architecture("resnet20", channels=3, classes=10).tensors]
    assert not any("shortcut" in name for name in names)
    wide = {spec.name: spec.shape for spec in architecture("wrn28-2", channels=3, classes=10).tensors}
    assert {name: shape for name, shape in wide.items() if "shortcut" in name} == {
        "stage1.block1.shortcut.weight": (32, 16, 1, 1),
        "stage2.block1.shortcut.weight": (64, 32, 1, 1),
        "stage3.block1.shortcut.weight": (128, 64, 1, 1),
    }


def test_statistics_are_no_parameters():
    specs = architecture("resnet8w4", channels=1, classes=10).tensors
    running = [spec for spec in specs if spec.role is Role.STATISTIC]
    assert len(running) == 2 * 7  # seven batch norms, mean and variance
    assert all(spec.name.rpartition(".")[2] in {"running_mean", "running_var"} for spec in running)


@pytest.mark.parametrize(
    "name", ["resnet", "resnet9", "resnet2", "resnet8w0", "resnet8x4", "wrn28", "wrn26-2", "vgg16", ""]
)
def test_an_unknown_model_is_refused_and_the_known_ones_are_listed(name):
    with pytest.raises(UnknownNameError, match="unknown model") as caught:
        architecture(name, channels=3, classes=10)
    assert "wrn28-2" in str(caught.value)


@pytest.mark.parametrize("bad", [{"channels": 0}, {"classes": 0}, {"stem_stride": 0}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        architecture("resnet20", **{"channels": 3, "classes": 10, **bad})
