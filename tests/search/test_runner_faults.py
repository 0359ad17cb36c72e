"""What errors of Ray mean, nodes to keep away from, packs that are silent. No Ray is started."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdsearch.search import runner_faults as faults
from kdsearch.search.failures import Cause, Place

HERE = Place(host="alpha", node="a1")


def nodes(*names, cpus=2.0):
    return [{"NodeID": name, "Alive": True, "Resources": {"CPU": cpus}} for name in names]


@pytest.fixture
def cluster(monkeypatch):
    """A stand-in for what Ray knows: living nodes, and last words by key."""
    state = SimpleNamespace(nodes=nodes("a1", "b1"), words={}, killed=[])
    monkeypatch.setattr(faults, "alive_nodes", lambda: state.nodes)
    monkeypatch.setattr(faults, "_internal_kv_get", lambda key, namespace: state.words.get(key))
    monkeypatch.setattr(faults, "_internal_kv_del", lambda key, namespace: state.words.pop(key))
    monkeypatch.setattr(faults.ray, "kill", state.killed.append)
    return state


@pytest.fixture
def trial_of(tmp_path):
    def make(text=None, name="t"):
        if text is not None:
            (tmp_path / "error.txt").write_text(text)
        return SimpleNamespace(
            trial_id=name,
            local_path=str(tmp_path),
            run_metadata=SimpleNamespace(error_filename=None if text is None else "error.txt"),
            temporary_state=SimpleNamespace(ray_actor=f"actor of {name}"),
        )

    return make


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("The actor is dead because its worker process has died.", Cause.WORKER),
        ("Task was killed due to the node running low on memory.", Cause.WORKER),
        ("The actor is dead because its node has died. Node Id: b1", Cause.NODE),
        ("The actor c4 is unavailable: RpcError: Socket closed", Cause.NODE),
        (None, Cause.WORKER),
    ],
)
def test_a_nodes_end_is_told_from_a_processs(cluster, trial_of, text, cause):
    failure = faults.failure_of(trial_of(text), "key", HERE)
    assert failure.cause is cause
    assert (text or "the worker process ended") in failure.reason


def test_a_node_that_ray_no_longer_knows_is_gone_whatever_the_words(cluster, trial_of):
    cluster.nodes = nodes("b1")
    assert faults.failure_of(trial_of("the worker process has died"), "key", HERE).cause is Cause.NODE


def test_last_words_of_a_watchdog_come_first_and_are_told_once(cluster, trial_of):
    cluster.words["key"] = b"it hangs\nin sleep"
    told = faults.failure_of(trial_of("its worker process has died"), "key", HERE)
    assert (told.cause, told.reason) == (Cause.LIMIT, "it hangs\nin sleep")
    assert faults.failure_of(trial_of("its worker process has died"), "key", HERE).cause is Cause.WORKER


def test_nodes_are_avoided_as_long_as_another_one_could_host_the_pack(cluster):
    def roomy(node):
        return node["CPU"] >= 2

    assert faults.avoidable({"a1"}, roomy) == ["a1"]
    assert faults.avoidable({"a1", "b1"}, roomy) == []
    assert faults.avoidable({"a1"}, lambda node: node["CPU"] >= 3) == []
    assert faults.avoidable(set(), roomy) == []
    assert faults.selector(["a1", "c1"]) == [{"ray.io/node-id": "!in(a1,c1)"}]
    assert faults.selector([]) is None


def test_a_pack_that_is_silent_long_past_its_limit_is_killed_once_and_told(cluster, trial_of):
    now = [0.0]
    silence, trials = faults.Silence(10.0, lambda: now[0]), [trial_of(name="x"), trial_of(name="y")]
    silence.heard("x")
    silence.heard("y")
    now[0] = 10.0 + 2 * faults.GRACE_S
    silence.heard("y")
    silence.look(trials)
    assert cluster.killed == []
    now[0] += 0.1
    silence.look(trials)
    silence.look(trials)
    assert cluster.killed == ["actor of x"]
    assert silence.killed("x").cause is Cause.LIMIT
    assert (silence.killed("x"), silence.killed("y")) == (None, None)
    silence.ended("y")
    now[0] += 1000
    silence.look(trials)
    assert cluster.killed == ["actor of x"]


def test_without_a_limit_nobody_is_killed(cluster, trial_of):
    silence = faults.Silence(None, lambda: pytest.fail("the clock is not looked at"))
    silence.heard("t")
    silence.look([trial_of()])
    assert cluster.killed == []
