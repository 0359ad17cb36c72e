"""Block-by-block matching: page, words, figures and files."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic_bbm
import synthetic_methods

from kdsearch.analysis import bbm_likeness as likeness
from kdsearch.analysis import bbm_story as story
from kdsearch.analysis.bbm_page import render_bbm
from kdsearch.analysis.bbm_plots import colours, side_by_side
from kdsearch.analysis.bbm_plots_layers import plot_attention, plot_cka, plot_reach, shown_blocks
from kdsearch.analysis.bbm_scores import GIVEN
from kdsearch.analysis.bbm_search import search_result
from kdsearch.analysis.bbm_study import Study, analyse_bbm
from kdsearch.analysis.bbm_tables import bbm_tables, story_json
from kdsearch.analysis.bbm_wording import method, score, signed_score
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.report import ReportError, ReportFiles, write_report
from kdsearch.analysis.wording import value

MADE_UP = "The records of PhysioNet are a made-up sample: the numbers are no results."


def study_of(**given) -> Study:
    return analyse_bbm([synthetic_bbm.study(**given)]).studies[0]


def spoken(text: str) -> str:
    """Text without tags, styles and figures, blanks collapsed."""
    told = re.sub(r"<(style|svg).*?</\1>", "", str(text), flags=re.DOTALL)
    told = re.sub(r"</t[hd]>|<br>", " ", told)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", told)).split())


def told(*records: SweepRecord) -> str:
    """The page without its figures."""
    return spoken(render_bbm(analyse_bbm(records), {}, ()))


def rows(files: ReportFiles, name: str) -> list[dict[str, str]]:
    with (files.folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    return synthetic_bbm.study(
        methods=(*synthetic_bbm.METHODS, "bbm 1"),
        blocks={"bbm 1": 1},
        endings={("deit", 1): "diverged", ("teacher", 2): "failed"},
        searched=12,
        epochs=8,
    )


@pytest.fixture(scope="module")
def files(record, tmp_path_factory) -> ReportFiles:
    return write_report([record], tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def page(files) -> str:
    return files.page.read_text(encoding="utf-8")


def test_files_of_a_report(files):
    assert {path.name for path in files.tables} == {
        *("trials.csv", "curves.csv", "runs.csv", "methods.csv", "differences.csv", "blocks.csv", "cka.csv"),
        *("attention_distance.csv", "validation_by_epoch.csv", "rungs.csv"),
    }
    assert {path.stem for path in files.figures} == {
        *("scores", "cka", "cka-elsewhere", "attention", "attention-elsewhere", "attention-distance"),
        *("validation", "search"),
    }
    assert {path.name for path in files.others} == {"bbm.json", "arrays.npz"}
    assert all(path.exists() for path in (files.lineage, *files.others, *files.figures))


def test_page_is_one_file_without_scripts_and_with_unique_identifiers(page):
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|data:image/png)', page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for target in re.findall(r'href="#([^"]+)"|aria-labelledby="([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(target) in identifiers


def test_page_shows_the_numbers_of_the_tables(files, page):
    shown = dict(re.findall(r'<data value="([^"]+)">([^<]+)</data>', page))
    for name in ("methods.csv", "blocks.csv"):
        for row in rows(files, name):
            if row["score"].startswith("test_") or row["score"] == "val_objective":
                assert shown[row["mean"]] == f"{float(row['mean']):.3f}"
    for row in rows(files, "differences.csv"):
        if row["table"] == "methods" and row["score"] == "test_challenge":
            assert signed_score(float(row["difference"])) in page
    for row in rows(files, "attention_distance.csv"):
        assert shown[row["mean"]] == f"{float(row['mean']):.2f}"


def test_means_follow_from_the_runs(files):
    runs = rows(files, "runs.csv")
    for row in rows(files, "methods.csv"):
        own = [
            float(run[row["score"]])
            for run in runs
            if run["method"] == row["method"] and run["state"] == "complete" and run[row["score"]]
        ]
        assert int(row["n"]) == len(own)
        assert float(row["mean"]) == pytest.approx(np.mean(own))
        if row["spread"]:
            assert float(row["spread"]) == pytest.approx(np.std(own, ddof=1))


def test_runs_without_a_score_are_in_the_files_and_named_on_the_page(files, page):
    assert {(row["method"], row["run"], row["state"]) for row in rows(files, "runs.csv")} >= {
        ("deit", "1", "diverged"),
        ("teacher", "2", "failed"),
    }
    text = spoken(page)
    assert "Not every run has a score (teacher: 1 failed; DeiT: 1 diverged)." in text
    assert "out of <memory>" in text
    assert "1 left out" in text


def test_whole_numbers_are_written_whole(files):
    found = rows(files, "runs.csv")
    assert {row["blocks"] for row in found} == {"", "1", "3"}
    assert all(row[name].isdecimal() for row in found for name in ("trial", "seed", "epochs") if row[name])


def test_layers_are_kept_in_full(files, record):
    with np.load(io.BytesIO((files.folder / "arrays.npz").read_bytes())) as arrays:
        numbers = record.trials.loc[record.trials["method"] == "bbm", "number"]
        mean = np.mean([record.arrays[number, "attention"] for number in numbers], axis=0)
        np.testing.assert_allclose(arrays["PhysioNet 2019/attention/bbm"], mean, rtol=1e-5)
    cka = [row for row in rows(files, "cka.csv") if (row["method"], row["of"]) == ("bbm", "test")]
    assert [(row["block"], row["teacher_block"]) for row in cka] == [
        (str(i), str(j)) for i in (1, 2, 3) for j in (1, 2, 3)
    ]


def test_story_is_json_with_the_words_of_the_page(files, page):
    found = json.loads((files.folder / "bbm.json").read_text(encoding="utf-8"))
    (study,) = found["studies"]
    assert study["words"]["headline"] in spoken(page)
    assert study["words"]["too_few"] in spoken(page)
    assert [row["method"] for row in study["methods"]][:2] == ["transformer", "teacher"]
    assert found["searches"][0]["best"][0]["number"] in range(13)


def test_a_report_is_made_alike_every_time(files, record, tmp_path):
    again = write_report([record], tmp_path)
    for path in (files.page, *files.tables, *files.others):
        assert (again.folder / path.name).read_bytes() == path.read_bytes()


# Words


def test_headline_tells_the_highest_and_what_bbm_gained():
    study = study_of(seeds=3)
    text = spoken(story.headline(study))
    assert text.startswith(
        "In these runs the highest mean P-19 on the test part of PhysioNet 2019 is that of teacher: 0.65"
    )
    assert "over 3 runs (not decided). The others" in text
    bbm = next(one for one in study.differences if (one.method, one.reference) == ("bbm", "transformer"))
    assert (
        f"In these runs BBM lies {score(bbm.paired.mean)} above the transformer from scratch (95 % interval "
        f"[{score(bbm.paired.low)}, {score(bbm.paired.high)}], p = 0.250, 1.000 after Holm: not decided)."
    ) in text
    assert "BBM lies 0.04" in text
    assert "below the teacher" in text
    assert re.search(
        r"In these runs the teacher lies 0\.09\d above the transformer from scratch\. Of this gap, "
        r"which is not decided, DeiT makes up \d+ % and BBM makes up 5\d %",
        text,
    )


def test_headline_says_when_bbm_loses():
    text = spoken(story.headline(study_of(gains={"bbm": -0.1})))
    assert re.search(r"BBM lies 0\.04\d below the transformer from scratch", text)
    assert re.search(r"BBM makes up −\d+ %", text)


def test_headline_says_when_there_is_nothing_to_gain():
    text = spoken(story.headline(study_of(gains={"teacher": -0.2})))
    assert re.search(
        r"In these runs the teacher does not lie above the transformer from scratch \(0\.\d+ to 0\.\d+; not decided\): "
        r"by this score they show no inductive bias to gain from",
        text,
    )
    assert "makes up" not in text


def test_enough_runs_decide():
    study = study_of(seeds=8, arrays=False)
    assert story.too_few(study) == ""
    text = story.headline(study)
    assert "not decided" not in text
    assert "Of this gap, DeiT makes up" in text


def test_a_share_of_the_gap_needs_three_runs_of_each():
    assert "makes up" not in story.headline(study_of(seeds=2, arrays=False))
    endings = {("bbm", 0): "failed"}
    text = story.headline(study_of(seeds=3, arrays=False, endings=endings))
    assert "DeiT makes up" in text
    assert "BBM makes up" not in text


def test_only_numbers_get_a_real_minus():
    study = study_of(methods=("transformer", "teacher", "bbm -ehr-demo"), gains={"bbm -ehr-demo": -0.1})
    assert re.search(r"BBM -ehr-demo makes up −\d+ %", story.headline(study))


def test_one_seed_is_told_that_it_shows_no_spread():
    words = "One run of each method does not tell how much runs differ: no difference can be decided."
    assert story.too_few(study_of(seeds=1, arrays=False)) == words


@pytest.mark.parametrize(("seeds", "least", "corrected"), [(3, "0.250", "1.000"), (7, "0.016", "0.078")])
def test_few_seeds_are_told_what_they_cannot_show(seeds, least, corrected):
    assert story.too_few(study_of(seeds=seeds, arrays=False)) == (
        f"With {seeds} runs of each method no p can be below {least} (2/2^{seeds}), and {corrected} after Holm for 5 "
        "comparisons: no difference can be decided at 0.05 yet, even where an interval excludes 0. With 8 runs each it "
        "could."
    )


def test_claims_of_likeness_follow_the_numbers(monkeypatch):
    study = study_of()
    assert "In these runs BBM's outputs are more like the teacher's" in likeness.similarity_words(study)
    assert "In these runs BBM's layers are more like the teacher's" in likeness.layer_words(
        study.cka, "the test part"
    )
    assert "In these runs BBM's attention is more local" in likeness.attention_words(study)
    monkeypatch.setattr(synthetic_bbm, "LIKENESS", synthetic_bbm.LIKENESS | {"bbm": 0.3})
    monkeypatch.setattr(synthetic_bbm, "LOCALITY", synthetic_bbm.LOCALITY | {"bbm": 0.0})
    study = study_of()
    assert "In these runs BBM's outputs are less like the teacher's" in likeness.similarity_words(study)
    assert "In these runs BBM's layers are less like the teacher's" in likeness.layer_words(
        study.cka, "the test part"
    )
    assert "In these runs BBM's attention is less local" in likeness.attention_words(study)
    monkeypatch.setattr(synthetic_bbm, "LIKENESS", synthetic_bbm.LIKENESS | {"bbm": 0.44})
    monkeypatch.setattr(synthetic_bbm, "LOCALITY", synthetic_bbm.LOCALITY | {"bbm": 0.15})
    study = study_of()
    assert "no clear difference in how much BBM's outputs" in likeness.similarity_words(study)
    assert "no clear difference in how much BBM's layers" in likeness.layer_words(study.cka, "the test part")
    assert "no clear difference in how local" in likeness.attention_words(study)


def test_one_seed_claims_no_likeness():
    study = study_of(seeds=1)
    assert "no clear difference in how much BBM's outputs" in likeness.similarity_words(study)
    assert "no clear difference in how much BBM's layers" in likeness.layer_words(study.cka, "the test part")
    assert "no clear difference in how local" in likeness.attention_words(study)


def test_distances_of_signals_are_in_seconds_too():
    text = spoken(
        likeness.attention_words(study_of(data="physionet2021", methods=("transformer", "bbm"), seeds=1))
    )
    assert re.search(r"BBM 4\.\d patches \(0\.4\d s\)", text)
    assert "Attention that is equal everywhere would reach 13.3 patches (1.33 s)." in text


def test_more_blocks_need_not_be_better():
    given = {"methods": ("bbm", "bbm 1"), "blocks": {"bbm 1": 1}, "arrays": False}
    words = {
        gain: story.blocks_words(study_of(gains={gain: 0.1}, seeds=7, **given)) for gain in ("bbm", "bbm 1")
    }
    assert words["bbm"].startswith("In these runs P-19 rises with the number of blocks: 0.6")
    assert words["bbm 1"].startswith("In these runs P-19 falls with the number of blocks: 0.7")
    assert "(3 blocks less 1 block: −0." in words["bbm 1"]
    text = story.blocks_words(study_of(gains={"bbm 1": 0.1}, **given))
    assert re.match(
        r"In these runs P-19 was 0\.7\d+ with 1 block and 0\.6\d+ with 3 blocks \(3 blocks less", text
    )
    assert text.endswith("p = 0.250: not decided).")


def test_runs_still_needed_are_no_fewer_than_could_decide_anything():
    for seeds in (2, 3, 5, 7):
        study = study_of(seeds=seeds, arrays=False)
        assert "With 8 runs each it could." in story.too_few(study)
        needed = [one.paired.n_needed for one in study.differences if one.score == story.MAIN]
        assert all(seeds + more >= 8 for more in needed)


READ = "Read: PhysioNet 2019, 10 of 10 files read (10 records)."


def test_the_page_says_what_was_measured_on_what():
    notes = (READ, "Read: eICU, 5 of 5 files read (5 records).", "Another note.")
    record = replace(synthetic_bbm.study(seeds=1, arrays=False, notes=notes), content="0123456789abcdef")
    page = render_bbm(analyse_bbm([record]), {}, ())
    shown = spoken(re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL))
    assert "Measured on the test part of these records. " + READ in shown
    assert shown.index(READ) > shown.index("What the methods reached")
    assert spoken(page).count(READ) == 1
    assert "eICU, 5 of 5" not in shown
    assert "<dt>digest of the records</dt><dd>0123456789ab</dd>" in page
    alone = told(replace(synthetic_bbm.search(trials=6), notes=(READ,)))
    assert READ in alone


def moving(record: SweepRecord, values: list[float]) -> SweepRecord:
    """The search by gradient: lambda of every trial starts at its draw and takes these values, epoch by epoch."""
    trials = record.trials.copy()
    trials["plan"] = [
        {"optimiser": {"start": {"lambda": start}, "bounds": {"lambda": [0.01, 10.0]}}} if start > 0 else None
        for start in trials["lambda"]
    ]
    told = [
        (int(number), 0, "meta.lambda", epoch, value)
        for number in trials.loc[trials["lambda"].notna(), "number"]
        for epoch, value in enumerate(values, start=1)
    ]
    curves = pd.concat([record.curves, pd.DataFrame(told, columns=record.curves.columns)], ignore_index=True)
    settings = {**record.settings, "searcher": {"kind": "gradient"}}
    return replace(record, trials=trials, curves=curves, settings=settings)


STUCK = "lambda stood at an end of its interval in most epochs: the rate is too large."


def test_a_search_by_gradient_shows_where_lambda_went(tmp_path):
    record = moving(synthetic_bbm.search(trials=6, epochs=4), [0.5, 10.0, 2.0, 0.125])
    files = write_report([record], tmp_path)
    text = spoken(files.page.read_text(encoding="utf-8"))
    best = search_result(record).best[0]
    assert f"lambda = {value(best.parameters['lambda'])} → 0.125" in text
    assert "metric meta.lambda" in text
    assert STUCK not in text
    assert "trajectories-1" in {path.stem for path in files.figures}
    assert "→" not in told(synthetic_bbm.search(trials=6, epochs=4))


def test_a_lambda_at_an_end_of_its_interval_is_told():
    text = told(moving(synthetic_bbm.search(trials=3, epochs=4), [0.5, 10.0, 0.01, 0.125]))
    assert re.search(r"Trials \d, \d and \d: " + STUCK, text)


# Pages that lack something


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ("bbm",), "seeds": 1, "given": False}, "BBM reaches a mean P-19 of 0.6"),
        ({"methods": ("transformer", "bbm"), "given": False}, "above the transformer from scratch"),
        ({"methods": ("teacher",), "given": False}, "teacher reaches a mean P-19"),
        ({"methods": (), "seeds": 1}, "No run has a score on the test part of PhysioNet 2019 yet."),
        ({"arrays": False}, "How far it reaches"),
        ({"similarity": False, "arrays": False}, "What the methods reached"),
        ({"elsewhere": False}, "r2 of students and teacher: on the test part, BBM"),
        ({"endings": {(m, r): "failed" for m in synthetic_bbm.METHODS for r in range(3)}}, "3 failed"),
        (
            {"endings": {("bbm", r): "running" for r in range(3)}},
            "Not every run has a score (BBM: 3 running)",
        ),
        ({"lost": {("bbm", 1): ["test_f1", "r2"]}}, "Missing or not a number: BBM: F1 of 1 run."),
        (
            {"lost": {("bbm", 1): ["test_challenge", "test_f1", "test_auroc", "test_auprc"]}},
            "BBM: all scores of 1 run",
        ),
        ({"methods": ("bbm", "bbm <b>")}, "BBM <b>"),
        ({"epochs": 1}, "What the methods reached"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_a_page_that_lacks_something_says_so(given, words):
    record = synthetic_bbm.study(**given)
    assert words in told(record)
    report = analyse_bbm([record])
    json.loads(story_json(report))
    assert all(len(row) == len(table.columns) for table in bbm_tables(report) for row in table.rows)


def test_figures_of_what_there_is(tmp_path):
    record = synthetic_bbm.study(methods=("bbm",), seeds=1, epochs=1, given=False)
    files = write_report([record], tmp_path)
    assert [path.name for path in files.figures] == ["scores.svg", "scores.png"]
    assert not (tmp_path / "arrays.npz").exists()


def test_a_search_alone_has_its_page():
    text = told(synthetic_bbm.search(trials=12))
    assert "Of 12 trials of a search on validation, the best is trial" in text
    assert "Where trials were stopped" in text
    assert "What the methods reached" not in text
    assert "must be seen with new seeds" in text


def test_a_search_of_which_nothing_ended_has_its_page():
    record = synthetic_bbm.search(trials=6)
    text = told(replace(record, trials=record.trials.assign(state="stopped")))
    assert "none was trained to its end with a finite error" in text


def test_a_made_up_sample_is_said_in_the_title():
    record = synthetic_bbm.study(methods=("bbm",), seeds=1, given=False, notes=(MADE_UP,))
    page = render_bbm(analyse_bbm([record]), {}, ())
    assert "<title>bbm-made-up (made-up sample)</title>" in page
    assert MADE_UP in spoken(page)
    other = synthetic_bbm.study(name="real", methods=("bbm",), seeds=1, given=False)
    both = render_bbm(analyse_bbm([record, other]), {}, ())
    assert "<title>Sweeps bbm-made-up (made-up sample) and real</title>" in both
    assert "made-up sample" not in render_bbm(analyse_bbm([other]), {}, ())


def test_a_made_up_set_from_elsewhere_makes_no_results_up():
    note = "The records from elsewhere (eICU) are made up: numbers on them are no results."
    record = synthetic_bbm.study(methods=("bbm",), seeds=1, given=False, notes=(note, "A made-up sample."))
    page = render_bbm(analyse_bbm([record]), {}, ())
    assert "<title>bbm-made-up</title>" in page
    assert note in spoken(page)


SHARED = ", and those that learn from a teacher share one teacher."


def test_scope_says_who_shares_a_teacher():
    one, same = (synthetic_bbm.study(name=name, methods=(name,), seeds=2) for name in ("transformer", "bbm"))
    other = replace(same, trials=same.trials.assign(seed=same.trials["seed"] + 1))
    by_file = synthetic_bbm.study(name="deit", methods=("deit",), seeds=2, given=False)
    trainable = {**by_file.settings["trainable"], "teacher": {"file": "teacher.pt"}}
    by_file = replace(by_file, settings={**by_file.settings, "trainable": trainable})
    alone = synthetic_bbm.study(methods=("transformer",), seeds=2, given=False)
    cases = [
        ((one,), SHARED),
        ((one, same), SHARED),
        ((by_file,), SHARED),
        ((one, other), ", and of one sweep, those that learn from a teacher share one teacher."),
        ((one, by_file), ", and of one sweep, those that learn from a teacher share one teacher."),
        ((alone,), "and one test part."),
    ]
    for records, words in cases:
        assert story.scope(analyse_bbm(records).studies[0]).endswith(words)


def test_a_title_of_the_settings_is_used():
    record = synthetic_bbm.study(methods=("bbm",), seeds=1, given=False)
    titled = replace(record, settings={**record.settings, "title": "Sepsis & more"})
    assert "<h1>Sepsis &amp; more</h1>" in render_bbm(analyse_bbm([titled]), {}, ())


def test_several_sweeps_have_one_page(tmp_path):
    records = [
        synthetic_bbm.study(name="ehr", methods=("transformer", "bbm"), seeds=2, arrays=False),
        synthetic_bbm.study(name="ecg", data="physionet2021", methods=("bbm",), seeds=2, arrays=False),
    ]
    files = write_report(records, tmp_path)
    text = spoken(files.page.read_text(encoding="utf-8"))
    assert "P-19" in text
    assert "P-21" in text
    assert {path.stem for path in files.figures} >= {"1-scores", "2-scores", "1-validation", "2-validation"}
    identifiers = re.findall(r'\bid="([^"]+)"', files.page.read_text(encoding="utf-8"))
    assert len(identifiers) == len(set(identifiers))
    assert {row["records"] for row in rows(files, "methods.csv")} == {"PhysioNet 2019", "PhysioNet 2021"}


def test_sweeps_of_other_trainables_have_a_report_of_their_own(tmp_path):
    records = [synthetic_bbm.study(methods=("bbm",), seeds=1), synthetic_methods.comparison(runs=2)]
    with pytest.raises(ReportError, match="nothing in common") as caught:
        write_report(records, tmp_path / "out")
    assert "bbm-made-up" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_settings_that_say_nothing_still_have_a_page(record):
    text = told(replace(record, settings={}))
    assert "challenge score" in text


# Figures


def test_a_method_has_one_colour_and_no_two_share_one():
    rows_ = study_of(methods=(*synthetic_bbm.METHODS, "bbm 1", "bbm 2"), seeds=1).rows
    found = colours(rows_)
    own = [found[row.name] for row in rows_ if not row.given]
    assert len(set(own)) == len(own)
    assert found[GIVEN] == found["teacher"]


def test_figures_of_layers_count_units_and_cut_no_point():
    study = study_of(data="physionet2021", seeds=2)
    cka = plot_cka(study.cka)
    assert (cka.get_supxlabel(), cka.get_supylabel()) == ("unit of the teacher", "unit of the network")
    assert plot_attention(study.attention, "patches").axes[0].get_title() == "unit 1"
    for uniform in (None, 30.0):
        axes = plot_reach(study.reach, colours(study.rows), "patches", uniform).axes[0]
        ends = [block.mean + block.spread for one in study.reach for block in one.blocks]
        assert axes.get_ylim()[1] > 1.05 * max([*ends, uniform or 0.0])
        assert axes.get_xlabel() == "unit"


@pytest.mark.parametrize(
    ("units", "shown"), [(1, [0]), (8, list(range(8))), (16, [0, 2, 4, 6, 9, 11, 13, 15])]
)
def test_many_blocks_are_thinned_out_evenly(units, shown):
    assert shown_blocks(units) == shown


def test_panels_fill_their_rows():
    assert [side_by_side(n) for n in (1, 2, 3, 4, 5, 9)] == [1, 2, 3, 2, 3, 3]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bbm", "BBM"),
        ("deit", "DeiT"),
        ("bbm 1 block", "BBM 1 block"),
        ("teacher", "teacher"),
        ("bbmx", "bbmx"),
    ],
)
def test_methods_are_called_as_in_the_paper(name, words):
    assert method(name) == words
