"""Strangers before a real Ray, and a planted password after a real run: neither gets anywhere.

A sweep runs by the command line, with a Ray of its own and a PostgreSQL that asks for a password, as a user starts it.
While it runs, its processes are looked at: what they listen on, what their command lines say, who is let in. After an
interrupt the password and the token are looked for in everything that was written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kdsearch.search import cli
from kdsearch.search.runner_access import LOOPBACK, Door, Token, access, knock
from kdsearch.spaces.errors import UsageError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

PATIENCE_S = 240.0
KDSEARCH = [sys.executable, "-c", "from kdsearch.search.cli import main; main()"]
LISTEN = "0A"  # the state in /proc/net/tcp
SWEEP = {
    "name": "planted",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "searcher": {"kind": "random", "trials": 2},
    "run": {"pack": 1, "max_concurrent": 2, "gpus": 0},
}


def wait(what: str, done: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.2)


def family(root: int) -> list[int]:
    """A process and all that it started, and they."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [root]
    for each in found:
        found += children.get(each, [])
    return found


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # ended meanwhile
        return ""


def listening(process: int) -> set[tuple[str, int]]:
    """Addresses and ports that a process listens on, from /proc."""
    sockets = set()
    for handle in Path(f"/proc/{process}/fd").glob("*"):
        with contextlib.suppress(OSError):
            sockets.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in sockets:
                address, _, port = fields[1].partition(":")
                found.add((_address(address), int(port, 16)))
    return found


def _address(text: str) -> str:
    words = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)


class Run:
    """A driver on the command line, in a folder of its own."""

    def __init__(self, folder: Path, temporary: Path, url: str) -> None:
        self.folder, self.temporary, self.url = folder, temporary, url
        self.told = ""
        home = folder / "home"
        home.mkdir(parents=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PG"))}
        self.environment = {**kept, "HOME": str(home), "RAY_TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}

    def write(self, name: str, **trainable: object) -> None:
        settings = {**SWEEP, "trainable": {"kind": "constant", **trainable}}
        (self.folder / name).write_text(yaml.safe_dump(settings))

    def start(self, *arguments: str, db: str | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*KDSEARCH, *arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={**self.environment, **({"KDSEARCH_DB": db} if db else {})},
            )

    def run(self, *arguments: str, db: str | None = None, code: int = 0) -> str:
        before = self.log()
        process = self.start(*arguments, db=self.url if db is None else db)
        assert process.wait(PATIENCE_S) == code, self.log()
        return self.log()[len(before) :]

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


@pytest.fixture
def run(tmp_path, postgresql_url) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="kds-") as short:  # the paths of Ray's sockets have a limit
        yield Run(tmp_path / "user", Path(short), postgresql_url)


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        yield path, str(path.relative_to(folder)).encode()
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


def stored(postgresql, url: str) -> str:
    """Every row of every table."""
    database = url.rpartition("/")[2]
    tables = postgresql.execute(
        "SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public'",
        database,
    )
    rows = [postgresql.execute(f"SELECT t::text FROM {name} t", database) for (name,) in tables]  # noqa: S608
    return json.dumps(rows)


def test_a_stranger_gets_nowhere_and_a_password_is_nowhere(run: Run, postgresql, monkeypatch, capfd):
    password = postgresql.password
    run.write("long.yaml", epochs=1_000_000, epoch_s=0.05)
    driver = run.start("sweep", "long.yaml", "--db", run.url)
    try:
        wait("both trials", lambda: driver.poll() is not None or _epochs(postgresql, run.url) >= 2)
        assert driver.poll() is None, run.log()
        processes = family(driver.pid)
        commands = {each: command_of(each) for each in processes}
        servers = [each for each in processes if "gcs_server" in commands[each].partition(" ")[0]]
        assert len(servers) == 1
        # what it listens on: the loopback interface, and nothing else
        found = {each: listening(each) for each in processes}
        assert sum(map(len, found.values())) >= 5, found  # the server of the cluster, the node's, workers'
        open_to_others = {
            (commands[each][:60], where)
            for each in processes
            for where in found[each]
            if where[0] not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        }
        assert not open_to_others
        # no dashboard, no client port, no Jobs API
        ports = {port for each in processes for _, port in found[each]}
        assert not ports & _STANDARD_PORTS
        web = {port for each in processes for _, port in found[each] if "dashboard" in commands[each].lower()}
        assert {knock(f"http://127.0.0.1:{port}")[0] for port in web} <= {
            Door.CLOSED,
            Door.UNCLEAR,
            Door.OTHER,
        }
        # who is let in: one with the session's token, which the children's environment holds and nothing else does
        doors = {port for _, port in found[servers[0]]}
        token = _variable(servers[0], "RAY_AUTH_TOKEN")
        assert len(token) == 64
        strangers = {knock(f"127.0.0.1:{port}")[0] for port in doors}
        assert strangers == {Door.CLOSED}
        wrong = Token(text="0" * 64, source="here")
        assert {knock(f"127.0.0.1:{port}", wrong)[0] for port in doors} == {Door.CLOSED}
        assert Door.OPEN in {
            knock(f"127.0.0.1:{port}", Token(text=token, source="here"))[0] for port in doors
        }
        # a command line that says a password shows it to all: its own, which is warned of, and no other
        leaky = {each for each, command in commands.items() if password in command or token in command}
        assert leaky <= {driver.pid}
        assert "can be read in the list of processes" in run.log()
    finally:
        driver.send_signal(signal.SIGINT)
        driver.wait(PATIENCE_S)
    assert driver.returncode == 130, run.log()
    assert f"kdsearch resume planted --db '{run.url.replace(password, '***')}'" in run.log()

    run.write("short.yaml")
    assert "short" in _use_it(run, monkeypatch, capfd)
    secrets = [password.encode(), token.encode()]
    logs = [path for path, _ in written(run.temporary)]
    assert any(path.name.startswith("gcs_server") for path in logs)
    places = [run.folder, run.temporary]
    leaks = {
        str(path) for place in places for path, content in written(place) for s in secrets if s in content
    }
    assert not leaks
    rows = stored(postgresql, run.url)
    assert "kdsearch sweep" in rows
    assert password not in rows
    assert token not in rows
    assert not (run.folder / "home" / ".ray").exists()  # Ray was given a token, and wrote none


_STANDARD_PORTS = {8265, 10001}  # of the dashboard with the Jobs API, and of Ray's client


def _epochs(postgresql, url: str) -> int:
    """Epochs that the database holds; 0 before it has tables."""
    database = url.rpartition("/")[2]
    (there,) = postgresql.execute("SELECT to_regclass('metric_value') IS NOT NULL", database)[0]
    return postgresql.execute("SELECT count(*) FROM metric_value", database)[0][0] if there else 0


def _variable(process: int, name: str) -> str:
    entries = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next(e.decode().partition("=")[2] for e in entries if e.startswith(f"{name}=".encode()))


def _use_it(run: Run, monkeypatch, capfd) -> str:
    """A whole sweep in a process of its own, then every command that says or writes something of it; what they say."""
    run.run("sweep", "short.yaml", "--name", "short", "--out", "report", "--json")
    monkeypatch.chdir(run.folder)

    def say(*arguments: str, db: str | None = None, code: int = 0) -> str:
        monkeypatch.setenv("KDSEARCH_DB", run.url if db is None else db)
        monkeypatch.setattr(sys, "argv", ["kdsearch", *arguments])
        assert cli._run(list(arguments)) == code, arguments
        told = "".join(capfd.readouterr())
        with (run.folder / "said").open("a") as said:
            said.write(told)
        return told

    say("sweep", "short.yaml", "--name", "dry", "--dry-run", "--json")
    say("sweep", "short.yaml", "--name", "short", "--dry-run", "--debug", code=2)
    say("resume", "short", "--set", "run.pack=2", "--accept-changes", "--out", "report")
    say("status")
    say("status", "--json")
    say("report", "short", "--out", "second")
    for form, name in (("csv", "t.csv"), ("parquet", "t.parquet"), ("optuna", "t.optuna.db")):
        say("export", "short", "--format", form, "--out", name)
    say("table", "short", "--out", "table.csv")
    say("import", "t.csv", "--name", "again", "--db", run.url, "--json")
    away = run.url.replace(f":{_port(run.url)}/", ":1/")
    for command in (["status"], ["resume", "short", "--debug"], ["sweep", "short.yaml", "--debug"]):
        assert "does not answer" in say(*command, db=away, code=1)
    say("status", "--debug", db=run.url.replace("@", "-and-more@"), code=1)
    return (run.folder / "said").read_text()


def _port(url: str) -> str:
    return url.rpartition("@")[2].partition("/")[0].partition(":")[2]


_HEAD = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args=node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextlib.contextmanager
def cluster(temporary: Path, **variables: str) -> Iterator[str]:
    """A cluster of one node that is no child of this process's Ray; its address."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", _HEAD],
        env={**kept, "RAY_TMPDIR": str(temporary), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kds-") as name:
        yield Path(name)


@pytest.fixture
def nothing_known(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "KDSEARCH_ALLOW_OPEN_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("nothing_known")
def test_a_real_cluster_that_is_open_is_refused_before_it_is_joined(short, tmp_path):
    with cluster(short, RAY_AUTH_MODE="disabled") as address:
        if address.startswith("127."):
            pytest.skip("this machine has no address but the loopback one")
        assert knock(address) == (Door.OPEN, address)
        with pytest.raises(UsageError, match="is open"):
            access(address)
        (tmp_path / "f.yaml").write_text(yaml.safe_dump({**SWEEP, "trainable": {"kind": "constant"}}))
        told = subprocess.run(
            [*KDSEARCH, *shlex.split(f"sweep f.yaml --address {address}")],
            cwd=tmp_path,
            env={key: value for key, value in os.environ.items() if key != LOOPBACK},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert told.returncode == 2, told.stderr
        assert "--allow-open-cluster" in told.stderr
        assert not (tmp_path / "kdsearch.db").exists()
        assert access(address, allow_open=True) == {"RAY_AUTH_MODE": "disabled"}


@pytest.mark.usefixtures("nothing_known")
def test_a_real_cluster_with_a_token_lets_in_who_has_it(short, monkeypatch):
    with cluster(short, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0123456789abcdef" * 2) as address:
        assert knock(address) == (Door.CLOSED, address)
        with pytest.raises(UsageError, match="asks for a token"):
            access(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 32)
        with pytest.raises(UsageError, match="refuses the token of RAY_AUTH_TOKEN"):
            access(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 2)
        assert access(address)["RAY_AUTH_MODE"] == "token"
