"""Networks over time as data: what is read, what is refused and what is said then."""

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.series.specs import (
    LstmSpec,
    ResNetSpec,
    TransformerSpec,
    check_blocks,
    check_network,
    halved,
    network_spec,
)

HOURS = {"inputs": 40, "steps": None, "per_step": True}
SIGNALS = {"inputs": 12, "steps": 2000, "per_step": False}
ROWS = TransformerSpec(units=3, causal=True)
PATCHES = TransformerSpec(patch=20)


@pytest.mark.parametrize(
    "spec",
    [
        ResNetSpec(filters=8, dropout=0.1),
        LstmSpec(hidden=64, units=2),
        TransformerSpec(patch=20, heads=4),
        TransformerSpec(causal=True, width=96, dropout=0.25),
    ],
)
def test_a_spec_survives_its_mapping(spec):
    mapping = spec.to_mapping()
    assert mapping["network"] == spec.network
    assert network_spec(mapping) == spec
    assert hash(network_spec(mapping)) == hash(spec)


def test_what_is_left_out_has_the_papers_size():
    assert network_spec({"network": "resnet"}) == ResNetSpec(
        units=16, filters=32, kernel=16, widen_every=4, dropout=0.0
    )
    assert network_spec({"network": "lstm"}) == LstmSpec(units=3, hidden=256, dropout=0.0)


@pytest.mark.parametrize("name", ["rnn", None, 3, ["lstm"]])
def test_an_unknown_network_lists_the_known_ones(name):
    with pytest.raises(UnknownNameError, match="Known: resnet, lstm, transformer") as caught:
        network_spec({"network": name}, "student")
    assert "in student" in caught.value.message
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_unknown_key_lists_the_networks_own():
    with pytest.raises(UnknownNameError, match="Did you mean 'hidden'") as caught:
        network_spec({"network": "lstm", "hiden": 3})
    assert set(caught.value.known) == {"units", "dropout", "hidden"}


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"network": "lstm", "hidden": 0}, "hidden in the network lstm is 0"),
        ({"network": "lstm", "units": True}, "units in the network lstm is True"),
        ({"network": "resnet", "kernel": 1.5}, "kernel in the network resnet is 1.5"),
        ({"network": "resnet", "filters": "32"}, "filters in the network resnet is '32'"),
        ({"network": "resnet", "widen_every": 0}, "widen_every in the network resnet is 0"),
        ({"network": "transformer", "patch": -1}, "patch in the network transformer is -1"),
        ({"network": "transformer", "dropout": 1}, r"dropout in the network transformer is 1\n.*\[0, 1\)"),
        ({"network": "transformer", "causal": 1}, "causal in the network transformer is 1"),
        ({"network": "transformer", "width": 12, "heads": 8}, r"8 heads\n.*1, 2, 3, 4, 6, 12\."),
    ],
)
def test_values_out_of_range_are_named(mapping, words):
    with pytest.raises(UsageError, match=words):
        network_spec(mapping)


def test_a_change_is_checked_too():
    with pytest.raises(UsageError, match="cannot be divided among 7 heads"):
        replace(PATCHES, heads=7)


@pytest.mark.parametrize(
    ("spec", "data"),
    [
        (ROWS, HOURS),
        (LstmSpec(), HOURS),
        (LstmSpec(), SIGNALS),
        (PATCHES, SIGNALS),
        (replace(PATCHES, causal=True), SIGNALS),
        (TransformerSpec(), {**SIGNALS, "steps": None}),
        (ResNetSpec(), SIGNALS),
        (ResNetSpec(), {**SIGNALS, "steps": 256}),
    ],
)
def test_what_fits_is_let_through(spec, data):
    check_network(spec, **data)


@pytest.mark.parametrize(
    ("spec", "data", "words"),
    [
        (ResNetSpec(), HOURS, "every hour.*the hours to come"),
        (ResNetSpec(), {**SIGNALS, "steps": None}, "one length"),
        (ResNetSpec(), {**SIGNALS, "steps": 255}, "255 time steps are too few(.|\n)*needs 256"),
        (TransformerSpec(), HOURS, "must not see the hours to come\nSet causal: true"),
        (TransformerSpec(patch=2, causal=True), HOURS, "rows for tokens\nSet patch: 0"),
        (TransformerSpec(patch=3), SIGNALS, "patches of 3 do not divide 2000 time steps"),
        (PATCHES, {**SIGNALS, "steps": None}, "patches of 20 do not divide records of different length"),
        (LstmSpec(), {**HOURS, "inputs": 0}, "inputs in the data is 0"),
        (LstmSpec(), {**SIGNALS, "steps": 0}, "steps in the data is 0"),
    ],
)
def test_what_does_not_fit_is_refused(spec, data, words):
    with pytest.raises(UsageError, match=words):
        check_network(spec, **data)


def test_blocks_must_divide_the_units():
    for blocks in (1, 2, 4, 8, 16):
        check_blocks(ResNetSpec(), blocks)
    for blocks in (0, 3, 17):
        with pytest.raises(UsageError, match=rf"{blocks} blocks(.|\n)*: 1, 2, 4, 8, 16\."):
            check_blocks(ResNetSpec(), blocks)


def test_strides_of_two_round_up():
    """2000, 1000, 500, 250, 125, 63, 32, 16, 8."""
    assert [halved(2000, times) for times in range(9)] == [2000, 1000, 500, 250, 125, 63, 32, 16, 8]


def test_no_torch_for_reading_a_sweep_file():
    code = "import sys; import kdsearch.trainables.series.specs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
