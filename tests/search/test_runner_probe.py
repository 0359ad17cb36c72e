"""What is made of nodes' answers; the nodes are functions of the test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import RayError

from kdsearch.search import runner_probe
from kdsearch.search.runner_probe import Fleet
from kdsearch.search.runner_watch import Node
from kdsearch.spaces.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

EXPECTED = {"versions": {"ray": "2"}, "code": "c", "contents": {"": "digits"}}
FINE = {
    "host": "h",
    "versions": {"ray": "2"},
    "code": "c",
    "contents": {"": "digits"},
    "data": None,
    "root": "/d",
}
SILENT = object()


def node(name):
    return Node(id=name, name=name, total={"CPU": 1.0}, free={})


@pytest.fixture
def cluster(monkeypatch):
    """Nodes by name -> what each answers: a mapping, an error, or nothing."""
    said = {}

    class Asked(list):
        __hash__ = object.__hash__  # as Ray's references

    class Task:
        def __init__(self, name=None):
            self.name = name

        def options(self, *, scheduling_strategy, **_):
            return Task(scheduling_strategy.node_id)

        def remote(self, told):
            answer = said[self.name]
            return Asked([self.name, answer(told) if callable(answer) else answer])

    def get(ref):
        if isinstance(ref[1], Exception):
            raise ref[1]
        return {"storage": None, **ref[1]}

    fake = SimpleNamespace(
        remote=lambda _: Task(),
        wait=lambda refs, **_: ([ref for ref in refs if said[ref[0]] is not SILENT][:1], []),
        get=get,
        cancel=lambda ref, **_: None,
    )
    monkeypatch.setattr(runner_probe, "ray", fake)
    monkeypatch.setattr(runner_probe, "NodeAffinitySchedulingStrategy", SimpleNamespace)
    monkeypatch.setattr(runner_probe, "alive_nodes", lambda: [{"NodeID": name} for name in said])
    return said


def fleet(expected=EXPECTED, sign=None, *, needs_storage=True):
    return Fleet({"storage": None}, expected, sign=sign, needs_storage=needs_storage)


def test_nodes_that_have_all_of_it_are_fit(cluster):
    cluster |= {str(n): FINE for n in range(20)}
    asked = fleet()
    asked.check([node(name) for name in cluster])
    assert asked.fit == set(cluster)


def test_every_node_that_differs_is_named_with_how(cluster):
    cluster |= {
        "good": FINE,
        "old": {**FINE, "versions": {"ray": "1"}, "code": "b"},
        "bare": RayError("ModuleNotFoundError: No module named 'kdsearch.trainables'"),
        "broken": RayError("out of memory"),
    }
    with pytest.raises(UsageError, match="3 of 4 nodes cannot run packs of this sweep") as caught:
        fleet().check([node(name) for name in cluster])
    for told in (
        "old: ray 1, not 2; another version or state of kdsearch's code",
        "bare: kdsearch is not installed there",
        "broken: it could not be asked: out of memory",
    ):
        assert told in caught.value.message
    assert "--ship-code" in caught.value.hint


def test_where_the_driver_has_no_data_the_nodes_must_agree(cluster):
    cluster |= {"a": FINE, "b": FINE}
    fleet({**EXPECTED, "contents": None}).check([node("a"), node("b")])
    cluster |= {"b": {**FINE, "contents": {"": "others"}, "root": "/e"}}
    with pytest.raises(UsageError, match=r"b: other data than on node a \(data root there: /e\)"):
        fleet({**EXPECTED, "contents": None}).check([node("a"), node("b")])


def test_a_node_that_never_answers_is_named(cluster, monkeypatch):
    monkeypatch.setattr(runner_probe, "PATIENCE_S", 0.0)
    cluster |= {"a": SILENT}
    with pytest.raises(UsageError, match="a: it did not answer in 0 s"):
        fleet().check([node("a")])


def test_a_node_that_left_is_no_reason_to_refuse(cluster, monkeypatch):
    cluster |= {"a": FINE, "b": RayError("the node died")}
    asked = fleet()
    nodes = [node("a"), node("b")]
    monkeypatch.setattr(runner_probe, "alive_nodes", lambda: [{"NodeID": "a"}])
    asked.check(nodes)
    assert asked.fit == {"a"}


@pytest.mark.parametrize("needs", [True, False])
def test_the_driver_looks_for_what_nodes_wrote(cluster, tmp_path, needs):
    def writes(told):
        (tmp_path / "sign-good").write_text(told["word"])
        return FINE

    cluster |= {"good": writes, "far": FINE}
    asked = fleet(sign=tmp_path / "sign", needs_storage=needs)
    if needs:
        with pytest.raises(UsageError, match=r"far: the driver does not find what it wrote at .* not shared"):
            asked.check([node("good"), node("far")])
    else:
        answers = asked.check([node("good"), node("far")])
        assert [bool(answer.storage) for answer in answers] == [False, True]
    assert list(tmp_path.iterdir()) == []
