"""The example of docs/searchers.md, as it stands there: a searcher of another package."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdsearch.search.searchers.kinds import Task
from kdsearch.search.searchers.registry import BUILT_IN
from kdsearch.spaces import space_from_spec

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "searchers.md").read_text(encoding="utf-8")
_SPEC = importlib.util.spec_from_file_location(
    "searcher_conformance", Path(__file__).with_name("searcher_conformance.py")
)
suite = importlib.util.module_from_spec(_SPEC)
sys.modules.setdefault("searcher_conformance", suite)
_SPEC.loader.exec_module(suite)


def block(language):
    """The page's block of a language; its sweep file is yml, as the tests of all yaml files do not know the package."""
    [text] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return text


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages, with the example's alone."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "climb.py").write_text(block("python"), encoding="utf-8")
    info = folder / "climb-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: climb\nVersion: 1.0\n")
    entry = block("toml").splitlines()[1].replace('"', "")
    (info / "entry_points.txt").write_text(f"[kdsearch.searchers]\n{entry}\n")
    return folder


@pytest.fixture(scope="module")
def kind(site):
    spec = importlib.util.spec_from_file_location("climb_example", site / "climb.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KIND


SPACES = {
    "graphs": {
        "kind": "ktg",
        "target": "s",
        "auxiliary": {"count": 2, "models": ["s", "m"]},
        "gates": ["through", "cutoff", "linear"],
    },
    "conditional": {
        "kind": "parameters",
        "parameters": {
            "x": {"type": "float", "low": 0, "high": 1},
            "c": {"type": "categorical", "values": ["a", "b"]},
            "n": {"type": "integer", "low": 1, "high": 9, "when": {"c": "a"}},
        },
    },
    "tiny": {"kind": "parameters", "parameters": {"c": {"type": "categorical", "values": [1, 2, 3]}}},
}


def test_the_page_speaks_of_every_kind():
    rows = "".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    assert [each.name for each in BUILT_IN if f"`{each.name}`" not in rows] == []


@pytest.mark.parametrize("space", SPACES)
def test_it_passes_the_conformance_suite(kind, space):
    def make(*, seed, trials=10):
        settings = kind.settings(kind="climb", trials=trials, generation=3)
        found = space_from_spec(SPACES[space], name="A")
        task = Task(
            space=found, trainable=None, settings={}, statistics=None, seed=seed, first_number=suite.FIRST
        )
        return kind.build(settings, task)

    subject = suite.Subject(make=make, extends=True)
    for check in suite.checks_of(subject):
        check(subject)


def test_it_is_as_long_as_the_page_says():
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert 20 <= len(lines) <= 30


def run(site, *arguments, folder):
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", "from kdsearch.search.cli import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sweep_file_can_name_it_where_it_is_installed(site, tmp_path):
    (tmp_path / "climbing.yaml").write_text(block("yml"), encoding="utf-8")
    found = run(site, "space", "climbing.yaml", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    refused = run(tmp_path, "space", "climbing.yaml", folder=tmp_path)
    assert refused.returncode == 2
    assert "unknown searcher 'climb'" in refused.stderr
    assert "others come with packages that are installed" in " ".join(refused.stderr.split())


def test_a_package_that_does_not_load_is_named(site, tmp_path):
    (tmp_path / "climbing.yaml").write_text(block("yml"), encoding="utf-8")
    broken = tmp_path / "site"
    info = broken / "climb-1.0.dist-info"
    info.mkdir(parents=True)
    for name in ("METADATA", "entry_points.txt"):
        (info / name).write_text((site / "climb-1.0.dist-info" / name).read_text())
    found = run(broken, "space", "climbing.yaml", folder=tmp_path)
    assert found.returncode == 2
    told = " ".join(found.stderr.split())
    assert "the searcher climb cannot be used: climb:KIND of climb: ModuleNotFoundError" in told
    assert "Traceback" not in found.stderr


@pytest.mark.ray
def test_its_sweep_runs(site, tmp_path):
    (tmp_path / "climbing.yaml").write_text(block("yml"), encoding="utf-8")
    found = run(site, "sweep", "climbing.yaml", "--json", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["trials"] == {"complete": 40}
