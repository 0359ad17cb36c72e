"""The pack of students as the runner sees it, held against a plain loop with double backward."""

import importlib.util
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.spaces.graph import Graph
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.kd import KIND, KdSettings
from kdsearch.trainables.kd.parts import load_parts
from kdsearch.trainables.ktg import KIND as KTG
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.files import FileError, load_weights, save_weights
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member, MemberState
from kdsearch.trainables.seeds import derive_seed


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kd_plain, ktg_plain = loaded("kd_plain"), loaded("ktg_plain")

SETTINGS = {
    "data": {"name": "digits", "train_size": 48, "val_size": 32, "augment": False},
    "student": "cnn4-8p",
    "teacher": {"model": "resnet8w4", "epochs": 2, "batch_size": 16},
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.3,
    "schedule": {"every": 2, "factor": 0.5},
    "precision": "float64",
}
BOUNDS = {"lambda_1": [0.0, 1.0], "temperature": [0.1, 10.0]}
START = {"lambda_1": 0.6, "temperature": 2.0}
OPTIMISER = {"start": START, "bounds": BOUNDS, "rate": 0.5, "e1": 3, "e2": 0}


def changed(settings=SETTINGS, **changes):
    return {**settings, **changes}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "teacher.pt"
    pack = KIND.make_pack(
        SETTINGS,
        [Member(number=0, seed=11, configuration={"teacher": "resnet8w4"}, plan={"evaluate": True})],
        data_root=None,
        device="cpu",
    )
    while pack.active:
        (report,) = pack.run_epoch()
    assert report.state is MemberState.COMPLETE
    assert {"1/val_error", "1/test_error"} <= report.metrics.keys()
    pack.save_output(0, path)
    return path


@pytest.fixture
def make(teacher):
    def build(*members: Member, **changes):
        inputs = {"teacher:resnet8w4": teacher}
        with_teacher = [replace(member, inputs=inputs) for member in members]
        return KIND.make_pack(changed(**changes), with_teacher, data_root=None, device="cpu")

    return build


def member(number: int, plan=None, **configuration) -> Member:
    return Member(number=number, seed=100 + number, configuration=configuration or START, plan=plan or {})


def optimised(number: int, start=START, **optimiser) -> Member:
    plan = {"optimiser": {**OPTIMISER, **optimiser, "start": start}}
    return Member(number=number, seed=100 + number, configuration=start, plan=plan)


def run(pack, epochs=99):
    """All reports, by trial."""
    found = {number: [] for number in pack.active}
    for _ in range(epochs):
        for report in pack.run_epoch():
            found[report.number].append(report)
    return found


def learned(reports) -> list[dict[str, float]]:
    return [
        {name: value for name, value in report.metrics.items() if "/" in name or "." in name}
        for report in reports
    ]


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


def test_the_teacher_never_saw_the_validation_part():
    def inputs(part):
        return {bytes(image.numpy().tobytes()) for image in part.inputs}

    def parts(settings, *, teacher):
        return load_parts(
            KdSettings.from_mapping(settings),
            [{}],
            data_root=None,
            device=torch.device("cpu"),
            dtype=torch.float32,
            teacher=teacher,
        )

    student, fair = parts(SETTINGS, teacher=False), parts(SETTINGS, teacher=True)
    assert torch.equal(fair.training.inputs, student.training.inputs)
    assert not inputs(fair.training) & inputs(student.validation)
    leak = changed(teacher={**SETTINGS["teacher"], "sees": "all"})
    assert inputs(student.validation) <= inputs(parts(leak, teacher=True).training)
    assert KIND.check_data(SETTINGS, None) == []
    assert "validation part too" in KIND.check_data(leak, None)[0]
    keys = [KIND.pretraining(each, ())[0].defined_by for each in (SETTINGS, leak)]
    assert keys[0] != keys[1]


def test_a_teacher_is_defined_by_its_own_settings_alone():
    def key(**changes):
        return KIND.pretraining(changed(**changes), ())[0].defined_by

    assert key() == key(
        student="linear", epochs=9, lambda_1=0.1, temperature=4.0, learning_rate=0.7, batch_size=8
    )
    assert key() != key(teacher={**SETTINGS["teacher"], "epochs": 3})
    assert key() != key(data={**SETTINGS["data"], "split_seed": 1})
    assert key() != key(data={**SETTINGS["data"], "train_size": 47})


def test_the_teachers_logits_are_kept_beside_its_weights_and_belong_to_them(make, teacher, tmp_path):
    own = tmp_path / "teacher.pt"
    own.write_bytes(teacher.read_bytes())
    inputs = {"teacher:resnet8w4": own}

    def reports():
        pack = KIND.make_pack(SETTINGS, [replace(member(0), inputs=inputs)], data_root=None, device="cpu")
        return learned(run(pack)[0])

    first = reports()
    (kept,) = tmp_path.glob("teacher.logits-*.pt")
    assert reports() == first
    before = kept.read_bytes()
    network = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    save_weights(own, network, initial_tensors(network, np.random.default_rng(5)))
    os.utime(own, (1, 1))
    assert reports() != first  # another teacher: the kept logits are not its own
    assert kept.read_bytes() != before
    kept.write_bytes(b"broken")
    assert reports() != first


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


# Mutual learning


def test_deep_mutual_learning_is_the_graph_of_two_nodes_of_the_other_engine():
    """The same numbers as the kind ktg, bit for bit, and as a plain loop, to rounding."""
    common = {"epochs": 2, "batch_size": 16, "precision": "float64", "learning_rate": 0.1, "momentum": 0.9}
    common["weight_decay"] = 5e-4
    mutual = KIND.make_pack(
        {
            "data": SETTINGS["data"],
            "student": "resnet8w4",
            "teacher": {"model": "resnet8w6"},
            "distillation": "mutual",
            "schedule": "cosine",
            **common,
        },
        [Member(number=3, seed=5, configuration={})],
        data_root=None,
        device="cpu",
    )
    text = "1=resnet8w4 2=resnet8w6; label->1=through 2->1=through label->2=through 1->2=through"
    graph = KTG.make_pack(
        {"data": SETTINGS["data"], "target": "resnet8w4", **common},
        [Member(number=3, seed=5, configuration=Graph.parse(text).to_configuration())],
        data_root=None,
        device="cpu",
    )
    ours, theirs = run(mutual)[3], run(graph)[3]
    assert learned(ours) == learned(theirs)
    assert [report.metrics["1/train_loss"] for report in ours] == pytest.approx(mutual_plainly(), rel=1e-9)


def mutual_plainly() -> list[float]:
    """Node 1's loss in the same two epochs: CE(z_1, y) + KL(p_2 || p_1), and the other way round."""
    from kdsearch.trainables.data.splits import DataSettings

    split = make_split(load_images("digits", None), DataSettings(**SETTINGS["data"]))
    x, y = torch.tensor(split.train_images).double() / 255, torch.tensor(split.train_labels)
    nodes = []
    for node, width in ((1, 4), (2, 6)):
        network = architecture(f"resnet8w{width}", channels=1, classes=10, size=(8, 8))
        plain = ktg_plain.Network(
            wide=False,
            blocks=1,
            stem=width,
            widths=(width, 2 * width, 4 * width),
            channels=1,
            classes=10,
            stride=1,
        )
        rng = np.random.default_rng(derive_seed(5, "node", node))
        plain.load_state_dict(initial_tensors(network, rng), strict=False)
        nodes.append(plain.double())
    graph = Graph.parse("1=a 2=b; label->1=through 2->1=through label->2=through 1->2=through")
    optimizers = [ktg_plain.sgd(node, 0.1) for node in nodes]
    means = []
    for epoch in range(2):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + np.cos(np.pi * epoch / 2))
        indices = torch.from_numpy(np.random.default_rng(derive_seed(5, "order", epoch)).permutation(48))
        batches = [(x[index], y[index]) for index in indices.reshape(3, 16)]
        history = ktg_plain.train_epoch(graph, nodes, optimizers, batches, done=3 * epoch, total=6)
        means.append(float(torch.stack([losses[0] for losses in history]).mean()))
    return means


# Files that cannot teach


def file_settings(path: Path):
    return changed(teacher={"model": "resnet8w4", "file": str(path)})


def test_a_teacher_can_come_from_a_file(teacher):
    settings = file_settings(teacher)
    KIND.check_data(settings, None)
    assert KIND.pretraining(settings, ()) == ()
    assert KIND.inputs(settings, START) == ()
    pack = KIND.make_pack(settings, [member(0)], data_root=None, device="cpu")
    assert run(pack)[0][-1].state is MemberState.COMPLETE


def test_a_teacher_of_other_classes_is_refused_before_anything_runs(tmp_path):
    network = architecture("resnet8w4", channels=1, classes=7, size=(8, 8))
    path = tmp_path / "seven.pt"
    save_weights(path, network, initial_tensors(network, np.random.default_rng(0)))
    with pytest.raises(UsageError, match=r"seven\.pt does not fit: it was made with classes 7, not 10"):
        KIND.check_data(file_settings(path), None)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


@pytest.mark.parametrize("content", ["text", "pickle", "tensors"])
def test_a_file_that_is_no_teacher_is_refused_and_nothing_in_it_runs(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "teacher.pt"
    if content == "text":
        path.write_text("not a teacher", encoding="utf-8")
    elif content == "pickle":
        torch.save({"format": "kdsearch weights 1", "built": {}, "tensors": Bomb()}, path)
    else:
        torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match=r"teacher\.pt is not a weight file"):
        KIND.check_data(file_settings(path), None)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_missing_teacher_is_named(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        KIND.check_data(file_settings(tmp_path / "none.pt"), None)
    with pytest.raises(FileError, match="no weights are given for its teacher"):
        KIND.make_pack(SETTINGS, [member(0)], data_root=None, device="cpu")


def test_errors_of_files_survive_a_process_border():
    error = pickle.loads(pickle.dumps(FileError("what", "hint")))
    assert isinstance(error, KdsearchError)
    assert (error.message, error.hint) == ("what", "hint")


# The synthetic set

SYNTHETIC = {
    "data": {"name": "synthetic", "variant": "fair"},
    "student": "linear",
    "teacher": {
        "model": "linear",
        "epochs": 2,
        "iterations_per_epoch": 50,
        "batch_size": 200,
        "learning_rate": 0.1,
        "momentum": 0.0,
    },
    "epochs": 2,
    "iterations_per_epoch": 20,
    "batch_size": 15,
    "val_batch_size": 200,
    "validation_temperature": 0.1,
}


@pytest.mark.parametrize("variant", ["fair", "paper"])
def test_the_synthetic_set_is_taught_and_optimised(tmp_path, variant):
    settings = changed(SYNTHETIC, data={"name": "synthetic", "variant": variant})
    assert len(KIND.check_data(settings, None)) == (variant == "paper")
    path = tmp_path / "teacher.pt"
    pack = KIND.make_pack(
        settings,
        [Member(number=0, seed=1, configuration={"teacher": "linear"})],
        data_root=None,
        device="cpu",
    )
    assert run(pack)[0][-1].metrics["iterations"] == 50
    pack.save_output(0, path)
    inputs = {"teacher:linear": path}
    plan = {"optimised": True, "evaluate": True, "optimiser": OPTIMISER}
    student = KIND.make_pack(
        settings, [replace(member(0, plan), inputs=inputs)], data_root=None, device="cpu"
    )
    product = student._parts.training.inputs[:, 2, 0, 0].abs().bool().all()  # sign(x1 x2) is 1 or -1
    assert product == (variant == "paper")
    reports = run(student)[0]
    assert reports[-1].metrics["iterations"] == 20
    assert reports[-1].metrics["meta.temperature"] != START["temperature"]
    if variant == "paper":  # validation is the test part
        assert reports[-1].metrics["1/val_error"] == reports[-1].metrics["1/test_error"]


def test_every_run_of_the_fair_variant_has_objects_of_its_own(tmp_path):
    path = tmp_path / "teacher.pt"
    pack = KIND.make_pack(
        SYNTHETIC,
        [Member(number=0, seed=1, configuration={"teacher": "linear"})],
        data_root=None,
        device="cpu",
    )
    run(pack)
    pack.save_output(0, path)

    def students(*runs):
        members = [
            replace(member(n, {"run": n, "evaluate": True}), inputs={"teacher:linear": path}, seed=7)
            for n in runs
        ]
        return {n: learned(reports) for n, reports in run(make_pack_of(members)).items()}

    def make_pack_of(members):
        return KIND.make_pack(changed(SYNTHETIC, precision="float64"), members, data_root=None, device="cpu")

    together = students(0, 1, 4)
    assert together[0] != together[1] != together[4]
    for n in (0, 1, 4):
        assert students(n)[n] == [pytest.approx(each, rel=1e-9) for each in together[n]]


# The registry's entry


def test_trials_of_one_shape_share_settings_momentum_and_weight_decay():
    assert KIND.shape(SETTINGS, START) == KIND.shape(SETTINGS, {"lambda_1": 0.1, "learning_rate": 0.2})
    assert KIND.shape(SETTINGS, START) != KIND.shape(SETTINGS, {**START, "momentum": 0.5})
    assert KIND.shape(SETTINGS, START) != KIND.shape(SETTINGS, {"teacher": "resnet8w4"})


def test_images_too_small_for_a_student_are_refused_before_anything_runs():
    with pytest.raises(UsageError, match="cnn8-16-32"):
        KIND.check_data(changed(student="cnn8-16-32"), None)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match="does not fit"):
        KIND.check_data(changed(batch_size=100), None)


def test_a_teachers_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match="teacher's batch_size of 100 does not fit 48"):
        KIND.check_data(changed(teacher={**SETTINGS["teacher"], "batch_size": 100}), None)


def test_mutual_learning_is_for_images():
    with pytest.raises(UsageError, match="is for images"):
        KIND.check(changed(SYNTHETIC, distillation="mutual", teacher=None), ())


def test_a_comparison_cannot_be_made_of_mutual_learning_nor_train_on_its_test_part():
    with pytest.raises(UsageError, match="no metaparameters to compare"):
        KIND.check_plan(changed(distillation="mutual"), {"evaluate": True})
    paper = changed(SYNTHETIC, data={"name": "synthetic", "variant": "paper"})
    with pytest.raises(UsageError, match="would train on the test part"):
        KIND.check_plan(paper, {"train_on": "all"})
    KIND.check_plan(SYNTHETIC, {"train_on": "all", "evaluate": True})


def test_graphs_are_no_space_of_students():
    spec = {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 1, "models": ["resnet8w4"]},
        "gates": ["through", "cutoff"],
    }
    with pytest.raises(UsageError, match="needs a space of kind parameters"):
        KIND.check_space(SETTINGS, space_from_spec(spec))


def test_importing_the_kind_imports_no_torch():
    import subprocess
    import sys

    code = "import sys; import kdsearch.trainables.kd; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# What was found by looking again


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"tensors": {}}, "does not say what it was made with"),
        ({"built": None, "tensors": {}}, "does not say what it was made with"),
        ({"built": "ours"}, "no set of named tensors"),
        ({"built": "ours", "tensors": None}, "no set of named tensors"),
        ({"built": "ours", "tensors": "numbers"}, "no tensor of floating-point numbers"),
        ({"built": "ours", "tensors": "whole"}, "no tensor of floating-point numbers"),
        ({"built": "ours", "tensors": "nan"}, "not finite numbers"),
    ],
)
def test_a_teacher_file_that_is_put_together_wrongly_is_refused_by_name(tmp_path, content, told):
    network = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    tensors = initial_tensors(network, np.random.default_rng(0))
    made = {
        "numbers": dict.fromkeys(tensors, 1.0),
        "whole": {name: tensor.long() for name, tensor in tensors.items()},
        "nan": {name: tensor * float("nan") for name, tensor in tensors.items()},
    }
    built = {"model": "resnet8w4", "channels": 1, "classes": 10, "stem_stride": 1}
    content = {**content, "format": "kdsearch weights 1"}
    if content.get("built") == "ours":
        content["built"] = built
    if isinstance(content.get("tensors"), str):
        content["tensors"] = made[content["tensors"]]
    path = tmp_path / "teacher.pt"
    torch.save(content, path)
    with pytest.raises(UsageError, match=told):
        KIND.check_data(file_settings(path), None)


def test_logits_of_other_images_under_the_same_name_are_not_taken_for_these(tmp_path, teacher):
    """Two data roots, or a folder whose files were replaced: the teacher is asked again."""
    from PIL import Image

    def answers(root: Path, seed: int):
        for part, count in (("train", 24), ("test", 6)):
            rng = np.random.default_rng(seed)
            for label in ("a", "b"):
                folder = root / "set" / part / label
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    pixels = rng.integers(0, 256, (8, 8)).astype(np.uint8)
                    Image.fromarray(pixels, mode="L").save(folder / f"{number}.png")
        settings = changed(
            data={"name": "folder:set", "train_size": 32, "val_size": 12, "augment": False},
            teacher={"model": "resnet8w4", "file": str(own)},
        )
        pack = KIND.make_pack(settings, [member(0)], data_root=root, device="cpu")
        return KIND.content(settings, root), pack._teacher._logits

    own = tmp_path / "teacher.pt"
    network = architecture("resnet8w4", channels=1, classes=2, size=(8, 8))
    save_weights(own, network, initial_tensors(network, np.random.default_rng(0)))
    first, second = answers(tmp_path / "one", 1), answers(tmp_path / "two", 2)
    assert first[0] != second[0]
    assert not torch.equal(first[1], second[1])
    again = answers(tmp_path / "three", 1)
    assert again[0] == first[0]
    assert torch.equal(again[1], first[1])


def test_it_is_said_what_is_known_of_the_images_of_a_teacher_from_a_file(teacher, tmp_path):
    def note(path=teacher, **changes):
        (found,) = KIND.check_data(changed(file_settings(path), **changes), None)
        return found

    assert teacher.name in note()
    assert "trained on the students' training images" in note()
    assert "another split" in note(data={**SETTINGS["data"], "split_seed": 3})
    assert "another split" in note(data={**SETTINGS["data"], "val_size": 40})
    network = architecture("resnet8w4", channels=1, classes=10, size=(8, 8))
    bare = tmp_path / "bare.pt"
    tensors = initial_tensors(network, np.random.default_rng(5))
    save_weights(bare, network, tensors)
    assert "is not known" in note(bare)
    other = {"data": {}, "content": "of other images", "all": False}
    save_weights(bare, network, tensors, other)
    assert "other data than the students'" in note(bare)
    leak = changed(teacher={**SETTINGS["teacher"], "sees": "all", "epochs": 1})
    pack = KIND.make_pack(
        leak, [Member(number=0, seed=1, configuration={"teacher": "resnet8w4"})], data_root=None, device="cpu"
    )
    run(pack)
    pack.save_output(0, bare)
    assert "validation images too" in note(bare)


def test_a_validation_batch_larger_than_the_validation_part_is_refused():
    with pytest.raises(UsageError, match="val_batch_size of 33 does not fit 32 validation images"):
        KIND.check_data(changed(val_batch_size=33), None)


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
