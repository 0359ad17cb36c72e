"""Which records a trial trains on, how they are brought into form and divided. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.records.parts import Shares
from kdsearch.trainables.records.physionet2021 import EcgSettings
from kdsearch.trainables.scores.physionet2021 import scored_classes
from kdsearch.trainables.settings_reading import POSITIVE, WHERE, check_number, refuse_unknown

LEADS: Final = 12
VARIABLES: Final = 40
SIGNALS: Final = "physionet2021"
HOURS: Final = "physionet2019"
# The set from elsewhere that outputs are compared on, by the set that is trained on.
ELSEWHERE: Final[Mapping[str, str]] = {SIGNALS: "hangzhou", HOURS: "eicu"}


@dataclass(frozen=True, kw_only=True)
class RecordData:
    """A set of records and its division.

    name: physionet2021 (twelve-lead ECG, one answer a record) or physionet2019 (hourly rows, one answer an hour).
    validation, test: shares of the records, in (0, 1); seed: of the division. window_s (s) and rate_hz (Hz): the form
    of ECGs. indicators: 40 more variables say what was not measured in the hour. elsewhere: another set that the
    outputs are compared on, hangzhou or eicu. or_sample: where the set is not there, a made-up one stands in for it.

    Raises:
        UsageError: a value is outside its range.
        UnknownNameError: no such set.

    """

    name: str
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    window_s: float = 10.0
    rate_hz: int = 200
    indicators: bool = False
    elsewhere: str | None = None
    or_sample: bool = False

    def __post_init__(self) -> None:
        if self.name not in ELSEWHERE:
            raise UnknownNameError("set of records", self.name, tuple(ELSEWHERE), f"data in {WHERE}")
        if self.elsewhere not in (None, ELSEWHERE[self.name]):
            raise UnknownNameError(
                "set of records", str(self.elsewhere), (ELSEWHERE[self.name],), f"data.elsewhere in {WHERE}"
            )
        for name in ("indicators", "or_sample"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} of data in {WHERE} must be true or false")
        if self.indicators and not self.per_step:
            raise UsageError(f"indicators of data in {WHERE} belong to {HOURS}", "Leave them out for ECGs.")
        for name in ("validation", "test", "window_s"):
            check_number(name, getattr(self, name), POSITIVE, f"data in {WHERE}")
        _ = self.shares, self.form  # which check them further

    @classmethod
    def read(cls, data: object) -> RecordData:
        """Read the `data` of a sweep file: a mapping, or just the set's name."""
        if isinstance(data, str):
            return cls(name=data)
        if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
            raise UsageError(
                f"{WHERE} name no set of records", f"Write data: {{name: {HOURS}}} there, or {SIGNALS}."
            )
        refuse_unknown(data, [each.name for each in fields(cls)], f"data in {WHERE}")
        return cls(**data)

    def to_mapping(self) -> dict[str, Any]:
        """Return what `read` reads, with every key."""
        return asdict(self)

    @property
    def per_step(self) -> bool:
        """Whether there is an answer for every hour, not one for a record."""
        return self.name == HOURS

    @property
    def shares(self) -> Shares:
        """The parts of the records."""
        return Shares(validation=self.validation, test=self.test, seed=self.seed)

    @property
    def form(self) -> EcgSettings:
        """The form of ECGs; each lead is scaled to its own deviation."""
        return EcgSettings(window_s=self.window_s, rate_hz=self.rate_hz)

    @property
    def inputs(self) -> int:
        """Values of one time step: leads, or variables with their indicators."""
        if not self.per_step:
            return LEADS
        return VARIABLES * 2 if self.indicators else VARIABLES

    @property
    def steps(self) -> int | None:
        """Time steps of a record; None: it varies."""
        return None if self.per_step else self.form.window

    @property
    def outputs(self) -> int:
        """Answers: sepsis, or the challenge's scored classes."""
        return 1 if self.per_step else len(scored_classes().names)
