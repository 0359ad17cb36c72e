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

import pandas as pd
import pytest
import yaml
from ray.cluster_utils import Cluster

from kdsearch.search.notices import KEPT_OFF
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb.errors import DatabaseMissingError
from kdsearch.search.trialdb.states import Ending
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
NOTING = """
from pathlib import Path
from kdsearch.search.cli import main
from kdsearch.search.coordinator import Coordinator

start, take_back = Coordinator.on_start, Coordinator.on_return

def attempts(coordinator, job):
    return [(number, coordinator._trials[number].attempt) for number in coordinator._out.members(job)]

def write(name, lines):
    with Path(name).open("a") as file:
        file.writelines(line + "\\n" for line in lines)

def noted(self, job, place=None):
    before = attempts(self, job)
    start(self, job, place)
    begun = [each for each in attempts(self, job) if each not in before]
    write("begun", [f"{number} {attempt} {place.node if place else None}" for number, attempt in begun])

def returned(self, job):
    write("returned", [f"{number}" for number in self._out.members(job)])
    take_back(self, job)

Coordinator.on_start, Coordinator.on_return = noted, returned
main()
"""  # a driver that notes where each attempt begins, and what was handed out in vain


def sweep_of(trials=12, *, name="s", trainable=None, **run):
    return {
        "name": name,
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
    """`kdsearch` as a process of its own, in a folder of its own, with a database there if no other is given."""

    def __init__(self, folder, cluster, *arguments, name="s", program=PROGRAM, db=None, **environment):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.database = folder, name, folder / "t.db"
        self.url = db or f"sqlite:///{self.database}"
        self.output = (folder / f"output-{secrets.token_hex(2)}.txt").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                *arguments,
                "--address",
                cluster.address,
            ],
            cwd=folder,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "COLUMNS": "400",
                "KDSEARCH_ALLOW_OPEN_CLUSTER": "1",
                "KDSEARCH_DB": self.url,  # it may hold a password, and anybody may read command lines
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

    def opened(self):
        return TrialDatabase.open(self.url, create=False, read_only=True)

    def events(self, kind):
        try:
            with self.opened() as database:
                return [event.data for event in database.events(self.name, kinds=[kind])]
        except (DatabaseMissingError, UnknownNameError):  # the driver is not that far
            return []

    def record(self):
        with self.opened() as database:
            return read_record(database, self.name)

    def attempts(self):
        """All of them, in the order of their beginnings."""
        with self.opened() as database:
            return sorted(database.attempts(self.name), key=lambda each: each.started)

    def endings(self):
        """What its attempts came to, for each trial."""
        ends = {}
        for each in self.attempts():
            ends.setdefault(each.number, []).append(each.ending)
        return ends

    def span(self):
        attempts = self.attempts()
        return attempts[0].started, max(each.ended for each in attempts)

    def noted(self, what):
        """The lines that NOTING wrote, as tuples of words."""
        path = self.folder / what
        return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []

    def places(self):
        """The node of each attempt, for each trial, by NOTING."""
        places = {}
        for number, attempt, node in self.noted("begun"):
            assert places.setdefault(int(number), {}).setdefault(int(attempt), node) == node
        return {number: [each[n] for n in sorted(each)] for number, each in places.items()}

    def __enter__(self):
        return self

    def __exit__(self, *info):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.output.close()


def begin(folder, cluster, sweep, *options, program=PROGRAM, db=None, **environment):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s.yaml").write_text(yaml.safe_dump(sweep))
    arguments = ("sweep", "s.yaml", *options)
    return Driver(folder, cluster, *arguments, name=sweep["name"], program=program, db=db, **environment)


def wait_for(condition, driver):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert driver.process.poll() is None, driver.told
        assert time.monotonic() < end, driver.told
        time.sleep(0.3)


def whats(driver):
    return [event["what"] for event in driver.events("cluster")]


def measured(record):
    """A sweep's curves without times."""
    curves = record.curves[record.curves["metric"] != "seconds"].reset_index(drop=True)
    return curves.assign(metric=curves["metric"].astype(str))


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
    attempts = driver.attempts()
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


def test_a_trial_that_failed_goes_to_another_node(cluster, tmp_path):
    bad = {1, 4, 7}
    trainable = {"epochs": 3, "fail": sorted(bad), "at": 2, "marker": str(tmp_path)}
    sweep = sweep_of(trials=10, trainable=trainable, backoff_s=0)
    with nodes(cluster, {}, {}), begin(tmp_path, cluster, sweep, program=NOTING) as driver:
        code, told = driver.ends()
    assert code == 0, told
    trials, places = driver.record().trials, driver.places()
    assert list(trials["number"]) == list(range(10))
    assert set(trials["state"]) == {"complete"}
    assert driver.endings() == {n: [Ending.FAILED, None] if n in bad else [None] for n in range(10)}
    assert {n: len(each) for n, each in places.items()} == {n: 1 + (n in bad) for n in range(10)}
    assert all(places[n][0] != places[n][1] for n in bad), places


def test_a_trial_whose_other_node_is_busy_for_long_waits_for_it_and_is_charged_with_its_failure_alone(
    cluster, tmp_path
):
    """Its own node, which is free, declines it four times; then it is bound to the other one, where a trial is long."""
    long = sweep_of(trials=1, trainable={"epochs": 1, "epoch_s": 10**6})
    sweep = sweep_of(trials=3, trainable={"fail": [1], "marker": str(tmp_path)}, backoff_s=0, attempts=2)
    with (
        nodes(cluster, {}, {}),
        begin(tmp_path / "long", cluster, long, "--max-concurrent", "1", program=NOTING) as other,
    ):
        wait_for(other.places, other)
        with begin(tmp_path, cluster, sweep, program=NOTING) as driver:
            wait_for(lambda: KEPT_OFF in whats(driver), driver)
            assert len(driver.places()[1]) == 1
            other.process.kill()
            code, told = driver.ends()
    assert code == 0, told
    places = driver.places()
    ((busy,),) = other.places().values()
    assert busy not in {*places[0], *places[2], places[1][0]}
    assert places[1][1:] == [busy]
    assert driver.noted("returned") == [("1",)] * 4
    assert set(driver.record().trials["state"]) == {"complete"}
    assert driver.endings() == {0: [None], 1: [Ending.FAILED, None], 2: [None]}


def test_fractions_and_resources_of_ones_own_lead_packs_to_the_node_that_has_them(cluster, tmp_path):
    sweep = sweep_of(trials=10, trainable={"epoch_s": 0.4}, cpus=0.5, gpus=0.5, resources={"fast": 0.5})
    two, both = {"num_cpus": 2}, {"num_cpus": 2, "num_gpus": 1, "resources": {"fast": 1}}
    with (
        nodes(cluster, two, both) as (_, fast),
        begin(tmp_path, cluster, sweep, program=NOTING) as driver,
    ):
        code, told = driver.ends()
    assert code == 0, told
    assert set(driver.record().trials["state"]) == {"complete"}
    assert driver.places() == {number: [fast.node_id] for number in range(10)}
    attempts = driver.attempts()
    at_once = [sum(a.started <= b.started < a.ended for a in attempts) for b in attempts]
    assert max(at_once) == 2  # a pack takes half of the GPU and of what is fast


@pytest.fixture
def databases(request):
    """The URLs of the databases of sweeps "a" and "b": files of their own, or one that both share."""
    if request.param == "files":
        return None, None
    url = request.getfixturevalue("postgresql_url")
    return url, url


@pytest.mark.parametrize("databases", ["files", "one PostgreSQL"], indirect=True)
def test_two_sweeps_have_half_of_the_cluster_each_and_do_not_mix(cluster, tmp_path, databases):
    with nodes(cluster, {}, {}):
        with begin(tmp_path / "alone", cluster, sweep_of(trials=8), "--max-concurrent", "1") as driver:
            assert driver.ends()[0] == 0, driver.told
            alone = driver.record()
        drivers = [
            begin(
                tmp_path / name,
                cluster,
                sweep_of(trials=8, name=name),
                "--max-concurrent",
                "1",
                program=MEETING,
                db=db,
                OTHERS=str(tmp_path / other),
            )
            for (name, other), db in zip(("ab", "ba"), databases, strict=True)
        ]
        with drivers[0], drivers[1]:
            for driver in drivers:
                code, told = driver.ends()
                assert code == 0, told
                record = driver.record()
                assert record.trials[COLUMNS].equals(alone.trials[COLUMNS])
                pd.testing.assert_frame_equal(record.draws, alone.draws)
                pd.testing.assert_frame_equal(measured(record), measured(alone))
                assert driver.endings() == {number: [None] for number in range(8)}
                assert whats(driver) == []  # nobody waited
        spans = [driver.span() for driver in drivers]
    assert max(start for start, _ in spans) < min(end for _, end in spans)  # side by side: they met
