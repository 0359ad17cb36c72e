"""Deep mutual learning is the graph of two nodes of the other engine."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsearch.spaces.graph import Graph
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.kd import KIND
from kdsearch.trainables.ktg import KIND as KTG
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("kd_cases", Path(__file__).with_name("kd_cases.py"))
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)
SETTINGS = _CASES.SETTINGS
learned = _CASES.learned
run = _CASES.run
ktg_plain = _CASES.ktg_plain


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
