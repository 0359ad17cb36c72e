"""What a gradient method hands to a trial: which metaparameters it optimises, from where, and within which bounds.

The start is drawn from the space, like any configuration. A metaparameter of a generic space is one of its continuous
parameters. The weights of a graph's learned gates are no parameters of its space: they start anywhere in the interval
that the trainable declares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdsearch.search.searcher_settings import GradientOptions
from kdsearch.spaces import Configuration, DesignSpace, Domain, Float, Space
from kdsearch.spaces.domains import read_domain
from kdsearch.spaces.draws import uniform
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.protocol import TrainableKind

_LOOKS = 50  # configurations looked at for what they declare, where not all declare the same


@dataclass(frozen=True, kw_only=True)
class Descent:
    """A gradient method on a space, for a trainable."""

    space: DesignSpace
    kind: TrainableKind
    settings: Mapping[str, object]  # the trainable's
    options: GradientOptions

    def optimiser(self, configuration: Configuration, rng: np.random.Generator) -> OptimiserSettings:
        """The optimiser of a trial that starts at `configuration`; a graph without learned gates has nothing in it.

        `rng` draws starts that no parameter of the space gives.
        """
        declared = self._declared(configuration)
        bounds = {name: self._bounds(declared[name]) for name in self._wanted(declared)}
        start = {
            name: uniform(rng, *ends) if self._is_drawn(name) else float(configuration[name])
            for name, ends in bounds.items()
        }
        return self.options.optimiser(start=start, bounds=bounds)

    def check(self) -> None:
        """Refuse metaparameters that are not differentiable, or have no interval to move in.

        Raises:
            UsageError: naming the parameter, and those that are differentiable.

        """
        declared = ever_declared(self.space, self.kind, self.settings)
        if not declared:
            raise UsageError(
                f"the trainable {self.kind.name} has no differentiable metaparameter in this space",
                "Use a searcher that tries configurations: random, tpe or enumeration.",
            )
        known = ", ".join(declared)
        if self.options.metaparameters is not None and not isinstance(self.space, Space):
            raise UsageError(
                "the weights of a graph's learned gates are optimised together",
                "Leave metaparameters out, and give gates that are not to be learned another value.",
            )
        if self.options.metaparameters is None and isinstance(self.space, Space):
            for name in self.space.parameter_names:
                if name not in declared:
                    raise UsageError(
                        f"{name} is not differentiable, and the gradient method is to optimise all of the space",
                        f"List those to be optimised in metaparameters (differentiable: {known}); the others are "
                        "drawn and kept.",
                    )
        for name in self.options.metaparameters or ():
            if name not in declared:
                raise UsageError(
                    f"{name} is not a differentiable metaparameter of the trainable {self.kind.name}",
                    f"Differentiable: {known}.",
                )
        for name in self._wanted(declared):
            self._check_interval(declared[name])

    def _check_interval(self, metaparameter: Metaparameter) -> None:
        name = metaparameter.name
        if isinstance(self.space, Space):
            if name not in self.space.parameter_names:
                raise UsageError(
                    f"{name} is no parameter of the space, which would give its start and its bounds",
                    f"Add {name} to the space's parameters, or leave it out of metaparameters.",
                )
            domain = self._domain(name)
            if not isinstance(domain, Float):
                raise UsageError(
                    f"{name} is {domain} in the space, and a gradient moves it anywhere in an interval",
                    "Give it the type float or log-uniform.",
                )
            if "when" in self.space.parameters_spec()[name]:
                raise UsageError(
                    f"{name} is active in some configurations only, and the gradient method optimises it in all",
                    "Leave its condition (when) out of the space.",
                )
            for constraint in self.space.constraints:
                if name in constraint.parameters:
                    raise UsageError(
                        f"{name} is optimised by a gradient, which does not keep the constraint '{constraint}'",
                        "Leave the constraint out, or the parameter out of metaparameters.",
                    )
        low, high = self._bounds(metaparameter)
        if not metaparameter.low <= low <= high <= metaparameter.high:
            raise UsageError(
                f"{name} is anywhere in [{low:g}, {high:g}] in the space",
                f"The loss is defined for [{metaparameter.low:g}, {metaparameter.high:g}].",
            )
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UsageError(
                f"{name} has no start: it is no parameter of the space, and the trainable declares it for "
                f"[{low:g}, {high:g}]",
                "Leave it out of metaparameters.",
            )

    def _wanted(self, declared: Mapping[str, Metaparameter]) -> list[str]:
        """Those to be optimised, of the declared ones; by default the space's parameters or, of a graph, all."""
        if self.options.metaparameters is not None:
            return [name for name in self.options.metaparameters if name in declared]
        own = isinstance(self.space, Space)
        return [name for name in declared if not own or name in self.space.parameter_names]

    def _bounds(self, metaparameter: Metaparameter) -> tuple[float, float]:
        """Where the space is or, of what is no parameter of it, where the loss is defined."""
        if not self._is_drawn(metaparameter.name):
            domain = self._domain(metaparameter.name)
            if isinstance(domain, Float):
                return domain.low, domain.high
        return metaparameter.low, metaparameter.high

    def _is_drawn(self, name: str) -> bool:
        return name not in self.space.parameter_names

    def _domain(self, name: str) -> Domain:
        spec = {key: value for key, value in self.space.parameters_spec()[name].items() if key != "when"}
        return read_domain(spec, f"the parameter {name}")

    def _declared(self, configuration: Configuration) -> dict[str, Metaparameter]:
        return {each.name: each for each in self.kind.metaparameters(self.settings, configuration)}


def ever_declared(
    space: DesignSpace, kind: TrainableKind, settings: Mapping[str, object]
) -> dict[str, Metaparameter]:
    """What any of a number of configurations declares, by name; which are looked at is always the same."""
    rng = np.random.default_rng(0)
    found: dict[str, Metaparameter] = {}
    for _ in range(_LOOKS):
        found |= {each.name: each for each in kind.metaparameters(settings, space.sample(rng))}
    return found
