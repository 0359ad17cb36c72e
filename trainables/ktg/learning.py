"""Learned gates: the weights of K trials, and how each node's weights follow its own validation loss.

With w' = w - gamma (1 + mu) grad_w L_t(w, W) + (terms without W), Nesterov's step of node t with momentum mu, and
v = grad_w' L_val,t(w'), equation 3 of "Metaparameter optimization in knowledge distillation" is here

    dL_val,t(w') / dW[t, s] = -gamma (1 + mu) d/deps l_ts(w + eps v) at eps = 0,

l_ts being the mean loss that edge s -> t carries. As sources are detached, one step of node t depends on its own
incoming edges alone: node 1's validation loss says nothing of the edges to other nodes, and those weights serve the
validation loss of the node that they lead to. Weights move after the step; the next one uses the new ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.graph import Graph
from kdsearch.trainables.ktg.gates import learned_weights
from kdsearch.trainables.ktg.losses import edge_losses
from kdsearch.trainables.ktg.running import Running
from kdsearch.trainables.metaparameters.hypergradient import directional_derivative
from kdsearch.trainables.metaparameters.path import MetaPath, PathState
from kdsearch.trainables.metaparameters.settings import Hypergradient, OptimiserSettings
from kdsearch.trainables.networks.stacked import StackedNetwork, slot_images


@dataclass(frozen=True)
class Learner:
    """One trial with learned gates: how its weights move, and where they stand."""

    graph: Graph
    optimiser: OptimiserSettings
    state: PathState

    @property
    def names(self) -> tuple[str, ...]:
        """The weights' names, in the order of the state's values."""
        return tuple(each.name for each in learned_weights(self.graph))


@dataclass
class Passes:
    """Passes of one epoch through one trial's networks, the cost of a method without a clock."""

    forward: int = 0
    backward: int = 0
    tangent: int = 0


@dataclass(frozen=True)
class _Together:
    """Trials whose weights have the same names and bounds."""

    path: MetaPath
    trials: tuple[int, ...]  # indices in the pack
    places: Tensor  # [trials * P] where the weights stand in a flat [K, M, M + 1]


class GateWeights:
    """The learned weights of a pack of K trials, of which some may have none.

    learners: [K], None for a trial without learned gates. All share the optimiser but for its start and bounds.

    Raises:
        UsageError: the trials' optimisers differ in more than start and bounds.

    """

    def __init__(self, learners: Sequence[Learner | None], *, device: torch.device) -> None:
        present = {index: each for index, each in enumerate(learners) if each is not None}
        rules = {_key(replace(each.optimiser, start={}, bounds={})) for each in present.values()}
        if len(rules) > 1:
            raise UsageError("the trials of a pack must share the optimiser of their learned gates")
        self.optimiser = next((each.optimiser for each in present.values()), None)
        groups: dict[str, list[int]] = {}
        for index, each in present.items():
            groups.setdefault(_key(replace(each.optimiser, start={})), []).append(index)
        self._groups = [_together(indices, present, device) for indices in groups.values()]
        self._count = len(learners)

    def __bool__(self) -> bool:
        """Tell whether any trial has learned gates."""
        return bool(self._groups)

    def filled(self, gates: Tensor) -> Tensor:
        """Return the gates [K, M, M + 1] with the learned weights in their places."""
        if not self._groups:
            return gates
        flat = gates.flatten()
        for group in self._groups:
            flat = flat.index_copy(0, group.places, group.path.values.flatten().to(flat.dtype))
        return flat.view(gates.shape)

    def wants(self) -> list[bool]:
        """Say of each of the K trials whether its next iteration is a gradient step."""
        wanted = [False] * self._count
        for group in self._groups:
            for index, wants in zip(group.trials, group.path.wants(), strict=True):
                wanted[index] = wants
        return wanted

    def advance(self, hypergradients: Tensor | None) -> None:
        """Go one iteration ahead; hypergradients: [K, M, M + 1], None if no trial wants one."""
        for group in self._groups:
            found = None
            if hypergradients is not None:
                found = hypergradients.flatten().index_select(0, group.places).view_as(group.path.values)
            group.path.advance(found)

    def state(self, index: int) -> PathState | None:
        """Return where the weights of a trial stand, None if it has none."""
        for group in self._groups:
            if index in group.trials:
                return group.path.state(group.trials.index(index))
        return None

    def metrics(self) -> list[dict[str, float]]:
        """Return each trial's weights as `meta.<name>`, and `skipped_hypergradients`; waits for the device."""
        found: list[dict[str, float]] = [{} for _ in range(self._count)]
        for group in self._groups:
            rows = zip(group.trials, group.path.values.tolist(), group.path.skipped.tolist(), strict=True)
            for index, values, skipped in rows:
                names = (f"meta.{name}" for name in group.path.names)
                found[index] = dict(zip(names, values, strict=True), skipped_hypergradients=float(skipped))
        return found


@dataclass(frozen=True)
class Lesson:
    """One iteration as the learned gates see it, at the weights before the step.

    images: [K, B, C, H, W]; labels: [K, B]; logits: all nodes' [K, M, B, classes]; before: parameters of each stack
    that learns, in the order of the stacks.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor
    before: Sequence[Tensor]


@dataclass(frozen=True)
class Differentiation:
    """How validation losses are differentiated by gates: the loss's temperature, and the arithmetic of plain passes."""

    temperature: float
    arithmetic: Callable[[], AbstractContextManager[object]]

    def hypergradients(
        self,
        optimiser: OptimiserSettings,
        lesson: Lesson,
        validation: tuple[Tensor, Tensor],
        learning: Sequence[tuple[Running, Tensor]],
    ) -> Tensor:
        """Return dL_val,t(w') / dW[t, s] for every trial, target and source: [K, M, M + 1], 0 where none is learned.

        The stacks have stepped already. validation: images [K, B', C, H, W] and labels [K, B']; learning: the stacks
        that learn, each with gamma (1 + mu) of its slots [N].
        """
        trials, nodes = lesson.logits.shape[:2]
        found = lesson.logits.new_zeros(trials * nodes, nodes + 1)
        sources = functional.softmax(lesson.logits / self.temperature, -1)
        for (running, reach), before in zip(learning, lesson.before, strict=True):
            along = self._validation_gradient(running, *validation)
            slopes = self._slopes(optimiser, running, lesson, sources, before, along)
            found.index_copy_(0, running.places, -reach[:, None] * slopes)
        return torch.unflatten(found, 0, (trials, nodes))

    def _validation_gradient(self, running: Running, images: Tensor, labels: Tensor) -> Tensor:
        """Return v, on the batch's own statistics as in training; the running ones stay as they are."""
        with self.arithmetic():
            network = running.stack.network(training=True, track=False)
            logits = network.logits(slot_images(images, running.owners))
        answers = labels.index_select(0, running.owners)
        with torch.no_grad():
            gradient = functional.softmax(logits, -1)
            gradient.scatter_add_(
                -1, answers[..., None], gradient.new_full((), -1.0).expand(*answers.shape, 1)
            )
            gradient.div_(answers.shape[1])
        return running.stack.gradient(logits, gradient).clone()

    def _slopes(
        self,
        optimiser: OptimiserSettings,
        running: Running,
        lesson: Lesson,
        sources: Tensor,
        before: Tensor,
        along: Tensor,
    ) -> Tensor:
        """Return d/deps l_ts(w + eps v) of each slot's node t and every source s: [N, M + 1].

        In full precision whatever the plain passes have: differences of bfloat16 numbers would be mostly rounding.
        """
        images = slot_images(lesson.images, running.owners)
        labels = lesson.labels.index_select(0, running.owners)
        taught_by = sources.index_select(0, running.owners)

        def losses_by_edge(network: StackedNetwork) -> Tensor:
            return edge_losses(network.logits(images), taught_by, labels, temperature=self.temperature)

        return directional_derivative(
            running.stack,
            before,
            along,
            losses_by_edge,
            method=optimiser.hypergradient,
            epsilon=optimiser.epsilon,
        )


def count_passes(graph: Graph, optimiser: OptimiserSettings | None, iterations: int, judged: int) -> Passes:
    """Return the passes of an epoch of so many iterations, of which `judged` are gradient steps of the weights."""
    nodes, trained = len(graph.models), len(graph.models) - len(graph.frozen_nodes())
    passes = Passes(iterations * nodes, iterations * trained)
    if optimiser is not None:
        learning = judged * len({edge.target for edge in graph.learned_edges()})
        exact = optimiser.hypergradient is Hypergradient.EXACT
        passes.forward += learning if exact else 3 * learning
        passes.backward += learning
        passes.tangent += learning if exact else 0
    return passes


def _together(indices: Sequence[int], learners: Mapping[int, Learner], device: torch.device) -> _Together:
    first = learners[indices[0]]
    path = MetaPath(
        first.optimiser,
        first.names,
        [learners[index].state for index in indices],
        device=device,
        dtype=torch.float64,
    )
    nodes = len(first.graph.models)
    ends = [
        (edge.target - 1, 0 if isinstance(edge.source, str) else edge.source)
        for edge in first.graph.learned_edges()
    ]
    places = [(index * nodes + row) * (nodes + 1) + column for index in indices for row, column in ends]
    return _Together(path, tuple(indices), torch.tensor(places, dtype=torch.int64, device=device))


def _key(optimiser: OptimiserSettings) -> str:
    return json.dumps(optimiser.to_mapping(), sort_keys=True)
