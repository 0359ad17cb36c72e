"""`kdsearch score`: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import json

import pytest

from kdsearch.search.cli import _run


def put(path, *lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def sepsis(tmp_path, monkeypatch):
    """The official scorer's example, in files: labels 000011, predictions 001111."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "labels" / "p1.psv", "ICULOS|SepsisLabel", *(f"{k + 1}|{int(k > 3)}" for k in range(6)))
    said = (f"{k / 10}|{int(k > 1)}" for k in range(6))
    put(tmp_path / "said" / "p1.psv", "PredictedProbability|PredictedLabel", *said)
    return ["score", "physionet2019", "--labels", "labels", "--predictions", "said"]


def test_the_official_example_as_json(sepsis, capsys):
    assert _run([*sepsis, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert (found["challenge"], found["patients"], found["septic"], found["hours"]) == (
        "physionet2019",
        1,
        1,
        6,
    )
    assert found["utility_sums"]["observed"] == pytest.approx(3.388888888888889)
    # t_s = 10: the best warns from hour 0 on, s = -10 ... -5: 1/3 + 1/2 + 2/3 + 5/6 + 1 + 8/9 = 38/9; never: -2/9
    assert found["utility_sums"]["best"] == pytest.approx(38 / 9)
    assert found["utility_sums"]["inaction"] == pytest.approx(-2 / 9)
    assert found["scores"]["utility"] == pytest.approx((61 / 18 + 2 / 9) / (40 / 9))
    assert found["scores"]["f1"] == pytest.approx(2 / 3)
    assert found["scores"]["accuracy"] == pytest.approx(2 / 3)
    assert (found["scores"]["auroc"], found["scores"]["auprc"]) == (1, 1)
    assert found["remarks"] == []


def test_sepsis_for_people(sepsis, capsys):
    assert _run(sepsis) == 0
    out, err = capsys.readouterr()
    assert "1 patients, 1 with sepsis, 6 hours" in out
    assert "utility (normalised)  0.8125" in out  # 65/18 over 40/9
    assert err == ""


def test_what_is_not_defined_is_said_and_null_in_json(sepsis, tmp_path, capsys):
    put(tmp_path / "labels" / "p1.psv", "SepsisLabel", *"000000")
    assert _run(sepsis) == 0
    assert "utility (normalised)  not defined" in capsys.readouterr().out
    assert _run([*sepsis, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [scores[name] for name in ("utility", "auroc", "auprc")] == [None] * 3


def test_what_cannot_be_scored_ends_with_2_and_says_where(sepsis, tmp_path, capsys):
    put(tmp_path / "said" / "p1.psv", "PredictedProbability|PredictedLabel", "0.5|1")
    assert _run(sepsis) == 2
    err = capsys.readouterr().err
    assert "said/p1.psv: expected 6 rows, as in p1.psv of the labels, found 1 rows" in err
    assert "docs/scores.md" in err
    assert "Traceback" not in err
    assert _run([*sepsis[:-1], "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert _run(sepsis[:-2]) == 2
    assert "--predictions" in capsys.readouterr().err


@pytest.fixture
def diagnoses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, code in (("A", "# Dx: 164889003"), ("B", "#Dx: 426627000,55827005")):
        put(tmp_path / "labels" / f"{name}.hea", f"{name} 12 500 5000", code)
    columns = "164889003,426783006,426627000"
    put(tmp_path / "said" / "A.csv", "#A", columns, "1,1,0", "0.9,0.8,0.1")
    put(tmp_path / "said" / "B.csv", "#B", columns, "1,0,0", "0.8,0.1,0.3")
    return ["score", "physionet2021", "--labels", "labels", "--outputs", "said"]


def test_diagnoses_as_json(diagnoses, capsys):
    assert _run([*diagnoses, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    # as in test_scores_2021.test_a_metric_by_hand
    assert found["scores"]["challenge_metric"] == pytest.approx((0.775 - 0.35) / (2 - 0.35))
    # AF: one hit, one false alarm, 2 / 3; bradycardia missed, normal rhythm a false alarm; no other class is defined
    assert found["scores"]["macro_f1"] == pytest.approx(2 / 9)
    assert (found["scores"]["auroc"], found["scores"]["auprc"]) == (1, 1)
    assert len(found["classes"]) == 26
    assert found["classes"][0] == {
        "codes": "164889003",
        "abbreviation": "AF",
        "positives": 1,
        "predicted": 2,
        "f1": pytest.approx(2 / 3),
        "auroc": 1,
        "auprc": 1,
    }
    assert found["classes"][1]["f1"] is None
    assert found["remarks"][0].startswith("1 recording (B) with codes that are not scored: 55827005 (1)")


def test_diagnoses_for_people(diagnoses, capsys):
    assert _run(diagnoses) == 0
    out, err = capsys.readouterr()
    assert "challenge metric  0.2576" in out  # 17/66
    assert "CRBBB|RBBB" in out
    assert "55827005 (1)" in err


def test_outputs_that_do_not_pair_end_with_2(diagnoses, tmp_path, capsys):
    (tmp_path / "said" / "B.csv").unlink()
    assert _run(diagnoses) == 2
    assert "the predictions for B.hea, found no such file" in capsys.readouterr().err
