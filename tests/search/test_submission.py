"""A sweep as a job: what is uploaded, what runs over there, and that no secret is among it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.search.submission import JobOptions, job_id, make_submission
from kdsearch.search.trialdb.errors import DatabaseUrlError
from kdsearch.spaces.errors import UsageError

SWEEP = {
    "name": "s",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 3},
    "searcher": {"kind": "random", "trials": 6},
}
WEIGHTS = {
    "kind": "kd",
    "data": "digits",
    "student": "resnet8w4",
    "teacher": {"model": "resnet8w8", "file": "teacher.pt"},
    "epochs": 1,
}
WEIGHED = {
    "kind": "parameters",
    "parameters": {"lambda_1": {"type": "float", "low": 0, "high": 1}},
}


def submission(data=SWEEP, kind="sweep", **job):
    sweep = parse_sweep(data, "the test")
    return make_submission(sweep, kind, JobOptions(**job), user="ann", host="desk", version="1")


def sweep_of(made):
    (text,) = [each for each in made.files.values() if isinstance(each, str)]
    return parse_sweep(yaml.safe_load(text), "the upload")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_upload_is_the_sweep_and_nothing_else_of_the_folder():
    Path("private.txt").write_text("not for others")
    made = submission()
    assert len(made.files) == 1
    assert sweep_of(made) == parse_sweep(SWEEP, "the test")
    assert made.metadata == {
        "kdsearch.sweep": "s",
        "kdsearch.database": "",
        "kdsearch.user": "ann",
        "kdsearch.host": "desk",
        "kdsearch.version": "1",
    }


def test_the_same_sweep_is_the_same_upload_and_another_is_another():
    assert submission() == submission()
    assert list(submission().files) != list(submission({**SWEEP, "seed": 1}).files)


@pytest.mark.parametrize("preset", ["ktg-digits", "kd-digits", "bbm-ehr-demo"])
def test_presets_arrive_as_they_are(preset):
    sweep = load_sweep(preset)
    assert sweep_of(submission(sweep.resolved())) == sweep


def test_files_that_are_here_are_uploaded_under_their_content():
    Path("teacher.pt").write_bytes(b"weights")
    data = {**SWEEP, "space": WEIGHED, "trainable": WEIGHTS}
    made = submission(data)
    (path,) = [path for path, content in made.files.items() if isinstance(content, Path)]
    assert path == "submitted/9a129038d9a0/teacher.pt"  # printf weights | sha256sum
    assert sweep_of(made).trainable.settings()["teacher"]["file"] == path
    absolute = {**WEIGHTS, "teacher": {"model": "resnet8w8", "file": str(Path("teacher.pt").absolute())}}
    assert submission({**data, "trainable": absolute}).files.keys() == made.files.keys()
    Path("teacher.pt").write_bytes(b"others")
    assert submission(data).files.keys() != made.files.keys()


def test_files_that_are_not_here_are_paths_of_the_cluster():
    made = submission({**SWEEP, "space": WEIGHED, "trainable": WEIGHTS})
    assert len(made.files) == 1
    assert sweep_of(made).trainable.settings()["teacher"]["file"] == "teacher.pt"


def test_too_much_to_upload_is_refused_before_it_is_tried(monkeypatch):
    monkeypatch.setattr("kdsearch.search.submission.MOST_BYTES", 2**20)
    Path("teacher.pt").write_bytes(bytes(2**20 + 1))
    with pytest.raises(UsageError, match="are 1 MiB, and 1 can be uploaded") as caught:
        submission({**SWEEP, "space": WEIGHED, "trainable": WEIGHTS})
    assert "data root" in caught.value.hint


def test_tables_that_come_with_kdsearch_are_not_uploaded_and_databases_of_this_machine_are_refused():
    table = {**SWEEP, "trainable": {"kind": "table", "file": "ktg-digits-c"}}
    made = submission({**table, "space": load_sweep("ktg-digits").space})
    assert len(made.files) == 1
    with pytest.raises(UsageError, match="a file of this machine") as caught:
        submission({**table, "trainable": {"kind": "table", "sweep": "t", "db": "sqlite:///t.db"}})
    assert "kdsearch table" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://kdsearch:pa55word@db/trials",
        "postgresql://kdsearch@db/trials?password=pa55word",
        "postgresql://:pa55word@db/trials",
    ],
)
def test_a_password_is_refused_and_not_repeated(url):
    with pytest.raises(UsageError, match="holds a password") as caught:
        submission(db=url)
    assert "pa55word" not in str(caught.value)
    assert "KDSEARCH_DB_FILE" in caught.value.hint


def test_databases_that_the_job_reaches():
    assert submission(db="postgresql://ann@db/trials").database == "postgresql://ann@db/trials"
    made = submission(db="sqlite:////shared/t.db")
    assert made.database == "sqlite:////shared/t.db"
    assert made.entrypoint.endswith("--db sqlite:////shared/t.db")
    with pytest.raises(UsageError, match="a path from the current folder"):
        submission(db="sqlite:///t.db")
    with pytest.raises(DatabaseUrlError):
        submission(db="t.db")


def test_the_job_works_in_a_folder_that_stays(monkeypatch):
    """The entry point is run by a shell in the unpacked upload, as Ray runs it; a script stands for kdsearch."""
    made = submission(options=["--max-concurrent", "2", "--out", "a folder"])
    for path, content in made.files.items():
        place = Path("unpacked", path)
        place.parent.mkdir(parents=True)
        place.write_text(content)
    stand_in = Path("bin/kdsearch")
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint(os.getcwd(), os.path.exists(sys.argv[2]), *sys.argv[1:], sep='\\n')"
    )
    stand_in.chmod(0o755)
    for variable, work in (("KDSEARCH_WORK", "work of mine"), ("HOME", "home")):
        environment = {"PATH": f"{stand_in.parent.absolute()}:{os.environ['PATH']}", "HOME": "/nowhere"}
        environment[variable] = str(Path(work).absolute())
        done = subprocess.run(  # noqa: S602 as Ray does
            made.entrypoint,
            shell=True,
            cwd="unpacked",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        folder, there, *words = done.stdout.splitlines()
        expected = Path(work) if variable == "KDSEARCH_WORK" else Path(work, "kdsearch")
        assert (Path(folder), there) == (expected.absolute(), "True")
        assert words[:2] == ["sweep", next(iter(made.files))]
        assert words[2:] == [
            *("--name", "s", "--or-resume", "--address", "auto"),
            *("--max-concurrent", "2", "--out", "a folder"),
        ]


def test_what_a_user_wrote_is_no_shell():
    made = submission(options=["--out", "$(touch broken); x"])
    assert shlex.split(made.entrypoint)[-1] == "$(touch broken); x"
    assert "'$(touch broken); x'" in made.entrypoint


def test_every_job_of_a_sweep_has_an_id_of_its_own():
    assert job_id("s", set()) == "kdsearch-s-1"
    assert job_id("s", {"kdsearch-s-1", "kdsearch-s-10", "other", "kdsearch-s.x-11"}) == "kdsearch-s-11"
