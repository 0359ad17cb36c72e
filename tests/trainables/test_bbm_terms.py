"""Batches in pieces: what the pieces' terms and gradients add up to is the batch's own."""

from __future__ import annotations

import pytest
import torch

from kdsearch.trainables.bbm.learner import frozen
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.bbm.tensors import TensorBatch
from kdsearch.trainables.bbm.terms import Objective, Piece, pieces
from kdsearch.trainables.series.build import build_network

LENGTHS = torch.tensor([5, 9, 3, 9, 1, 7])
SETTINGS = {
    "data": "physionet2019",
    "student": {
        "network": "transformer",
        "units": 2,
        "width": 8,
        "heads": 2,
        "feed_forward": 8,
        "causal": True,
    },
    "teacher": {"network": "lstm", "units": 2, "hidden": 6},
    "blocks": 2,
    "dropout": 0.0,
}


def batch():
    rng = torch.Generator().manual_seed(0)
    real = torch.arange(9)[None, :] < LENGTHS[:, None]
    values = torch.randn(6, 9, 40, generator=rng, dtype=torch.float64) * real[:, :, None]
    labels = (torch.rand(6, 9, 1, generator=rng) < 0.3).double() * real[:, :, None]
    return TensorBatch(values, labels, real)


def objective_of(method):
    settings = BbmSettings.from_mapping({**SETTINGS, "method": method})
    trial = settings.trial({})
    form = {"inputs": 40, "outputs": 1, "steps": None, "per_step": True}
    rng = torch.Generator().manual_seed(1)
    network = build_network(trial.network, **form, generator=rng, distillation=method == "deit").double()
    teacher = frozen(build_network(settings.teacher_network, **form, generator=rng).double())
    objective = Objective(trial, network, teacher, rng)
    parameters = list(network.parameters())
    if objective.maps is not None:
        parameters += objective.maps.double().parameters()
    return objective, parameters


def gradients(terms, parameters):
    total = terms.base if terms.direction is None else terms.base + 0.3 * terms.direction
    found = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([each.flatten() for each in found])


@pytest.mark.parametrize("method", ["teacher", "transformer", "deit", "bbm"])
@pytest.mark.parametrize("rows", [1, 18, 30])
def test_pieces_add_up_to_the_batch(method, rows):
    objective, parameters = objective_of(method)
    whole = objective.terms(Piece(batch()))
    parts = [objective.terms(piece) for piece in pieces(batch(), rows)]
    assert len(parts) == {1: 6, 18: 3, 30: 2}[rows]
    assert torch.allclose(sum(part.base for part in parts), whole.base, rtol=1e-12)
    if whole.direction is not None:
        assert torch.allclose(sum(part.direction for part in parts), whole.direction, rtol=1e-12)
    added = sum(gradients(part, parameters) for part in parts)
    assert torch.allclose(added, gradients(whole, parameters), rtol=1e-9, atol=1e-12)


def test_a_piece_ends_with_its_longest_patient():
    found = list(pieces(batch(), 18))
    assert [piece.batch.values.shape[1] for piece in found] == [9, 9, 7]
    assert sum(piece.hours for piece in found) == pytest.approx(1)
    assert [piece.records for piece in found] == pytest.approx([1 / 3] * 3)


def test_a_batch_that_fits_and_signals_are_taken_whole():
    assert len(list(pieces(batch(), 54))) == 1
    signals = TensorBatch(torch.zeros(4, 100, 12), torch.zeros(4, 26), None)
    (piece,) = pieces(signals, 10)
    assert piece.batch is signals
