"""Where files lie that belong to a server's database: apart for each database, without a password, found again."""

from __future__ import annotations

import re

import pytest

from kdsearch.search.launch import files_folder, known_files_folder
from kdsearch.search.trialdb.places import parse_url, server_name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def name(url):
    return server_name(parse_url(url))


def test_each_database_has_a_folder_of_its_own(folder):
    urls = [
        "postgresql://me:s3cret@db/trials",
        "postgresql://me:s3cret@db/others",
        "postgresql://me:s3cret@db2/trials",
        "postgresql://me:s3cret@db:5433/trials",
        "postgresql:///trials?host=/run/postgresql",
        "postgresql:///trials?service=kd",
    ]
    folders = [files_folder(url) for url in urls]
    assert len(set(folders)) == len(urls)
    for path in folders:
        assert path.parent == folder
        assert re.fullmatch(r"kdsearch-(trials|others)-[0-9a-f]{8}\.files", path.name)


def test_who_connects_and_how_makes_no_difference(monkeypatch):
    expected = name("postgresql://db/trials")
    assert name("postgresql://me:s3cret@db:5432/trials?sslmode=require&passfile=x") == expected
    assert name("postgresql+psycopg://DB/trials") == expected
    assert name("postgresql:///trials?host=db&port=5432") == expected
    monkeypatch.setenv("PGHOST", "db")
    assert name("postgresql:///trials") == expected
    monkeypatch.setenv("PGDATABASE", "trials")
    assert name("postgresql://") == expected


def test_odd_names_make_whole_file_names():
    assert re.fullmatch(r"kdsearch-a-b-[0-9a-f]{8}", name("postgresql://h/a%20%2Fb"))
    assert len(name(f"postgresql://h/{'x' * 300}")) < 64
    assert re.fullmatch(r"kdsearch-kd-[0-9a-f]{8}", name("postgresql://?service=kd"))


def test_files_of_earlier_versions_are_found_by_sweeps_that_go_on(folder):
    url = "postgresql://db/trials"
    assert known_files_folder(url) == files_folder(url)
    (folder / "kdsearch.files").mkdir()
    assert known_files_folder(url) == folder / "kdsearch.files"
    assert files_folder(url) != folder / "kdsearch.files"  # sweeps that begin
    files_folder(url).mkdir()
    assert known_files_folder(url) == files_folder(url)
    assert known_files_folder("sqlite:///a.db") == folder / "a.db.files"
