"""`kdsearch export` and `import` on the command line: what they say, and what they refuse."""

from __future__ import annotations

import json
import sqlite3

import optuna
import pandas as pd
import pytest
import yaml

from kdsearch.analysis.results import analyse
from kdsearch.search.cli import _run
from kdsearch.search.trialdb import TrialDatabase, read_record

optuna.logging.set_verbosity(optuna.logging.ERROR)

ROWS = [(n, round(0.001 * 1.4**n, 6), ("sgd", "adam")[n % 2], 20 + n * 7 % 30) for n in range(20)]
HEADING = "number,rate,optimiser,error\n"


def lines(rows=ROWS):
    return HEADING + "".join(f"{n},{rate},{optimiser},{error}\n" for n, rate, optimiser, error in rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    (tmp_path / "theirs.csv").write_text(lines())
    return tmp_path


def told(capsys):
    out = capsys.readouterr()
    assert "Traceback" not in out.err + out.out
    return out.out, out.err


def stored(name="theirs"):
    with TrialDatabase.open("sqlite:///kdsearch.db", read_only=True) as database:
        return database.sweep(name), database.trials(name)


def refused(here, capsys, arguments, *words):
    """The command is refused with these words, and no database, file or draft is left behind."""
    before = _names(here)
    assert _run(arguments) == 2
    out, err = told(capsys)
    for word in words:
        assert word in err, err
    assert not out
    assert _names(here) == before
    return err


def _names(folder):
    """Files, without what SQLite keeps beside a database that is open."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm")))


def test_a_table_becomes_a_sweep_and_a_report(here, capsys):
    assert _run(["import", "theirs.csv", "--design", "random"]) == 0
    out, err = told(capsys)
    assert "theirs: 20 trials (20 complete) from theirs.csv" in out
    assert "rate: log-uniform, low 0.001, high 0.597" in out
    assert "inferred" in err
    sweep, trials = stored()
    assert (sweep.kind, sweep.trainable, str(sweep.state)) == ("import", "import", "complete")
    assert [t.error for t in trials] == [float(row[3]) for row in ROWS]
    assert trials[0].configuration == {"rate": 0.001, "optimiser": "sgd"}
    assert _run(["report", "theirs", "--out", "r"]) == 0
    auc = pd.read_csv("r/auc.csv")
    assert auc.loc[0, "auc"] == pytest.approx(100 - sum(row[3] for row in ROWS) / 20)
    assert set(auc["value"]) == {"all", "adam", "sgd"}
    assert pd.read_csv("r/trials.csv")["seed"].isna().all()  # nobody knows them
    page = (here / "r" / "report.html").read_text()
    assert "Imported sweep theirs" in page
    assert "How it was imported" in page
    for wrong in ("validation error", "from start to end", "How it was run", "The search began"):
        assert wrong not in page, wrong


def test_trials_are_a_sample_only_if_the_user_says_so(here, capsys):
    assert _run(["import", "theirs.csv"]) == 0
    assert "no error distribution" in told(capsys)[0]
    assert _run(["report", "theirs", "--out", "r"]) == 0
    page = (here / "r" / "report.html").read_text()
    assert "nobody said how their configurations were chosen" in page
    assert len(pd.read_csv("r/edf.csv")) == 0


def test_two_populations_are_compared_by_name(here, capsys):
    (here / "ours.csv").write_text(lines([(n, r, o, e - 15) for n, r, o, e in ROWS]))
    for name in ("theirs", "ours"):
        assert _run(["import", f"{name}.csv", "--design", "random"]) == 0
    assert _run(["report", "theirs", "ours", "--out", "r"]) == 0
    assert (here / "r" / "figures" / "comparison.svg").exists()
    assert "replaced" not in told(capsys)[1]
    assert _run(["report", "ours", "--out", "r"]) == 0
    assert "The report of theirs, ours that was in r was replaced." in told(capsys)[1]
    assert _run(["report", "ours", "--out", "r"]) == 0  # brought up to date
    assert "replaced" not in told(capsys)[1]


def test_json_of_both(here, capsys):
    assert _run(["import", "theirs.csv", "--design", "random", "--json"]) == 0
    imported = json.loads(told(capsys)[0])
    assert imported["trials"] == imported["draws"] == 20
    assert imported["states"] == {"complete": 20}
    assert imported["space"]["parameters"]["optimiser"]["values"] == ["adam", "sgd"]
    for form, out in (("csv", "t.csv"), ("parquet", "t.parquet"), ("optuna", "t.db")):
        assert _run(["export", "theirs", "--format", form, "--out", out, "--json"]) == 0
        exported = json.loads(told(capsys)[0])
        assert (exported["trials"], exported["out"]) == (20, out)
        assert exported["what"] == (None if form == "optuna" else "trials")
    assert pd.read_csv("t.csv")["error"].tolist() == [float(row[3]) for row in ROWS]
    assert "seed" not in pd.read_csv("t.csv")  # nobody knows them
    assert pd.read_parquet("t.parquet")["rate"].tolist() == [row[1] for row in ROWS]


def test_an_imported_sweep_is_not_resumed(here, capsys):
    assert _run(["import", "theirs.csv"]) == 0
    told(capsys)
    assert _run(["resume", "theirs"]) == 2
    assert "its trials were run elsewhere" in told(capsys)[1]
    assert _run(["status"]) == 0
    assert "theirs" in told(capsys)[0]


def test_accuracies_fractions_and_columns_of_other_programs(here, capsys):
    frame = pd.DataFrame(
        {
            "trial_id": [f"t{n}" for n in range(6)],
            "config/lr": [0.1, 0.2, 0.1, 0.4, 0.5, 0.6],
            "config/opt": ["a", "b", "a", "b", "a", "b"],
            "mean_accuracy": [0.5, 0.75, None, 0.25, 0.5, 1.0],
            "status": ["TERMINATED", "TERMINATED", "ERROR", "TERMINATED", "TERMINATED", "TERMINATED"],
            "node_ip": "10.0.0.1",
        }
    )
    frame.to_csv("ray.csv")  # with pandas' row numbers
    arguments = ["import", "ray.csv", "--accuracy", "mean_accuracy", "--scale", "100", "--state", "status"]
    refused(here, capsys, [*arguments, "--parameters", "config/*"], "trial_id, node_ip", "--ignore")
    assert _run([*arguments, "--parameters", "config/*", "--ignore", "trial_id,node_*"]) == 0
    _, trials = stored("ray")
    assert [t.error for t in trials] == [50, 25, None, 75, 50, 0]
    assert [str(t.state) for t in trials] == [*["complete"] * 2, "failed", *["complete"] * 3]
    assert set(trials[0].configuration) == {"lr", "opt"}


@pytest.mark.parametrize(
    ("role", "factor", "shown", "remark"),
    [
        ("error", 0.01, "0.2 to 0.49", "All errors lie in [0, 1] (0.2 to 0.49)"),
        ("accuracy", 0.01, "99.51 to 99.8", "All accuracies lie in [0, 1] (0.2 to 0.49)"),
        ("accuracy", 1, "51 to 80", ""),
        ("error", 1, "20 to 49", ""),
    ],
)
def test_fractions_that_may_have_been_taken_for_per_cent_are_remarked_on(
    here, capsys, role, factor, shown, remark
):
    (here / "theirs.csv").write_text(lines([(n, r, o, round(e * factor, 4)) for n, r, o, e in ROWS]))
    assert _run(["import", "theirs.csv", f"--{role}", "error"]) == 0
    out, err = told(capsys)
    assert f"Errors: {shown} per cent" in out
    assert remark in err
    assert ("--scale 100" in err) == bool(remark)
    if remark:
        assert _run(["import", "theirs.csv", f"--{role}", "error", "--scale", "100", "--name", "again"]) == 0
        assert "--scale" not in told(capsys)[1]


def test_optunas_own_dataframe_is_read(here, capsys):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 9) + trial.suggest_int("y", 1, 3), n_trials=9)
    study.trials_dataframe().to_csv("frame.csv", index=False)
    arguments = ["--error", "value", "--parameters", "params_*", "--ignore", "datetime_*,duration"]
    assert _run(["import", "frame.csv", *arguments, "--design", "random"]) == 0
    _, trials = stored("frame")
    assert [t.error for t in trials] == [t.value for t in study.trials]
    assert [t.configuration for t in trials] == [t.params for t in study.trials]


def test_curves_in_a_file_of_their_own(here, capsys):
    rows = [(n, epoch, 90 - epoch - n, 0.5) for n in range(20) for epoch in range(3)]
    frame = pd.DataFrame(rows, columns=["trial", "epoch", "error", "loss"])
    frame.to_csv("c.csv", index=False)
    assert _run(["import", "theirs.csv", "--curves", "c.csv"]) == 0
    with TrialDatabase.open("sqlite:///kdsearch.db", read_only=True) as database:
        curves = read_record(database, "theirs").curves
        trial = database.trials("theirs")[4]
    own = curves[(curves["trial"] == 4) & (curves["metric"] == "val_error")]
    assert own["epoch"].tolist() == [1, 2, 3]
    assert own["value"].tolist() == [86, 85, 84]
    assert set(curves["metric"]) == {"val_error", "loss"}
    assert (trial.best_error, trial.best_epoch, trial.last_epoch) == (84, 3, 3)
    told(capsys)
    frame.assign(trial=frame["trial"] + 1).to_csv("c.csv", index=False)
    refused(here, capsys, ["import", "theirs.csv", "--name", "x", "--curves", "c.csv"], "does not have: 20")
    pd.concat([frame, frame[:1]]).to_csv("c.csv", index=False)
    refused(
        here,
        capsys,
        ["import", "theirs.csv", "--name", "x", "--curves", "c.csv"],
        "epoch 0 of trial 0 stands twice, in line 2 and line 62",
    )


def test_a_table_of_curves_alone(here, capsys):
    rows = [(x, seed, epoch, 50 - epoch + x) for x in (1, 2, 3) for seed in (7, 8) for epoch in (1, 2)]
    frame = pd.DataFrame(rows, columns=["x", "seed", "epoch", "val_error"])
    frame.to_csv("long.csv", index=False)
    assert _run(["import", "long.csv"]) == 0
    _, trials = stored("long")
    assert [(t.configuration["x"], t.seed, t.error) for t in trials] == [
        (x, seed, 48.0 + x) for x in (1, 2, 3) for seed in (7, 8)
    ]
    told(capsys)
    frame.drop(columns="seed").to_csv("long.csv", index=False)
    refused(
        here, capsys, ["import", "long.csv", "--name", "x"], "stands twice", "`trial`, `seed` or `repeat`"
    )
    frame.assign(trial=0, epoch=range(12), loss=frame["epoch"]).to_csv("long.csv", index=False)
    refused(here, capsys, ["import", "long.csv", "--name", "x"], "changes between line 2 and")


def test_curves_that_end_early_are_what_their_state_says(here, capsys):
    """A pruned trial's last error is no final one: it must not come into an error distribution as one."""
    rows = [
        (n, n / 10, epoch, 50 - epoch + n, ("complete", "pruned", "paused")[n % 3])
        for n in range(6)
        for epoch in range(1, 2 if n % 3 else 5)
    ]
    frame = pd.DataFrame(rows, columns=["trial", "x", "epoch", "error", "what"])
    frame.to_csv("long.csv", index=False)
    assert _run(["import", "long.csv", "--state", "what", "--design", "random"]) == 0
    _, trials = stored("long")
    assert [str(t.state) for t in trials] == ["complete", "stopped", "stopped"] * 2
    out, err = told(capsys)
    assert "end before epoch 4" not in out + err
    with TrialDatabase.open("sqlite:///kdsearch.db", read_only=True) as database:
        (space,) = analyse(read_record(database, "long")).spaces
    assert "4 stopped early" in space.population.refused
    assert _run(["import", "long.csv", "--ignore", "what", "--name", "mute"]) == 0
    assert {str(t.state) for t in stored("mute")[1]} == {"complete"}
    said = " ".join("".join(told(capsys)).split())
    assert "The curves of 4 trials of long.csv end before epoch 4, where others end (line 6, line 7," in said


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (lines() + "7,0.1,sgd,30\n", [], ["trial 7 stands twice, in line 9 and line 22"]),
        (lines() + "20,0.1,sgd,\n", [], ["1 trial has no number in error (line 22)", "--missing"]),
        (lines() + "20,0.1,sgd,nan\n", [], ["1 trial has no number in error (line 22)"]),
        (lines() + "20,0.1,sgd,good\n", [], ["line 22, column error: 'good' is no number"]),
        (lines() + "20,0.1,sgd,-3\n", [], ["outside [0, 1000] per cent (line 22: -3)", "--scale"]),
        (lines() + "x,0.1,sgd,3\n", [], ["line 22, column number: 'x' is no whole number"]),
        (lines() + ",0.1,sgd,3\n", [], ["line 22, column number is empty"]),
        (lines() + "20,,sgd,3\n", [], ["rate has no value in 1 of 21 trials", "--space"]),
        (lines() + "20,0.1,sgd,3,4\n", [], ["is no CSV file"]),
        (HEADING, [], ["has no rows"]),
        ("", [], ["is empty"]),
        ("number,number,error\n1,2,3\n", [], ["has the column 'number' twice"]),
        ("x,eror\n1,2\n", [], ["has no column `error`", "x, eror"]),
        ("x,error\n1,2\n1,2\n", [], ["line 2 and line 3 have the same parameters and the same error"]),
        ("x,seed,error\n1,5,2\n1,5,3\n", [], ["the same seed (5)", "--ignore seed"]),
        ("x,seed,error\n1,a,2\n", [], ["column seed: 'a' is no whole number"]),
        ('x,plan,error\n1,"[1]",2\n', [], ["line 2, column plan: '[1]' is no JSON object", "--ignore plan"]),
        ("x,state,error\n1,done,2\n", [], ["unknown trial state 'done'", "complete"]),
        ("error\n1\n", [], ["has no parameters"]),
        (lines(), ["--error", "eror"], ["unknown column 'eror'", "Did you mean 'error'?"]),
        (lines(), ["--error", "error", "--accuracy", "error"], ["exclude each other"]),
        (lines(), ["--ignore", "x*"], ["unknown column 'x*'"]),
        (lines(), ["--parameters", "rate"], ["nothing is known of the column optimiser", "--ignore"]),
        (lines(), ["--scale", "0"], ["--scale is 0"]),
        (lines(), ["--scale", "nan"], ["--scale is nan"]),
        (lines(), ["--tau", "0"], ["--tau"]),
        (lines(), ["--a", "60", "--tau", "50"], ["a (60.0) must be less than tau"]),
        (lines(), ["--design", "stated"], ["does not say how 20 trials were chosen"]),
        (
            "design,x,error\ntpe,1,2\nrandom,2,3\n",
            ["--design", "random"],
            ["no random draws", "(tpe; line 2)"],
        ),
        (lines(), ["--study", "x"], ["holds no studies"]),
        (lines(), ["--name", "a b"], ["no name of a sweep"]),
        (lines() + "20,0.1,sgd,1_0\n", [], ["'1_0' is no number"]),
        (f"x,seed,error\n1,{2**64},2\n", [], ["is no whole number in [0, 2**63)", "--ignore seed"]),
        (f"number,x,error\n{2**40},1,2\n", [], ["is above 2147483647"]),
        (lines(), ["--curves", "none.csv"], ["cannot read none.csv"]),
        (lines(), ["--space", "none.yaml"], ["cannot read the space file none.yaml"]),
    ],
)
def test_bad_tables_are_refused_and_nothing_is_left(here, capsys, text, arguments, words):
    (here / "bad.csv").write_text(text)
    refused(here, capsys, ["import", "bad.csv", *arguments], *words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"rate": {"type": "float", "low": 0, "high": 0.3}}, ["unknown", "optimiser"]),
        (
            {
                "rate": {"type": "float", "low": 0, "high": 0.3},
                "optimiser": {"type": "categorical", "values": ["sgd", "adam"]},
            },
            ["line 19: rate is 0.304913, and the space has a number in [0.0, 0.3]"],
        ),
        (
            {
                "rate": {"type": "float", "low": 0, "high": 1},
                "optimiser": {"type": "categorical", "values": ["sgd", "lamb"]},
            },
            ["line 3: optimiser is adam, and the space has one of sgd, lamb"],
        ),
        (
            {
                "optimiser": {"type": "categorical", "values": ["sgd", "adam"]},
                "rate": {"type": "float", "low": 0, "high": 1, "when": {"optimiser": "sgd"}},
            },
            ["line 3 is outside the space: rate has a value, which it has only where optimiser is sgd"],
        ),
    ],
)
def test_values_outside_a_given_space_are_refused(here, capsys, space, words):
    (here / "space.yaml").write_text(yaml.safe_dump({"kind": "parameters", "parameters": space}))
    refused(here, capsys, ["import", "theirs.csv", "--space", "space.yaml"], *words[1:])


def test_graphs_are_told_up_to_symmetry_with_their_space(here, capsys):
    spec = {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
        "gates": ["through", "cutoff"],
    }
    edges = ["label->1", "2->1", "3->1", "label->2", "1->2", "3->2", "label->3", "1->3", "2->3"]
    row = dict.fromkeys(edges, "through") | {"error": 20}
    mirrored = [
        {**row, "model.2": "resnet8w4", "model.3": "resnet8w8"},
        {**row, "model.2": "resnet8w8", "model.3": "resnet8w4", "error": 30},
    ]
    pd.DataFrame(mirrored).to_csv("graphs.csv", index=False)
    (here / "sweep.yaml").write_text(yaml.safe_dump({"name": "x", "space": spec}))
    assert _run(["import", "graphs.csv", "--space", "sweep.yaml", "--design", "random"]) == 0
    _, trials = stored("graphs")
    assert trials[0].configuration == trials[1].configuration
    assert [t.orbit_size for t in trials] == [2, 2]
    told(capsys)
    pd.DataFrame([{**mirrored[0], **dict.fromkeys(edges[:3], "cutoff")}]).to_csv("g.csv", index=False)
    refused(here, capsys, ["import", "g.csv", "--space", "sweep.yaml"], "no edge reaches the target")


def test_files_that_are_something_else(here, capsys):
    (here / "x.parquet").write_bytes(b"PAR1 and then nothing")
    refused(here, capsys, ["import", "x.parquet"], "is no Parquet file")
    (here / "y.parquet").write_text("number,error\n1,2\n")
    refused(here, capsys, ["import", "y.parquet"], "is no Parquet file")
    (here / "z.db").write_text("not a database")
    refused(here, capsys, ["import", "z.db"], "is no SQLite database")
    (here / "w.db").write_bytes(b"SQLite format 3\x00" + bytes(200))
    refused(here, capsys, ["import", "w.db"], "w.db")
    with sqlite3.connect("v.db") as connection:
        connection.execute("CREATE TABLE notes (x)")
    connection.close()
    refused(here, capsys, ["import", "v.db"], "is no database of Optuna's (tables: notes)")
    (here / "u.csv").write_bytes(bytes(range(256)))
    refused(here, capsys, ["import", "u.csv"], "is no CSV file")
    refused(here, capsys, ["import", "none.csv"], "there is no file none.csv")


def test_trials_of_a_study_that_failed_too_early_are_left_out_and_told(here, capsys):
    study = optuna.create_study(study_name="s", storage="sqlite:///s.db")

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        if trial.number == 5:
            raise ValueError("early")
        x = trial.suggest_float("x", 0, 1) if kind == "a" else 0.5
        y = trial.suggest_float("y", 0, 1)
        if trial.number == 6:
            raise ValueError("late")
        return x + y

    study.optimize(objective, n_trials=16, catch=(ValueError,))
    assert _run(["import", "s.db", "--design", "random"]) == 0
    _, err = told(capsys)
    assert "not all of their parameters when they ended: 1 trial (trial 5)" in err
    sweep, trials = stored("s")
    assert [t.number for t in trials] == [n for n in range(16) if n != 5]
    assert str(trials[5].state) == "failed"
    assert sweep.settings["space"]["parameters"]["x"]["when"] == {"kind": "a"}


def test_text_with_a_mark_in_front_and_odd_values(here, capsys):
    (here / "odd.csv").write_bytes(
        b"\xef\xbb\xbferror,x,y,z\r\n1,1_2,true,007\r\n2,a b,false,1e-3\r\n3,1_2,true,2\r\n"
    )
    assert _run(["import", "odd.csv"]) == 0
    _, trials = stored("odd")
    assert [t.configuration["x"] for t in trials] == ["1_2", "a b", "1_2"]
    assert [t.configuration["y"] for t in trials] == [True, False, True]
    assert [t.error for t in trials] == [1, 2, 3]
    told(capsys)


def test_names_that_are_taken_are_refused(here, capsys):
    assert _run(["import", "theirs.csv"]) == 0
    told(capsys)
    before = stored()
    assert _run(["import", "theirs.csv", "--design", "random"]) == 2
    assert "already has a sweep 'theirs'" in told(capsys)[1]
    assert stored() == before
    (here / "t.csv").write_text("mine")
    assert _run(["export", "theirs", "--format", "csv", "--out", "t.csv"]) == 2
    assert "writes over nothing" in told(capsys)[1]
    assert (here / "t.csv").read_text() == "mine"
    assert _run(["export", "theirs", "--format", "parquet", "--out", "none/t.parquet"]) == 2
    assert "does not exist" in told(capsys)[1]
    assert _run(["export", "their", "--format", "csv", "--out", "u.csv"]) == 2
    assert "Did you mean 'theirs'?" in told(capsys)[1]
    assert not (here / "u.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--format", "optuna", "--what", "curves"], "--what has no effect"),
        (["--format", "csv", "--parameters"], "--parameters has no effect"),
        (["--format", "csv", "--every", "2"], "--every has no effect"),
        (["--format", "parquet", "--study", "x"], "--study has no effect"),
    ],
)
def test_options_without_effect_are_refused(here, capsys, arguments, word):
    refused(here, capsys, ["export", "theirs", "--out", "x", *arguments], word)


def test_studies_take_no_options_of_tables(here, capsys):
    optuna.create_study(study_name="s", storage="sqlite:///s.db")
    refused(here, capsys, ["import", "s.db", "--parameters", "x"], "--parameters is for tables")
    refused(here, capsys, ["import", "s.db", "--error", "loss"], "objective is called value")
    refused(here, capsys, ["import", "s.db"], "holds no trials")
