"""The pack of block-by-block matching and its baselines as the runner sees it, and what it says of records."""

import copy
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm import KIND, evaluation
from kdsearch.trainables.bbm.comparing import compared
from kdsearch.trainables.bbm.evaluation import answers
from kdsearch.trainables.bbm.judging import judge_hours, judge_signals
from kdsearch.trainables.networks.files import FileError
from kdsearch.trainables.protocol import MemberState
from kdsearch.trainables.records import Part, sample_records

_SPEC = importlib.util.spec_from_file_location("bbm_cases", Path(__file__).with_name("bbm_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
CPU, HOURS, METHODS, SETS = _CASES.CPU, _CASES.HOURS, _CASES.METHODS, _CASES.SETS
changed, learned, learner_of, member = _CASES.changed, _CASES.learned, _CASES.learner_of, _CASES.member
make, optimised, root, run = _CASES.make, _CASES.optimised, _CASES.root, _CASES.run
teachers, with_teacher = _CASES.teachers, _CASES.with_teacher

SCORES = ("loss", "error", "challenge", "f1", "auroc", "auprc")
TIMES = {
    "seconds",
    "train_seconds",
    "iterations",
    "forward_passes",
    "backward_passes",
    "tangent_passes",
    "members",
}
EVERY_EPOCH = {
    "1/train_loss",
    "1/threshold_challenge",
    "1/threshold_f1",
    *(f"1/val_{name}" for name in SCORES),
    *TIMES,
}
AT_THE_END = {f"1/test_{name}" for name in SCORES}
ELSEWHERE = {"hours": "eicu", "signals": "hangzhou"}
FINAL = {"evaluate": True}


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_what_is_reported_and_when(make, data):
    pack = make(data, *(member(n, method, FINAL) for n, method in enumerate(METHODS)))
    assert pack.active == (0, 1, 2, 3)
    found = run(pack)
    for number, method in enumerate(METHODS):
        reports = found[number]
        epochs = 2 if method == "teacher" else 3
        assert [report.epoch for report in reports] == list(range(1, epochs + 1))
        assert [report.state for report in reports[:-1]] == [MemberState.RUNNING] * (epochs - 1)
        assert reports[-1].state is MemberState.COMPLETE
        own = {"1/train_matching"} if method == "bbm" else set()
        for report in reports[:-1]:
            assert report.metrics.keys() == EVERY_EPOCH | own
            assert dict(report.arrays) == {}
        attention = {"attention_distance.1", "attention_distance.2"}
        compared = set() if method == "teacher" else {"1/r2", *attention}
        assert reports[-1].metrics.keys() == EVERY_EPOCH | AT_THE_END | own | compared
        assert all(math.isfinite(value) for report in reports for value in report.metrics.values())
        last = reports[-1].metrics
        for part in ("val", "test"):
            assert last[f"1/{part}_error"] == pytest.approx(100 * (1 - last[f"1/{part}_challenge"]))
        assert last["members"] == 4
        assert (
            last["iterations"]
            == last["forward_passes"]
            == math.ceil((84 if data == "hours" else 70) / (40 if method == "teacher" else 32))
        )


def test_the_error_is_that_of_the_objective(make):
    for name in ("f1", "auroc", "auprc"):
        last = run(make("hours", member(0, "transformer", FINAL), objective=name))[0][-1].metrics
        assert last["1/val_error"] == 100 * (1 - last[f"1/val_{name}"])
        assert last["1/test_error"] == 100 * (1 - last[f"1/test_{name}"])


def test_the_test_part_is_seen_by_evaluated_trials_alone(make):
    for plan in ({}, {"evaluate": False}):
        report = run(make("hours", member(0, "bbm", plan)))[0][-1]
        assert report.state is MemberState.COMPLETE
        assert report.metrics.keys() == EVERY_EPOCH | {"1/train_matching"}
        assert dict(report.arrays) == {}


def test_the_test_part_is_judged_by_thresholds_of_the_validation_part_and_compared_as_a_whole(make):
    pack = make("hours", member(0, "transformer", FINAL))
    last = run(pack)[0][-1].metrics
    learner = pack._finished[0]

    def said(part):
        records = pack._records
        return answers(learner.network, records, records.parts[part], batch_size=50, device=CPU)

    validation, test = said(Part.VALIDATION), said(Part.TEST)
    own = judge_hours(test.probabilities, test.labels, test.lengths)
    moved = judge_hours(test.probabilities, test.labels, test.lengths, validation.judged().thresholds)
    assert last["1/threshold_f1"] == pytest.approx(validation.judged().thresholds.f1, rel=1e-4)
    assert last["1/test_f1"] == pytest.approx(moved.f1, rel=1e-3)
    assert last["1/test_challenge"] == pytest.approx(moved.challenge, rel=1e-3)
    assert own.challenge > moved.challenge  # so that it would show
    alike = compared(
        learner.network,
        pack._teacher,
        pack._records,
        pack._records.parts[Part.TEST],
        batch_size=50,
        device=CPU,
    )
    assert last["1/r2"] == pytest.approx(alike.r2, rel=1e-4)
    assert last["attention_distance.2"] == pytest.approx(alike.distances[1], rel=1e-4)


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_records_from_elsewhere_are_for_comparisons_alone(make, data):
    name = {"name": SETS[data]["data"]["name"], "elsewhere": ELSEWHERE[data]}
    settings = {"data": {**SETS[data]["data"], **name}}
    last = run(make(data, member(0, "bbm", FINAL), **settings))[0][-1]
    more = {"1/r2_external", "attention_distance_external.1", "attention_distance_external.2"}
    assert more <= last.metrics.keys()
    assert last.arrays.keys() == {"cka", "cka_external", "attention", "attention_external"}
    plain = run(make(data, member(0, "bbm", FINAL)))[0][-1]
    assert plain.metrics["1/r2"] == last.metrics["1/r2"] != last.metrics["1/r2_external"]
    assert np.array_equal(plain.arrays["cka"], last.arrays["cka"])
    assert not np.array_equal(last.arrays["cka"], last.arrays["cka_external"])


def test_a_sweep_can_do_without_comparisons(make):
    last = run(make("hours", member(0, "deit", FINAL), similarity=False))[0][-1]
    assert last.metrics.keys() == EVERY_EPOCH | AT_THE_END
    assert dict(last.arrays) == {}


def test_a_value_that_follows_its_gradient_is_reported_at_every_epoch(make):
    reports = run(make("hours", optimised(0)))[0]
    values = [report.metrics["meta.lambda"] for report in reports]
    assert len(set(values)) == 3
    assert all(0 <= value <= 1 for value in values)
    for report in reports:
        assert report.metrics["skipped_hypergradients"] == 0
        judged = report.metrics["forward_passes"] - 3
        assert judged == 2
        assert report.metrics["backward_passes"] == 3 + 2 * judged
    assert learned(reports)[0] != learned(run(make("hours", optimised(0, start=0.5)))[0])[0]


# Members

EVERYBODY = [
    *(("hours", member(n, method, FINAL)) for n, method in enumerate(METHODS)),
    ("hours", optimised(4)),
    ("hours", optimised(5, "deit", 0.4)),
    *(("signals", member(n, method, FINAL)) for n, method in enumerate(METHODS)),
    ("signals", optimised(4)),
]


@pytest.mark.parametrize(("data", "each"), EVERYBODY)
def test_a_resumed_trial_equals_an_uninterrupted_one(make, tmp_path, data, each):
    augmented = {"augment_number": 1} if data == "signals" else {}
    teacher = {**SETS[data]["teacher"], "epochs": 3}
    whole = run(make(data, each, teacher=teacher, **augmented))[each.number]
    assert len(whole) == 3
    for epoch in (1, 2):
        first = make(data, each, teacher=teacher, **augmented)
        run(first, epochs=epoch)
        path = tmp_path / f"{epoch}.pt"
        first.save(each.number, path)
        again = make(data, replace(each, checkpoint=path), teacher=teacher, **augmented)
        resumed = run(again)[each.number]
        assert [report.epoch for report in resumed] == list(range(epoch + 1, 4))
        assert learned(resumed) == learned(whole[epoch:])
        for name, array in whole[-1].arrays.items():
            assert np.array_equal(array, resumed[-1].arrays[name], equal_nan=True)


def test_members_of_a_pack_are_trained_as_if_alone(make):
    members = [each for data, each in EVERYBODY if data == "hours"]
    together = run(make("hours", *members))
    for each in members:
        assert learned(run(make("hours", each))[each.number]) == learned(together[each.number])


def test_a_member_can_be_dropped_and_the_others_go_on(make):
    pack = make("hours", member(0), member(1, "deit"), member(2, "teacher"))
    run(pack, epochs=1)
    pack.drop(0)
    assert pack.active == (1, 2)
    rest = run(pack)
    assert [report.epoch for report in rest[1]] == [2, 3]
    assert learned(rest[1]) == learned(run(make("hours", member(1, "deit")))[1][1:])
    assert pack.active == ()
    pack.drop(2)  # its output is forgotten
    for number in (0, 2, 7):
        with pytest.raises(UsageError, match=f"trial {number} does not train in this pack"):
            pack.drop(number)
        with pytest.raises(UsageError, match=f"trial {number} does not train"):
            pack.save_output(number, Path("nowhere.pt"))


@pytest.mark.parametrize("data", ["hours", "signals"])
@pytest.mark.parametrize("method", ["transformer", "deit", "bbm"])
def test_a_learning_rate_beyond_reason_is_told(make, data, method):
    pack = make(data, member(0, method, FINAL, learning_rate=1e30), member(1, "transformer"))
    report, other = pack.run_epoch()
    assert report.state is MemberState.DIVERGED
    assert f"loss of the {method} is nan at epoch 1" in report.message
    assert "1/test_loss" not in report.metrics
    assert (other.state, other.message) == (MemberState.RUNNING, "")
    assert pack.active == (1,)


def test_a_loss_that_is_no_number_in_training_is_told(make, monkeypatch):
    pack = make("hours", member(0))
    with torch.no_grad():
        pack._learners[0].network.head.bias.fill_(math.nan)
    (report,) = pack.run_epoch()
    assert report.state is MemberState.DIVERGED
    assert report.message == "the training loss of the bbm is nan at epoch 1"
    assert "1/val_error" not in report.metrics


def test_the_clock_is_told_apart(root, make):
    pack = make("hours", member(0, "transformer"), member(1, "transformer"))
    ticks = iter(range(100))
    pack._clock = lambda: next(ticks) ** 2
    first, second = pack.run_epoch()
    assert (first.metrics["train_seconds"], first.metrics["seconds"]) == (1, 4)
    assert (second.metrics["train_seconds"], second.metrics["seconds"]) == (7, 16)


# What a network says of records


@pytest.mark.parametrize("data", ["hours", "signals"])
@pytest.mark.parametrize("method", ["teacher", "deit"])
def test_answers_stand_in_the_records_order_though_batches_are_sorted(root, teachers, data, method):
    learner, _ = learner_of(SETS[data], member(0, method), root, teachers[data])
    network = copy.deepcopy(learner.network).double()
    records = learner._records
    chosen = records.parts[Part.TEST][::-1].copy()

    class Double(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, values, real=None):
            return self.network(values.double(), real)

    network.train()
    found = answers(Double(), records, chosen, batch_size=4, device=CPU)
    assert not network.training
    probabilities, labels, losses = [], [], []
    for at in chosen:
        batch = records.batch(np.array([at]))
        with torch.no_grad():
            logits = network(torch.from_numpy(np.array(batch.values)).double())
        known = torch.from_numpy(batch.labels).double()
        losses += functional.binary_cross_entropy_with_logits(logits, known, reduction="none").flatten()
        probabilities.append(torch.sigmoid(logits)[0].numpy())
        labels.append(batch.labels[0] > 0.5)
    if data == "hours":
        assert found.lengths.tolist() == [len(each) for each in labels]
        assert len(set(found.lengths.tolist())) > 5
        expected = np.concatenate(probabilities)[:, 0]
        known = np.concatenate(labels)[:, 0]
        judged = judge_hours(found.probabilities, found.labels, found.lengths)
    else:
        assert found.lengths is None
        expected, known = np.stack(probabilities), np.stack(labels)
        judged = judge_signals(found.probabilities, found.labels)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-9)
    assert np.array_equal(found.labels, known)
    assert found.loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-9)
    assert found.judged() == judged


def test_batches_of_an_evaluation_hold_every_record_once_and_pad_little(root):
    learner, _ = learner_of(SETS["hours"], member(0, "transformer"), root, None)
    records = learner._records
    chosen = records.parts[Part.TRAINING]
    places, widths = [], []
    for at, batch in evaluation.in_batches(records, chosen, batch_size=10, device=CPU):
        places += at.tolist()
        widths.append(batch.values.shape[1])
        assert batch.real.sum(1).tolist() == records.lengths[chosen[at]].tolist()
    assert sorted(places) == list(range(len(chosen)))
    assert widths == sorted(widths)


def test_a_pack_without_a_teacher_compares_nothing(root):
    settings = changed(SETS["hours"], teacher=None, method="transformer")
    pack = KIND.make_pack(settings, [member(0, "transformer", FINAL)], data_root=root, device="cpu")
    last = run(pack)[0][-1]
    assert last.arrays.keys() == {"attention"}
    assert "1/r2" not in last.metrics
    assert "attention_distance.1" in last.metrics


def test_a_learning_member_without_its_teacher_is_refused(root):
    with pytest.raises(UsageError, match="trial 0: the method bbm got no teacher"):
        KIND.make_pack(SETS["hours"], [member(0)], data_root=root, device="cpu")


def test_a_checkpoint_is_not_gone_on_with_on_other_records(make, root, teachers, tmp_path):
    own = make("hours", member(1))
    own.run_epoch()
    own.save(1, tmp_path / "1.pt")
    sample_records("physionet2019", tmp_path / "other", seed=9)
    each = with_teacher(replace(member(1), checkpoint=tmp_path / "1.pt"), "hours", teachers)
    with pytest.raises(FileError, match="another trial's checkpoint: its records"):
        KIND.make_pack(HOURS, [each], data_root=tmp_path / "other", device="cpu")


def test_a_test_loss_that_is_no_number_is_told(make, monkeypatch):
    own = make("hours", member(1, plan={"evaluate": True}), epochs=2)
    own.run_epoch()
    real = own._answers

    def broken(learner, part):
        said = real(learner, part)
        return replace(said, loss=float("nan")) if part is Part.TEST else said

    monkeypatch.setattr(own, "_answers", broken)
    (report,) = own.run_epoch()
    assert report.state is MemberState.DIVERGED
    assert "test loss" in report.message
