"""`kdsearch submit` on the command line, with a stand-in for Ray's client; tests/integration has the real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from requests.utils import get_environ_proxies

from kdsearch.search import runner_jobs
from kdsearch.search.cli import _run
from kdsearch.search.runner_jobs import jobs_url
from kdsearch.spaces.errors import UsageError

SWEEP = {
    "name": "s",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 3},
    "searcher": {"kind": "random", "trials": 6},
}
ADDRESS = ["--address", "http://head:8265"]


class Client:
    """Ray's client of a cluster with these jobs; a job that is submitted ends at once, as `ending` says."""

    def __init__(self):
        self.jobs, self.uploads, self.entrypoints = {}, [], []
        self.ending = {"status": "SUCCEEDED", "driver_exit_code": 0, "message": "done"}
        self.faster = None  # a job of somebody else that takes the id meanwhile
        self.lost, self.pieces, self.log = 0, ["first\n", "second\n"], "first\nsecond\nlast\n"

    def list_jobs(self):
        return list(self.jobs.values())

    def get_job_info(self, name):
        if name not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {name} does not exist.")
        return self.jobs[name]

    def submit_job(self, *, entrypoint, submission_id, runtime_env, metadata):
        if self.faster:
            self.add(submission_id, self.faster, status="RUNNING")
            self.faster = None
        if submission_id in self.jobs:
            raise RuntimeError(
                f"Traceback\nValueError: Job with submission_id {submission_id} already exists."
            )
        folder = Path(runtime_env["working_dir"])
        self.entrypoints.append(entrypoint)
        self.uploads.append({path.relative_to(folder) for path in folder.rglob("*") if path.is_file()})
        self.add(submission_id, metadata, **self.ending)

    def add(self, name, metadata, *, status, driver_exit_code=None, message=""):
        self.jobs[name] = SimpleNamespace(
            submission_id=name,
            status=status,
            message=message,
            driver_exit_code=driver_exit_code,
            metadata=metadata,
            start_time=1_780_000_000_000,
        )

    def stop_job(self, name):
        self.jobs[name].status = "STOPPED"

    async def tail_job_logs(self, name):
        for piece in self.pieces:
            yield piece
        if self.lost:
            self.lost -= 1
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_logs(self, name):
        return self.log


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = Client()

    def connect(self, address, *, allow_open):
        self.address, self._client = jobs_url(address), client

    monkeypatch.setattr(runner_jobs.Jobs, "__init__", connect)
    monkeypatch.setattr(runner_jobs, "sleep", lambda _: None)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    Path("s.yaml").write_text(yaml.safe_dump(SWEEP))
    return client


def told(capsys):
    out = capsys.readouterr()
    assert "Traceback" not in out.err + out.out
    return out.out, " ".join(out.err.split())


def test_a_job_is_followed_to_its_end(client, capsys):
    assert _run(["submit", "s.yaml", *ADDRESS]) == 0
    out, err = told(capsys)
    assert out == "first\nsecond\nlast\n"
    assert "s is job kdsearch-s-1 at http://head:8265; its database is what KDSEARCH_DB" in err
    assert "Job kdsearch-s-1 is done. Its files lie on the head node, in $KDSEARCH_WORK" in err
    assert client.jobs["kdsearch-s-1"].metadata["kdsearch.host"] == socket.gethostname()
    assert [len(each) for each in client.uploads] == [1]


def test_a_connection_that_is_lost_costs_no_line_and_doubles_none(client, capsys):
    client.lost = 2
    assert _run(["submit", "s.yaml", *ADDRESS]) == 0
    assert told(capsys)[0] == client.log


def test_what_a_job_says_is_text_to_the_terminal(client, capsys):
    client.pieces, client.log = [], "plain \x1b]0;title\x07\n"
    client.ending = {"status": "FAILED", "message": "\x1b[2J"}
    assert _run(["submit", "s.yaml", *ADDRESS]) == 1
    out, err = told(capsys)
    assert out == "plain \\x1b]0;title\\x07\n"
    assert "failed: \\x1b[2J" in err


def test_a_head_that_does_not_come_back_is_told(client, capsys, monkeypatch):
    def gone(name):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(runner_jobs, "monotonic", iter(range(0, 1000, 20)).__next__)
    assert _run(["submit", "s.yaml", *ADDRESS, "--detach"]) == 0
    capsys.readouterr()
    looks = iter([client.get_job_info("kdsearch-s-1")])
    client.get_job_info = lambda name: next(looks, None) or gone(name)
    assert _run(["submit", "--follow", "kdsearch-s-1", *ADDRESS]) == 1
    out, err = told(capsys)
    assert out == "first\nsecond\n"
    assert "does not answer: ConnectionError: no route to host Job kdsearch-s-1 may well run on." in err


def test_a_silent_stream_is_asked_after(monkeypatch):
    async def stream():
        yield "first"
        await asyncio.sleep(0.2)
        yield "second"

    async def read():
        return [text async for text in runner_jobs._watched(stream(), lambda: looked.append(1))]

    looked = []
    monkeypatch.setattr(runner_jobs, "_SILENT_S", 0.01)
    assert asyncio.run(read()) == ["first", "second"]
    assert looked


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        ({"status": "FAILED", "driver_exit_code": 2}, 2, "exit code 2. Its last words say what is wrong."),
        ({"status": "FAILED", "driver_exit_code": 1}, 1, "exit code 1. Submit the sweep again to go on"),
        ({"status": "FAILED", "driver_exit_code": -9}, 1, "killed by signal 9. Submit the sweep again"),
        ({"status": "FAILED", "driver_exit_code": 127}, 127, "no command kdsearch: it must be installed"),
        ({"status": "FAILED", "message": "a node\n died"}, 1, "failed: a node died Submit the sweep again"),
        ({"status": "STOPPED"}, 130, "was stopped. Submit the sweep again"),
    ],
)
def test_the_exit_code_is_the_jobs(client, capsys, ending, code, words):
    client.ending = ending
    assert _run(["submit", "s.yaml", *ADDRESS]) == code
    assert words in told(capsys)[1]


def test_a_sweep_that_runs_is_not_submitted_twice_and_one_that_ended_is_again(client, capsys):
    client.ending = {"status": "RUNNING"}
    assert _run(["submit", "s.yaml", *ADDRESS, "--detach"]) == 0
    assert "Stop it with: kdsearch submit --stop kdsearch-s-1 --address http://head:8265" in told(capsys)[1]
    assert _run(["submit", "s.yaml", *ADDRESS]) == 2
    _, err = told(capsys)
    assert "sweep s is being run by job kdsearch-s-1, submitted by " in err
    assert f" on {socket.gethostname()} at 2026-05-28 20:26 UTC" in err  # 1.78e9 s after 1970
    assert "kdsearch submit --follow kdsearch-s-1" in err
    assert _run(["submit", "s.yaml", *ADDRESS, "--detach", "--db", "postgresql://db/other"]) == 0
    assert _run(["submit", "s.yaml", *ADDRESS, "--detach", "--name", "t"]) == 0
    client.jobs["kdsearch-s-1"].status = "FAILED"
    assert _run(["submit", "s.yaml", *ADDRESS, "--detach"]) == 0
    assert list(client.jobs) == ["kdsearch-s-1", "kdsearch-s-2", "kdsearch-t-1", "kdsearch-s-3"]


def test_of_two_who_submit_at_once_one_is_told_of_the_other(client, capsys):
    client.faster = {"kdsearch.sweep": "s", "kdsearch.database": "", "kdsearch.user": "ben"}
    assert _run(["submit", "s.yaml", *ADDRESS]) == 2
    assert "sweep s is being run by job kdsearch-s-1, submitted by ben" in told(capsys)[1]
    client.jobs.clear()
    client.faster = {"kdsearch.sweep": "s", "kdsearch.database": "sqlite:////elsewhere.db"}
    assert _run(["submit", "s.yaml", *ADDRESS]) == 0
    assert list(client.jobs) == ["kdsearch-s-1", "kdsearch-s-2"]


def test_ctrl_c_ends_the_client_alone(client, capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "tail_job_logs", interrupted)
    assert _run(["submit", "s.yaml", *ADDRESS]) == 130
    err = told(capsys)[1]
    assert "no longer following; job kdsearch-s-1 runs on" in err
    assert "kdsearch submit --follow kdsearch-s-1 --address http://head:8265" in err


def test_a_job_is_stopped_once(client, capsys):
    client.ending = {"status": "RUNNING"}
    assert _run(["submit", "s.yaml", *ADDRESS, "--detach"]) == 0
    capsys.readouterr()
    for words in (
        "Job kdsearch-s-1 was stopped.",
        "Job kdsearch-s-1 runs no more. Job kdsearch-s-1 was stopped.",
    ):
        assert _run(["submit", "--stop", "kdsearch-s-1", *ADDRESS]) == 0
        assert told(capsys)[1].startswith(words)
    assert _run(["submit", "--stop", "kdsearch-s-1", "--follow", "kdsearch-s-1", *ADDRESS]) == 2
    assert "--follow kdsearch-s-1 is given with --stop" in told(capsys)[1]
    assert _run(["submit", "--stop", "kdsearch-s-2", *ADDRESS]) == 2
    assert "knows no job 'kdsearch-s-2' Jobs of kdsearch there: kdsearch-s-1." in told(capsys)[1]


def test_json_stands_alone_on_standard_output(client, capsys):
    assert _run(["submit", "s.yaml", *ADDRESS, "--json", "--db", "sqlite:////shared/t.db"]) == 0
    out, err = told(capsys)
    assert json.loads(out) == {
        "job": "kdsearch-s-1",
        "address": "http://head:8265",
        "sweep": "s",
        "database": "sqlite:////shared/t.db",
        "status": "SUCCEEDED",
        "exit_code": 0,
    }
    assert "first second last" in err
    assert "its database is sqlite:////shared/t.db, a file on the head node." in err
    assert _run(["submit", "--follow", "kdsearch-s-1", *ADDRESS, "--json", "--detach"]) == 2
    assert "--follow kdsearch-s-1 is given with --detach" in told(capsys)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is no sweep to submit"),
        (["no-such-preset"], "unknown preset 'no-such-preset'"),
        (["s.yaml", "--set", "searcher.trails=3"], "unknown key 'searcher.trails', did you mean 'trials'?"),
        (["ktg-digits", "--set", "searcher.policy=interactive"], "a job has none"),
        (
            ["s.yaml", "--db", "postgresql://a:pa55word@db/t"],
            "postgresql://a:***@db/t holds a password",
        ),
        (["s.yaml", "--storage", "s3://key:pa55word@bucket"], "s3://key:***@bucket holds a password"),
        (["s.yaml", "--follow", "x"], "--follow x is given with a sweep"),
        (["--follow", "x", "--seed", "3"], "--follow x is given with --seed"),
        (["--follow", "x"], "knows no job 'x' Jobs of kdsearch there: none."),
        (["s.yaml", "--name", "-"], "name"),
    ],
)
def test_wrong_use_is_told_before_anything_is_uploaded(client, capsys, words, said):
    assert _run(["submit", *words, *ADDRESS]) == 2
    err = told(capsys)[1]
    assert said in err
    assert "pa55word" not in err
    assert client.uploads == []


def test_a_refinement_is_run_by_refine(client):
    assert _run(["submit", "ktg-digits", *ADDRESS]) == 0
    path = next(iter(client.uploads[0]))
    assert path.name.startswith("ktg-digits-")
    assert f"exec kdsearch refine {path} --name ktg-digits --or-resume " in client.entrypoints[0]


def test_what_concerns_the_job_is_handed_on(client):
    given = [
        "--data-root",
        "/data",
        "--storage",
        "s3://bucket/kd",
        "--max-concurrent",
        "3",
        "--wait-for-nodes",
        "60",
        "--allow-open-cluster",
    ]
    assert _run(["submit", "s.yaml", *ADDRESS, "--out", "/shared/report", *given]) == 0
    assert client.entrypoints[0].endswith(
        " --data-root /data --storage s3://bucket/kd --out /shared/report --max-concurrent 3 --wait-for-nodes 60.0"
        " --allow-open-cluster"
    )


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("head", "http://head:8265"),
        ("head:99", "http://head:99"),
        ("http://head:8265/", "http://head:8265"),
        ("https://head", "https://head:443"),
        ("https://proxy/ray/", "https://proxy:443/ray"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_addresses(address, url):
    assert jobs_url(address) == url


@pytest.mark.parametrize("address", ["ray://head:10001", "", "http://", "http://head:x", "http://a:b@head"])
def test_what_is_no_address_of_a_jobs_api_is_refused(address):
    with pytest.raises(UsageError, match="no address of a Jobs API"):
        jobs_url(address)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(runner_jobs, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs Ray's Jobs API") as caught:
        runner_jobs.Jobs("http://127.0.0.1:1")
    assert re.search(r"ray\[default\]==\d+\.\d+", caught.value.hint)


def test_an_address_where_nothing_listens_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(yaml.safe_dump(SWEEP))
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert _run(["submit", "s.yaml", "--address", f"http://127.0.0.1:{port}"]) == 1
    err = told(capsys)[1]
    assert f"nothing answers at http://127.0.0.1:{port}: Connection refused" in err
    assert "ssh -L 8265:localhost:8265 HEAD" in err


def test_no_proxy_of_the_environment_learns_the_token(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example.org:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    url = "http://head:8265/api/jobs/"
    assert get_environ_proxies(url)
    with runner_jobs._told("http://head:8265"):  # around every call of Ray's client
        assert not get_environ_proxies(url)
    assert get_environ_proxies(url)
