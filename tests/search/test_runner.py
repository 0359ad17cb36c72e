from __future__ import annotations

import os
import pickle
import signal
import socket
from types import SimpleNamespace

import pytest

from kdsearch.search import runner
from kdsearch.search.runner_faults import shortened
from kdsearch.search.runner_resources import fitting
from kdsearch.search.variables import variables_set
from kdsearch.spaces.errors import KdsearchError, UsageError


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "packs"),
    [
        ({"CPU": 2.0}, 1.0, 0.0, 2),
        ({"CPU": 2.0}, 3.0, 0.0, 0),
        ({"CPU": 1.0}, 0.1, 0.0, 10),
        ({"CPU": 16.0, "GPU": 2.0}, 1.0, 1.0, 2),
        ({"CPU": 16.0, "GPU": 2.0}, 1.0, 0.5, 4),
        ({"CPU": 16.0, "GPU": 2.0}, 1.0, 0.4, 4),  # two fit on a GPU; a fraction never spans two
        ({"CPU": 16.0, "GPU": 3.0}, 1.0, 2.0, 1),
        ({"CPU": 3.0, "GPU": 2.0}, 1.0, 0.25, 3),
        ({"CPU": 16.0}, 1.0, 0.5, 0),
        ({}, 1.0, 0.0, 0),
    ],
)
def test_packs_that_fit_on_a_node(node, cpus, gpus, packs):
    assert fitting(node, {"CPU": cpus, "GPU": gpus}) == packs


def test_variables_are_put_back_as_they_were(monkeypatch):
    monkeypatch.setenv("KDSEARCH_ONE", "before")
    monkeypatch.delenv("KDSEARCH_TWO", raising=False)
    with variables_set({"KDSEARCH_ONE": "1", "KDSEARCH_TWO": "2"}):
        assert (os.environ["KDSEARCH_ONE"], os.environ["KDSEARCH_TWO"]) == ("1", "2")
    assert os.environ["KDSEARCH_ONE"] == "before"
    assert "KDSEARCH_TWO" not in os.environ


class Interruptible:
    interrupted = False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_cleanly_the_second_at_once(number):
    coordinator = Interruptible()
    before = signal.getsignal(number)
    with runner._signals(coordinator) as caught:
        os.kill(os.getpid(), number)
        assert coordinator.interrupted  # and no more: a signal comes in the middle of anything
        assert caught == [signal.Signals(number).name]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_long_failures_keep_their_head_and_tail():
    text = "head" + "x" * 100_000 + "tail"
    short = shortened(text)
    assert len(short) < 8_100
    assert short.startswith("head")
    assert short.endswith("tail")
    assert shortened("short") == "short"


@pytest.mark.parametrize("kind", [runner.RunnerError, runner.Interrupted, KdsearchError, UsageError])
def test_errors_survive_a_process_border(kind):
    error = pickle.loads(pickle.dumps(kind("what", "what to do")))
    assert (type(error), error.message, error.hint) == (kind, "what", "what to do")


def test_an_address_where_nothing_listens_is_told_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = runner.RayOptions(address=address, cpus=1, gpus=0, max_concurrent=None, data_root=None)
        with (
            pytest.raises(runner.RunnerError, match=f"no Ray cluster answers at {address}"),
            runner.ray_session(options),
        ):
            pass


def test_an_error_that_nobody_foresaw_ends_the_run_resumably_and_its_traceback_is_kept(monkeypatch):
    told = []
    coordinator = SimpleNamespace(
        interrupted=False,
        interrupt=told.append,
        notices=SimpleNamespace(event=lambda kind, data: told.append((kind, data))),
    )

    def fit(*_):
        return list(range(0))[0]  # noqa: RUF015 the error is what is wanted

    monkeypatch.setattr("kdsearch.search.runner_tune.fit", fit)
    with pytest.raises(
        runner.RunnerError, match=r"Ray ended early: IndexError: list index out of range"
    ) as caught:
        runner.run(coordinator, None, None, lambda: None)
    assert "kdsearch resume" in caught.value.hint
    assert told[0] == "the run ended early"
    assert "list(range(0))[0]" in told[1][1]["error"]


@pytest.mark.parametrize("address", ["head", "10.0.0.1", "head:ray", ":6379"])
def test_an_address_without_a_port_is_told_what_one_looks_like(address):
    with pytest.raises(UsageError, match="has no port") as caught:
        runner._probe(address)
    assert "HOST:PORT" in caught.value.hint


@pytest.mark.parametrize("address", ["auto", "local"])
def test_an_address_that_ray_finds_itself_is_left_to_it(address):
    runner._probe(address)
