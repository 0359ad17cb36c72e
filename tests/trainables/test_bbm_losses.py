"""The loss of classification and DeiT's against sums written out answer by answer in float64."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from kdsearch.trainables.bbm.losses import classification_loss, deit_terms

_SPEC = importlib.util.spec_from_file_location("bbm_plain", Path(__file__).with_name("bbm_plain.py"))
bbm_plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bbm_plain)
mean_cross_entropy = bbm_plain.mean_cross_entropy

B, T, C = 4, 6, 5


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*shape, dtype=dtype, generator=generator)
    labels = torch.rand(*shape, generator=generator) < 0.3
    return logits, labels


def lengths_mask():
    return torch.arange(T)[None, :] < torch.tensor([6, 1, 4, 3])[:, None]


def test_records_count_by_record_and_class():
    logits, labels = draw(B, C)
    assert classification_loss(logits, labels).item() == pytest.approx(
        mean_cross_entropy(logits, labels), rel=1e-12
    )
    ready = classification_loss(logits, labels.double())
    assert ready == classification_loss(logits, labels)


def test_hours_count_where_they_are_real():
    logits, labels = draw(B, T, 1)
    real = lengths_mask()
    found = classification_loss(logits, labels, real)
    assert found.item() == pytest.approx(mean_cross_entropy(logits, labels, real), rel=1e-12)
    patients = [mean_cross_entropy(logits[b : b + 1], labels[b : b + 1], real[b : b + 1]) for b in range(B)]
    assert found.item() != pytest.approx(sum(patients) / B, rel=1e-3)  # a mean over hours, not over patients


def test_several_answers_an_hour():
    logits, labels = draw(B, T, C)
    real = lengths_mask()
    found = classification_loss(logits, labels, real).item()
    assert found == pytest.approx(mean_cross_entropy(logits, labels, real), rel=1e-12)


def test_padding_reaches_neither_the_loss_nor_a_gradient():
    logits, labels = draw(B, T, 1)
    real = lengths_mask()
    dirty = logits.masked_fill(~real[..., None], math.nan).requires_grad_()
    answers = labels.double().masked_fill(~real[..., None], math.nan)
    loss = classification_loss(dirty, answers, real)
    assert loss.item() == pytest.approx(mean_cross_entropy(logits, labels, real), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, dirty)
    assert (gradient[~real] == 0).all()
    expected = (torch.sigmoid(logits) - labels.double()) / real.sum()
    torch.testing.assert_close(gradient[real], expected[real])


def test_no_real_hour_has_no_loss():
    logits, labels = draw(B, T, 1)
    assert classification_loss(logits, labels, torch.zeros(B, T, dtype=torch.bool)).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted(dtype):
    logits, labels = draw(B, C, dtype=torch.float32)
    low = logits.to(dtype)
    found = classification_loss(low, labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(mean_cross_entropy(low, labels), rel=1e-6)


def test_large_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = classification_loss(logits, torch.tensor([[False, True]]))
    assert loss.item() == 1e4
    assert torch.autograd.grad(loss, logits)[0].tolist() == [[0.5, -0.5]]


def deit_loss(own, distilled, labels, teacher, ratio, real=None):
    """Equation 3 of DeiT, as the trainable weighs the two terms."""
    by_label, by_teacher = deit_terms(own, distilled, labels, teacher, real)
    return ratio * by_label + (1 - ratio) * by_teacher


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_deit_weighs_labels_and_the_teachers_hard_answers(ratio, masked):
    shape, real = ((B, T, 1), lengths_mask()) if masked else ((B, C), None)
    own, labels = draw(*shape)
    distilled, _ = draw(*shape, seed=1)
    teacher, _ = draw(*shape, seed=2)
    answers = torch.sigmoid(teacher) > 0.5
    found = deit_loss(own, distilled, labels, teacher, ratio, real).item()
    by_label = mean_cross_entropy(own, labels, real)
    by_teacher = mean_cross_entropy(distilled, answers, real)
    assert by_label != pytest.approx(by_teacher, rel=1e-3)
    assert found == pytest.approx(ratio * by_label + (1 - ratio) * by_teacher, rel=1e-12)
    terms = deit_terms(own, distilled, labels, teacher, real)
    assert [t.item() for t in terms] == pytest.approx([by_label, by_teacher], rel=1e-12)


def test_a_teacher_in_two_minds_says_no():
    own, labels = draw(1, 1)
    assert deit_loss(own, own, labels, torch.zeros(1, 1), 0.0) == classification_loss(
        own, torch.zeros(1, 1, dtype=torch.bool)
    )


def test_deit_gradients_stay_in_their_heads_and_out_of_the_teacher():
    own, labels = draw(B, C)
    distilled, teacher = draw(B, C, seed=1)[0], draw(B, C, seed=2)[0]
    leaves = [x.requires_grad_() for x in (own, distilled, teacher)]
    ratio = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    loss = deit_loss(*leaves[:2], labels, leaves[2], ratio)
    by_own, by_distilled, by_teacher, by_ratio = torch.autograd.grad(
        loss, [*leaves, ratio], allow_unused=True
    )
    torch.testing.assert_close(by_own, 0.25 * (torch.sigmoid(own) - labels.double()) / (B * C))
    torch.testing.assert_close(
        by_distilled, 0.75 * (torch.sigmoid(distilled) - (teacher > 0).double()) / (B * C)
    )
    assert by_teacher is None
    terms = deit_terms(own, distilled, labels, teacher)
    torch.testing.assert_close(by_ratio, terms[0] - terms[1])


def test_shapes_that_do_not_fit_are_refused():
    logits, labels = draw(B, T, 1)
    with pytest.raises(ValueError, match=r"labels of shape \(4, 6\)"):
        classification_loss(logits, labels[..., 0])
    with pytest.raises(ValueError, match=r"a mask of shape \(4, 5\)"):
        classification_loss(logits, labels, lengths_mask()[:, :5])
    with pytest.raises(ValueError, match="a mask"):
        classification_loss(logits[..., 0], labels[..., 0], lengths_mask())
