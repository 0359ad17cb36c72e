"""The searcher `retrain` of a sweep file: configurations that are trained in full and measured on the test part.

Nothing is searched. Each version is trained once for each seed on each data set (Iwata et al., Tables V and VI); seed
s is the same for every version and data set, so that versions are compared in pairs. `kdsearch retrain` writes such a
section from a trial of an earlier sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kdsearch.search.searcher_settings import SearcherSection, Section
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.settings import OptimiserSettings


class Version(Section):
    """One configuration; with an optimiser its metaparameters follow their gradient, as in the trial it comes from."""

    configuration: dict[str, Any] = Field(min_length=1)
    optimised: bool = Field(
        default=False, description="the searched trial looked at the validation part for values"
    )
    optimiser: dict[str, Any] | None = None

    @field_validator("configuration")
    @classmethod
    def _scalars(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if not isinstance(value, str | int | float | bool):
                raise ValueError(f"{name} must be a number, a text, true or false")  # noqa: TRY004 pydantic takes ValueError
        return values

    @model_validator(mode="after")
    def _readable(self) -> Version:
        if self.optimiser is not None:
            try:
                OptimiserSettings.from_mapping(self.optimiser)
            except UsageError as error:
                raise ValueError(f"optimiser: {error.message}") from None
        return self

    @property
    def descent(self) -> OptimiserSettings | None:
        """How its metaparameters follow their gradient; None if they do not."""
        return None if self.optimiser is None else OptimiserSettings.from_mapping(self.optimiser)


class Chosen(Section):
    """Where the subject came from, for whoever reads the result."""

    sweep: str
    trial: int
    by: Literal["rule", "person"]
    words: str = Field(description="what was chosen, by which rule, on which part")


class RetrainSettings(SearcherSection):
    """Versions side by side, on one data set or several, judged on the test part."""

    kind: Literal["retrain"]
    seeds: int = Field(5, ge=1, le=1000, description="trainings of each version on each data set")
    train_on: Literal["training", "all"] = Field(
        "all", description="all: training and validation images together; nothing is chosen by them any more"
    )
    versions: dict[Annotated[str, Field(min_length=1, max_length=80)], Version] = Field(min_length=1)
    subject: str = Field(description="the version that the others are compared with")
    data: dict[Annotated[str, Field(min_length=1)], str | dict[str, Any]] = Field(
        default_factory=dict, description="data sets by name; default: the trainable's own alone"
    )
    chosen: Chosen | None = None

    @model_validator(mode="after")
    def _subject_is_known(self) -> RetrainSettings:
        if self.subject not in self.versions:
            raise ValueError(f"subject {self.subject!r} is no version; versions: {', '.join(self.versions)}")
        return self

    def on(self, trainable: Mapping[str, Any], label: str | None) -> dict[str, Any]:
        """The trainable's settings with the data set of that name; None: its own."""
        return dict(trainable) if label is None else {**trainable, "data": self.data[label]}

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The data sets by name; (None,) stands for the trainable's own alone."""
        return tuple(self.data) or (None,)
