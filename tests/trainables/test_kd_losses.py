"""The closed forms at the logits against autograd on losses written out sample by sample in float64."""

import math

import pytest
import torch
from torch.autograd import forward_ad

from kdsearch.trainables.kd.losses import by_metaparameters, kd_loss, validation_loss, wrong_answers
from kdsearch.trainables.kd.settings import Distillation

SOFT, HARD, DEIT, NONE = Distillation.SOFT, Distillation.HARD, Distillation.DEIT, Distillation.NONE
KINDS = [(SOFT, False), (SOFT, True), (HARD, False), (DEIT, False), (NONE, False)]
K, B, C = 4, 6, 5
VALUES = torch.tensor([[0.5, 1.0], [0.0, 4.0], [1.0, 0.3], [0.27, 9.0]], dtype=torch.float64)


def draw(distillation, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = 2 * C if distillation is DEIT else C
    logits = scale * torch.randn(K, B, width, dtype=torch.float64, generator=generator)
    teacher = scale * torch.randn(K, B, C, dtype=torch.float64, generator=generator)
    return logits, teacher, torch.randint(C, (K, B), generator=generator)


def naive(logits, teacher, labels, value, distillation, squared):
    """One student's loss, one sample after the other."""
    weight, temperature = value
    total = 0.0
    for g, f, y in zip(logits, teacher, labels, strict=True):
        own = g[:C]
        label = -torch.log(torch.exp(own[y]) / torch.exp(own).sum())
        if distillation is NONE:
            total = total + label
            continue
        if distillation is SOFT:
            q = torch.exp(f / temperature) / torch.exp(f / temperature).sum()
            p = torch.exp(g / temperature) / torch.exp(g / temperature).sum()
            taught = -(q * torch.log(p)).sum() * (temperature**2 if squared else 1.0)
        else:
            head = g[C:] if distillation is DEIT else g
            taught = -torch.log(torch.exp(head[f.argmax()]) / torch.exp(head).sum())
        total = total + weight * label + (1 - weight) * taught
    return total / len(labels)


@pytest.mark.parametrize(("distillation", "squared"), KINDS)
def test_losses_and_gradients_equal_autograd(distillation, squared):
    logits, teacher, labels = draw(distillation)
    found = kd_loss(logits, teacher, labels, VALUES, distillation=distillation, squared=squared)
    derivatives = by_metaparameters(
        logits, teacher, labels, VALUES, distillation=distillation, squared=squared
    )
    assert not found.gradients.requires_grad
    for k in range(K):
        leaf, value = logits[k].clone().requires_grad_(), VALUES[k].clone().requires_grad_()
        loss = naive(leaf, teacher[k], labels[k], value, distillation, squared)
        gradient, by_value = torch.autograd.grad(loss, [leaf, value], allow_unused=True)
        by_value = torch.zeros(2, dtype=torch.float64) if by_value is None else by_value
        torch.testing.assert_close(found.losses[k], loss.detach(), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(found.gradients[k], gradient, rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(derivatives[k], by_value, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, as it loads forward mode
@pytest.mark.parametrize(("distillation", "squared"), KINDS[:-1])
def test_tangents_of_the_derivatives_by_metaparameters_equal_double_backward(distillation, squared):
    logits, teacher, labels = draw(distillation)
    tangent = torch.randn_like(logits, generator=torch.Generator().manual_seed(3))
    with forward_ad.dual_level():
        dual = by_metaparameters(
            forward_ad.make_dual(logits, tangent),
            teacher,
            labels,
            VALUES,
            distillation=distillation,
            squared=squared,
        )
        found = forward_ad.unpack_dual(dual).tangent
    for k in range(K):
        leaf, value = logits[k].clone().requires_grad_(), VALUES[k].clone().requires_grad_()
        loss = naive(leaf, teacher[k], labels[k], value, distillation, squared)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (expected,) = torch.autograd.grad((gradient * tangent[k]).sum(), value)
        torch.testing.assert_close(found[k], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("distillation", [SOFT, DEIT])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.5])
def test_validation_loss_equals_autograd(distillation, temperature):
    logits, _, labels = draw(distillation, scale=1.0)
    found = validation_loss(logits, labels, temperature=temperature, distillation=distillation)
    for k in range(K):
        leaf = logits[k].clone().requires_grad_()
        heads = [torch.softmax(head / temperature, -1) for head in leaf.split(C, -1)]
        loss = -torch.log((sum(heads) / len(heads))[torch.arange(B), labels[k]]).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        torch.testing.assert_close(found.losses[k], loss.detach(), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(found.gradients[k], gradient, rtol=1e-10, atol=1e-13)


def test_wrong_answers():
    labels = torch.tensor([[0, 1, 1]])
    logits = torch.tensor([[[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]])
    assert wrong_answers(logits, labels, SOFT).tolist() == [1]
    # By the mean of the softmaxes (0.5 + 0.99) / 2: the head that is sure decides.
    sure, unsure = [0.0, 5.0], [0.2, 0.0]
    both = torch.tensor([[[*unsure, *sure], [*unsure, *sure], [*unsure, *unsure]]])
    assert wrong_answers(both, labels, DEIT).tolist() == [2]


def test_hard_labels_and_temperature():
    """Hard labels are the limit of a confident teacher at T = 1, and T is none of their concern."""
    logits, teacher, labels = draw(HARD)
    sure = 1e3 * torch.nn.functional.one_hot(teacher.argmax(-1), C).double()
    at_one = torch.stack([VALUES[:, 0], torch.ones(K, dtype=torch.float64)], -1)
    hard = kd_loss(logits, teacher, labels, VALUES, distillation=HARD, squared=True)
    soft = kd_loss(logits, sure, labels, at_one, distillation=SOFT, squared=True)
    torch.testing.assert_close(hard.losses, soft.losses)
    torch.testing.assert_close(hard.gradients, soft.gradients)
    derivatives = by_metaparameters(logits, teacher, labels, VALUES, distillation=HARD, squared=True)
    assert torch.count_nonzero(derivatives[:, 1]) == 0


def test_lambda_one_is_the_label_alone_to_the_last_bit():
    logits, teacher, labels = draw(SOFT)
    values = torch.tensor([[1.0, 1.0]] * K, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        args = logits.to(dtype), teacher.to(dtype), labels, values
        alone = kd_loss(args[0], None, labels, values, distillation=NONE, squared=False)
        found = kd_loss(*args, distillation=SOFT, squared=False)
        assert found.losses.dtype == found.gradients.dtype == dtype
        assert torch.equal(found.losses, alone.losses)
        assert torch.equal(found.gradients, alone.gradients)


def test_a_missing_teacher_is_said():
    logits, _, labels = draw(SOFT)
    for function in (kd_loss, by_metaparameters):
        with pytest.raises(ValueError, match="teacher's logits"):
            function(logits, None, labels, VALUES, distillation=SOFT, squared=False)


@pytest.mark.parametrize(("distillation", "squared"), KINDS)
def test_students_together_equal_students_alone_and_nothing_crosses(distillation, squared):
    logits, teacher, labels = draw(distillation)
    broken = logits.clone()
    broken[1] = torch.nan
    for function in (kd_loss, by_metaparameters):
        together = function(broken, teacher, labels, VALUES, distillation=distillation, squared=squared)
        for k in (0, 2, 3):
            one = slice(k, k + 1)
            alone = function(
                logits[one],
                teacher[one],
                labels[one],
                VALUES[one],
                distillation=distillation,
                squared=squared,
            )
            pairs = zip(together, alone, strict=True) if function is kd_loss else [(together, alone)]
            for found, expected in pairs:
                torch.testing.assert_close(found[one], expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("distillation", "squared"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_give_exact_and_finite_values(distillation, squared, dtype):
    """1e4 apart, at T = 0.1: exp would overflow; loss and gradient are known in the limit."""
    big = 1e4
    labels = torch.tensor([[0, 1]])
    logits = torch.tensor([[[big, 0.0, -big], [big, 0.0, -big]]], dtype=dtype)
    teacher = torch.tensor([[[-big, 0.0, big], [-big, 0.0, big]]], dtype=dtype)
    if distillation is DEIT:
        logits = torch.cat([logits, logits], -1)
    values = torch.tensor([[0.25, 0.1]], dtype=dtype)
    found = kd_loss(logits, teacher, labels, values, distillation=distillation, squared=squared)
    label = big / 2  # 0 for the first sample, 1e4 for the second
    scale = 0.01 if squared else 1.0  # T^2
    taught = {SOFT: scale * 2 * big / 0.1, HARD: 2 * big, DEIT: 2 * big, NONE: 0.0}[distillation]
    expected = label if distillation is NONE else 0.25 * label + 0.75 * taught
    assert found.losses.item() == pytest.approx(expected, rel=1e-6)
    own, step = (
        (1.0, 0.0) if distillation is NONE else (0.25, 0.75 * (scale / 0.1 if distillation is SOFT else 1))
    )
    rows = [[step, 0, -step], [own + step, -own, -step]]
    if distillation is DEIT:
        rows = [[0, 0, 0, step, 0, -step], [own, -own, 0, step, 0, -step]]
    torch.testing.assert_close(found.gradients[0], torch.tensor(rows, dtype=dtype) / 2)
    derivatives = by_metaparameters(
        logits, teacher, labels, values, distillation=distillation, squared=squared
    )
    by_weight = 0.0 if distillation is NONE else label - taught
    # d/dT (2 big / T) = -2 big / T^2; with the factor T^2 it is d/dT (2 big T)
    by_temperature = 0.75 * 2 * big * (1.0 if squared else -100.0) if distillation is SOFT else 0.0
    assert derivatives[0].tolist() == pytest.approx([by_weight, by_temperature], rel=1e-5)
    judged = validation_loss(logits, labels, temperature=0.1, distillation=distillation)
    assert judged.losses.item() == pytest.approx(big / 0.1 / 2, rel=1e-6)
    assert judged.gradients.isfinite().all()


def test_a_common_offset_of_the_logits_costs_no_digits():
    logits, teacher, labels = draw(SOFT)
    plain = [logits.float(), teacher.float(), labels, VALUES.float()]
    moved = [(logits + 1024).float(), (teacher - 1024).float(), labels, VALUES.float()]
    exact = by_metaparameters(logits, teacher, labels, VALUES, distillation=SOFT, squared=False)
    for args, tolerance in ((plain, 1e-5), (moved, 1e-3)):  # float32 rounds 1024 + g itself to 6e-5
        found = by_metaparameters(*args, distillation=SOFT, squared=False)
        torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


def test_a_teacher_that_agrees_leaves_the_label_to_teach():
    """Cross-entropy and Kullback-Leibler divergence differ by a constant: equal logits, no gradient."""
    logits, _, labels = draw(SOFT)
    values = torch.tensor([[0.0, 2.0]] * K, dtype=torch.float64)
    found = kd_loss(logits, logits, labels, values, distillation=SOFT, squared=True)
    assert found.gradients.abs().max().item() < 1e-15
    p = torch.softmax(logits / 2, -1)
    entropy = -(p * torch.log(p)).sum(-1).mean(-1)
    torch.testing.assert_close(found.losses, 4 * entropy)


def test_two_heads_that_agree_are_one():
    logits, _, labels = draw(SOFT)
    twice = torch.cat([logits, logits], -1)
    one = validation_loss(logits, labels, temperature=1.0, distillation=SOFT)
    two = validation_loss(twice, labels, temperature=1.0, distillation=DEIT)
    torch.testing.assert_close(two.losses, one.losses)
    torch.testing.assert_close(two.gradients[..., :C], one.gradients / 2)
    far = torch.tensor(
        [[[800.0, 0.0, 0.0, 800.0]]], dtype=torch.float64
    )  # each head sure, of different classes
    judged = validation_loss(far, torch.tensor([[0]]), temperature=1.0, distillation=DEIT)
    assert judged.losses.item() == pytest.approx(math.log(2))
    assert judged.gradients.abs().max().item() < 1e-300
