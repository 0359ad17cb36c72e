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
        "ktg-cifar10",
        "ktg-cifar100",
        "ktg-cinic10",
        "ktg-digits",
        "ktg-fashion-mnist",
        "ktg-tiny-imagenet",
    }
    for name in presets.names():
        sweep = load_sweep(name)
        assert sweep.name == name
        assert sweep.design_space().counts().encodings == 78_732


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


def test_a_last_space_that_cannot_be_listed_is_refused():
    huge = {**SWEEP["space"], "auxiliary": {"count": 4, "models": ["resnet8w4", "resnet8w8"]}}
    with pytest.raises(UsageError, match=r"at most 1,000,000 can be listed"):
        parse_sweep(changed(space=huge, searcher={"kind": "enumeration"}), "test")
    with pytest.raises(UsageError, match=r"searcher.limit is 10,000,000"):
        parse_sweep(changed(searcher={"kind": "refinement", "limit": 10_000_000}), "test")
    # nothing left to refine, and still too large
    fixed = [{"auxiliary models": ["resnet8w4", "resnet8w4"]}]
    assert parse_sweep(changed(space={**SWEEP["space"], "restrictions": fixed}), "test")
