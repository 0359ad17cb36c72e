from __future__ import annotations

import csv
import errno
import html
import json
import math
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
import synthetic_methods

from kdsearch.analysis import wording
from kdsearch.analysis.frames import counted_trials, population
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.report import ReportError, ReportFiles, write_report
from kdsearch.analysis.results import analyse
from kdsearch.analysis.story import chapter
from kdsearch.spaces import KdsearchError, UsageError, space_from_spec

AUC = ["space", "group", "value", "n", "auc", "low", "high", "p", "p_holm", "n_needed"]


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    return synthetic.refinement(draws=50, repeats=2)


@pytest.fixture(scope="module")
def files(record, tmp_path_factory) -> ReportFiles:
    return write_report([record], tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def page(files) -> str:
    return files.page.read_text(encoding="utf-8")


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def spoken(text: str) -> str:
    """The page's text without tags, blanks collapsed."""
    told = re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.DOTALL)
    told = re.sub(r"</t[hd]>", " ", told)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", told)).split())


def test_columns_of_every_table_begin_as_documented(files):
    heads = {path.name: path.read_text(encoding="utf-8").splitlines()[0].split(",") for path in files.tables}
    assert heads["trials.csv"][:5] == ["number", "state", "error", "orbit_size", "seed"]
    assert set(space_from_spec(synthetic.KTG).parameter_names) < set(heads["trials.csv"])
    assert heads["draws.csv"][:4] == ["space", "draw", "trial", "fresh"]
    assert heads["edf.csv"][:5] == ["space", "error", "f", "low", "high"]
    assert heads["auc.csv"][:10] == AUC
    assert all(head[-1] == "sweep" for head in heads.values())


def test_every_auc_follows_from_draws_and_trials_alone(files, record):
    trials = {row["number"]: row for row in rows(files.folder, "trials.csv")}
    draws = rows(files.folder, "draws.csv")
    spaces = {space.name: space_from_spec(space.spec) for space in record.spaces}
    checked = 0
    for row in rows(files.folder, "auc.csv"):
        answers = [trials[draw["trial"]] for draw in draws if draw["space"] == row["space"]]
        if row["group"] != "all":
            group = next(group for group in spaces[row["space"]].groups() if group.name == row["group"])
            answers = [trial for trial in answers if group.value_of(trial) == row["value"]]
        errors = [float(trial["error"]) for trial in answers if trial["error"]]
        assert int(row["n"]) == len(errors)
        if row["auc"]:
            shares = [min(max(100 - error, 0), 100) / 100 for error in errors]
            assert float(row["auc"]) == pytest.approx(100 * math.fsum(shares) / len(shares), abs=1e-9)
            checked += 1
    assert checked > 30


def test_edf_is_strict_exact_and_inside_its_band(files):
    trials = {row["number"]: row for row in rows(files.folder, "trials.csv")}
    draws = rows(files.folder, "draws.csv")
    for space in ("A", "X"):
        errors = [float(trials[d["trial"]]["error"]) for d in draws if d["space"] == space]
        steps = [row for row in rows(files.folder, "edf.csv") if row["space"] == space]
        assert [float(step["error"]) for step in steps] == sorted({*errors, 100.0})
        for step in steps:
            below = sum(error < float(step["error"]) for error in errors) / len(errors)
            assert float(step["f"]) == pytest.approx(below, abs=1e-12)
            assert 0 <= float(step["low"]) <= float(step["f"]) <= float(step["high"]) <= 1


def test_area_under_the_edf_file_is_the_auc(files):
    whole = {
        row["space"]: float(row["auc"]) for row in rows(files.folder, "auc.csv") if row["group"] == "all"
    }
    for space, auc in whole.items():
        steps = [row for row in rows(files.folder, "edf.csv") if row["space"] == space]
        x = [0.0] + [float(step["error"]) for step in steps]
        area = sum(float(s["f"]) * (b - a) for s, a, b in zip(steps, x[:-1], x[1:], strict=True))
        assert area == pytest.approx(auc, abs=1e-9)


def test_page_shows_the_numbers_of_the_tables(files, page):
    shown = dict(re.findall(r'<data value="([^"]+)">([^<]+)</data>', page))
    for row in rows(files.folder, "auc.csv"):
        if row["auc"]:
            assert shown[row["auc"]] == f"{float(row['auc']):.2f}"


def test_floats_read_back_as_they_were(files, record):
    found = {int(row["number"]): row for row in rows(files.folder, "trials.csv")}
    for trial in record.trials.to_dict("records"):
        row = found[trial["number"]]
        assert int(row["seed"]) == trial["seed"]
        if trial["state"] == "complete":
            assert float(row["error"]) == trial["error"]
        else:
            assert (row["state"], float(row["error"])) == ("diverged", 100.0)


def test_decision_of_the_time_stands_in_page_and_table(files, record, page):
    found = {(r["space"], r["group"], r["value"]): r for r in rows(files.folder, "auc.csv")}
    for decision in record.decisions:
        row = found[decision.space, decision.group, decision.value]
        stored = next(
            r for r in decision.table if (r["group"], r["value"]) == (decision.group, decision.value)
        )
        assert (float(row["p_holm"]), row["chosen"]) == (stored["p_holm"], "1")
        assert f"Fixing {decision.group} = {decision.value} left".replace("->", " → ") in spoken(page)
    assert "As it stood when the decision was made" in page


def test_decision_is_worked_out_anew_if_draws_came_later(record, tmp_path):
    first = record.decisions[0]
    old = tuple({**row, "n": row["n"] - 1} if row["n"] else row for row in first.table)
    changed = replace(record, spaces=record.spaces[:1], decisions=(replace(first, table=old),))
    page = write_report([changed], tmp_path / "out").page.read_text(encoding="utf-8")
    assert "Worked out from all draws of A at the time of this report" in page


def test_sizes_are_the_published_and_the_exact_ones(page):
    text = spoken(page)
    assert "78,732 encodings, 39,609 different graphs" in text
    assert "kept out by a constraint" in text
    assert "2,916" in text  # of A: 3^2 ... gates of six edges and two models: 2^2 * 3^6 degenerate encodings


def test_lineage_tells_spaces_and_decisions(files, record):
    told = json.loads(files.lineage.read_text(encoding="utf-8"))["sweeps"][0]
    assert [space["name"] for space in told["spaces"]] == [space.name for space in record.spaces]
    assert [space["parent"] for space in told["spaces"]][1:] == [s.name for s in record.spaces[:-1]]
    assert [d["reason"] for d in told["decisions"]] == [d.reason for d in record.decisions]
    assert all(len(d["table"]) for d in told["decisions"])
    assert space_from_spec(told["spaces"][-1]["spec"]).hash == told["spaces"][-1]["hash"]


def test_fresh_draws_confirm_each_choice(files):
    told = json.loads(files.lineage.read_text(encoding="utf-8"))["sweeps"][0]
    trials = {row["number"]: float(row["error"] or "nan") for row in rows(files.folder, "trials.csv")}
    for space in told["spaces"][1:]:
        fresh = [
            trials[draw["trial"]]
            for draw in rows(files.folder, "draws.csv")
            if draw["space"] == space["name"] and draw["fresh"] == "1"
        ]
        assert space["confirmation"]["fresh_n"] == len(fresh)
        assert space["confirmation"]["fresh_auc"] == pytest.approx(100 - np.mean(fresh), abs=1e-9)


def test_page_is_one_file_without_scripts_and_with_unique_identifiers(page):
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert not re.search(r"url\((?!#)", page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for target in re.findall(r'href="#([^"]+)"|aria-labelledby="([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(target) in identifiers


def test_every_figure_is_there_as_svg_and_png(files):
    stems = {path.stem for path in files.figures}
    assert {"edf", "lineage", "lowest", "curves", "graph-1", "conditions-A"} <= stems
    for stem in stems:
        assert (files.folder / f"figures/{stem}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert (files.folder / f"figures/{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_best_graph_is_the_best_mean_over_its_trainings(files, page):
    trainings: dict[tuple[str, ...], list[float]] = {}
    trials = {row["number"]: row for row in rows(files.folder, "trials.csv")}
    names = space_from_spec(synthetic.KTG).parameter_names
    for number in {draw["trial"] for draw in rows(files.folder, "draws.csv") if draw["space"] == "X"}:
        row = trials[number]
        trainings.setdefault(tuple(row[name] for name in names), []).append(float(row["error"]))
    best = min(sum(errors) / len(errors) for errors in trainings.values())
    assert f"1. Error {best:.2f} % ±" in spoken(page)


def test_baselines_are_pretrainings_and_in_no_distribution(files, record, page):
    pretrained = {str(n) for n in record.trials.loc[record.trials["role"] == "pretrain", "number"]}
    assert len(pretrained) == 4
    assert pretrained.isdisjoint(draw["trial"] for draw in rows(files.folder, "draws.csv"))
    alone = record.trials[(record.trials["role"] == "pretrain") & (record.trials["model.1"] == "resnet8")]
    assert f"resnet8 2 {100 - alone['error'].mean():.2f}" in spoken(page)


def test_draws_answered_by_a_pretraining_never_count(record):
    stray = pd.DataFrame([{"space": "A", "draw": 50, "trial": 0, "fresh": 1}])
    changed = replace(record, draws=pd.concat([record.draws, stray], ignore_index=True))
    first = population(changed, changed.spaces[0], counted_trials(changed))
    assert (first.n, 0 in first.numbers) == (50, False)


def test_same_record_gives_the_same_bytes(tmp_path):
    record = synthetic.interrupted(synthetic.refinement(draws=30), done=30)
    first, second = (write_report([record], tmp_path / name) for name in ("one", "two"))
    for path in (first.page, first.lineage, *first.tables, *first.figures):
        assert path.read_bytes() == (second.folder / path.relative_to(first.folder)).read_bytes(), path.name


def test_names_and_messages_are_escaped(tmp_path):
    record = synthetic.generic()
    trials = record.trials.copy()
    trials.loc[3, ["state", "message"]] = ["failed", "<script>alert('x')</script> & $\\frac$ -->"]
    evil = replace(
        record,
        name="<i>name</i>",
        trials=trials,
        notes=("<b>note</b>",),
        environment={"host": "<u>host</u>"},
        settings={"title": "<title> & --> ]]>"},
    )
    page = write_report([evil], tmp_path / "out").page.read_text(encoding="utf-8")
    for raw in ("<script", "<i>name", "<b>note", "<u>host", "<b>&x", "<title> &", "--> ]]>"):
        assert raw not in page
    for name in ("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", "&lt;b&gt;note", "&lt;b&gt;&amp;x"):
        assert name in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: synthetic.interrupted(r, done=30), "draws have no outcome yet"),
        (lambda r: synthetic.interrupted(r, done=5), "1 random draw, answered by 1 trial, has"),
        (lambda r: synthetic.interrupted(r, done=4), "No trial of the search has an outcome yet"),
        (synthetic.empty, "No trial of the search has an outcome yet"),
        (lambda r: replace(r, spaces=(), decisions=(), draws=r.draws.iloc[:0]), "complete, but none answers"),
    ],
    ids=["interrupted", "one trial", "none yet", "no trials", "no draws"],
)
def test_unfinished_sweeps_have_a_sensible_page(record, tmp_path, change, words):
    files = write_report([change(record)], tmp_path / "out")
    text = spoken(files.page.read_text(encoding="utf-8"))
    assert words in text
    assert " nan" not in text.lower()
    assert "None" not in text


@pytest.mark.parametrize(
    ("state", "told"), [("stopped", "stopped early"), ("paused", "paused at a rung")], ids=str
)
def test_survivors_of_a_scheduler_are_refused(record, tmp_path, state, told):
    """A paused trial was cut off by its results as well, until it is promoted: an interrupted sweep is full of them."""
    trials = record.trials.copy()
    cut = trials["number"] % 7 == 0
    trials.loc[cut, "state"], trials.loc[cut, "error"] = state, float("nan")
    files = write_report([replace(record, trials=trials)], tmp_path / "out")
    assert told in spoken(files.page.read_text(encoding="utf-8"))
    assert "they are no sample of the space" in spoken(files.page.read_text(encoding="utf-8"))
    assert rows(files.folder, "auc.csv") == []
    assert rows(files.folder, "edf.csv") == []


def test_all_diverged_counts_as_the_worst(record, tmp_path):
    trials = record.trials.assign(state="diverged", error=float("nan"))
    changed = replace(record, spaces=record.spaces[:1], trials=trials, diverged_error=90.0)
    files = write_report([changed], tmp_path / "out")
    whole = [row for row in rows(files.folder, "auc.csv") if row["group"] == "all"]
    assert [float(row["auc"]) for row in whole] == pytest.approx([10.0])


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_lost_trials_may_count_with_more_than_the_whole(tmp_path, share):
    record = replace(synthetic.generic(trials=20), diverged_error=400.0)
    trials = record.trials.copy()
    lost = trials["number"] < share * len(trials)
    trials.loc[lost, "state"], trials.loc[lost, "error"] = "diverged", float("nan")
    result = analyse(replace(record, trials=trials))
    (space,) = result.estimated
    counted = [100 - error for error in trials["error"].fillna(100.0)]
    assert space.auc == pytest.approx(np.mean(counted))  # what lies beyond tau is 0, not less
    assert space.curve.errors[-1] == 400.0
    assert 0 <= space.band.low[-1] <= space.band.high[-1] <= 1
    files = write_report([replace(record, trials=trials)], tmp_path / "out")
    assert "400 % error" in spoken(files.page.read_text(encoding="utf-8"))


def test_generic_space_with_a_window(tmp_path):
    record = replace(synthetic.generic(), a=10.0, tau=20.0)
    files = write_report([record], tmp_path / "out")
    errors = [float(row["error"]) for row in rows(files.folder, "trials.csv")]
    expected = np.mean([np.clip(20 - error, 0, 10) / 10 for error in errors])
    whole = rows(files.folder, "auc.csv")[0]
    assert float(whole["auc"]) == pytest.approx(100 * expected)
    text = spoken(files.page.read_text(encoding="utf-8"))
    assert "from 10 to 20 %" in text
    assert "The best configurations of A" in text


def test_several_sweeps_share_a_page(record, tmp_path):
    other = replace(synthetic.generic(), name="other one")
    record = synthetic.interrupted(record, done=30)
    files = write_report([record, other], tmp_path / "out")
    page = files.page.read_text(encoding="utf-8")
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert {row["sweep"] for row in rows(files.folder, "auc.csv")} == {record.name, "other one"}
    assert (files.folder / "figures/comparison.svg").exists()
    assert (files.folder / "figures/2-other-one-edf.png").exists()


def test_sweeps_that_are_not_in_the_comparison_are_named_with_the_reason(record, tmp_path):
    def section(*records):
        page = write_report(records, tmp_path / "out").page.read_text(encoding="utf-8")
        return spoken(page[page.index('<section id="comparison">') :].partition("</section>")[0])

    trials = record.trials.copy()
    trials.loc[trials["number"] % 7 == 0, ["state", "error"]] = ["stopped", float("nan")]
    stopped = replace(record, trials=trials, name="stopped one")
    other = replace(synthetic.generic(), name="other one")
    methods = replace(synthetic_methods.comparison(), name="methods")
    text = section(stopped, record, other)
    assert "p (Welch)" in text
    assert "Without an error distribution, and so not compared by one: stopped one:" in text
    assert "stopped early" in text
    text = section(stopped, record, methods)
    assert "methods: A comparison of methods" in text
    for words in ("p (Welch)", "p-values", "–"):
        assert words not in text
    assert "Without an error" not in section(record, other)
    assert "None of these sweeps has an error distribution to compare yet" in section(
        stopped, replace(stopped, name="2nd")
    )


def test_other_files_stay_and_old_ones_are_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "report.html").write_text("old")
    write_report([synthetic.generic()], out)
    assert (out / "mine.txt").read_text() == "mine"
    assert "kdsearch report" in (out / "report.html").read_text(encoding="utf-8")
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_file_is_no_folder(tmp_path):
    out = tmp_path / "out"
    out.write_text("a file")
    for place in (out, out / "below"):
        with pytest.raises(ReportError, match="is, or lies below, a file") as caught:
            write_report([synthetic.generic(trials=3)], place)
        assert isinstance(caught.value, UsageError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert out.read_text() == "a file"


def test_a_full_disk_leaves_the_old_report(tmp_path, monkeypatch):
    out = write_report([synthetic.generic(trials=3)], tmp_path / "out").folder
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(self: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KdsearchError, match="No space left") as caught:
        write_report([synthetic.generic(trials=5)], out)
    assert caught.value.exit_code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_an_unwritable_folder_is_named(tmp_path, monkeypatch):
    def forbidden(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(ReportError, match="Permission denied"):
        write_report([synthetic.generic(trials=3)], tmp_path / "out")


def test_records_are_needed_and_differ():
    with pytest.raises(ReportError, match="at least one"):
        write_report([], Path("unused"))
    record = synthetic.empty(synthetic.generic(trials=1))
    with pytest.raises(ReportError, match="twice"):
        write_report([record, record], Path("unused"))


def test_reused_draws_and_the_trials_that_answer_them_are_told_apart(record, page):
    for space in record.spaces[1:]:
        old = record.draws[(record.draws["space"] == space.name) & (record.draws["fresh"] == 0)]
        if len(old):
            assert f"({len(old):,} draws by {old['trial'].nunique():,} trials that were" in spoken(page)


def test_curves_stand_in_full_or_as_shown(files, record, tmp_path, monkeypatch):
    assert len(rows(files.folder, "curves.csv")) == len(record.curves)
    monkeypatch.setattr("kdsearch.analysis.tables.MOST_CURVE_ROWS", 10)
    one = synthetic.generic(trials=30)
    small = write_report([one], tmp_path / "out")
    shown = {int(row["trial"]) for row in rows(small.folder, "curves.csv")}
    assert int(one.trials.loc[one.trials["error"].idxmin(), "number"]) in shown
    assert len(shown) <= 5
    assert "all trials would be too much" in spoken(small.page.read_text(encoding="utf-8"))


def test_one_epoch_is_no_curve(tmp_path):
    record = synthetic.generic(trials=5)
    flat = replace(record, curves=record.curves[record.curves["epoch"] == 3])
    files = write_report([flat], tmp_path / "out")
    assert "curves" not in {path.stem for path in files.figures}
    assert "there is no curve to draw" in spoken(files.page.read_text(encoding="utf-8"))


def test_equal_errors_are_a_tie_in_a_fixed_order(tmp_path):
    record = synthetic.generic(trials=6)
    trials = record.trials.assign(error=12.5, state="complete").iloc[::-1].reset_index(drop=True)
    text = spoken(write_report([replace(record, trials=trials)], tmp_path / "out").page.read_text("utf-8"))
    assert "5 other configurations have the same error as the first: a tie" in text
    assert "rank error trial no." in text
    assert "1 12.50 0 " in text


def test_the_best_is_told_from_the_lowest_single_training(record, page):
    done = record.trials[(record.trials["role"] == "search") & (record.trials["state"] == "complete")]
    best = done.sort_values(["error", "number"]).iloc[0]
    told = f"The lowest single training of the search is {best['error']:.2f} % (trial {best['number']})"
    assert told in spoken(page)
    assert "their standard deviation), chosen on these very errors" in spoken(page)
    assert "the median draw of X has" in spoken(page)


def test_a_policy_without_a_level_names_none_and_repeats_nothing(record):
    result = analyse(replace(record, spaces=record.spaces[:1]))
    first = record.decisions[0]
    row = next(r for r in first.table if (r["group"], r["value"]) == (first.group, first.value))
    same = f"best AUC: {first.group} = {first.value} with AUC {row['auc']:.2f}"
    for policy, reason, repeated in (
        ("best-auc", same, False),
        ("best-auc", "too few draws", True),
        ("interactive", same, True),
        ("significant", same, True),
    ):
        made = replace(first, policy=policy, reason=reason)
        told = str(chapter(result, replace(result.spaces[0], decision=made))[-1])
        assert ("<q>" in told) is repeated
        assert ("at the level" in told) is (policy == "significant")
        assert ("Chosen by" in told) is (policy != "significant")


def test_a_refused_report_leaves_no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ReportError, match="lies below, a file"):
        write_report([synthetic.generic(trials=3)], tmp_path / "new" / ".." / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def full(self: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KdsearchError, match="No space left"):
        write_report([synthetic.generic(trials=3)], tmp_path / "new" / "deep")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_words():
    assert wording.needed(10_000) == "10,000"
    assert wording.needed(10_001) == "> 10,000"
    assert wording.heading("memory_gib") == wording.heading("memory gib") == "memory (GiB)"
