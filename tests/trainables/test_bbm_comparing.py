"""What evaluated trials are compared by: outputs, layers, attention."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.trainables.bbm.comparing import MOST_TOKENS, compared
from kdsearch.trainables.records import Part

_SPEC = importlib.util.spec_from_file_location("bbm_cases", Path(__file__).with_name("bbm_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
CPU, SETS = _CASES.CPU, _CASES.SETS
changed, learner_of, member = _CASES.changed, _CASES.learner_of, _CASES.member
root, teachers = _CASES.root, _CASES.teachers
bbm_plain = _CASES.loaded("bbm_plain")


@pytest.fixture
def networks(root, teachers):
    """(student, teacher, records, test part) of a set; students have untrained weights."""

    def build(data, /, method="transformer", **changes):
        learner, teacher = learner_of(changed(SETS[data], **changes), member(0, method), root, teachers[data])
        return learner.network, teacher, learner._records, learner._records.parts[Part.TEST]

    return build


def compare(student, teacher, records, chosen, batch_size=5):
    return compared(student, teacher, records, chosen, batch_size=batch_size, device=CPU)


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_a_network_is_like_itself(networks, data):
    student, teacher, *records = networks(data)
    for each in (student, teacher):
        found = compare(each, copy.deepcopy(each).eval(), *records)
        assert found.r2 == pytest.approx(1.0, abs=1e-9)
        np.testing.assert_allclose(np.diag(found.arrays["cka"]), 1.0, atol=1e-6)
        assert found.arrays["cka"].shape == (each.units, each.units)
        np.testing.assert_allclose(found.arrays["cka"], found.arrays["cka"].T, atol=1e-6)


@pytest.mark.parametrize(("data", "tokens"), [("hours", 0), ("signals", 10)])
@pytest.mark.parametrize("method", ["transformer", "deit", "bbm"])
def test_a_student_is_compared_unit_by_unit(networks, data, tokens, method):
    student, teacher, records, chosen = networks(data, method)
    found = compare(student, teacher, records, chosen)
    tokens = tokens or max(records.lengths[chosen])
    assert 0 <= found.r2 < 0.999
    cka, attention = found.arrays["cka"], found.arrays["attention"]
    assert cka.shape == (2, {"hours": 2, "signals": 4}[data])
    assert ((cka > 0) & (cka < 1)).all()
    assert attention.shape == (2, tokens, tokens)
    assert cka.dtype == attention.dtype == np.float32
    assert ((attention >= 0) & (attention <= 1)).all()
    np.testing.assert_allclose(attention.sum(2), 1.0, atol=1e-5)
    if data == "hours":  # nothing is seen of the hours to come
        assert np.triu(attention[0], 1).max() == 0
        assert attention[0, 5, 2] > 0
    assert len(found.distances) == 2
    assert all(0 < distance < tokens for distance in found.distances)


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_the_batches_do_not_matter(networks, data):
    one, other = (compare(*networks(data), batch_size=size) for size in (4, 100))
    assert one.r2 == pytest.approx(other.r2, rel=1e-4)
    assert one.distances == pytest.approx(other.distances, rel=1e-5)
    for name in ("cka", "attention"):
        np.testing.assert_allclose(one.arrays[name], other.arrays[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("data", ["hours", "signals"])
def test_outputs_and_layers_equal_plain_ones(networks, data):
    """Record by record, all samples at once; on ECGs the last units: 10 tokens, and 25 steps in 10 windows."""
    student, teacher, records, chosen = networks(data)
    found = compare(student, teacher, records, chosen)
    answers, features = ([], []), ([], [])
    for at in chosen:
        values = torch.from_numpy(np.array(records.batch(np.array([at])).values))
        for turn, network in enumerate((student.eval(), teacher)):
            with torch.no_grad():
                time = network.trace(values)[-1].time
                answers[turn].append(torch.sigmoid(network(values)).flatten())
            if time.shape[1] == 25:
                time = torch.nn.functional.adaptive_avg_pool1d(time.transpose(1, 2), 10).transpose(1, 2)
            features[turn].append(time[0])
    one, other = (torch.cat(each).double().numpy() for each in answers)
    assert found.r2 == pytest.approx(np.corrcoef(one, other)[0, 1] ** 2, rel=1e-3)
    cka = bbm_plain.linear_cka(*(torch.cat(each) for each in features))
    assert found.arrays["cka"][-1, -1] == pytest.approx(cka, rel=1e-3)


def test_a_network_without_attention_has_none(networks):
    _, teacher, *records = networks("hours")
    found = compare(teacher, None, *records)
    assert (found.r2, found.distances, dict(found.arrays)) == (None, (), {})


def test_a_network_that_says_the_same_to_everything_has_no_agreement(networks):
    student, teacher, *records = networks("hours")
    with torch.no_grad():
        student.head.weight.zero_()
    assert compare(student, teacher, *records).r2 is None


def test_too_few_records_have_no_similarity_of_layers(networks):
    student, teacher, records, chosen = networks(
        "signals", student={**SETS["signals"]["student"], "width": 24}
    )
    found = compare(student, teacher, records, chosen[:2])  # 20 samples of 24 features
    assert np.isnan(found.arrays["cka"]).all()
    assert found.arrays["attention"].shape == (2, 10, 10)


def test_long_records_are_averaged_over_their_first_tokens(networks):
    student, teacher, records, chosen = networks(
        "signals", student={**SETS["signals"]["student"], "patch": 0}
    )
    assert MOST_TOKENS == 100
    found = compare(student, teacher, records, chosen[:4])
    assert found.arrays["attention"].shape == (2, 100, 100)


def test_the_network_is_put_into_evaluation_mode(networks):
    student, teacher, *records = networks("hours", dropout=0.5)
    student.train()
    first = compare(student, teacher, *records)
    assert not student.training
    student.train()
    assert compare(student, teacher, *records).r2 == first.r2
