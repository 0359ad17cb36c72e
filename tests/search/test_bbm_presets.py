"""The presets of block-by-block matching are Appendix A of Lee, Jo and Kwon (2022), number by number."""

from __future__ import annotations

import pytest

from kdsearch.search.config import load_sweep
from kdsearch.search.searchers import make_searcher

WIDE = ("log-uniform", 1e-5, 1e-2)  # learning rate of A.1.1 to A.1.3
HIGH = ("log-uniform", 1e-4, 1e-2)  # A.2.1 to A.2.3
MATCHED = ("log-uniform", 1e-4, 1e-1)  # A.1.4, A.2.4
DECAY = ("log-uniform", 1e-5, 1e-1)
DROPOUT = ("quantised", 0, 0.3, 0.05)
ECG = {
    "weight_decay": DECAY,
    "dropout": DROPOUT,
    "augment_number": ("integer", 1, 5),
    "augment_intensity": ("quantised", 0, 1, 0.1),
}
EHR = {"weight_decay": DECAY, "dropout": DROPOUT}
SHAPE = {"heads": [4, 8], "width": [128, 256, 512], "feed_forward": [128, 256, 512]}

# preset: (method, ranges but those that are ours, chosen values)
APPENDIX = {
    "bbm-ecg-cnn": (
        "teacher",
        {"learning_rate": WIDE, **ECG},
        {
            "learning_rate": 0.0003552,
            "weight_decay": 0.00002430,
            "dropout": 0.1,
            "augment_number": 3,
            "augment_intensity": 0.7,
        },
    ),
    "bbm-ecg-transformer": (
        "transformer",
        {"learning_rate": WIDE, **ECG},
        {
            "learning_rate": 0.0002331,
            "weight_decay": 0.00001312,
            "dropout": 0.15,
            "augment_number": 3,
            "augment_intensity": 0.8,
        },
    ),
    "bbm-ecg-deit": (
        "deit",
        {"learning_rate": WIDE, **ECG},
        {
            "learning_rate": 0.0002517,
            "weight_decay": 0.00002253,
            "dropout": 0.15,
            "augment_number": 3,
            "augment_intensity": 0.5,
            "ratio": 0.6,
        },
    ),
    "bbm-ecg": (
        "bbm",
        {
            "learning_rate": MATCHED,
            **ECG,
            "augment_number": ("integer", 3, 5),
            "augment_intensity": ("quantised", 0.5, 1, 0.1),
        },
        {
            "learning_rate": 0.0007713,
            "weight_decay": 0.03116,
            "dropout": 0.1,
            "augment_number": 3,
            "augment_intensity": 0.9,
        },
    ),
    "bbm-ehr-rnn": (
        "teacher",
        {"learning_rate": HIGH, **EHR, "hidden": [128, 256, 512]},
        {"learning_rate": 0.0007194, "weight_decay": 0.00001238, "dropout": 0.1, "hidden": 256},
    ),
    "bbm-ehr-transformer": (
        "transformer",
        {"learning_rate": HIGH, **EHR, **SHAPE},
        {
            "learning_rate": 0.0008136,
            "weight_decay": 0.00001523,
            "dropout": 0.25,
            "heads": 8,
            "width": 512,
            "feed_forward": 128,
        },
    ),
    "bbm-ehr-deit": (
        "deit",
        {"learning_rate": HIGH, **EHR},
        {"learning_rate": 0.0001554, "weight_decay": 0.0001728, "dropout": 0.05, "ratio": 0.2},
    ),
    "bbm-ehr": (
        "bbm",
        {"learning_rate": MATCHED, **EHR},
        {"learning_rate": 0.002099, "weight_decay": 0.0001718, "dropout": 0.05},
    ),
}
OURS = {"ratio", "lambda"}  # the paper gives no range, nor a chosen lambda


def plain(spec):
    if spec["type"] == "categorical":
        return list(spec["values"])
    ends = (spec["type"], spec["low"], spec["high"])
    return (*ends, spec["step"]) if spec["type"] == "quantised" else ends


@pytest.mark.parametrize("name", APPENDIX)
def test_ranges_and_quanta_are_the_papers(name):
    method, parameters, _ = APPENDIX[name]
    sweep = load_sweep(name)
    found = {key: plain(spec) for key, spec in sweep.space["parameters"].items() if key not in OURS}
    assert found == parameters
    assert sweep.trainable_settings()["method"] == method


@pytest.mark.parametrize("name", APPENDIX)
def test_chosen_values_are_the_papers_and_lie_in_the_space(name):
    _, _, chosen = APPENDIX[name]
    sweep = load_sweep(name)
    own = sweep.configurations["chosen"]
    assert {key: value for key, value in own.items() if key != "lambda"} == chosen
    space = sweep.design_space()
    domains = {each.name: each.domain for each in space.parameters}
    assert own.keys() == domains.keys()
    assert all(domains[key].find(value) is not None for key, value in own.items())


@pytest.mark.parametrize("name", APPENDIX)
def test_trials_epochs_and_rungs_are_the_papers(name):
    sweep = load_sweep(name)
    matched = name in {"bbm-ecg", "bbm-ehr"}
    trials, epochs, every = (30, 500, 30) if matched else (100, 100, 20)
    settings = sweep.trainable_settings()
    assert (sweep.searcher.kind, sweep.searcher.trials) == ("random", trials)
    assert settings["epochs"] == epochs
    assert settings["batch_size"] == (512 if "ecg" in name else 256)
    assert sweep.rungs() == tuple(range(every, epochs, every))
    assert sweep.scheduler.reduction_factor == 2


@pytest.mark.parametrize("name", APPENDIX)
def test_the_chosen_values_are_a_searcher(name):
    sweep = load_sweep(name, ["searcher=chosen"])
    (request,) = make_searcher(sweep, first_number=0).ask(10)
    assert dict(request.configuration) == sweep.configurations["chosen"]
    assert request.plan["final"]
    assert request.plan["evaluate"]


def test_students_learn_from_the_chosen_teacher():
    for name, teacher in (("bbm-ecg", "bbm-ecg-cnn"), ("bbm-ehr-deit", "bbm-ehr-rnn")):
        chosen = load_sweep(teacher).configurations["chosen"]
        section = load_sweep(name).trainable_settings()["teacher"]
        assert {key: section[key] for key in chosen} == chosen
        assert section["epochs"] == 100


def test_networks_are_cut_as_in_the_paper():
    ecg, ehr = (load_sweep(name).trainable_settings() for name in ("bbm-ecg", "bbm-ehr"))
    assert (ecg["blocks"], ecg["student"]["units"], ecg["student"]["patch"]) == (4, 8, 20)
    assert (ehr["blocks"], ehr["student"]["units"], ehr["student"]["width"]) == (3, 3, 512)
    assert (ehr["student"]["heads"], ehr["student"]["feed_forward"]) == (8, 128)
