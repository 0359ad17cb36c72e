"""The searcher's section of a sweep file: one model for each kind of searcher, and one for each method of a comparison.

pydantic stands at this border only: ranges and names are checked here, and what needs the space or the trainable to
be judged is checked by the searchers (`kdsearch.search.searchers.checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.settings import Fit, Hypergradient, OptimiserSettings

_DEFAULT = OptimiserSettings()


class Section(BaseModel):
    """A section of a sweep file: every key is known, nothing changes, every number is finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SearcherSection(Section):
    """The section of one kind of searcher; a subclass names the kind in a Literal."""

    kind: str


class RefinementSettings(SearcherSection):
    """Stepwise refinement of a design space (Iwata et al., Algorithm 1)."""

    kind: Literal["refinement"] = "refinement"
    policy: Literal["best-auc", "significant", "interactive"] = "best-auc"
    draws: int = Field(2500, ge=2, description="random draws from each space before it is judged")
    budget: int | None = Field(
        None, ge=2, description="most draws from one space (significant policy); default four times draws"
    )
    limit: int = Field(500, ge=1, description="D: refine while the space has more combinations than this")
    repeats: int = Field(5, ge=1, description="trainings of each graph of the last space")
    reuse: bool = Field(
        default=True, description="trials of a space that fall in its child count as draws of it"
    )
    min_draws: int = Field(10, ge=2, description="a condition with fewer draws is not a candidate")

    @model_validator(mode="after")
    def _budget_covers_draws(self) -> RefinementSettings:
        if self.budget is not None and self.budget < self.draws:
            raise ValueError(f"budget ({self.budget}) is less than draws ({self.draws})")
        return self

    @property
    def looks(self) -> int:
        """How often one space may be judged: once, or under `significant` until its budget is spent."""
        if self.policy != "significant":
            return 1
        return -(-(self.budget or 4 * self.draws) // self.draws)


Confirm = Annotated[
    int,
    Field(
        ge=0,
        le=1000,
        description="trainings of the best configuration once the search is over; they alone see the test part",
    ),
]


class RandomSettings(SearcherSection):
    """Uniform draws from the space."""

    kind: Literal["random"]
    trials: int = Field(ge=1, description="draws")
    confirm: Confirm = 0


class EnumerationSettings(SearcherSection):
    """Every configuration of a finite space, symmetric duplicates once."""

    kind: Literal["enumeration"]
    repeats: int = Field(1, ge=1)


class Duplicates(StrEnum):
    """What becomes of a proposal that equals a known configuration, up to the symmetry of the space."""

    ANSWER = "answer"  # the known trial answers it, which counts among `trials`
    REPLACE = "replace"  # another configuration, which is not known, is proposed in its place
    TRAIN = "train"  # it is trained again, with another seed


class ProposingSettings(SearcherSection):
    """What all searchers have in common that propose one trial after the other."""

    trials: int = Field(ge=1, description="proposals in all")
    duplicates: Duplicates = Field(
        Duplicates.REPLACE, description="of a proposal that equals a known configuration"
    )
    confirm: Confirm = 0


Generation = Annotated[
    int, Field(ge=1, description="trials proposed at a time, before the results of any of them are known")
]


class TpeOptions(Section):
    """What a search by tree-structured Parzen estimators is told."""

    kind: Literal["tpe"]
    library: Literal["optuna", "hyperopt"] = "optuna"
    startup: int | None = Field(
        None,
        ge=1,
        description="random draws before the first estimate; default: the library's own (optuna 10, hyperopt 20)",
    )


class TpeSettings(TpeOptions, ProposingSettings):
    """TPE over a whole sweep."""

    generation: Generation = 8


class QmcSettings(ProposingSettings):
    """Quasi-random points."""

    kind: Literal["qmc"]
    sequence: Literal["sobol", "halton"] = Field(
        "sobol", description="sobol is most even where trials is 2^n"
    )


class CmaesSettings(ProposingSettings):
    """CMA-ES, for numbers."""

    kind: Literal["cmaes"]
    generation: int | None = Field(
        None,
        ge=4,
        description="samples of a generation; default: 4 + 3 ln(number of parameters), rounded down",
    )


class GradientOptions(Section):
    """Gradient optimisation of metaparameters while the model trains (`OptimiserSettings` has the meanings)."""

    kind: Literal["gradient"]
    metaparameters: list[str] | None = Field(
        None, min_length=1, description="those to be optimised; default: all of the space"
    )
    rate: float = _DEFAULT.rate
    e1: int = Field(_DEFAULT.e1, strict=True)
    e2: int = Field(_DEFAULT.e2, strict=True)
    hypergradient: Hypergradient = _DEFAULT.hypergradient
    fit: Fit = _DEFAULT.fit
    clip: float | None = _DEFAULT.clip
    epsilon: float = _DEFAULT.epsilon

    @model_validator(mode="after")
    def _possible(self) -> GradientOptions:
        if len(set(self.metaparameters or ())) < len(self.metaparameters or ()):
            raise ValueError("metaparameters names one twice")
        try:
            self.optimiser(start={}, bounds={})
        except UsageError as error:
            raise ValueError(f"{error.message}. {error.hint}") from None
        return self

    def optimiser(
        self, *, start: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]
    ) -> OptimiserSettings:
        """What a trial is handed, from these values on and within these bounds."""
        return OptimiserSettings(
            start=start,
            bounds=bounds,
            rate=self.rate,
            e1=self.e1,
            e2=self.e2,
            hypergradient=self.hypergradient,
            fit=self.fit,
            clip=self.clip,
            epsilon=self.epsilon,
        )


class GradientSettings(GradientOptions, SearcherSection):
    """Gradient optimisation from several random starts."""

    trials: int = Field(ge=1, description="starts, drawn from the space")


TrainOn = Annotated[
    Literal["training", "all"],
    Field(description="all: the validation images too (the paper's methods without optimisation)"),
]


class FixedMethod(Section):
    """The same values in every run; parameters of the space without a value here are drawn, run by run."""

    kind: Literal["fixed"]
    values: dict[str, Any]
    train_on: TrainOn = "training"

    @field_validator("values")
    @classmethod
    def _scalars(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if not isinstance(value, str | int | float | bool):
                raise ValueError(f"{name} must be a number, a text, true or false")  # noqa: TRY004 pydantic takes ValueError
        return values


class RandomMethod(Section):
    """One draw from the space for each run; `parameters` replaces the laws of some of its parameters."""

    kind: Literal["random"]
    train_on: TrainOn = "training"
    parameters: dict[str, Any] = Field(default_factory=dict)


class TpeMethod(TpeOptions):
    """For each run a search of its own, judged on validation; its best trial's values train the final one."""

    trials: int = Field(5, ge=1, description="trials before the final one")


class GradientMethod(GradientOptions):
    """One trial for each run, whose metaparameters are optimised while it trains."""


MethodSettings = Annotated[
    FixedMethod | RandomMethod | TpeMethod | GradientMethod, Field(discriminator="kind")
]


class PeriodsSettings(Section):
    """Further runs of a gradient method with other e1 and e2 (the paper's Fig. 6)."""

    method: str
    equal: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list, description="e1 and e2, both this")
    e1: int = Field(10, ge=1, description="beside the values of e2")
    e2: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(e1, e2) of every point, each once."""
        return tuple(dict.fromkeys([*((e, e) for e in self.equal), *((self.e1, e2) for e2 in self.e2)]))


class ComparisonSettings(SearcherSection):
    """Methods side by side: run r of every method has the same training seed, so that differences are paired."""

    kind: Literal["comparison"]
    runs: int = Field(10, ge=1, le=1000, description="final trials of each method")
    reference: str = Field(description="the method that all others are compared with")
    methods: dict[Annotated[str, Field(min_length=1, max_length=80)], MethodSettings] = Field(min_length=1)
    periods: PeriodsSettings | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> ComparisonSettings:
        known = ", ".join(self.methods)
        if self.reference not in self.methods:
            raise ValueError(f"reference {self.reference!r} is no method; methods: {known}")
        if self.periods is None:
            return self
        if not isinstance(self.methods.get(self.periods.method), GradientMethod):
            told = f"periods.method {self.periods.method!r} is no gradient method; methods: {known}"
            raise ValueError(told)  # noqa: TRY004 pydantic takes ValueError
        for name in self._studied(self.periods):
            if name in self.methods:
                raise ValueError(f"the method {name!r} has a name that periods needs for its own")
        return self

    def all_methods(self) -> Mapping[str, FixedMethod | RandomMethod | TpeMethod | GradientMethod]:
        """Methods by name, those of the study of periods behind the others."""
        return self.methods if self.periods is None else {**self.methods, **self._studied(self.periods)}

    def _studied(self, periods: PeriodsSettings) -> dict[str, GradientMethod]:
        """The study's further methods; a pair that the method itself has is not trained twice."""
        method = self.methods[periods.method]
        if not isinstance(method, GradientMethod):
            return {}
        return {
            period_name(periods.method, e1, e2): method.model_copy(update={"e1": e1, "e2": e2})
            for e1, e2 in periods.pairs
            if (e1, e2) != (method.e1, method.e2)
        }


def period_name(method: str, e1: int, e2: int) -> str:
    """The name of a method of the study of e1 and e2."""
    return f"{method} e1={e1} e2={e2}"


class NamedSettings(SearcherSection):
    """Configurations that the sweep file names, nothing searched; run r of each has one training seed."""

    kind: Literal["named"]
    names: list[str] | None = Field(None, min_length=1, description="default: all of `configurations`")
    runs: int = Field(1, ge=1, le=1000, description="trainings of each")

    def comparison(self, configurations: Mapping[str, Mapping[str, Any]]) -> ComparisonSettings:
        """The comparison that trains just these, each by its name."""
        names = list(configurations) if self.names is None else self.names
        methods = {name: FixedMethod(kind="fixed", values=dict(configurations[name])) for name in names}
        return ComparisonSettings(
            kind="comparison", runs=self.runs, reference=names[0], methods=dict(methods)
        )


# kind of method -> model, for messages about keys
METHODS: Mapping[str, type[Section]] = {
    "fixed": FixedMethod,
    "random": RandomMethod,
    "tpe": TpeMethod,
    "gradient": GradientMethod,
}
