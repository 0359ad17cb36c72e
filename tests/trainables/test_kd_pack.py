"""The pack of students as the runner sees it, held against a plain loop with double backward."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.kd import KIND, KdSettings
from kdsearch.trainables.kd.parts import load_parts
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.files import FileError, load_weights
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("kd_cases", Path(__file__).with_name("kd_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
OPTIMISER = _CASES.OPTIMISER
SETTINGS = _CASES.SETTINGS
START = _CASES.START
changed = _CASES.changed
learned = _CASES.learned
member = _CASES.member
optimised = _CASES.optimised
run = _CASES.run
teacher = _CASES.teacher
make = _CASES.make
kd_plain = _CASES.kd_plain
ktg_plain = _CASES.ktg_plain


def test_the_pack_equals_a_plain_loop_with_double_backward(make, teacher):
    pack = make(optimised(0))
    settings = KdSettings.from_mapping(SETTINGS)
    parts = load_parts(
        settings, [{}], data_root=None, device=torch.device("cpu"), dtype=torch.float64, teacher=False
    )
    training, validation = parts.training, parts.validation
    x, y = training.inputs.double() / 255, training.labels
    x_val, y_val = validation.inputs.double() / 255, validation.labels
    network = architecture("cnn4-8p", channels=1, classes=10, size=(8, 8))
    student = kd_plain.Student((4, 8), 1, 32, 10).double()
    start = initial_tensors(network, np.random.default_rng(seed_of("node", 1)))
    missing = student.load_state_dict({name: value.double() for name, value in start.items()}, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    teacher_arch = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    answers = plain_teacher(teacher, teacher_arch, x)
    values = torch.tensor([START["lambda_1"], START["temperature"]], dtype=torch.float64)
    for epoch in range(3):
        (report,) = pack.run_epoch()
        indices = kd_plain.order(100, "order", epoch, 48).reshape(3, 16)
        for index, judge in zip(indices, judged_orders(epoch), strict=True):
            values = kd_plain.step(
                student,
                values,
                (x[index], y[index], answers[index]),
                (x_val[judge], y_val[judge]),
                rate=0.3 * 0.5 ** (epoch // 2),
                meta_rate=OPTIMISER["rate"],
                bounds=[(0.0, 1.0), (0.1, 10.0)],
                temperature=1.0,
            )
        found = [report.metrics["meta.lambda_1"], report.metrics["meta.temperature"]]
        assert found == pytest.approx(values.tolist(), rel=1e-9)
    assert abs(values[0] - START["lambda_1"]) > 1e-3  # they did move
    assert abs(values[1] - START["temperature"]) > 1e-4


def seed_of(*names) -> int:
    return derive_seed(100, *names)


def judged_orders(epoch: int) -> list[torch.Tensor]:
    """Validation batches: 32 objects make two batches of 16 a pass; three are needed, so two passes are shuffled."""
    rng = np.random.default_rng(seed_of("validation order", epoch))
    passes = [rng.permutation(32).reshape(2, 16) for _ in range(2)]
    return list(torch.from_numpy(np.concatenate(passes)[:3]))


def plain_teacher(path: Path, teacher_architecture, x: torch.Tensor) -> torch.Tensor:
    network = ktg_plain.Network(
        wide=False, blocks=1, stem=4, widths=(4, 8, 16), channels=1, classes=10, stride=1
    ).double()
    state = load_weights(path, teacher_architecture)
    network.load_state_dict(state, strict=False)
    network.eval()
    with torch.no_grad():
        return network(x)


def test_members_of_a_pack_are_trained_as_if_alone(make):
    starts = [START, {"lambda_1": 0.1, "temperature": 9.0}, {"lambda_1": 1.0, "temperature": 0.2}]
    members = [optimised(n, start, e2=2) for n, start in enumerate(starts)]
    together = run(make(*members))
    for each in members:
        alone = run(make(each))[each.number]
        for one, other in zip(learned(alone), learned(together[each.number]), strict=True):
            assert one == pytest.approx(other, rel=1e-9)


def test_plain_and_optimised_students_differ_in_nothing_but_their_values(make):
    """A rate too small to matter: the optimised student is the plain one."""
    plain = run(make(member(0)))[0]
    still = run(make(optimised(0, rate=1e-30)))[0]
    names = ("1/train_loss", "1/val_loss", "1/val_error")
    for one, other in zip(plain, still, strict=True):
        assert [one.metrics[name] for name in names] == [other.metrics[name] for name in names]


@pytest.mark.parametrize("hypergradient", ["exact", "finite-difference"])
def test_a_resumed_trial_equals_an_uninterrupted_one(make, tmp_path, hypergradient):
    members = [
        optimised(n, start, e1=2, e2=3, hypergradient=hypergradient)
        for n, start in enumerate([START, {"lambda_1": 0.3, "temperature": 5.0}])
    ]
    whole = run(make(*members))
    first = make(*members)
    run(first, epochs=1)
    paths = [tmp_path / f"{each.number}.pt" for each in members]
    for each, path in zip(members, paths, strict=True):
        first.save(each.number, path)
    again = make(*[replace(each, checkpoint=path) for each, path in zip(members, paths, strict=True)])
    resumed = run(again)
    for number, reports in resumed.items():
        assert [report.epoch for report in reports] == [2, 3]
        assert learned(reports) == learned(whole[number][1:])


def test_a_pack_of_trials_at_different_epochs_equals_them_apart(make, tmp_path):
    early, late = optimised(0, e1=2, e2=2), optimised(1, e1=2, e2=2)
    ahead = make(late)
    run(ahead, epochs=1)
    path = tmp_path / "late.pt"
    ahead.save(1, path)
    rest = run(ahead)[1]
    mixed = run(make(early, replace(late, checkpoint=path)))
    assert learned(mixed[0]) == [pytest.approx(each, rel=1e-9) for each in learned(run(make(early))[0])]
    assert learned(mixed[1]) == [pytest.approx(each, rel=1e-9) for each in learned(rest)]


def test_a_checkpoint_of_another_trial_is_refused(make, tmp_path):
    pack = make(optimised(0))
    run(pack, epochs=1)
    path = tmp_path / "0.pt"
    pack.save(0, path)
    with pytest.raises(FileError, match="another trial's checkpoint: its plan"):
        make(replace(member(0), checkpoint=path))
    with pytest.raises(FileError, match="another trial's checkpoint: its settings"):
        make(replace(optimised(0), checkpoint=path), epochs=7)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"identity": None}, "does not say whose it is"),
        ({"epoch": "two"}, "does not say whose it is"),
        ({"tensors": None}, "no set of named tensors"),
        ({"momentum": {"head.weight": 1.0}}, "the student's momentum"),
    ],
)
def test_a_checkpoint_that_is_put_together_wrongly_is_refused_by_name(make, tmp_path, broken, told):
    pack = make(optimised(0))
    run(pack, epochs=1)
    path = tmp_path / "0.pt"
    pack.save(0, path)
    torch.save({**torch.load(path, weights_only=True), **broken}, path)
    with pytest.raises(FileError, match=told):
        make(replace(optimised(0), checkpoint=path))


def test_values_stay_in_their_space(make):
    members = [optimised(n, rate=500.0) for n in range(2)]
    for reports in run(make(*members)).values():
        for report in reports:
            assert 0.0 <= report.metrics["meta.lambda_1"] <= 1.0
            assert 0.1 <= report.metrics["meta.temperature"] <= 10.0


def test_one_of_both_metaparameters_can_be_optimised_alone(make):
    only = optimised(0, {"temperature": 2.0}, bounds={"temperature": [0.1, 10.0]})
    reports = run(make(replace(only, configuration=START)))[0]
    assert "meta.temperature" in reports[-1].metrics
    assert "meta.lambda_1" not in reports[-1].metrics
    assert reports[-1].metrics["meta.temperature"] != 2.0


def test_predicted_phases_cost_no_pass(make):
    greedy = run(make(optimised(0, e1=1)))[0][0].metrics
    predicted = run(make(optimised(0, e1=1, e2=2)))[0][0].metrics
    difference = run(make(optimised(0, e1=1, hypergradient="finite-difference")))[0][0].metrics
    plain = run(make(member(0)))[0][0].metrics
    assert plain["iterations"] == 3

    def passes(metrics):
        return [metrics[f"{name}_passes"] for name in ("forward", "backward", "tangent")]

    assert passes(plain) == [3, 3, 0]
    assert passes(greedy) == [6, 6, 3]  # forward and backward on the validation batch, one tangent pass
    assert passes(difference) == [12, 6, 0]
    assert passes(predicted) == [4, 4, 1]  # one gradient step in three iterations


def test_a_student_of_the_label_alone_needs_no_teacher():
    alone = KIND.make_pack(
        changed(distillation="none", teacher=None),
        [member(0, learning_rate=0.3)],
        data_root=None,
        device="cpu",
    )
    assert KIND.inputs(changed(distillation="none", teacher=None), {}) == ()
    assert run(alone)[0][-1].state is MemberState.COMPLETE


def test_lambda_one_is_the_label_alone(make):
    weighted = run(make(member(0, lambda_1=1.0, temperature=3.0)))[0]
    alone = run(
        KIND.make_pack(
            changed(distillation="none"), [member(0, learning_rate=0.3)], data_root=None, device="cpu"
        )
    )[0]
    assert learned(weighted) == [pytest.approx(each, rel=1e-9) for each in learned(alone)]


def test_training_on_everything_leaves_nothing_to_validate(make):
    (report,) = make(member(0, {"train_on": "all", "evaluate": True})).run_epoch()
    assert "1/val_error" not in report.metrics
    assert report.metrics["iterations"] == 5  # 48 + 32 images in batches of 16
    assert 0.0 <= report.metrics["1/test_error"] <= 100.0
    both = member(0, {"train_on": "all", "optimiser": OPTIMISER})
    with pytest.raises(UsageError, match="must not train on the validation part"):
        make(both)


def test_the_test_part_is_seen_by_final_trials_alone(make):
    (report,) = make(member(0)).run_epoch()
    assert not [name for name in report.metrics if "test" in name]


def test_an_augmented_image_is_shown_to_the_teacher_as_the_student_sees_it(make, tmp_path):
    data = {**SETTINGS["data"], "augment": True}
    together = run(make(member(0), member(1), data=data))
    assert learned(run(make(member(1), data=data))[1]) == [
        pytest.approx(each, rel=1e-9) for each in learned(together[1])
    ]


@pytest.mark.parametrize("distillation", ["hard", "deit"])
def test_hard_labels_and_two_heads_train_and_are_optimised(make, distillation):
    only = {"lambda_1": 0.5}
    each = optimised(0, only, bounds={"lambda_1": [0.0, 1.0]})
    reports = run(make(each, distillation=distillation))[0]
    assert reports[-1].state is MemberState.COMPLETE
    assert reports[-1].metrics["meta.lambda_1"] != 0.5
    names = [each.name for each in KIND.metaparameters(changed(distillation=distillation), {})]
    assert names == ["lambda_1"]


def test_a_loss_that_is_not_finite_stays_with_its_own_trial(make):
    broken = Member(number=1, seed=3, configuration={**START, "learning_rate": 1e300})
    fine = Member(number=0, seed=100, configuration={**START, "learning_rate": 0.3})
    found = run(make(fine, broken))
    assert found[1][-1].state is MemberState.DIVERGED
    assert "loss of the student is" in found[1][-1].message
    assert learned(found[0]) == [pytest.approx(each, rel=1e-9) for each in learned(run(make(member(0)))[0])]


def test_a_member_can_be_dropped_and_an_unknown_one_cannot(make):
    pack = make(optimised(0), optimised(1))
    pack.run_epoch()
    pack.drop(0)
    assert pack.active == (1,)
    with pytest.raises(UsageError, match="trial 0 does not train in this pack"):
        pack.drop(0)
    rest = run(pack)[1]
    assert learned(rest) == [
        pytest.approx(each, rel=1e-9) for each in learned(run(make(optimised(1)))[1][1:])
    ]


def test_each_trial_of_a_pack_counts_its_own_passes(make, tmp_path):
    early, late = optimised(0, e1=3, e2=2), optimised(1, e1=3, e2=2)
    ahead = make(late)
    run(ahead, epochs=1)
    path = tmp_path / "late.pt"
    ahead.save(1, path)
    first = {
        report.number: report.metrics for report in make(early, replace(late, checkpoint=path)).run_epoch()
    }
    # three iterations: the early trial takes three gradient steps, the late one two predictions and then one step
    assert [first[n]["tangent_passes"] for n in (0, 1)] == [3, 1]
    assert [first[n]["backward_passes"] for n in (0, 1)] == [6, 4]


@pytest.mark.parametrize("hypergradient", ["exact", "finite-difference"])
def test_students_train_and_are_optimised_in_bfloat16(make, hypergradient):
    reports = run(make(optimised(0, hypergradient=hypergradient), precision="bfloat16"))[0]
    assert reports[-1].state is MemberState.COMPLETE
    assert reports[-1].metrics["meta.lambda_1"] != START["lambda_1"]
    assert reports[-1].metrics["skipped_hypergradients"] == 0
