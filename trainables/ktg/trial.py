"""One trial of a pack: its graph, what its nodes start from, what it costs, and whether its losses are still finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdsearch.spaces.graph import Graph
from kdsearch.trainables.ktg.files import Checkpoint, load_checkpoint, save_checkpoint
from kdsearch.trainables.ktg.gates import ALL, check_plan, learned_weights
from kdsearch.trainables.ktg.learning import Learner, count_passes
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.ktg.reach import reaching_nodes
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.metaparameters.path import PathState
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.networks.files import FileError, load_weights
from kdsearch.trainables.networks.stack import NodeState
from kdsearch.trainables.networks.stacked import initial_tensors
from kdsearch.trainables.protocol import Member
from kdsearch.trainables.seeds import derive_seed

_LOSSES = {"train_loss": "training", "val_loss": "validation", "test_loss": "test"}


@dataclass
class Trial:
    """A member that still trains."""

    member: Member
    settings: KtgSettings
    graph: Graph
    architectures: Mapping[int, Architecture]
    optimiser: OptimiserSettings | None  # of learned gates; None without any
    epoch: int = 0  # epochs done
    path: PathState | None = None  # where learned gates stood when the pack's slots were last laid out
    judged: int = 0  # gradient steps of learned gates in the present epoch

    @classmethod
    def make(cls, member: Member, settings: KtgSettings, data: PackData) -> Trial:
        """Read a member.

        Raises:
            KdsearchError: its configuration is no graph that can be trained, or its plan does not fit the graph.

        """
        graph = settings.graph(member.configuration)
        architectures = {
            node: settings.architecture(
                graph.models[node - 1], shape=data.batches.shape, classes=data.classes
            )
            for node in graph.nodes
        }
        optimiser = check_plan(graph, member.plan, settings.data.purpose)
        return cls(member, settings, graph, architectures, optimiser)

    @property
    def number(self) -> int:
        """The trial's number in its sweep."""
        return self.member.number

    @property
    def learning_nodes(self) -> frozenset[int]:
        """Nodes that a learned gate leads to."""
        return frozenset(edge.target for edge in self.graph.learned_edges())

    @property
    def learner(self) -> Learner | None:
        """The learned gates and where they stood, None without any."""
        if self.optimiser is None or self.path is None:
            return None
        return Learner(self.graph, self.optimiser, self.path)

    def start(self) -> Mapping[int, NodeState]:
        """Return every node's tensors: from the checkpoint, a teacher's file, or drawn anew.

        Raises:
            FileError: a teacher or the checkpoint is missing or does not fit.

        """
        if self.member.checkpoint is not None:
            return self._resume(self.member.checkpoint)
        if self.optimiser is not None:
            self.path = PathState.start(self.optimiser, [each.name for each in learned_weights(self.graph)])
        frozen = self.graph.frozen_nodes()
        return {
            node: self._teacher(node) if node in frozen else self._fresh(node) for node in self.graph.nodes
        }

    def save(self, path: Path, nodes: Mapping[int, NodeState], weights: PathState | None) -> None:
        """Write the checkpoint that `start` goes on from; weights: where learned gates stand now."""
        checkpoint = Checkpoint(
            identity=self._identity(),
            epoch=self.epoch,
            nodes=nodes,
            weights=None if weights is None else weights.to_plain(),
        )
        save_checkpoint(path, checkpoint)

    def costs(self, iterations: int) -> Mapping[str, float]:
        """Return the passes of all its nodes in the epoch's training, by metric."""
        passes = count_passes(self.graph, self.optimiser, iterations, self.judged)
        return {
            "iterations": float(iterations),
            "forward_passes": float(passes.forward),
            "backward_passes": float(passes.backward),
            "tangent_passes": float(passes.tangent),
        }

    def divergence(self, metrics: Mapping[str, float]) -> str:
        """Say which node's loss is not finite, if the target can be reached from it."""
        for node in reaching_nodes(self.graph):
            for name, what in _LOSSES.items():
                value = metrics.get(f"{node}/{name}", 0.0)
                if not np.isfinite(value):
                    model = self.graph.models[node - 1]
                    return f"the {what} loss of node {node} ({model}) is {value} at epoch {self.epoch}"
        return ""

    def _resume(self, path: Path) -> Mapping[int, NodeState]:
        checkpoint = load_checkpoint(path, self._identity(), self.architectures)
        self.epoch = checkpoint.epoch
        if self.optimiser is not None:
            self.path = PathState.from_plain(checkpoint.weights or {})
        return checkpoint.nodes

    def _identity(self) -> Mapping[str, Any]:
        identity = {
            "settings": self.settings.to_mapping(),
            "configuration": dict(self.member.configuration),
            "seed": self.member.seed,
        }
        if self.optimiser is not None:
            identity["optimiser"] = self.optimiser.to_mapping()
        # None where it is the training part: so it is, too, of checkpoints that are older than the key
        identity["train_on"] = ALL if self.member.plan.get("train_on") == ALL else None
        return identity

    def _fresh(self, node: int) -> NodeState:
        rng = np.random.default_rng(derive_seed(self.member.seed, "node", node))
        return NodeState(initial_tensors(self.architectures[node], rng))

    def _teacher(self, node: int) -> NodeState:
        model = self.graph.models[node - 1]
        path = self.member.inputs.get(f"teacher:{model}")
        if path is None:
            raise FileError(
                f"trial {self.number}: node {node} is a frozen {model}, and no weights are given for it",
                f"Train {model} with the label alone first, and give its weights as the input 'teacher:{model}'.",
            )
        return NodeState(load_weights(path, self.architectures[node]))
