"""Gates by formula, and the closed-form gradients at the logits against autograd on the plain losses."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.graph import Gate, Graph
from kdsearch.trainables.ktg.losses import correct_gates, gate_weights, graph_losses

_SPEC = importlib.util.spec_from_file_location("ktg_plain", Path(__file__).with_name("ktg_plain.py"))
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

GATES = [gate for gate in Gate if gate is not Gate.LEARNED]  # whose weights follow from the iteration


def random_graph(rng: np.random.Generator, nodes: int, gates=GATES) -> Graph:
    rows = tuple(
        tuple(Gate.CUTOFF if s == t else gates[rng.integers(len(gates))] for s in range(nodes + 1))
        for t in range(1, nodes + 1)
    )
    return Graph(("m",) * nodes, rows)


def weigh(graphs, done, iterations, total):
    weights = torch.as_tensor(gate_weights(graphs, done, iterations, total))
    return weights, torch.as_tensor(correct_gates(graphs))


def test_gates_by_formula():
    graph = Graph.parse(
        "1=m 2=m 3=m; label->1=through 2->1=linear 3->1=correct 1->2=negative-linear label->3=correct"
    )
    weights = gate_weights([graph, graph], [0, 7], 2, 10)
    assert weights.shape == (2, 2, 3, 4)
    for iteration in range(2):
        for trial, done in enumerate((0, 7)):
            k = done + iteration + 1  # k counts from 1
            expected = np.zeros((3, 4))
            expected[0] = [1, 0, k / 10, 1]
            expected[1, 1] = 1 - k / 10
            expected[2, 0] = 1
            np.testing.assert_allclose(weights[iteration, trial], expected, rtol=0, atol=1e-15)


def test_linear_ends_at_one_and_negative_linear_at_zero():
    graph = Graph.parse("1=m 2=m; 2->1=linear 1->2=negative-linear")
    weights = gate_weights([graph], [0], 10, 10)
    assert weights[-1, 0, 0, 2] == 1.0
    assert weights[-1, 0, 1, 1] == 0.0


def test_correct_on_the_label_edge_equals_through():
    correct = Graph.parse("1=m; label->1=correct")
    through = Graph.parse("1=m; label->1=through")
    logits, labels = torch.randn(1, 1, 5, 4), torch.tensor([[0, 1, 2, 3, 0]])
    outcomes = []
    for graph in (correct, through):
        weights, marks = weigh([graph], [0], 1, 1)
        outcomes.append(graph_losses(logits, labels, weights[0].float(), marks, temperature=1.0))
    assert torch.equal(outcomes[0].losses, outcomes[1].losses)
    assert torch.equal(outcomes[0].gradients, outcomes[1].gradients)


def test_correct_divides_by_the_full_batch():
    graph = Graph.parse("1=m 2=m; 2->1=correct label->2=through")
    logits = torch.tensor([[[[0.0, 0.0]] * 4, [[3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, 3.0]]]])
    labels = torch.tensor([[0, 1, 1, 1]])  # node 2 is right on samples 0, 2 and 3
    weights, marks = weigh([graph], [0], 1, 1)
    found = graph_losses(logits, labels, weights[0].float(), marks, temperature=1.0)
    p = 1 / (1 + np.exp(-3.0))
    one = p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5)
    assert found.losses[0, 0].item() == pytest.approx(3 * one / 4, rel=1e-6)
    assert torch.count_nonzero(found.gradients[0, 0, 1]) == 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_closed_form_equals_autograd_on_the_plain_losses(temperature):
    rng = np.random.default_rng(0)
    graphs = [random_graph(rng, 3) for _ in range(12)]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, 6, 5, dtype=torch.float64, generator=generator) * 2
    labels = torch.randint(5, (12, 6), generator=generator)
    weights, marks = weigh(graphs, [4] * 12, 1, 11)
    found = graph_losses(logits, labels, weights[0], marks, temperature=temperature)
    for trial, graph in enumerate(graphs):
        leaves = [logits[trial, node].clone().requires_grad_() for node in range(3)]
        for target in graph.nodes:
            loss = plain.node_loss(
                graph, target, leaves, labels[trial], k=5, total=11, temperature=temperature
            )
            torch.testing.assert_close(found.losses[trial, target - 1], loss.detach(), rtol=1e-12, atol=1e-13)
            gradient = torch.zeros_like(leaves[target - 1])
            if loss.requires_grad:
                gradient = torch.autograd.grad(loss, leaves[target - 1])[0]
            torch.testing.assert_close(found.gradients[trial, target - 1], gradient, rtol=1e-11, atol=1e-13)


def test_nothing_crosses_a_cut_edge_or_a_sample_that_the_correct_gate_holds_back():
    graph = Graph.parse(
        "1=m 2=m 3=m; label->1=through 2->1=linear label->2=through 1->3=through 3->2=correct"
    )
    logits = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    labels = torch.tensor([[1, 2, 3, 4]])  # an all-NaN row's argmax is class 0: node 3 is never right
    weights, marks = weigh([graph], [0], 1, 4)
    clean = graph_losses(logits, labels, weights[0], marks, temperature=2.0)
    broken = logits.clone()
    broken[0, 2] = torch.nan
    held = logits.clone()
    held[0, 2] = torch.tensor([9.0, 0, 0, 0, 0])  # wrong everywhere, as an all-NaN row is
    expected = graph_losses(held, labels, weights[0], marks, temperature=2.0)
    found = graph_losses(broken, labels, weights[0], marks, temperature=2.0)
    assert torch.equal(found.losses[0, 0], clean.losses[0, 0])
    assert torch.equal(found.gradients[0, :2], expected.gradients[0, :2])
    assert torch.equal(found.losses[0, :2], expected.losses[0, :2])
    assert found.losses[0, 2].isnan()


def test_graphs_together_equal_graphs_alone():
    rng = np.random.default_rng(1)
    graphs = [random_graph(rng, 4) for _ in range(5)]
    logits, labels = torch.randn(5, 4, 6, 3, dtype=torch.float64), torch.randint(3, (5, 6))
    weights, marks = weigh(graphs, range(5), 1, 9)
    together = graph_losses(logits, labels, weights[0], marks, temperature=1.5)
    for k in range(5):
        one = slice(k, k + 1)
        alone = graph_losses(logits[one], labels[one], weights[0, one], marks[one], temperature=1.5)
        torch.testing.assert_close(together.losses[one], alone.losses, rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(together.gradients[one], alone.gradients, rtol=1e-13, atol=1e-14)
