"""Every registered searcher stays in its space, is seeded, can be rebuilt, and copes with all that trials become."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kdsearch.search.config import parse_sweep
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.registry import BUILT_IN

_SPEC = importlib.util.spec_from_file_location(
    "searcher_conformance", Path(__file__).with_name("searcher_conformance.py")
)
suite = importlib.util.module_from_spec(_SPEC)
sys.modules["searcher_conformance"] = suite  # dataclasses look their module up
_SPEC.loader.exec_module(suite)

NUMBERS = {
    "x": {"type": "float", "low": 0, "high": 1},
    "t": {"type": "log-uniform", "low": 0.1, "high": 10},
}
WHOLE = {"n": {"type": "integer", "low": 2, "high": 10, "step": 2}, **NUMBERS}
NAMED = {"c": {"type": "categorical", "values": ["a", "b", True, 1]}, **WHOLE}
CONDITIONAL = {
    **NAMED,
    "m": {"type": "quantised", "low": 0, "high": 1, "step": 0.25, "when": {"c": ["a", True]}},
    "deep": {"type": "categorical", "values": ["p", "q"], "when": {"m": [0.5, 0.75, 1], "n": [2, 4, 6]}},
}


def of(parameters: dict[str, Any], *constraints: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "parameters", "parameters": parameters, "constraints": list(constraints)}


def graphs(auxiliary: int, *restrictions: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "ktg",
        "target": "s",
        "auxiliary": {"count": auxiliary, "models": ["s", "m"]},
        "gates": ["through", "cutoff", "linear"],
        "restrictions": list(restrictions),
    }


SPACES = {
    "numbers": of(NUMBERS),
    "whole numbers": of(WHOLE),
    "named": of(NAMED),
    "conditional": of(CONDITIONAL, {"compare": ["x", "<=", "t"]}, {"forbid": {"c": "b", "n": [2, 4]}}),
    "restricted conditional": {
        **of(CONDITIONAL),
        "restrictions": [{"n": {"only": ["4", "8"]}}, {"c": ["true"]}, {"m": {"only": ["0.5", "1.0"]}}],
    },
    "inactive": {**of(CONDITIONAL), "restrictions": [{"m": ["(inactive)"]}]},
    "graphs": graphs(2),
    "few graphs": {**graphs(1), "gates": ["through", "cutoff"]},
    "restricted graphs": graphs(2, {"auxiliary models": ["s", "m"]}, {"label->target": "through"}),
    # 3 of 4: fewer than trials
    "tiny": of(
        {
            "a": {"type": "integer", "low": 1, "high": 2},
            "b": {"type": "integer", "low": 1, "high": 2},
        },
        {"forbid": {"a": 2, "b": 2}},
    ),
    "single": of(
        {"a": {"type": "categorical", "values": ["only"]}, "b": {"type": "float", "low": 1, "high": 1}}
    ),
    "no nodes": graphs(0, {"label->target": "through"}),
}
METHODS = {
    "fixed": {"kind": "fixed", "values": {"x": 0.5}},
    "random": {"kind": "random"},
    "optuna": {"kind": "tpe", "trials": 4, "startup": 2},
    "hyperopt": {"kind": "tpe", "library": "hyperopt", "trials": 4, "startup": 2},
    "gradient": {"kind": "gradient"},
}


@dataclass(frozen=True)
class Case:
    """A searcher's section on some spaces."""

    name: str
    section: dict[str, Any]
    spaces: tuple[str, ...]
    trials: int | None = None  # the default, for those that take a number
    subject: dict[str, Any] = field(default_factory=dict)  # how it differs from others


EVERY = (
    "conditional",
    "restricted conditional",
    "inactive",
    "graphs",
    "restricted graphs",
    "tiny",
    "single",
    "no nodes",
)
FLAT = ("named", "graphs", "restricted graphs", "tiny", "single", "no nodes")
FAST = {"startup": 4, "generation": 3}
CASES = [
    Case("random", {"kind": "random"}, EVERY, 12),
    Case("confirmed", {"kind": "random", "confirm": 2}, ("conditional", "tiny"), 6),
    Case(
        "enumeration", {"kind": "enumeration", "repeats": 2}, ("few graphs", "tiny"), subject={"draws": False}
    ),
    *(
        Case(
            f"tpe {library} {duplicates}",
            {"kind": "tpe", "library": library, "duplicates": duplicates, **FAST},
            EVERY,
            10,
        )
        for library in ("optuna", "hyperopt")
        for duplicates in ("replace", "answer", "train")
    ),
    Case("tpe one by one", {"kind": "tpe", **FAST, "generation": 1}, ("conditional", "tiny"), 8),
    Case(
        "tpe confirmed",
        {"kind": "tpe", **FAST, "confirm": 2},
        ("conditional", "tiny", "single"),
        8,
        # confirming trainings come behind the search's, so that a longer search numbers them otherwise
    ),
    Case("qmc", {"kind": "qmc"}, FLAT, 10),
    Case("qmc halton", {"kind": "qmc", "sequence": "halton", "duplicates": "answer"}, FLAT, 10),
    Case("cmaes", {"kind": "cmaes", "generation": 4}, ("numbers", "whole numbers", "tiny"), 10),
    Case("cmaes train", {"kind": "cmaes", "duplicates": "train"}, ("whole numbers", "tiny"), 10),
    Case("gradient", {"kind": "gradient"}, ("numbers",), 6),
    Case(
        "comparison",
        {"kind": "comparison", "runs": 2, "reference": "fixed", "methods": METHODS},
        ("numbers",),
    ),
    Case(
        "named",
        {"kind": "named", "runs": 2},
        ("numbers",),
        subject={"own_values": True, "draws": False},
    ),
    Case(
        "retrain",
        {
            "kind": "retrain",
            "seeds": 3,
            "subject": "low",
            "versions": {
                "low": {"configuration": {"x": 0.0, "t": 0.1}},
                "beyond": {"configuration": {"x": 7.0, "t": 1.0}},
            },
        },
        ("numbers",),
        subject={"own_values": True, "draws": False},
    ),
    Case(
        "refinement",
        {"kind": "refinement", "draws": 6, "limit": 30, "repeats": 1, "min_draws": 2},
        ("graphs", "few graphs", "conditional"),
    ),
]
# where nothing is left to chance
SETTLED = {"single", "no nodes"}


def subject_of(case: Case, space: str) -> Any:
    def make(*, seed: int, trials: int | None = None) -> Any:
        section = dict(case.section)
        if case.trials is not None:
            section["trials"] = trials or case.trials
        data = {
            "name": "conformance",
            "seed": seed,
            "space": SPACES[space],
            "trainable": {"kind": "constant", "metaparameters": {"x": [0, 1], "t": [0.1, 10]}},
            "searcher": section,
        }
        if section["kind"] == "named":
            data["configurations"] = {"low": {"x": 0.0, "t": 0.1}, "beyond": {"x": 7.0, "t": 1.0}}
        if SPACES[space]["kind"] == "ktg":
            data["trainable"] = {"kind": "constant"}
        return make_searcher(parse_sweep(data, "the case"), first_number=suite.FIRST)

    settled = {"draws": False} if space in SETTLED else {}
    extends = case.trials is not None and not case.section.get("confirm")
    return suite.Subject(make=make, extends=extends, **{**settled, **case.subject})


ALL = [
    pytest.param(check, case, space, id=f"{case.name}, {space}, {check.__name__.removeprefix('check_')}")
    for case in CASES
    for space in case.spaces
    for check in suite.checks_of(subject_of(case, space))
]


def test_every_searcher_is_checked():
    missing = {kind.name for kind in BUILT_IN} - {case.section["kind"] for case in CASES}
    assert not missing, f"add these searchers to CASES: {sorted(missing)}"


@pytest.mark.parametrize(("check", "case", "space"), ALL)
def test_conformance(check, case, space):
    check(subject_of(case, space))
