"""The JSON Schema of sweep files: current, right about what is right, and right about what is wrong."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from kdsearch.search import presets
from kdsearch.search.cli import _run
from kdsearch.search.config import parse_sweep
from kdsearch.search.file_schema import file_schema, schema_text
from kdsearch.spaces import parse_yaml
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.declared import resolved_settings, settings_schema
from kdsearch.trainables.kd.settings import KdSettings
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.registry import trainable_kind, trainable_names

DOCS = Path(__file__).parents[2] / "docs"
VALIDATOR = Draft202012Validator(file_schema())
TEXT = (DOCS / "sweep-files.md").read_text(encoding="utf-8")


def errors(data):
    return [error.message for error in VALIDATOR.iter_errors(data)]


def preset(name):
    return parse_yaml(presets.text(name), name)


def test_the_file_in_the_docs_is_the_one_that_the_models_make():
    told = "make it again with `kdsearch schema --out docs/sweep.schema.json`"
    assert (DOCS / "sweep.schema.json").read_text(encoding="utf-8") == schema_text(), told
    Draft202012Validator.check_schema(file_schema())


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_right(name):
    assert errors(preset(name)) == []


@pytest.mark.parametrize("name", presets.names())
def test_what_is_stored_of_a_sweep_is_a_sweep_file(name):
    assert errors(json.loads(json.dumps(parse_sweep(preset(name), name).resolved()))) == []


def with_value(data, key, value):
    changed = copy.deepcopy(data)
    *parents, last = key.split("/")
    node = changed
    for parent in parents:
        node = node[parent]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return changed


KTG = {
    "name": "s",
    "space": {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 2, "models": ["resnet8w4"]},
        "gates": ["through", "cutoff"],
        "restrictions": [{"label->target": "through"}, {"auxiliary->target": {"only": ["through"]}}],
    },
    "trainable": {"kind": "ktg", "data": {"name": "digits"}, "schedule": {"every": 3, "factor": 0.5}},
    "searcher": {"kind": "random", "trials": 3},
    "scheduler": {"kind": "asha", "rungs": [1, 2]},
}
KD = {
    "name": "s",
    "space": {
        "kind": "parameters",
        "parameters": {
            "lambda_1": {"type": "float", "low": 0, "high": 1},
            "temperature": {"type": "log-uniform", "low": 0.1, "high": 10},
        },
        "constraints": [{"compare": ["lambda_1", "<=", "temperature"]}],
    },
    "trainable": {
        "kind": "kd",
        "data": {"name": "synthetic", "noise": 0.1},
        "student": "linear",
        "teacher": {"model": "linear", "epochs": 2},
    },
    "searcher": {
        "kind": "comparison",
        "reference": "naive",
        "methods": {"naive": {"kind": "fixed", "values": {"lambda_1": 0.5, "temperature": 1}}},
    },
}


@pytest.mark.parametrize("data", [KTG, KD])
def test_the_examples_here_are_right(data):
    parse_sweep(data, "an example")
    assert errors(data) == []


@pytest.mark.parametrize(
    ("data", "key", "value"),
    [
        (KTG, "name", ...),
        (KTG, "name", "-s"),
        (KTG, "seed", -1),
        (KTG, "sed", 1),
        (KTG, "space", ...),
        (KTG, "space/kind", "graphs"),
        (KTG, "space/gates", ["through", "cutof"]),
        (KTG, "space/gates", ["through", "through"]),
        (KTG, "space/auxiliary/count", -1),
        (KTG, "space/auxiliary/model", "resnet8w4"),
        (KTG, "space/restrictions", [{"label->target": {"just": ["through"]}}]),
        (KTG, "trainable/kind", "kgt"),
        (KTG, "trainable/data", ...),
        (KTG, "trainable/epochs", 0),
        (KTG, "trainable/epoch", 3),
        (KTG, "trainable/momentum", 1),
        (KTG, "trainable/learning_rate", 0),
        (KTG, "trainable/precision", "float16"),
        (KTG, "trainable/schedule", "linear"),
        (KTG, "trainable/schedule/factor", 2),
        (KTG, "trainable/data/train_size", 0),
        (KTG, "trainable/data/augment", "yes"),
        (KTG, "searcher/trials", ...),
        (KTG, "searcher/trials", 0),
        (KTG, "searcher/draws", 3),
        (KTG, "searcher/kind", "randm"),
        (KTG, "scheduler/every", 2),
        (KTG, "scheduler/rungs", ...),
        (KTG, "scheduler/kind", "asah"),
        (KTG, "scheduler/reduction_factor", 1),
        (KTG, "run", {"pack": 0}),
        (KTG, "run", {"packs": 2}),
        (KTG, "run", {"gpus": "some"}),
        (KTG, "statistics", {"alpha": 1}),
        (KD, "space/parameters/lambda_1/type", "flaot"),
        (KD, "space/parameters/lambda_1/high", ...),
        (KD, "space/parameters/lambda_1/step", 0.1),
        (KD, "space/constraints", [{"compare": ["lambda_1", "<>", 1]}]),
        (KD, "trainable/student", ...),
        (KD, "trainable/lambda_1", 1.5),
        (KD, "trainable/teacher/model", ...),
        (KD, "trainable/teacher/sees", "nothing"),
        (KD, "trainable/data/noise", -1),
        (KD, "trainable/distillation", "sotf"),
        (KD, "searcher/methods/naive/values", ...),
        (KD, "searcher/methods/naive/train_on", "none"),
        (KD, "searcher/methods", {}),
    ],
)
def test_what_kdsearch_refuses_an_editor_marks(data, key, value):
    broken = with_value(data, key, value)
    with pytest.raises(UsageError):
        parse_sweep(broken, "a broken file")
    assert errors(broken) != []


READERS = {
    "ktg": (KtgSettings.from_mapping, KTG["trainable"]),
    "kd": (KdSettings.from_mapping, {**KD["trainable"], "data": "digits"}),
    "bbm": (
        BbmSettings.from_mapping,
        {"data": "physionet2021", "teacher": {"network": "resnet"}, "student": {"network": "transformer"}},
    ),
}


def bounded(schema, path=()):
    """Paths of keys with numeric ranges, and a value outside each."""
    for name, own in schema["properties"].items():
        for each in own.get("anyOf", [own]):
            if each.get("type") == "object" and "properties" in each and path == ():
                yield from bounded(each, (name,))
            for word, beyond in (
                ("minimum", -1),
                ("exclusiveMinimum", 0),
                ("maximum", 1),
                ("exclusiveMaximum", 0),
            ):
                if word in each:
                    yield (*path, name), each[word] + beyond


@pytest.mark.parametrize("kind", READERS)
def test_the_ranges_are_those_that_settings_are_checked_by(kind):
    read, base = READERS[kind]
    given = {key: value for key, value in base.items() if key != "kind"}
    read(given)
    found = list(bounded(settings_schema(kind)))
    assert len(found) >= 15
    for (*parents, last), value in found:
        changed = copy.deepcopy(given)
        node = changed
        for parent in parents:
            there = node.get(parent, {})
            node[parent] = {"name": there} if isinstance(there, str) else there
            node = node[parent]
        if parents == ["schedule"]:
            node |= {"every": 2, "factor": 0.5}
        node[last] = value
        with pytest.raises(UsageError):
            read(changed)


@pytest.mark.parametrize("name", presets.names())
def test_resolved_settings_are_read_as_the_same_settings(name):
    sweep = parse_sweep(preset(name), name)
    kind, settings = sweep.trainable.kind, sweep.trainable.settings()
    resolved = resolved_settings(kind, settings)
    assert settings.keys() <= resolved.keys()
    read = READERS[kind][0]
    assert read(resolved) == read(settings)


def test_every_kind_of_trainable_declares_its_settings():
    for name in trainable_names():
        assert trainable_kind(name).name == name
        assert settings_schema(name) is not None


def properties(schema):
    """All keys that a sweep file can have, wherever they stand."""
    if isinstance(schema, list):
        return {name for each in schema for name in properties(each)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {}))
    below = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    rest = [value for key, value in schema.items() if key not in {"properties", "$defs", "default"}]
    return own | properties(below) | properties(rest)


def test_every_key_is_in_the_documentation():
    code = re.findall(r"```yaml\n(.*?)```|`([^`\n]+)`", TEXT, re.DOTALL)
    words = {word for block, inline in code for word in re.findall(r"\w+", block or inline)}
    assert sorted(properties(file_schema()) - words) == []


def blocks():
    """YAML examples of the documentation, with their page."""
    for path in sorted(DOCS.glob("*.md")):
        for n, text in enumerate(
            re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        ):
            yield pytest.param(path.name, text, id=f"{path.stem}-{n}")


@pytest.mark.parametrize(("page", "text"), list(blocks()))
def test_every_example_of_the_documentation_can_be_read(page, text):
    data = parse_yaml(text, page)
    if {"name", "space", "trainable", "searcher"} <= data.keys():
        parse_sweep(data, page)
        assert errors(data) == []
        return
    for key in data.keys() & {"space", "searcher", "scheduler", "run", "statistics"}:  # a part of a file
        part = {"$defs": file_schema()["$defs"], **file_schema()["properties"][key]}
        assert [error.message for error in Draft202012Validator(part).iter_errors(data[key])] == []


def test_the_documentation_shows_whole_files():
    whole = [text for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if "searcher:" in text]
    assert len(whole) >= 2
    assert "# yaml-language-server: $schema=" in TEXT


def test_the_command_prints_or_writes_it(tmp_path, capsys):
    assert _run(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    out = tmp_path / "sweep.schema.json"
    assert _run(["schema", "--out", str(out)]) == 0
    assert out.read_text() == schema_text()
    assert "# yaml-language-server: $schema=sweep.schema.json" in capsys.readouterr().err
    assert _run(["schema", "--out", str(tmp_path / "none" / "x.json")]) == 2
    out.write_text(schema_text().replace("random", "of another version"))
    assert _run(["schema", "--out", str(out)]) == 0
    assert out.read_text() == schema_text()


@pytest.mark.parametrize("content", [b"name: mine\n", b'{"title": "mine"}', b"[]", b"\xff"])
def test_what_is_no_schema_is_not_written_over(tmp_path, capsys, content):
    out = tmp_path / "mine.yaml"
    out.write_bytes(content)
    assert _run(["schema", "--out", str(out)]) == 2
    assert "exists and is no schema of kdsearch" in " ".join(capsys.readouterr().err.split())
    assert out.read_bytes() == content
