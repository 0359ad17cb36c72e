"""Who may reach Ray: tokens, the addresses that a Ray of our own listens on, and clusters that are open to strangers.

Whoever reaches a Ray without a token can run code on it (CVE-2023-48022). A Ray that kdsearch starts itself listens on
the loopback interface alone and asks for a token that no file holds. A cluster that is joined, or that a job is
submitted to, is asked first, without a token, whether it lets strangers in; SECURITY.md says what is promised.

Ray is asked in a process of its own: it reads its mode once a process, and the one that joins must not be the stranger.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from kdsearch.spaces.errors import UsageError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ALLOW_OPEN = "KDSEARCH_ALLOW_OPEN_CLUSTER"
# "0": Ray takes the loopback address for its node's, as on macOS and Windows, and all of it listens there alone
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

_DISABLED, _WITH_TOKEN = "disabled", "token"
_JOBS, _CLIENT = ("http", "https"), "ray"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CONNECT_S, _KNOCK_S = 5.0, 60.0
_ANSWER_BYTES = 1 << 16
_REFUSED, _UNCLEAR = 10, 11  # exit codes of the knocking processes

_GCS = f"""
import sys
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    address = canonicalize_bootstrap_address_or_die(sys.argv[1]) if sys.argv[1] == "auto" else sys.argv[1]
    print(address, flush=True)
    GcsClient(address=address)
except AuthenticationError:
    sys.exit({_REFUSED})
except Exception:
    sys.exit({_UNCLEAR})
"""
_RAY_CLIENT = f"""
import os, sys
import grpc
from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc
token = os.environ.get("{TOKEN}")
told = [("client_id", "kdsearch"), *([("authorization", f"Bearer {{token}}")] if token else [])]
ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
with grpc.insecure_channel(sys.argv[1]) as channel:
    try:
        ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo(ping, timeout=20, metadata=told)
    except grpc.RpcError as error:
        refused = error.code() in {{grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}}
        sys.exit({_REFUSED} if refused else {_UNCLEAR})
"""

_log = logging.getLogger(__name__)


class Door(StrEnum):
    """What a cluster says to one who knocks."""

    OPEN = "open"
    CLOSED = "closed"
    SILENT = "silent"  # nothing listens there
    UNCLEAR = "unclear"  # something does, and does not answer as Ray
    OTHER = "other"  # something answers as what is no Jobs API


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token and where it came from."""

    text: str
    source: str

    def __repr__(self) -> str:
        return f"Token(source={self.source!r})"


def access(address: str | None, *, allow_open: bool = False) -> dict[str, str]:
    """Return the variables by which Ray lets us in, and nobody else; to be set before Ray is imported.

    `address`: None or `local` for a Ray of our own, else what `--address` takes, or the http address of a Jobs API.

    Raises:
        UsageError: the cluster is open to strangers and `allow_open` (or KDSEARCH_ALLOW_OPEN_CLUSTER=1) does not take
            that risk; whether it is cannot be found out; what answers at an http address is no Jobs API; it asks for a
            token and there is none, or another one; a token file cannot be read.

    """
    mode = _mode()
    if address is None or address == "local":
        return _own(mode)
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    token = None if mode == _DISABLED else find_token()
    if mode == _WITH_TOKEN and token is None:
        raise UsageError(
            f"{MODE}=token, and there is no token: {TOKEN} and {TOKEN_PATH} are not set and there is no "
            f"{_default_path()}",
            f"Set {TOKEN_PATH} to the file that holds the cluster's token.",
        )
    door, found = knock(address)
    variables = {MODE: mode or (_WITH_TOKEN if token and door is Door.CLOSED else _DISABLED)}
    if door is Door.SILENT:  # the one who joins says so, in words that fit
        return variables
    if door is Door.OTHER:
        raise UsageError(
            f"what listens at {address} is no Jobs API of Ray",
            "That is the port of the head's dashboard: http://HEAD:8265, unless `ray start --dashboard-port` said "
            "otherwise.",
        )
    local = is_loopback(found)
    if door in {Door.OPEN, Door.UNCLEAR} and not local:
        _check_open(found, door, allow_open=allow_open)
    if door is Door.CLOSED:
        _check_token(found, token, mode)
    return {**variables, LOOPBACK: "0"} if local and "://" not in found else variables


def _own(mode: str | None) -> dict[str, str]:
    """For a Ray of our own: on the loopback interface, with a token that only this process and its children know.

    Where the environment switches tokens off, the loopback interface still keeps other machines out.
    """
    if mode == _DISABLED:
        return {MODE: _DISABLED, LOOPBACK: "0"}
    return {MODE: _WITH_TOKEN, TOKEN: secrets.token_hex(32), LOOPBACK: "0"}


def _mode() -> str | None:
    mode = os.environ.get(MODE)
    if mode is None:
        return None
    if mode.lower() not in {_DISABLED, _WITH_TOKEN}:
        raise UsageError(
            f"{MODE} is {mode!r}", "Known: token, disabled. Ray takes anything else for disabled."
        )
    return mode.lower()


def _check_open(address: str, door: Door, *, allow_open: bool) -> None:
    told, hint = (_open if door is Door.OPEN else _unclear)(address)
    if allow_open or os.environ.get(ALLOW_OPEN, "").lower() in {"1", "true", "yes"}:
        _log.warning("%s", told)
        return
    raise UsageError(told, f"{hint} To go on all the same: --allow-open-cluster, or {ALLOW_OPEN}=1.")


def _open(address: str) -> tuple[str, str]:
    told = f"the Ray cluster at {address} is open: it let us in without a token, and so it does anyone who reaches it"
    hint = (
        "Whoever is in can run code there. Turn tokens on: make one with `kdsearch token ray.token`, and give "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=ray.token to every `ray start` of the cluster and to this command "
        "(SECURITY.md has the steps)."
    )
    return told, hint


def _unclear(address: str) -> tuple[str, str]:
    told = f"whether a Ray cluster at {address} is open cannot be found out: what listens there does not answer as Ray"
    hint = (
        "Is it the port of Ray's GCS (HOST:6379), client (ray://HOST:10001) or Jobs API (http://HOST:8265)?"
    )
    return told, hint


def _check_token(address: str, token: Token | None, mode: str | None) -> None:
    """Say what is wrong with the token before Ray tries it for twenty seconds and calls the cluster unreachable."""
    where = (
        f"Set {TOKEN_PATH} to a file with the cluster's token (mode 0600), or put it into {_default_path()}."
    )
    if token is None:
        said = f"{MODE}=disabled here" if mode == _DISABLED else "there is none here"
        raise UsageError(
            f"the Ray cluster at {address} asks for a token, and {said}",
            f"Unset {MODE}. {where}" if mode == _DISABLED else where,
        )
    door, _ = knock(address, token)
    if door is Door.CLOSED:
        raise UsageError(f"the Ray cluster at {address} refuses the token of {token.source}", where)


def find_token() -> Token | None:
    """The token that Ray would show, looked for where Ray looks: the environment, a file it names, ~/.ray/auth_token.

    Raises:
        UsageError: the file that RAY_AUTH_TOKEN_PATH names cannot be read or is empty.

    """
    text = os.environ.get(TOKEN, "").strip()
    if text:
        return Token(text=text, source=TOKEN)
    named = os.environ.get(TOKEN_PATH)
    path = Path(named).expanduser() if named else _default_path()
    if not named and not path.is_file():
        return None
    try:
        kept_private(path)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        told = (error.strerror or str(error)) if isinstance(error, OSError) else "it holds no text"
        raise UsageError(
            f"the token file {path} cannot be read: {told}", "Check path and permissions."
        ) from error
    if not text:
        raise UsageError(f"the token file {path} is empty", "`kdsearch token FILE` makes one.")
    return Token(text=text, source=str(path))


def _default_path() -> Path:
    return Path.home() / ".ray" / "auth_token"


def kept_private(path: Path) -> None:
    """Take a token file's permissions from everyone but its owner: Ray writes it for all to read (0644).

    One that belongs to another user, or lies where nothing can be changed (a mounted secret), is warned of where all
    may read it.
    """
    found = path.stat()
    if not found.st_mode & _OTHERS:
        return
    if found.st_uid == os.geteuid():
        try:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
        except OSError:
            pass  # told below, where others can read it
        else:
            _log.warning("others could read the token file %s: it is now its owner's alone", path)
            return
    if found.st_mode & stat.S_IROTH:
        _log.warning("others can read the token file %s: chmod 600 it, and make a new token", path)


def write_token(path: Path) -> None:
    """Write a new token of 256 bits to a new file that is its owner's alone from the start (0600).

    Raises:
        UsageError: the file is there already, or cannot be written.

    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already", "Delete it first, if no cluster uses it, or name another file."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", "Name a file in a folder that is there."
        ) from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))


def knock(address: str, token: Token | None = None) -> tuple[Door, str]:
    """Ask a cluster, as a stranger or with a token, whether it lets one in; also its address where it was `auto`."""
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme in _JOBS:
        return _knock_at_jobs(address, token), address
    if address != "auto" and not _listens(*_host_and_port(address)):
        return Door.SILENT, address
    script = _RAY_CLIENT if scheme == _CLIENT else _GCS
    shown = {TOKEN: token.text} if token else {}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH_")}
    try:
        done = subprocess.run(  # noqa: S603 this very Python and a script of this module
            [sys.executable, "-c", script, address.removeprefix("ray://")],
            env={**kept, MODE: _WITH_TOKEN if token else _DISABLED, **shown},
            capture_output=True,
            text=True,
            timeout=_KNOCK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Door.UNCLEAR, address
    found = done.stdout.strip().splitlines()[-1:] if address == "auto" else []
    door = _door(done.returncode, done.stderr, address)
    if address == "auto" and not found:
        door = Door.SILENT  # there is no cluster here
    return door, found[0] if found else address


def _door(code: int, stderr: str, address: str) -> Door:
    if code in {0, _REFUSED, _UNCLEAR}:
        return {0: Door.OPEN, _REFUSED: Door.CLOSED, _UNCLEAR: Door.UNCLEAR}[code]
    told = stderr.strip().splitlines()[-1:] or ["no word"]
    raise UsageError(
        f"whether the Ray cluster at {address} is open to strangers cannot be found out: {told[0]}",
        'Addresses ray://... need pip install "ray[client]"; HOST:PORT needs nothing else.',
    )


def _knock_at_jobs(address: str, token: Token | None) -> Door:
    headers = {"Authorization": f"Bearer {token.text}"} if token else {}
    request = Request(f"{address.rstrip('/')}/api/version", headers=headers)  # noqa: S310 http or https, as checked
    try:
        with build_opener(ProxyHandler({}), _NoRedirects()).open(request, timeout=_CONNECT_S) as answer:
            return Door.OPEN if b"ray_version" in answer.read(_ANSWER_BYTES) else Door.OTHER
    except HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return Door.OTHER
        return Door.CLOSED if error.code in {301, 302, 303, 307, 308, 401, 403} else Door.UNCLEAR
    except HTTPException:  # one who speaks no HTTP
        return Door.OTHER
    except (
        URLError,
        OSError,
        ValueError,
    ):  # one who does not answer, or not so that we understand, or nobody
        return Door.UNCLEAR if _listens(*_host_and_port(address)) else Door.SILENT


def is_website(address: str) -> bool:
    """Whether HOST:PORT answers as the dashboard of a Ray does, or as another web server: no node does."""
    return _knock_at_jobs(f"http://{address}", None) in {Door.OPEN, Door.CLOSED}


class _NoRedirects(HTTPRedirectHandler):
    """A token goes where it was sent, and nowhere else."""

    def redirect_request(self, *_arguments: object, **_named: object) -> None:
        """None: the answer is the redirection."""


def is_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine alone: its host is, and its port answers nowhere else."""
    host, port = _host_and_port(address)
    try:
        found = {item[4][0] for item in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    if not found or not all(ipaddress.ip_address(str(each).partition("%")[0]).is_loopback for each in found):
        return False
    own = _own_address()
    return own is None or not _listens(own, port)


def _host_and_port(address: str) -> tuple[str, int | None]:
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    default = {"http": 80, "https": 443, _CLIENT: 10001}.get(parts.scheme) if "://" in address else None
    try:
        return parts.hostname or "", parts.port or default
    except ValueError:
        return parts.hostname or "", default


def _listens(host: str, port: int | None) -> bool:
    if port is None:
        return False
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _own_address() -> str | None:
    """The address under which other machines see this one; None where there is no network. Nothing is sent."""
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # of documentation
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                own = str(probe.getsockname()[0])
        except OSError:
            continue
        if not ipaddress.ip_address(own).is_loopback:
            return own
    return None
