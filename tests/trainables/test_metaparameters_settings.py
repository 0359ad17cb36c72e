"""What a searcher hands to a trial, and what it refuses."""

import json
import math
import pickle
import subprocess
import sys

import pytest

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.metaparameters.settings import Fit, Hypergradient, OptimiserSettings

FULL = {
    "start": {"lambda_1": 0.5, "temperature": 1.0},
    "bounds": {"lambda_1": [0.0, 1.0], "temperature": [0.1, 10.0]},
    "rate": 0.25,
    "e1": 5,
    "e2": 20,
    "hypergradient": "finite-difference",
    "fit": "increment",
    "clip": 0.01,
    "epsilon": 0.1,
}


def test_defaults_are_greedy_and_exact():
    chosen = OptimiserSettings.from_mapping({})
    assert (chosen.e2, chosen.clip) == (0, None)
    assert (chosen.hypergradient, chosen.fit) == (Hypergradient.EXACT, Fit.VALUE)


def test_json_and_back():
    chosen = OptimiserSettings.from_mapping(json.loads(json.dumps(FULL)))
    assert chosen.to_mapping() == FULL
    assert OptimiserSettings.from_mapping(chosen.to_mapping()) == chosen
    assert pickle.loads(pickle.dumps(chosen)) == chosen
    assert chosen.hypergradient is Hypergradient.FINITE_DIFFERENCE
    assert chosen.bounds["temperature"] == (0.1, 10.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"e1": 0}, "e1 of .* is 0"),
        ({"e1": 2.0}, "e1 of .* is 2.0"),
        ({"e1": True}, "e1 of .* is True"),
        ({"e2": -1}, "e2 of .* is -1"),
        ({"rate": 0.0}, "rate of .* is 0.0"),
        ({"rate": math.nan}, "rate of .* is nan"),
        ({"rate": "fast"}, "rate of .* is 'fast'"),
        ({"epsilon": -0.01}, "epsilon of .* is -0.01"),
        ({"clip": 0}, "clip of .* is 0"),
        ({"clip": math.inf}, "clip of .* is inf"),
        ({"start": {"lambda_1": 1.5, "temperature": 1.0}}, "lambda_1 starts at 1.5"),
        ({"start": {"lambda_1": math.nan}}, "lambda_1 starts at nan"),
        ({"start": {"free": math.inf}}, "free starts at inf"),
        ({"bounds": {"lambda_1": [1.0, 0.0]}, "start": {}}, r"bounds of lambda_1 .* \[1.0, 0.0\]"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        OptimiserSettings.from_mapping(FULL | changes)
    assert caught.value.hint
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"hypergradient": "implicit"}, "implicit"), ({"fit": "cubic"}, "cubic"), ({"e3": 1}, "e3")],
)
def test_unknown_names_are_refused_with_the_known_ones(changes, name):
    with pytest.raises(UnknownNameError, match=name) as caught:
        OptimiserSettings.from_mapping(FULL | changes)
    assert caught.value.known


def test_a_start_value_may_lie_on_its_bound():
    assert OptimiserSettings.from_mapping(FULL | {"start": {"lambda_1": 1.0, "temperature": 0.1}}).start


def test_settings_and_declaration_import_no_torch():
    code = (
        "import sys, kdsearch.trainables.metaparameters.settings, kdsearch.trainables.metaparameters.declaration; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
