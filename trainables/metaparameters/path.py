"""Algorithm 1: how the metaparameters of K trials move from iteration to iteration.

Source: "Metaparameter optimization in knowledge distillation", equations 3 and 4 and Algorithm 1. Every trial goes
through periods of e1 + e2 iterations: e1 gradient steps, then e2 predicted ones along a straight line, fitted by least
squares to the e1 steps of this period alone. The value fit puts the line through the values after each gradient step,
z = 0, ..., e1 - 1, and reads the next values off it at z = e1, e1 + 1, ...; the increment fit (equation 4) puts it
through the changes, z = 1, ..., e1, and adds what it says at z = e1 + 1, ... to the value. Every new value is clamped
to the metaparameter's bounds. A change is what a gradient step asks for, before clamping: with what is left of it at a
bound, the line would throw a value off the bound that every gradient step presses it against.

Which phase a trial is in is known without looking at any tensor, so that nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.settings import Fit, OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class PathState:
    """Where one trial's metaparameters stand between two iterations; tensors on the CPU."""

    values: Tensor  # [P]
    iteration: int  # iterations done
    trajectory: Tensor  # [e1, P] what the line is fitted to, of the present or last gradient phase
    line: Tensor  # [2, P] slope and intercept of the last fit, c of equation 4
    skipped: int  # hypergradients that were not finite, so far

    @classmethod
    def start(cls, settings: OptimiserSettings, names: Sequence[str]) -> Self:
        """Return the state before the first iteration.

        Raises:
            UsageError: the settings give no start value for a name.

        """
        missing = [name for name in names if name not in settings.start]
        if missing:
            raise UsageError(
                f"no start value for {', '.join(missing)}", "The optimiser's settings need one for each name."
            )
        values = torch.tensor([settings.start[name] for name in names], dtype=torch.float64)
        return cls(
            values=values,
            iteration=0,
            trajectory=values.new_zeros(settings.e1, len(names)),
            line=values.new_zeros(2, len(names)),
            skipped=0,
        )

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and numbers by name, as a file of weights can hold them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Self:
        """Return the state that `to_plain` was called on.

        Raises:
            UsageError: something is missing, too much or of another type.

        """
        expected = {"values": Tensor, "iteration": int, "trajectory": Tensor, "line": Tensor, "skipped": int}
        found = dict(content) if isinstance(content, Mapping) else {}
        if found.keys() != expected.keys() or not all(isinstance(found[k], expected[k]) for k in expected):
            raise UsageError(
                "this is not the state of a path of metaparameters", f"It must hold {', '.join(expected)}."
            )
        return cls(**found)


class MetaPath:
    """The metaparameters of K trials side by side, each at its own place in Algorithm 1.

    All trials share the settings (whose `start` is not looked at here: it stands in the states) and the names, in the
    order of P. A name without bounds is not clamped.

    Raises:
        UsageError: a state does not fit the settings and names.

    """

    def __init__(
        self,
        settings: OptimiserSettings,
        names: Sequence[str],
        states: Sequence[PathState],
        *,
        device: str | torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.names = tuple(names)
        self._settings, self._device, self._dtype = settings, torch.device(device), dtype
        for state in states:
            self._check(state)
        bounds = [settings.bounds.get(name, (-math.inf, math.inf)) for name in names]
        self._low, self._high = self._tensor([low for low, _ in bounds]), self._tensor([b for _, b in bounds])
        self._values = self._joined("values", states)
        self._trajectory = self._joined("trajectory", states)
        self._line = self._joined("line", states)
        self._skipped = torch.tensor([state.skipped for state in states], device=self._device)
        self._iterations = [state.iteration for state in states]
        self._phases = self._group()

    @property
    def values(self) -> Tensor:
        """The present values [K, P]; a step replaces the tensor and leaves the old one as it is."""
        return self._values

    @property
    def skipped(self) -> Tensor:
        """How many hypergradients of each trial were not finite and counted as 0, since its start: [K], integers."""
        return self._skipped

    def wants(self) -> list[bool]:
        """Say of each trial whether its next iteration is a gradient step."""
        return [self._place(iteration) < self._settings.e1 for iteration in self._iterations]

    def advance(self, hypergradients: Tensor | None = None) -> None:
        """Go one iteration ahead with every trial.

        hypergradients: [K, P]; rows of trials that want none are not looked at; None if no trial wants one.
        A hypergradient that is not finite counts as 0 and is counted; the others are clipped first.

        Raises:
            UsageError: a trial wants a hypergradient and there are none.

        """
        if hypergradients is None and any(self.wants()):
            raise UsageError(
                "a gradient step needs hypergradients", "Ask `wants` which trials take one next."
            )
        self._values, self._skipped = self._values.clone(), self._skipped.clone()
        for first, rows in self._phases:
            place = self._place(self._iterations[first])
            if place >= self._settings.e1:
                self._predict(rows, place)
            elif hypergradients is not None:
                self._descend(rows, place, hypergradients[rows])
        self._iterations = [iteration + 1 for iteration in self._iterations]

    def state(self, index: int) -> PathState:
        """Return a copy of where the trial at this place in [0, K) stands."""
        return PathState(
            values=self._values[index].to("cpu", copy=True),
            iteration=self._iterations[index],
            trajectory=self._trajectory[index].to("cpu", copy=True),
            line=self._line[index].to("cpu", copy=True),
            skipped=int(self._skipped[index]),
        )

    def without(self, indices: Sequence[int]) -> MetaPath:
        """Return the paths of the other trials."""
        kept = [self.state(index) for index in range(len(self._iterations)) if index not in set(indices)]
        return MetaPath(self._settings, self.names, kept, device=self._device, dtype=self._dtype)

    # Steps of the trials `rows`, which all stand at `place` in their period

    def _descend(self, rows: slice | Tensor, place: int, hypergradients: Tensor) -> None:
        settings = self._settings
        finite = hypergradients.isfinite()
        slopes = torch.where(finite, hypergradients, torch.zeros_like(hypergradients)).to(self._dtype)
        if settings.clip is not None:
            slopes = slopes.clamp(-settings.clip, settings.clip)
        changes = -settings.rate * slopes
        values = self._clamped(self._values[rows] + changes)  # equation 3
        self._values[rows] = values
        self._skipped[rows] += (~finite).sum(1)
        if settings.e2:
            self._trajectory[rows, place] = values if settings.fit is Fit.VALUE else changes
            if place == settings.e1 - 1:
                self._line[rows] = _line(self._trajectory[rows], first=_first(settings.fit))

    def _predict(self, rows: slice | Tensor, place: int) -> None:
        slope, intercept = self._line[rows].unbind(1)
        predicted = intercept + slope * (place + _first(self._settings.fit))
        if self._settings.fit is Fit.INCREMENT:
            predicted = self._values[rows] + predicted  # equation 4
        self._values[rows] = self._clamped(predicted)

    def _clamped(self, values: Tensor) -> Tensor:
        return torch.clamp(values, self._low, self._high)

    # Places and layout

    def _place(self, iteration: int) -> int:
        return iteration % (self._settings.e1 + self._settings.e2)

    def _group(self) -> list[tuple[int, slice | Tensor]]:
        """Group trials that stand at one place; they stay together, as all advance together. With a first index."""
        groups: dict[int, list[int]] = {}
        for index, iteration in enumerate(self._iterations):
            groups.setdefault(self._place(iteration), []).append(index)
        if len(groups) == 1:
            return [(0, slice(None))]
        return [(rows[0], torch.tensor(rows, device=self._device)) for rows in groups.values()]

    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        count = len(self.names)
        return {"values": (count,), "trajectory": (self._settings.e1, count), "line": (2, count)}

    def _check(self, state: PathState) -> None:
        for name, shape in self._shapes().items():
            found = tuple(getattr(state, name).shape)
            if found != shape:
                raise UsageError(
                    f"the state of a path of metaparameters does not fit: {name} has shape {list(found)}, "
                    f"not {list(shape)}",
                    "It was made with other metaparameters or another e1.",
                )

    def _joined(self, name: str, states: Sequence[PathState]) -> Tensor:
        if not states:
            return torch.empty(0, *self._shapes()[name], device=self._device, dtype=self._dtype)
        return torch.stack([getattr(state, name) for state in states]).to(self._device, self._dtype)

    def _tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self._dtype, device=self._device)


def _first(fit: Fit) -> int:
    """Return the z of a period's first gradient step."""
    return 0 if fit is Fit.VALUE else 1


def _line(points: Tensor, *, first: int) -> Tensor:
    """Fit a straight line by least squares to points at z = first, first + 1, ...: [K, e1, P].

    Returns slope and intercept [K, 2, P]. One point has no slope: the line is then constant.
    """
    count = points.shape[1]
    middle = (count - 1) / 2.0
    offsets = torch.arange(count, dtype=points.dtype, device=points.device)[:, None] - middle
    base = points[:, :1]  # taken off, so that equal points give their own value and slope 0 without rounding
    rises = points - base
    squares = count * (count**2 - 1) / 12.0  # sum of the squared offsets
    slope = (rises * offsets).sum(1) / squares if count > 1 else torch.zeros_like(points[:, 0])
    return torch.stack([slope, base[:, 0] + rises.mean(1) - slope * (first + middle)], 1)
