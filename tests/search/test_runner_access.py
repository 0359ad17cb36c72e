"""Tokens, and clusters that are open to strangers, without a Ray: what knocks is tests/integration/test_access.py."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import stat
import threading

import pytest
from click.testing import CliRunner

from kdsearch.search import runner, runner_access
from kdsearch.search.cli.token import token as token_command
from kdsearch.search.runner_access import Door, Token, access, find_token, is_loopback, kept_private, knock
from kdsearch.spaces.errors import UsageError

CLUSTER = "198.51.100.7:6379"  # of documentation: nobody answers there


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A user with no token and no mode."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(runner_access.ALLOW_OPEN, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def answers(monkeypatch, stranger: Door, known: Door = Door.OPEN, *, resolved: str | None = None):
    """Let every cluster answer strangers, and those with the token `right`, like this."""

    def knocked(address, token=None):
        right = token is not None and token.text == "right"
        return (known if right else stranger), resolved or address

    monkeypatch.setattr(runner_access, "knock", knocked)


def test_a_ray_of_our_own_has_a_token_of_each_session_and_listens_on_the_loopback_interface(monkeypatch):
    first, second = access(None), access(None)
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert first[runner_access.LOOPBACK] == "0"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "that of a cluster")
    assert len(access(None)["RAY_AUTH_TOKEN"]) == 64  # not that one
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert access(None) == {"RAY_AUTH_MODE": "disabled", runner_access.LOOPBACK: "0"}


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "tokens")
    with pytest.raises(UsageError, match="RAY_AUTH_MODE is 'tokens'"):
        access(None)


def test_an_open_cluster_is_refused_unless_told_otherwise(monkeypatch, caplog):
    answers(monkeypatch, Door.OPEN)
    with pytest.raises(UsageError, match=f"the Ray cluster at {CLUSTER} is open") as refused:
        access(CLUSTER)
    assert "kdsearch token" in refused.value.hint
    assert "--allow-open-cluster" in refused.value.hint
    assert access(CLUSTER, allow_open=True) == {"RAY_AUTH_MODE": "disabled"}
    assert "is open" in caplog.text
    monkeypatch.setenv(runner_access.ALLOW_OPEN, "1")
    assert access(CLUSTER) == {"RAY_AUTH_MODE": "disabled"}
    monkeypatch.setenv(runner_access.ALLOW_OPEN, "0")
    with pytest.raises(UsageError):
        access(CLUSTER)


def test_a_token_does_not_make_an_open_cluster_a_closed_one(monkeypatch):
    answers(monkeypatch, Door.OPEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with pytest.raises(UsageError, match="is open"):
        access(CLUSTER)


def test_auto_is_judged_by_the_address_that_it_stands_for(monkeypatch):
    answers(monkeypatch, Door.OPEN, resolved=CLUSTER)
    with pytest.raises(UsageError, match=f"the Ray cluster at {CLUSTER} is open"):
        access("auto")
    monkeypatch.setenv("RAY_ADDRESS", "198.51.100.8:6379")
    answers(monkeypatch, Door.OPEN)
    with pytest.raises(UsageError, match=r"198\.51\.100\.8:6379 is open"):
        access("auto")


def test_an_open_cluster_that_this_machine_alone_reaches_is_joined(monkeypatch):
    answers(monkeypatch, Door.OPEN)
    with listening("127.0.0.1") as port:
        assert access(f"127.0.0.1:{port}") == {"RAY_AUTH_MODE": "disabled", runner_access.LOOPBACK: "0"}


def test_an_open_cluster_at_the_loopback_address_that_listens_elsewhere_too_is_refused(monkeypatch):
    if runner_access._own_address() is None:
        pytest.skip("this machine has no address but the loopback one")
    answers(monkeypatch, Door.OPEN)
    with listening("0.0.0.0") as port, pytest.raises(UsageError, match="is open"):  # noqa: S104 to be refused
        access(f"127.0.0.1:{port}")


def test_a_cluster_that_asks_for_a_token_is_shown_the_one_that_there_is(monkeypatch, tmp_path):
    answers(monkeypatch, Door.CLOSED)
    with pytest.raises(UsageError, match="asks for a token, and there is none here"):
        access(CLUSTER)
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("right\n")
    path.chmod(0o600)
    assert access(CLUSTER) == {"RAY_AUTH_MODE": "token"}
    path.write_text("wrong")
    with pytest.raises(UsageError, match=r"refuses the token of .*auth_token"):
        access(CLUSTER)
    named = tmp_path / "named"
    named.write_text("right")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert access(CLUSTER) == {"RAY_AUTH_MODE": "token"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")  # which Ray takes first
    with pytest.raises(UsageError, match="refuses the token of RAY_AUTH_TOKEN"):
        access(CLUSTER)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UsageError, match="RAY_AUTH_MODE=disabled here"):
        access(CLUSTER)


def test_what_does_not_answer_as_ray_is_refused_unless_told_otherwise(monkeypatch, caplog):
    answers(monkeypatch, Door.UNCLEAR)
    with pytest.raises(UsageError, match="cannot be found out"):
        access(CLUSTER)
    assert access(CLUSTER, allow_open=True) == {"RAY_AUTH_MODE": "disabled"}
    assert "cannot be found out" in caplog.text


@pytest.mark.parametrize("allow_open", [True, False])
def test_what_is_no_jobs_api_is_refused_with_where_that_is(allow_open):
    with (
        serving(type("Metrics", (_Jobs,), {"code": 200, "speaks_ray": False})) as address,
        pytest.raises(UsageError, match="is no Jobs API of Ray") as caught,
    ):
        access(address, allow_open=allow_open)
    assert "http://HEAD:8265" in caught.value.hint
    assert "open" not in str(caught.value)


@pytest.mark.parametrize("code", [200, 401])
def test_the_port_of_a_dashboard_is_no_nodes(code):
    with (
        serving(type("Dashboard", (_Jobs,), {"code": code})) as url,
        pytest.raises(UsageError, match="is the port of a dashboard") as caught,
    ):
        runner._probe(url.removeprefix("http://"))
    assert f"kdsearch submit --address {url}" in caught.value.hint


def test_what_speaks_no_http_may_be_a_node():
    with listening("127.0.0.1") as port:
        runner._probe(f"127.0.0.1:{port}")


def test_a_refused_token_is_told_with_the_address_that_auto_stands_for(monkeypatch):
    answers(monkeypatch, Door.CLOSED, resolved=CLUSTER, known=Door.CLOSED)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(UsageError, match=rf"the Ray cluster at {CLUSTER} refuses the token"):
        access("auto")


def test_a_local_cluster_by_name_is_one_of_our_own():
    assert access("local")[runner_access.LOOPBACK] == "0"
    assert len(access("local")["RAY_AUTH_TOKEN"]) == 64


def test_a_cluster_that_does_not_answer_is_left_to_the_one_who_joins(monkeypatch):
    answers(monkeypatch, Door.SILENT)
    assert access(CLUSTER) == {"RAY_AUTH_MODE": "disabled"}


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), ("", "is empty"), ("\n", "is empty")]
)
def test_a_token_file_without_a_token_is_named(content, told, monkeypatch, tmp_path):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(UsageError, match=f"the token file {path} {told}"):
        find_token()


def test_a_token_is_not_in_what_python_shows_of_it():
    assert "secret" not in repr(Token(text="secret", source="RAY_AUTH_TOKEN"))


def test_a_token_file_that_others_can_read_is_mended_and_told(tmp_path, caplog):
    path = tmp_path / "token"
    path.write_text("right")
    path.chmod(0o644)  # as Ray writes it
    kept_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "others could read the token file" in caplog.text
    caplog.clear()
    kept_private(path)
    assert not caplog.text


def test_a_token_file_of_another_user_is_warned_of(tmp_path, caplog, monkeypatch):
    path = tmp_path / "token"
    path.write_text("right")
    path.chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    kept_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert "others can read the token file" in caplog.text


def test_a_token_file_is_its_owners_alone_from_the_start(tmp_path, monkeypatch):
    modes = []
    real = os.open

    def opened(path, flags, mode=0o777):
        handle = real(path, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        return handle

    monkeypatch.setattr(os, "open", opened)
    before = os.umask(0)
    try:
        done = CliRunner().invoke(token_command, [str(tmp_path / "token")])
    finally:
        os.umask(before)
    assert done.exit_code == 0
    assert modes == [0o600]
    text = (tmp_path / "token").read_text()
    assert len(text) == 64
    assert text not in done.output
    again = CliRunner().invoke(token_command, [str(tmp_path / "token")])
    assert isinstance(again.exception, UsageError)
    assert (tmp_path / "token").read_text() == text
    assert isinstance(
        CliRunner().invoke(token_command, [str(tmp_path / "none" / "token")]).exception, UsageError
    )


@contextlib.contextmanager
def listening(host: str):
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


def test_addresses_that_this_machine_alone_reaches():
    with listening("127.0.0.1") as port:
        assert is_loopback(f"127.0.0.1:{port}")
        assert is_loopback(f"http://localhost:{port}")
        assert is_loopback(f"ray://127.0.0.1:{port}")
    assert not is_loopback(CLUSTER)
    assert not is_loopback("no-such-host.invalid:6379")


class _Jobs(http.server.BaseHTTPRequestHandler):
    """A Jobs API: `code` for strangers, 200 for those with the token `right`."""

    code = 401
    speaks_ray = True

    def do_GET(self):
        known = self.headers.get("Authorization") == "Bearer right"
        self.send_response(200 if known else self.code)
        if self.code == 302:
            self.send_header("Location", "/login")
        self.end_headers()
        self.wfile.write(b'{"version": "4", "ray_version": "2.60.0"}' if self.speaks_ray else b"# metrics")

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(
    ("code", "stranger"),
    [(200, Door.OPEN), (401, Door.CLOSED), (403, Door.CLOSED), (302, Door.CLOSED), (500, Door.UNCLEAR)],
)
def test_a_jobs_api_is_asked_without_a_token(code, stranger):
    with serving(type("Jobs", (_Jobs,), {"code": code})) as address:
        assert knock(address) == (stranger, address)
        assert knock(address, Token(text="right", source="here")) == (Door.OPEN, address)
    assert knock(address) == (Door.SILENT, address)


def test_a_server_of_something_else_is_no_jobs_api():
    with serving(type("Metrics", (_Jobs,), {"code": 200, "speaks_ray": False})) as address:
        assert knock(address) == (Door.OTHER, address)


@pytest.mark.parametrize(("code", "door"), [(404, Door.OTHER), (502, Door.UNCLEAR)])
def test_a_gateway_that_is_in_trouble_may_have_a_jobs_api_behind_it(code, door):
    with serving(type("Gateway", (_Jobs,), {"code": code})) as address:
        assert knock(address) == (door, address)


@contextlib.contextmanager
def serving(handler):
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
