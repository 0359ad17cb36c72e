import pytest

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.networks.architectures import Role, architecture, check_model


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


@pytest.mark.parametrize(
    ("name", "channels", "classes", "count"),
    [
        # He et al., table 1, with a 3x3 stem. Widths w = 64, 128, 256, 512. Stem 27 * 64 + 128 = 1,856. First stage:
        # four 3x3 convolutions of 64 to 64 with norms, 4 * (36,864 + 128) = 147,968. A later stage from i to o = 2i:
        # 9io + 3 * 9oo for the convolutions, io for the shortcut, five norms of 2o: 525,568; 2,099,712; 8,393,728.
        # Classifier 512 * 10 + 10 = 5,130.
        ("resnet18", 3, 10, 11_173_962),
        # grey images: a stem of 9 * 64 + 128 in place of 27 * 64 + 128
        ("resnet18", 1, 10, 11_173_962 - 18 * 64),
        # widths 4, 8, 16, 32: 44 + 608 + 2,128 + 8,352 + 33,088 + 330
        ("resnet18w4", 1, 10, 44 + 608 + 2_128 + 8_352 + 33_088 + 330),
    ],
)
def test_resnet18_has_the_known_number_of_parameters(name, channels, classes, count):
    assert architecture(name, channels=channels, classes=classes).parameter_count == count


def test_only_resnet18_has_projections_in_its_shortcuts():
    shortcuts = [
        spec for spec in architecture("resnet18", channels=3, classes=10).tensors if "shortcut" in spec.name
    ]
    assert {spec.name: spec.shape for spec in shortcuts if spec.name.endswith("shortcut.weight")} == {
        "stage2.block1.shortcut.weight": (128, 64, 1, 1),
        "stage3.block1.shortcut.weight": (256, 128, 1, 1),
        "stage4.block1.shortcut.weight": (512, 256, 1, 1),
    }
    assert len(shortcuts) == 3 * 5  # each with weight, bias, running mean and variance of a norm


@pytest.mark.parametrize(
    ("name", "channels", "size", "features", "count"),
    [
        # 32 -> 30 -> 15 -> 13 -> 6 -> 4 -> 2: 32 channels of 2 x 2 pixels. Convolutions 216 + 1,152 + 4,608, norms
        # 2 * 56, linear 128 * 64 + 64 and 64 * 10 + 10.
        ("cnn8-16-32", 3, (32, 32), 128, 216 + 1_152 + 4_608 + 112 + 8_256 + 650),
        # 28 -> 26 -> 13 -> 11 -> 5 -> 3 -> 1: 128 channels of one pixel
        ("cnn8-16-128", 1, (28, 28), 128, 72 + 1_152 + 18_432 + 304 + 8_256 + 650),
        # 8 -> 8 -> 4 -> 4 -> 2 -> 2 -> 1
        ("cnn4-8-16p", 1, (8, 8), 16, 36 + 288 + 1_152 + 56 + 64 * 16 + 64 + 650),
        # rows 9 -> 9 -> 4, columns 6 -> 6 -> 3
        ("cnn5p", 2, (9, 6), 60, 90 + 10 + 64 * 60 + 64 + 650),
    ],
)
def test_convolutional_networks_count_their_features_and_parameters(name, channels, size, features, count):
    found = architecture(name, channels=channels, classes=10, size=size)
    assert found.features == features
    assert found.parameter_count == count


def test_logistic_regression_has_a_weight_for_every_value_and_class():
    found = architecture("linear", channels=3, classes=2, size=(1, 1))
    assert {spec.name: spec.shape for spec in found.tensors} == {"head.weight": (2, 3), "head.bias": (2,)}
    assert architecture("linear", channels=3, classes=10, size=(4, 5)).parameter_count == 610


@pytest.mark.parametrize(
    ("name", "stride", "least"),
    [
        ("cnn8-16-32", 1, 22),  # 22 -> 20 -> 10 -> 8 -> 4 -> 2 -> 1
        ("cnn8-16-32p", 1, 8),
        ("cnn8", 1, 4),
        ("cnn8", 2, 5),  # a kernel of 3 at pixels 0 and 2
        ("cnn4-4p", 2, 7),  # 7 -> 4 -> 2 -> 2 -> 1
    ],
)
def test_images_too_small_for_a_network_are_refused_with_the_least_size(name, stride, least):
    common = {"channels": 1, "classes": 10, "stem_stride": stride}
    assert architecture(name, size=(least, least), **common).features == int(
        name.rstrip("p").strip("cn").split("-")[-1]
    )
    for size in ((least - 1, 64), (64, least - 1)):
        with pytest.raises(UsageError, match=f"{name}.*{size[0]} x {size[1]}.*too small") as caught:
            architecture(name, size=size, **common)
        assert f"{least} x {least} or more" in str(caught.value)


@pytest.mark.parametrize("name", ["cnn4-8", "linear"])
def test_networks_that_depend_on_the_size_of_images_say_so_where_it_is_unknown(name):
    with pytest.raises(UsageError, match=f"model {name} depends on the images' rows and columns"):
        architecture(name, channels=1, classes=10)
    with pytest.raises(UsageError, match="size"):
        architecture(name, channels=1, classes=10, size=(0, 8))


def test_residual_networks_are_the_same_for_images_of_any_size():
    small, large = (architecture("resnet18w4", channels=1, classes=10, size=(n, n)) for n in (8, 32))
    assert small == large == architecture("resnet18w4", channels=1, classes=10)
    sizes = [architecture("cnn4p", channels=1, classes=10, size=(n, n)) for n in (8, 32)]
    assert sizes[0] != sizes[1]


def test_a_name_is_checked_without_any_size():
    for name in ("resnet20", "resnet18", "resnet18w8", "wrn28-2", "cnn8-16-32", "cnn4-8-16p", "linear"):
        check_model(name)
    with pytest.raises(UnknownNameError, match="unknown model 'cnn8-'"):
        check_model("cnn8-")


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
    "name",
    [
        *("resnet", "resnet9", "resnet2", "resnet8w0", "resnet8x4", "wrn28", "wrn26-2", "vgg16", ""),
        *("resnet18w", "resnet18w0", "cnn", "cnnp", "cnn0", "cnn8-", "cnn8--16", "cnn8-16pp", "Linear"),
    ],
)
def test_an_unknown_model_is_refused_and_the_known_ones_are_listed(name):
    with pytest.raises(UnknownNameError, match="unknown model") as caught:
        architecture(name, channels=3, classes=10)
    assert all(known in str(caught.value) for known in ("wrn28-2", "resnet18", "cnn<channels>", "linear"))
    with pytest.raises(UnknownNameError):
        check_model(name)


@pytest.mark.parametrize("bad", [{"channels": 0}, {"classes": 0}, {"stem_stride": 0}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        architecture("resnet20", **{"channels": 3, "classes": 10, **bad})
