from __future__ import annotations

import pytest
import yaml

from kdsearch.search import presets
from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.spaces.errors import UsageError

SWEEP = {
    "name": "small",
    "space": {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
        "gates": ["through", "cutoff", "linear"],
    },
    "trainable": {"kind": "ktg", "data": {"name": "digits"}},
    "searcher": {"kind": "refinement", "draws": 20},
}


def changed(**sections):
    return {**SWEEP, **sections}


def test_every_preset_is_a_whole_sweep():
    assert set(presets.names()) == {
        "bbm-ecg",
        "bbm-ecg-cnn",
        "bbm-ecg-deit",
        "bbm-ecg-demo",
        "bbm-ecg-transformer",
        "bbm-ehr",
        "bbm-ehr-deit",
        "bbm-ehr-demo",
        "bbm-ehr-rnn",
        "bbm-ehr-transformer",
        "kd-cifar10",
        "kd-cifar10-reduced",
        "kd-digits",
        "kd-fashion-mnist",
        "kd-synthetic",
        "ktg-cifar10",
        "ktg-cifar100",
        "ktg-cinic10",
        "ktg-digits",
        "ktg-digits-c",
        "ktg-digits-learned",
        "ktg-fashion-mnist",
        "ktg-tiny-imagenet",
    }
    for name in presets.names():
        sweep = load_sweep(name)
        assert sweep.name == name
        # the paper's three gates, or two and two models: 2^2 * 2^9; methods by blocks; intervals are infinite
        # space C: 3^7 gates of the edges to the target and from it or between the auxiliary nodes
        known = {
            "ktg-digits-c": 3**7,
            "ktg-digits-learned": 2_048,
            "bbm-ecg-demo": 3 + 3,
            "bbm-ehr-demo": 3 + 2,
        }
        encodings = known.get(name, 78_732 if name.startswith("ktg") else None)
        assert sweep.design_space().counts().encodings == encodings


def test_cifar100_is_the_papers_experiment():
    sweep = load_sweep("ktg-cifar100")
    settings = sweep.trainable_settings()
    assert (settings["target"], settings["epochs"], settings["batch_size"]) == ("resnet32", 100, 64)
    assert settings["data"] == {"name": "cifar-100", "train_size": 40_000, "val_size": 10_000}
    searcher = sweep.searcher
    assert (searcher.draws, searcher.limit, searcher.repeats, searcher.reuse) == (2_500, 500, 5, False)


def test_resolved_settings_read_back_as_the_same_sweep():
    sweep = parse_sweep(SWEEP, "test")
    assert parse_sweep(sweep.resolved(), "test") == sweep


def test_set_changes_one_key_and_keeps_the_rest(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP))
    sweep = load_sweep(str(path), ["searcher.draws=7", "searcher.min_draws=2", "run.gpus=auto"], seed=5)
    assert (sweep.searcher.draws, sweep.run.gpus, sweep.seed) == (7, "auto", 5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(colour=1), ["unknown key 'colour'"]),
        (changed(searcher={"kind": "refinement", "drws": 3}), ["searcher.drws", "did you mean 'draws'"]),
        (changed(searcher={"kind": "bogus"}), ["bogus", "refinement"]),
        (changed(run={"pack": 0}), ["run.pack", "found 0"]),
        (changed(run={"gpus": 1.5}), ["whole number"]),
        (changed(run={"gpus": -1}), ["negative"]),
        (changed(statistics={"a": 50, "tau": 40}), ["a (50.0) must be less than tau"]),
        (changed(searcher={"kind": "refinement", "draws": 50, "budget": 20}), ["budget (20)"]),
        (changed(name="../up"), ["name"]),
        (changed(trainable={"kind": "ktg", "data": {"name": "digts"}}), ["digts", "digits"]),
        (changed(trainable={"kind": "kttg"}), ["kttg", "ktg"]),
        (changed(trainable={"kind": "ktg", "data": {"name": "digits"}, "epocs": 3}), ["epocs", "epochs"]),
        (changed(space={**SWEEP["space"], "gates": ["through", "cutof"]}), ["cutof", "cutoff"]),
        (changed(space={**SWEEP["space"], "target": "resnet33"}), ["resnet33"]),
        (changed(space={**SWEEP["space"], "gates": ["cutoff"]}), ["target"]),
        ({k: v for k, v in SWEEP.items() if k != "space"}, ["'space' is missing"]),
    ],
)
def test_bad_sweeps_say_what_is_wrong_and_where(data, words):
    with pytest.raises(UsageError) as caught:
        parse_sweep(data, "sweep.yaml")
    told = str(caught.value)
    assert "sweep.yaml" in told
    for word in words:
        assert word in told
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [("a: [", "not YAML"), ("- 1", "mapping"), ("!!python/object:os.system {}", "not YAML")],
)
def test_files_that_are_no_sweeps(tmp_path, text, word):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=word):
        load_sweep(str(path))


def test_missing_files_and_unknown_presets_list_what_there_is(tmp_path):
    with pytest.raises(UsageError, match=r"ktg-digit"):
        load_sweep("ktg-digit")
    with pytest.raises(UsageError, match="cannot read"):
        load_sweep(str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="not key=value"):
        load_sweep("ktg-digits", ["searcher.draws"])
    with pytest.raises(UsageError, match="is a value"):
        load_sweep("ktg-digits", ["name.x=1"])


def test_an_infinite_space_cannot_be_enumerated():
    space = {"kind": "parameters", "parameters": {"lr": {"type": "float", "low": 0.0, "high": 1.0}}}
    data = changed(space=space, trainable={"kind": "constant"}, searcher={"kind": "enumeration"})
    with pytest.raises(UsageError, match="infinite"):
        parse_sweep(data, "test")


KD = {
    "name": "methods",
    "space": {
        "kind": "parameters",
        "parameters": {
            "lambda_1": {"type": "float", "low": 0, "high": 1},
            "temperature": {"type": "log-uniform", "low": 0.1, "high": 10},
        },
    },
    "trainable": {
        "kind": "kd",
        "data": {"name": "digits"},
        "student": "cnn4-8-16p",
        "teacher": {"model": "resnet8w4", "epochs": 1},
        "epochs": 1,
    },
}


def kd(searcher, **parameters):
    space = {**KD["space"], "parameters": {**KD["space"]["parameters"], **parameters}}
    return {**KD, "space": space, "searcher": searcher}


def comparison(reference="naive", **methods):
    naive = {"kind": "fixed", "values": {"lambda_1": 0.5, "temperature": 1}}
    return {"kind": "comparison", "runs": 2, "reference": reference, "methods": {"naive": naive, **methods}}


def periods(**keys):
    return {**comparison(g={"kind": "gradient"}), "periods": {"method": "g", **keys}}


def gradient(**keys):
    return {"kind": "gradient", "trials": 3, **keys}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (kd(gradient(e1=0)), ["e1 of the optimiser of metaparameters is 0", "at least one gradient step"]),
        (kd(gradient(e2=-1)), ["e2", "0 or more"]),
        (kd(gradient(rate=0)), ["rate", "above 0"]),
        (kd(gradient(hypergradient="exakt")), ["searcher.hypergradient", "finite-difference"]),
        (kd(gradient(ratte=1)), ["searcher.ratte", "did you mean 'rate'", "searcher gradient"]),
        (kd(gradient(metaparameters=["lambda_1", "lambda_1"])), ["one twice"]),
        (kd(gradient(metaparameters=["momentum"])), ["momentum", "Differentiable: lambda_1, temperature"]),
        (
            kd(gradient(), learning_rate={"type": "float", "low": 0.1, "high": 1}),
            [
                "learning_rate is not differentiable",
                "differentiable: lambda_1, temperature",
                "drawn and kept",
            ],
        ),
        (
            kd(gradient(), temperature={"type": "categorical", "values": [1, 2]}),
            ["temperature is one of 1, 2", "float or log-uniform"],
        ),
        (kd(gradient(), temperature={"type": "float", "low": 0, "high": 10}), ["temperature", "0"]),
        (kd(gradient(), lambda_1={"type": "float", "low": 0, "high": 2}), ["lambda_1", "[0, 1]"]),
        (changed(searcher=gradient()), ["no differentiable metaparameter"]),
        (
            changed(space={**SWEEP["space"], "gates": ["through", "cutoff", "learned"]}),
            ["learned", "searcher gradient"],
        ),
        (changed(searcher=comparison()), ["space of kind parameters"]),
        (kd({"kind": "tpe", "trials": 3, "library": "optunna"}), ["searcher.library", "optuna"]),
        (kd(comparison("naiv")), ["reference 'naiv'", "naive"]),
        (kd(comparison(g={"kind": "gradent"})), ["searcher.methods.g 'gradent'", "'gradient'"]),
        (kd(comparison(g={})), ["searcher.methods.g.kind", "fixed, random, tpe, gradient"]),
        (kd(comparison(random={"kind": "random", "parametres": {}})), ["searcher.methods.random.parametres"]),
        (kd(comparison(g={"kind": "gradient", "e1": 0})), ["searcher.methods.g: e1"]),
        (
            kd(comparison(g={"kind": "gradient", "metaparameters": ["momentum"]})),
            ["searcher.methods.g: momentum", "Differentiable"],
        ),
        (kd(comparison(f={"kind": "fixed", "values": {"lambda_1": 2}})), ["searcher.methods.f", "lambda_1"]),
        (kd(comparison(f={"kind": "fixed", "values": {"lambda": 1}})), ["searcher.methods.f", "lambda_1"]),
        (kd(comparison(f={"kind": "fixed", "values": {"lambda_1": [1]}})), ["lambda_1 must be a number"]),
        (
            kd(
                comparison(
                    r={"kind": "random", "parameters": {"temp": {"type": "float", "low": 1, "high": 2}}}
                )
            ),
            ["searcher.methods.r", "temp", "temperature"],
        ),
        (
            kd(
                comparison(
                    r={
                        "kind": "random",
                        "parameters": {"temperature": {"type": "float", "low": 0, "high": 2}},
                    }
                )
            ),
            ["searcher.methods.r", "temperature"],
        ),
        (kd({**comparison(), "periods": {"method": "naive"}}), ["'naive' is no gradient method"]),
        (kd(periods(equal=[0])), ["searcher.periods.equal.0", "found 0"]),
        (kd(periods(eqal=[1])), ["searcher.periods.eqal", "did you mean 'equal'"]),
        (kd({"kind": "comparison", "methods": {}}), ["'searcher.reference' is missing"]),
    ],
)
def test_searchers_of_metaparameters_say_what_does_not_fit(data, words):
    with pytest.raises(UsageError) as caught:
        parse_sweep(data, "sweep.yaml")
    told = str(caught.value)
    assert "sweep.yaml" in told
    for word in words:
        assert word in told


NAMED = {**kd("named"), "configurations": {"chosen": {"lambda_1": 0.5}, "other": {"lambda_1": 0.1}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("choosen", ["did you mean 'chosen'?", "configurations of this file: chosen, other", "'random'"]),
        ("randm", ["did you mean 'random'?", "configurations of this file: chosen, other"]),
        ("none", ["unknown searcher 'none'; known: "]),
    ],
)
def test_a_searcher_that_is_none_is_told_with_the_configurations_of_the_file(tmp_path, change, words):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(NAMED))
    assert list(load_sweep(str(path), ["searcher=chosen"]).search().methods) == ["chosen"]
    with pytest.raises(UsageError) as caught:
        load_sweep(str(path), [f"searcher={change}"])
    for word in words:
        assert word in str(caught.value)


def test_what_is_wrong_with_a_named_configuration_is_told_of_it():
    wrong = {**NAMED, "configurations": {"chosen": {"lambda_1": 2}}, "searcher": {"kind": "named"}}
    with pytest.raises(UsageError, match=r"^sweep.yaml: configurations\.chosen: ") as caught:
        parse_sweep(wrong, "sweep.yaml")
    assert "searcher.methods" not in str(caught.value)
    wrong["configurations"] = {"other": {"lambda_1": 0.5}, "chosen": {"lambda_1": [1]}}
    with pytest.raises(UsageError, match=r"configurations\.chosen: lambda_1 must be a number"):
        parse_sweep(wrong, "sweep.yaml")


def test_every_kind_of_searcher_reads_back_as_the_same_sweep():
    methods = {
        "r": {"kind": "random", "parameters": {"temperature": {"type": "float", "low": 0.1, "high": 10}}},
        "t": {"kind": "tpe", "library": "hyperopt"},
        "g": {"kind": "gradient", "e1": 10, "e2": 10, "fit": "increment", "clip": 0.01},
    }
    study = {**comparison(**methods), "periods": {"method": "g", "equal": [5, 10], "e2": [0, 10]}}
    for searcher in (study, gradient(metaparameters=["lambda_1"]), {"kind": "tpe", "trials": 4}):
        sweep = parse_sweep(kd(searcher), "test")
        assert parse_sweep(sweep.resolved(), "test") == sweep


def test_a_last_space_that_cannot_be_listed_is_refused():
    huge = {**SWEEP["space"], "auxiliary": {"count": 4, "models": ["resnet8w4", "resnet8w8"]}}
    with pytest.raises(UsageError, match=r"at most 1,000,000 can be listed"):
        parse_sweep(changed(space=huge, searcher={"kind": "enumeration"}), "test")
    with pytest.raises(UsageError, match=r"searcher.limit is 10,000,000"):
        parse_sweep(changed(searcher={"kind": "refinement", "limit": 10_000_000}), "test")
    # nothing left to refine, and still too large
    fixed = [{"auxiliary models": ["resnet8w4", "resnet8w4"]}]
    assert parse_sweep(changed(space={**SWEEP["space"], "restrictions": fixed}), "test")
