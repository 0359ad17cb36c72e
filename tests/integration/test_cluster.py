"""Drivers of their own on a cluster of several nodes: processes of one machine, real Ray.

All nodes lie on one machine, so they share its files and its address; each has an environment of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ray.cluster_utils import Cluster

from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb.errors import DatabaseMissingError
from kdsearch.spaces.errors import UnknownNameError

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
SPACE = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}
CONSTANT = {"kind": "constant", "epochs": 4, "epoch_s": 0.1, "wobble": 10}
PROGRAM = "from kdsearch.search.cli import main; main()"
PATIENCE_S = 240
MEETING = f"""
import os, time
from pathlib import Path
from kdsearch.search.cli import main
from kdsearch.search.coordinator import Coordinator

own, others = Path("begun"), Path(os.environ["OTHERS"]) / "begun"
take = Coordinator.on_result

def meet(*given):
    own.touch()
    end = time.monotonic() + {PATIENCE_S}
    while not others.exists():
        assert time.monotonic() < end, "the other driver does not come to an epoch"
        time.sleep(0.1)
    return take(*given)

Coordinator.on_result = meet
main()
"""  # a driver that takes in no epoch before another driver has one too


def sweep_of(trials=12, *, trainable=None, **run):
    return {
        "name": "s",
        "space": SPACE,
        "trainable": {**CONSTANT, **(trainable or {})},
        "searcher": {"kind": "random", "trials": trials},
        "run": {"pack": 1, **run},
    }


@pytest.fixture(scope="module")
def cluster():
    """A head without cores, and no nodes: tests add theirs."""
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False},
    )
    try:
        yield made
    finally:
        made.shutdown()


@contextlib.contextmanager
def nodes(cluster, *each):
    """Nodes for the time of a test."""
    added = [
        cluster.add_node(object_store_memory=80 * 2**20, wait=True, **{"num_cpus": 1, **told})
        for told in each
    ]
    try:
        yield added
    finally:
        for node in added:
            with contextlib.suppress(Exception):
                cluster.remove_node(node, allow_graceful=True)


class Driver:
    """`kdsearch` as a process of its own, in a folder of its own."""

    def __init__(self, folder, cluster, *arguments, program=PROGRAM, **environment):
        folder.mkdir(parents=True, exist_ok=True)
        self.database = folder / "t.db"
        self.output = (folder / f"output-{secrets.token_hex(2)}.txt").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                *arguments,
                "--address",
                cluster.address,
                "--db",
                "sqlite:///t.db",
            ],
            cwd=folder,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "COLUMNS": "400",
                "KDSEARCH_ALLOW_OPEN_CLUSTER": "1",
                **environment,
            },
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    @property
    def told(self):
        self.output.flush()
        return Path(self.output.name).read_text()

    def ends(self):
        code = self.process.wait(PATIENCE_S)
        return code, self.told

    def events(self, kind):
        try:
            with TrialDatabase.open(f"sqlite:///{self.database}", create=False, read_only=True) as database:
                return [event.data for event in database.events("s", kinds=[kind])]
        except (DatabaseMissingError, UnknownNameError):  # the driver is not that far
            return []

    def record(self):
        with TrialDatabase.open(f"sqlite:///{self.database}", create=False, read_only=True) as database:
            return read_record(database, "s")

    def span(self):
        with TrialDatabase.open(f"sqlite:///{self.database}", create=False, read_only=True) as database:
            attempts = database.attempts("s")
        return min(a.started for a in attempts), max(a.ended for a in attempts)

    def __enter__(self):
        return self

    def __exit__(self, *info):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.output.close()


def begin(folder, cluster, sweep, *options, program=PROGRAM, **environment):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s.yaml").write_text(yaml.safe_dump(sweep))
    return Driver(folder, cluster, "sweep", "s.yaml", *options, program=program, **environment)


def wait_for(condition, driver):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert driver.process.poll() is None, driver.told
        assert time.monotonic() < end, driver.told
        time.sleep(0.3)


def whats(driver):
    return [event["what"] for event in driver.events("cluster")]


COLUMNS = ["number", "state", "error", "last_epoch", "seed"]


def test_a_pack_that_fits_nowhere_is_refused_with_what_nodes_have(cluster, tmp_path):
    with (
        nodes(cluster, {"resources": {"fast": 1}}, {}),
        begin(tmp_path, cluster, sweep_of(resources={"fats": 1})) as driver,
    ):
        code, told = driver.ends()
    assert code == 2, told
    assert "No node has any 'fats' (run.resources); did you mean 'fast'?" in told
    assert not driver.database.exists()


def test_a_node_without_the_data_is_named_and_its_own_environment_counts(cluster, tmp_path):
    from kdsearch.trainables.data.samples import sample

    roots = [tmp_path / name for name in ("one", "two")]
    for n, root in enumerate(roots):
        sample("fashion-mnist", root, seed=n)
    sweep = {
        **sweep_of(),
        "space": {
            "kind": "ktg",
            "target": "resnet8w4",
            "auxiliary": {"count": 1, "models": ["resnet8w4"]},
            "gates": ["through"],
        },
        "trainable": {"kind": "ktg", "data": "fashion-mnist", "epochs": 1},
        "searcher": {"kind": "random", "trials": 1},
    }
    own = [{"env_vars": {"KDSEARCH_DATA": str(root)}} for root in roots]
    with (
        nodes(cluster, own[0], own[1]),
        begin(tmp_path / "a", cluster, sweep, KDSEARCH_DATA=str(roots[0])) as one,
    ):
        code, told = one.ends()
    assert code == 2, told
    assert "1 of 2 nodes cannot run packs of this sweep" in told
    assert f"other data than on the driver (data root there: {roots[1]})" in told
    with (
        nodes(cluster, own[1]),
        begin(tmp_path / "b", cluster, sweep, KDSEARCH_DATA="") as two,
    ):  # the driver has none
        code, told = two.ends()
    assert code == 0, told
    assert str(roots[1]) in "".join(note for note in two.record().notes)


def test_the_sweep_follows_the_cluster(cluster, tmp_path):
    """The only node goes and nothing is waited for in silence; one that joins is used; the result is the same."""
    with begin(tmp_path, cluster, sweep_of(trials=14), "--wait-for-nodes", "inf") as driver:
        wait_for(lambda: "waiting for nodes" in driver.told, driver)
        with nodes(cluster, {}) as (first,):
            wait_for(lambda: driver.database.exists() and "0 trials" not in driver.told, driver)
            wait_for(
                lambda: driver.events("data") and (driver.record().trials["state"] == "complete").sum() >= 2,
                driver,
            )
            cluster.remove_node(first, allow_graceful=False)
            wait_for(lambda: "no node fits" in whats(driver), driver)
            wait_for(
                lambda: "nothing runs, since no node of the cluster could run a pack" in driver.told, driver
            )
        with nodes(cluster, {}):
            code, told = driver.ends()
        assert code == 0, told
        record = driver.record()
        assert set(record.trials["state"]) == {"complete"}
        assert {"node left", "node joined", "no node fits", "placed"} <= set(whats(driver))


def test_a_node_that_joins_beside_another_is_used_while_that_one_works(cluster, tmp_path):
    sweep = sweep_of(trials=24, trainable={"epochs": 3, "epoch_s": 0.4})
    with nodes(cluster, {}), begin(tmp_path, cluster, sweep) as driver:
        wait_for(
            lambda: driver.events("data") and (driver.record().trials["state"] == "complete").sum() >= 2,
            driver,
        )
        with nodes(cluster, {}):
            code, told = driver.ends()
    assert code == 0, told
    with TrialDatabase.open(f"sqlite:///{driver.database}", create=False, read_only=True) as database:
        attempts = sorted(database.attempts("s"), key=lambda each: each.started)
    assert len(attempts) == 24
    together = [a for a, b in itertools.pairwise(attempts) if b.started < a.ended]
    assert len(together) >= 4


def test_nodes_without_kdsearch_are_named_or_sent_the_code(cluster, tmp_path):
    """The node's Python finds no kdsearch: what an installation left on its path is taken away as it starts."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'kdsearch' not in getattr(f, '__module__', '') + repr(f)]\n"
        "sys.path[:] = [p for p in sys.path if not p.startswith('__editable__')]\n"  # an entry of its finder, no folder
    )
    bare = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    with nodes(cluster, bare):
        with begin(tmp_path / "a", cluster, sweep_of(trials=2)) as without:
            code, told = without.ends()
            assert code == 2, told
            assert "kdsearch is not installed there" in told
        with begin(tmp_path / "b", cluster, sweep_of(trials=2), "--ship-code") as sent:
            code, told = sent.ends()
            assert code == 0, told
            assert set(sent.record().trials["state"]) == {"complete"}


def test_two_sweeps_have_half_of_the_cluster_each_and_do_not_mix(cluster, tmp_path):
    alone = None
    with nodes(cluster, {}, {}):
        with begin(tmp_path / "alone", cluster, sweep_of(trials=8), "--max-concurrent", "1") as driver:
            assert driver.ends()[0] == 0, driver.told
            alone = driver.record()
        drivers = [
            begin(
                tmp_path / name,
                cluster,
                sweep_of(trials=8),
                "--max-concurrent",
                "1",
                program=MEETING,
                OTHERS=str(tmp_path / other),
            )
            for name, other in ("ab", "ba")
        ]
        with drivers[0], drivers[1]:
            for driver in drivers:
                code, told = driver.ends()
                assert code == 0, told
                record = driver.record()
                assert record.trials[COLUMNS].equals(alone.trials[COLUMNS])
                assert len(record.curves) == len(alone.curves)
                assert whats(driver) == []  # nobody waited
        spans = [driver.span() for driver in drivers]
    assert max(start for start, _ in spans) < min(end for _, end in spans)  # side by side: they met
