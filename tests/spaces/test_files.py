"""Spaces in and out of YAML, and specifications that are wrong: what is said about them."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest

from kdsearch.spaces import (
    SpaceError,
    UnknownNameError,
    UsageError,
    dump_space,
    load_space,
    parse_yaml,
    refinement_spaces,
    save_space,
    space_from_spec,
)

KTG = {
    "kind": "ktg",
    "target": "resnet32",
    "auxiliary": {"count": 2, "models": ["resnet32", "wrn28-2"]},
    "gates": ["through", "cutoff", "linear"],
}
WRITTEN = """\
kind: ktg
target: resnet32
auxiliary: {count: 2, models: [resnet32, wrn28-2]}
gates: [through, cutoff, linear]
restrictions:
  - auxiliary models: [wrn28-2, wrn28-2]
  - label->auxiliary: [through, through]
  - auxiliary->target: {only: [through, linear]}
  - label->target: through
"""


def test_a_written_file_is_read(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(WRITTEN)
    space = load_space(path, name="mine")
    assert space.name == "mine"
    assert [str(restriction) for restriction in space.restrictions] == [
        "auxiliary models = wrn28-2 & wrn28-2",
        "label->auxiliary = through & through",
        "auxiliary->target only through, linear",
        "label->target = through",
    ]
    assert space.counts().encodings == 2**2 * 3**4  # 2->1, 3->1 of two gates; 1->2, 1->3, 2->3, 3->2 of three


@pytest.mark.parametrize("name", "ABCX")
def test_yaml_round_trips(name, tmp_path):
    space = refinement_spaces()[name]
    assert space_from_spec(parse_yaml(dump_space(space), "text")) == space
    save_space(space, tmp_path / "space.yaml")
    assert load_space(tmp_path / "space.yaml").hash == space.hash


def test_the_hash_is_that_of_the_canonical_json():
    text = (
        '{"auxiliary":{"count":2,"models":["resnet32","wrn28-2"]},"gates":["through","cutoff","linear"],'
        '"kind":"ktg","restrictions":[{"auxiliary models":["wrn28-2","wrn28-2"]}],"target":"resnet32"}'
    )
    assert refinement_spaces()["B"].hash == hashlib.sha256(text.encode()).hexdigest()
    assert space_from_spec(KTG).hash == refinement_spaces()["A"].hash


def test_yaml_is_read_as_version_1_2():
    text = "{a: 1e-4, b: on, c: 010, d: true, e: '1e-4', f: 2020-01-01, g: 1.5, h: no, i: -.5}"
    assert parse_yaml(text, "text") == {
        "a": 1e-4,
        "b": "on",
        "c": 10,
        "d": True,
        "e": "1e-4",
        "f": "2020-01-01",
        "g": 1.5,
        "h": "no",
        "i": -0.5,
    }


def wrong(change) -> dict:
    spec = copy.deepcopy(KTG)
    change(spec)
    return spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(gate=["through"]), "unknown key 'gate' in space\nDid you mean 'gates'?"),
        (
            lambda s: s["auxiliary"].update(number=3),
            "unknown key 'number' in space.auxiliary\nKnown: count, models.",
        ),
        (lambda s: s.update(kind="kgt"), "unknown kind of space 'kgt' in space\nDid you mean 'ktg'?"),
        (lambda s: s.pop("kind"), "space lacks kind\nKnown: ktg, parameters."),
        (lambda s: s.pop("target"), "space lacks target"),
        (lambda s: s["auxiliary"].pop("models"), "space.auxiliary lacks models"),
        (
            lambda s: s.update(gates=["through", "lineal"]),
            "unknown gate 'lineal' in space.gates\nDid you mean 'linear'?",
        ),
        (lambda s: s.update(gates="through"), "space.gates is the text 'through'\nWrite it as a list"),
        (
            lambda s: s.update(gates=["cutoff"]),
            "the target can get no edge, the only gate is cutoff\nAdd through",
        ),
        (lambda s: s.update(gates=[]), "gates is empty\nGive at least one."),
        (lambda s: s.update(gates=["linear", "linear"]), "gates has linear more than once"),
        (lambda s: s["auxiliary"].update(models=["a", "a"]), "models has a more than once"),
        (lambda s: s["auxiliary"].update(models=[]), "auxiliary models is empty"),
        (
            lambda s: s["auxiliary"].update(models=["a b"]),
            "model name 'a b' in a ktg space: auxiliary models",
        ),
        (lambda s: s["auxiliary"].update(count=-1), "space.auxiliary.count is -1\nWrite 0 or more."),
        (lambda s: s["auxiliary"].update(count=True), "space.auxiliary.count is the boolean True"),
        (lambda s: s["auxiliary"].update(count=2.5), "space.auxiliary.count is the number 2.5"),
        (lambda s: s.update(target=3), "space.target is the number 3"),
        (lambda s: s.update(target=None), "space.target is empty"),
        (lambda s: s.update(auxiliary=[2]), "space.auxiliary is a list\nWrite it as a mapping"),
        (lambda s: s.update({3: 4}), "has the key 3, which is no text"),
    ],
)
def test_specifications_that_are_wrong(change, message):
    with pytest.raises(UsageError) as caught:
        space_from_spec(wrong(change))
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


@pytest.mark.parametrize(
    ("restrictions", "message"),
    [
        (
            {"label->target": "through"},
            "space.restrictions is a mapping\nWrite a list with one entry for each",
        ),
        (["through"], "space.restrictions[0] is the text 'through'"),
        ([{"label->target": "linear", "auxiliary models": []}], "space.restrictions[0] names 2 groups"),
        ([{"label->target": []}], "space.restrictions[0] (label->target) is an empty list"),
        (
            [{"label->target": {"any": ["linear"]}}],
            "unknown key 'any' in space.restrictions[0] (label->target)",
        ),
        (
            [{"label->targets": "linear"}],
            "unknown group 'label->targets' in restriction 'label->targets = linear'",
        ),
        ([{"label->target": "correct"}], "unknown gate 'correct' in restriction 'label->target = correct'"),
        ([{"auxiliary models": ["wrn28-2", "vgg"]}], "unknown model 'vgg'"),
        (
            [{"auxiliary models": ["wrn28-2"]}],
            "gives 1 values, but auxiliary models has 2 members\nGive one value for",
        ),
        (
            [{"label->target": "linear"}, {"label->target": "through"}],
            "restriction 'label->target = through' contradicts 'label->target = linear': they empty the space\nLeave",
        ),
        (
            [{"auxiliary models": {"only": ["resnet32"]}}, {"auxiliary models": ["resnet32", "wrn28-2"]}],
            "contradicts 'auxiliary models only resnet32'",
        ),
        (
            [{"auxiliary models": ["resnet32", "wrn28-2"]}, {"auxiliary models": {"only": ["wrn28-2"]}}],
            "contradicts 'auxiliary models = resnet32 & wrn28-2'",
        ),
        (
            [{"label->target": {"only": ["through"]}}, {"label->target": {"only": ["linear"]}}],
            "contradicts 'label->target only through'",
        ),
        (
            [{"label->target": "cutoff"}, {"auxiliary->target": ["cutoff", "cutoff"]}],
            "restriction 'auxiliary->target = cutoff & cutoff' empties the space: the target can get no edge",
        ),
        (
            [{"auxiliary->target": {"only": ["cutoff"]}}, {"label->target": "cutoff"}],
            "restriction 'label->target = cutoff' empties the space: the target can get no edge",
        ),
    ],
)
def test_restrictions_that_are_wrong(restrictions, message):
    with pytest.raises(UsageError) as caught:
        space_from_spec({**KTG, "restrictions": restrictions})
    assert message in str(caught.value)


def test_a_group_without_members_cannot_be_restricted():
    spec = {
        **KTG,
        "auxiliary": {"count": 1, "models": ["a"]},
        "restrictions": [{"auxiliary->auxiliary": "linear"}],
    }
    with pytest.raises(SpaceError, match="auxiliary->auxiliary has no members here"):
        space_from_spec(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [ktg", "is not YAML"),
        ("kind: ktg\nkind: ktg", "the key 'kind' stands twice"),
        ("- ktg", "is a list\nWrite it as a mapping"),
        ("", "is empty"),
        ("kind: ktg", "lacks target, auxiliary, gates"),
        (WRITTEN + "gate: 3\n", "unknown key 'gate' in"),
        (WRITTEN.replace("[through, cutoff, linear]", "[cutoff]"), "the target can get no edge"),
    ],
)
def test_files_that_are_wrong_are_named(text, message, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises((SpaceError, UnknownNameError)) as caught:
        load_space(path)
    assert message in str(caught.value)
    assert "broken.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SpaceError, match=r"cannot read the space file .*none\.yaml"):
        load_space(tmp_path / "none.yaml")
