"""The commands of docker-compose.yml and of the manifests, run as processes on this machine: there is no engine here.

Head, worker, health checks, submission and the entry point of the RayJob are taken out of the files word for word; only
what containers and pods give is put in place of names: addresses, ports and folders (`_Place.here`). PostgreSQL is a
real one, secrets are made by docs/cluster/secrets.sh, Ray asks for the token everywhere.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import yaml

from kdsearch.search.trialdb import TrialDatabase

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("postgresql", ROOT / "tests" / "postgresql.py")
POSTGRESQL = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(POSTGRESQL)
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
RAY_JOB = yaml.safe_load((ROOT / "docs" / "cluster" / "kuberay" / "rayjob.yaml").read_text())
PATIENCE_S = 300
MARK = (
    "KDSEARCH_TEST_DEPLOYING"  # in the environment of all that is started here, and of all that that starts
)
TRIALS = 12
SWEEP = {
    "name": "deployed",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 5, "epoch_s": 0.3, "curve": 20, "wobble": 10},
    "searcher": {"kind": "random", "trials": TRIALS},
    "run": {"pack": 1, "checkpoint_every": 1},
}


class _Place:
    """What stands for containers: a folder, ports, programs."""

    def __init__(self, folder, postgresql):
        self.folder, self.postgresql = folder, postgresql
        self.ports = dict(
            zip(("gcs", "dashboard", "client", "agent", "agent of worker"), _free_ports(5), strict=True)
        )
        self.address = f"http://127.0.0.1:{self.ports['dashboard']}"
        self.ray = Path(tempfile.mkdtemp(prefix="kdsearch-ray-"))  # short: Ray's sockets lie in it
        for name in ("bin", "work", "data", "sweeps"):
            (folder / name).mkdir(exist_ok=True)
        for name, module in (("ray", "ray.scripts.scripts"), ("kdsearch", "kdsearch.search.cli")):
            self._program(name, f'exec {sys.executable} -c "from {module} import main; main()" "$@"')
        self._program("python", f'exec {sys.executable} "$@"')

    def _program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def here(self, text, agent="agent"):
        """What a container, a pod and their networks would make of a text."""
        for name, found in (
            ("head:6379", f"127.0.0.1:{self.ports['gcs']}"),
            ("--port=6379", f"--port={self.ports['gcs']}"),
            (
                "--dashboard-host=0.0.0.0",
                "--dashboard-host=127.0.0.1",
            ),  # of the container, which publishes to localhost
            ("head:8265", f"127.0.0.1:{self.ports['dashboard']}"),
            ("127.0.0.1:8265", f"127.0.0.1:{self.ports['dashboard']}"),
            ("--dashboard-port=8265", f"--dashboard-port={self.ports['dashboard']}"),
            ("127.0.0.1:52365", f"127.0.0.1:{self.ports[agent]}"),
            ("--object-store-memory=1000000000", "--object-store-memory=100000000"),
            ("@postgres/", f"@127.0.0.1:{self.postgresql.port}/"),
            ("/run/secrets/", f"{self.folder}/secrets/"),
            ("/sweep/", f"{self.folder}/sweeps/"),
        ):
            text = text.replace(name, found)
        return f"{self.folder}{text}" if text in {"/work", "/data"} else text

    def environment(self, service):
        """The variables of a service, those of the image, and nothing of this process but what finds programs."""
        image = re.findall(
            r"^(?:ENV|   ) (\w+)=(\S+)", (ROOT / "Dockerfile").read_text().rpartition("FROM")[2], re.MULTILINE
        )
        given = {**dict(image), **SERVICES[service]["environment"]}
        return {
            **{name: self.here(str(value)) for name, value in given.items()},
            "PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            MARK: str(self.folder),
        }

    def start(self, service, words, log):
        """Run a command of a service."""
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(
                words,
                cwd=self.folder / ("sweeps" if service == "sweep" else "work"),
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, service, words, **environment):
        """Run a command of a service to its end; exit code and what it said."""
        done = subprocess.run(
            words,
            cwd=self.folder / ("sweeps" if service == "sweep" else "work"),
            env={**self.environment(service), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout

    def log(self, name):
        return (self.folder / name).read_text(errors="replace")

    def wait_until_healthy(self, service, process, log, agent="agent"):
        """Ask as the compose file's health check does."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        wait_for(
            lambda: self.run(service, [self.here(word, agent) for word in words])[0] == 0,
            lambda: self.log(log),
            lambda: process.poll() is None,
        )


def _free_ports(number):
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(condition, story=lambda: "", possible=lambda: True):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert possible(), story()
        assert time.monotonic() < end, story()
        time.sleep(0.2)


def marked(folder):
    """Numbers of the processes that live and were started here, however far removed."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{MARK}={folder}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@contextmanager
def running(place, service, more, log, agent="agent"):
    """A service of the compose file from its health to its end."""
    words = shlex.split(place.here(SERVICES[service]["command"]))
    process = place.start(service, [*words, *more], log)
    try:
        place.wait_until_healthy(service, process, log, agent)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Head and worker as the compose file starts them; what they started is gone at the end."""
    folder = tmp_path_factory.mktemp("deployed")
    subprocess.run([ROOT / "docs" / "cluster" / "secrets.sh", folder], check=True, capture_output=True)
    postgresql = POSTGRESQL.PostgreSQL()
    password = (folder / "secrets" / "database_password").read_text()
    postgresql.execute(f"ALTER ROLE kdsearch PASSWORD '{password}'")
    postgresql.password = password
    postgresql.execute("CREATE DATABASE kdsearch")
    place = _Place(folder, postgresql)
    (folder / "sweeps" / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    one_host = ["--node-ip-address=127.0.0.1"]  # containers have an address each
    head = [
        *one_host,
        f"--temp-dir={place.ray}",
        f"--ray-client-server-port={place.ports['client']}",
        f"--dashboard-agent-listen-port={place.ports['agent']}",
    ]
    worker = [
        *one_host,
        "--num-cpus=2",
        f"--dashboard-agent-listen-port={place.ports['agent of worker']}",
    ]
    try:
        with (
            running(place, "head", head, "head.log"),
            running(place, "worker", worker, "worker.log", "agent of worker"),
        ):
            yield place
        wait_for(lambda: marked(folder) == [], lambda: f"left over: {commands(marked(folder))}")
    finally:
        for number in marked(folder):
            kill(number)
        shutil.rmtree(place.ray, ignore_errors=True)
        postgresql.close()


def kill(number):
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def commands(numbers):
    """Command lines of processes, as far as they still live."""
    found = {}
    for number in numbers:
        with suppress(OSError):
            found[number] = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def ask(place, path, token=None):
    """Status and text of what the dashboard answers."""
    port = place.ports["dashboard"]
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def secret(place, name):
    return (place.folder / "secrets" / name).read_text()


def test_postgresql_is_asked_for_its_health_as_it_answers(place):
    _, program, *words = SERVICES["postgres"]["healthcheck"]["test"]
    command = [place.postgresql._programs / program, *words, f"--port={place.postgresql.port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "accepting connections" in done.stdout) == (0, True), done.stderr


def test_who_has_no_token_is_refused(place):
    for path in ("/api/jobs/", "/api/version", "/api/cluster_status"):
        assert ask(place, path)[0] == 401
        assert ask(place, path, "0" * 64)[0] == 403
    assert ask(place, "/api/jobs/", secret(place, "ray_token")) == (200, "[]")
    strangers = {"RAY_AUTH_TOKEN_PATH": "", "HOME": str(place.folder / "bin")}
    code, said = place.run("sweep", [*submit(place), "sweep.yaml"], **strangers)
    assert code == 2
    assert "there is no token" in said
    assert ask(place, "/api/jobs/", secret(place, "ray_token")) == (200, "[]")


def submit(place):
    """`docker compose run sweep` but for its last words."""
    return [place.here(word) for word in SERVICES["sweep"]["entrypoint"]]


def ended(place):
    """Numbers of the trials that are complete; none before there are tables."""
    try:
        rows = place.postgresql.execute("SELECT number FROM trial WHERE state = 'complete'", "kdsearch")
    except psycopg.errors.UndefinedTable:
        return set()
    return {number for (number,) in rows}


def test_a_sweep_survives_its_client_and_its_driver(place, request):
    """The submit command: followed, left by Ctrl-C, followed again; the driver is killed; the same command goes on."""
    command = [*submit(place), "sweep.yaml"]
    client = place.start("sweep", command, "client.log")
    wait_for(lambda: ended(place), lambda: place.log("client.log"), lambda: client.poll() is None)
    ((driver, host),) = place.postgresql.execute("SELECT lease_pid, lease_host FROM sweep", "kdsearch")
    os.kill(driver, signal.SIGSTOP)  # however slow this machine is, the sweep is not done before it is killed
    request.addfinalizer(lambda: driver in marked(place.folder) and kill(driver))
    before = ended(place)
    assert host == socket.gethostname()
    assert driver in marked(place.folder)
    assert b"--or-resume" in Path(f"/proc/{driver}/cmdline").read_bytes()

    client.send_signal(signal.SIGINT)
    assert client.wait(PATIENCE_S) == 130
    said = place.log("client.log")
    assert "deployed: looking at the data" in said
    assert "no longer following; job kdsearch-deployed-1 runs on" in said
    code, said = place.run("sweep", command)
    assert code == 2
    assert "sweep deployed is being run by job kdsearch-deployed-1, submitted by kdsearch on " in said
    kill(driver)
    code, said = place.run("sweep", [*submit(place), "--follow", "kdsearch-deployed-1"])
    assert code == 1
    assert "deployed: looking at the data" in said
    assert re.search(rf"\d+/{TRIALS} trials", said)  # how far it was
    assert "The driver of job kdsearch-deployed-1 was killed by signal 9." in said

    code, said = place.run("sweep", [*command, "--json"])
    assert code == 0, said
    assert re.search(r"going on: \d+ trials? ended before", " ".join(said.split()))
    assert '"job": "kdsearch-deployed-2"' in said
    assert ended(place) == set(range(TRIALS))
    with TrialDatabase.open(place.postgresql.url("kdsearch"), create=False, read_only=True) as database:
        attempts = database.attempts("deployed")
        errors = database.curves_frame("deployed", metrics=["val_error"])
    assert {attempt.number for attempt in attempts if attempt.n > 1} <= set(range(TRIALS)) - before
    assert errors.groupby("trial").size().to_dict() == dict.fromkeys(range(TRIALS), 5)
    code, said = place.run("head", ["kdsearch", "status"])
    assert (code, re.search(r"deployed +complete +A +12 complete", said) is not None) == (0, True), said


def test_the_entry_point_of_the_rayjob_finds_nothing_left_to_do(place):
    entrypoint = place.here(RAY_JOB["spec"]["entrypoint"])
    code, said = place.run(
        "head", ["ray", "job", "submit", "--address", place.address, "--", *shlex.split(entrypoint)]
    )
    assert code == 0, said
    assert "deployed is complete: nothing was run." in said


def test_what_the_jobs_api_and_the_list_of_processes_show_holds_no_secret(place):
    secrets = [secret(place, "ray_token"), secret(place, "database_password")]
    _, shown = ask(place, "/api/jobs/", secrets[0])
    assert "kdsearch-deployed-2" in shown
    shown += " ".join(commands(marked(place.folder)).values())
    assert [each for each in secrets if each in shown] == []
    logs = [path for folder in (place.ray, place.folder) for path in folder.rglob("*") if path.is_file()]
    logs = [path for path in logs if place.folder / "secrets" not in path.parents]
    assert any(path.suffix == ".log" for path in logs)
    told = {path.name for path in logs for each in secrets if each.encode() in path.read_bytes()}
    assert told == set()
