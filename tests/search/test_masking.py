from __future__ import annotations

import logging

import click
import pytest
from click.testing import CliRunner

from kdsearch.search import cli
from kdsearch.search.cli.common import database_flag, database_option
from kdsearch.search.config import changed_sweep, load_sweep
from kdsearch.search.masking import find_password, holds_password, masked, masked_command, refuse_passwords
from kdsearch.spaces.errors import UsageError

URL = "postgresql://ann:hunter2@db.example/kd"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql://ann:***@db.example/kd"),
        (f"go on with --db '{URL}?sslmode=require' now", None),
        ("postgresql+psycopg://ann:hun@ter2@db:5432/kd", "postgresql+psycopg://ann:***@db:5432/kd"),
        (
            "postgresql://db/kd?user=ann&password=hunter2&sslmode=x",
            "postgresql://db/kd?user=ann&password=***&sslmode=x",
        ),
        ("host=db password=hunter2 user=ann", "host=db password=*** user=ann"),
        ("s3://key:sec/hunter2@bucket/x", "s3://key:***@bucket/x"),
        ("s3://bucket?access_key=hunter2&secret_key=hunter2", "s3://bucket?access_key=***&secret_key=***"),
        ("RAY_AUTH_TOKEN=hunter2 ray start", "RAY_AUTH_TOKEN=*** ray start"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("{'authorization': 'basic hunter2'}", "{'authorization': 'basic ***'}"),
        ("Basic YW5uOmh1bnRlcjI6eHl6hunter2==", "Basic ***"),
        ("bearer: no; Bearer hunter2hunter2hunter2", "bearer: no; Bearer ***"),
        ("http://h:8265/?token=hunter2hunter2hunter2&x=1", "http://h:8265/?token=***&x=1"),
        (f"two: {URL} and {URL}", None),
    ],
)
def test_passwords_are_masked(text, shown):
    assert "hunter2" not in masked(text)
    assert "ter2" not in masked(text)
    assert holds_password(text)
    if shown is not None:
        assert masked(text) == shown
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/ann/kd.db",
        "sqlite:////odd/a@b:c.db",
        "postgresql://ann@db.example/kd",
        "postgresql://db/kd?passfile=/home/ann/.pgpass",
        "RAY_AUTH_TOKEN_PATH=ray.token",
        "http://localhost:8265 and ray://head:10001",
        "no Ray cluster answers at 10.0.0.1:6379",
        "patch_tokens=12, layers=3",
        "the password in --db can be read",
        "basic block",
        "Basic ResNet",
        "basic convolutional-network",
        "token=cls",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert masked(text) == text
    assert not holds_password(text)


def test_a_command_keeps_its_quotes_and_loses_its_passwords():
    assert masked_command(["kdsearch", "sweep", "a b.yaml", "--db", URL]) == (
        "kdsearch sweep 'a b.yaml' --db 'postgresql://ann:***@db.example/kd'"
    )
    odd = masked_command(
        ["kdsearch", "--db=postgresql://ann:hunter2 and 'more'\n@db/kd", "--set", f"a.b={URL}"]
    )
    assert "hunter2" not in odd
    assert "more" not in odd


def test_settings_with_a_password_are_refused_by_key():
    assert find_password({"a": [1, {"b": URL}], "c": "x"}) == "a.1.b"
    assert find_password({"a": [1, None, 2.0, "sqlite:///x.db"]}) is None
    refuse_passwords({"values": ["basic block", "Basic ResNet", "token=cls"]}, "file.yaml")
    with pytest.raises(UsageError, match=r"file\.yaml: trainable\.db holds a password"):
        refuse_passwords({"trainable": {"db": URL}}, "file.yaml")


def test_sweep_files_and_changes_with_a_password_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"trainable\.db holds a password") as refused:
        load_sweep("ktg-digits", [f"trainable.db={URL}"])
    assert "hunter2" not in str(refused.value)
    with pytest.raises(UsageError, match=r"trainable\.db holds a password"):
        changed_sweep(load_sweep("ktg-digits"), [f"trainable.db={URL}"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", URL, "--db", "sqlite:///none.db"],
        ["space", URL],
        ["status", f"--no-such={URL}"],
        ["status", "--db", URL.replace("db.example", "127.0.0.1:1")],
        ["status", "--db", URL.replace("postgresql", "mysql"), "--debug"],
        ["sweep", "ktg-digits", "--dry-run", "--set", f"trainable.db={URL}"],
        ["sweep", "ktg-digits", "--dry-run", "--json", "--db", URL.replace("db.example", "127.0.0.1:1")],
        ["resume", "x", "--db", URL.replace("db.example", "127.0.0.1:1"), "--debug"],
        ["report", "x", "--out", "here", "--db", URL.replace("db.example", "127.0.0.1:1")],
        [
            "export",
            "x",
            "--format",
            "csv",
            "--out",
            "x.csv",
            "--db",
            URL.replace("db.example", "127.0.0.1:1"),
        ],
        ["export", "x", "--format", "optuna", "--out", URL, "--db", "sqlite:///none.db"],
        ["import", URL, "--db", "sqlite:///none.db"],
    ],
)
def test_no_message_of_a_command_repeats_a_password(arguments, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli._run(arguments) in {0, 1, 2}
    told = capfd.readouterr()
    assert told.err
    assert "hunter2" not in told.out + told.err


def test_a_password_on_the_command_line_is_warned_of_and_one_in_the_environment_is_not(caplog, monkeypatch):
    @click.command
    @database_option
    def command(db: str) -> None:
        click.echo(len(db))

    with caplog.at_level(logging.WARNING):
        CliRunner().invoke(command, ["--db", URL])
    assert "list of processes" in caplog.text
    assert "hunter2" not in caplog.text
    caplog.clear()
    CliRunner().invoke(command, env={"KDSEARCH_DB": URL})
    CliRunner().invoke(command, ["--db", "postgresql://ann@db.example/kd"])
    assert not caplog.text


def test_how_to_go_on_names_the_database_where_it_must(monkeypatch):
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    assert database_flag("sqlite:///kdsearch.db") == ""
    assert database_flag("sqlite:///a b.db") == " --db 'sqlite:///a b.db'"
    assert database_flag(URL) == " --db 'postgresql://ann:***@db.example/kd'"
    monkeypatch.setenv("KDSEARCH_DB", URL)
    assert database_flag(URL) == ""
