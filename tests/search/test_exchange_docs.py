"""The worked examples of docs/exchange.md, carried out."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sqlite3
from pathlib import Path

import optuna
import pytest
import yaml

from kdsearch.search.cli import _run
from kdsearch.search.cli.export import export
from kdsearch.search.cli.import_ import import_
from kdsearch.search.trialdb import SweepState, TrialDatabase

DOCS = Path(__file__).parents[2] / "docs" / "exchange.md"
_SPEC = importlib.util.spec_from_file_location(
    "exchange_cases", Path(__file__).with_name("exchange_cases.py")
)
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
GRAPHS, add_sweep, draws = _CASES.GRAPHS, _CASES.add_sweep, _CASES.draws

optuna.logging.set_verbosity(optuna.logging.ERROR)


def blocks(language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    (tmp_path / "theirs.csv").write_text(blocks("csv")[0])
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(GRAPHS))
    with TrialDatabase.open("sqlite:///kdsearch.db") as database:
        add_sweep(database, "ktg-digits", GRAPHS, draws(GRAPHS, 20))
        database.update_sweep_state("ktg-digits", SweepState.COMPLETE)
    return tmp_path


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_commands_of_the_documentation_work(here, capsys):
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "kdsearch"
        assert _run(arguments) == 0, (command, capsys.readouterr().err)
    (code,) = blocks("python")
    exec(compile(code, str(DOCS), "exec"), {})  # noqa: S102 our own
    assert "value" in capsys.readouterr().out
    assert (here / "three-report" / "figures" / "comparison.svg").exists()
    with sqlite3.connect("kdsearch.db") as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sweep ORDER BY id")]
    connection.close()
    assert names == ["ktg-digits", "theirs", "again", "from-optuna"]


@pytest.mark.parametrize("command", [export, import_])
def test_the_documentation_has_every_option(command):
    text = DOCS.read_text(encoding="utf-8")
    for parameter in command.params:
        option = next((name for name in parameter.opts if name.startswith("--")), None)
        if option not in {None, "--debug"}:
            assert f"`{option}" in text, option
