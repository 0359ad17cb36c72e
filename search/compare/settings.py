"""Comparison files: a space, a table, a budget, and several searchers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, ValidationError, model_validator

from kdsearch.analysis.traces import Axis
from kdsearch.search.config import StatisticsSettings, SweepFile, parse_sweep
from kdsearch.search.masking import refuse_passwords
from kdsearch.search.searcher_settings import Section
from kdsearch.search.searchers.registry import sections
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.files import parse_yaml, text_of
from kdsearch.trainables.seeds import derive_seed

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,79}$")]
# A draw that was trained before is answered at no cost: more draws than the budget can pay for, and in a space of not
# many more configurations many more of them, so that a search by draws comes to the end of its budget there too.
_DRAWN_TWICE: Final = 2
_DRAWN_AGAIN: Final = 20
_SMALL: Final = 4  # a space with at most this many times the configurations that the budget pays for


class BudgetSettings(Section):
    """What every run may cost: exactly one of the three."""

    trials: int | None = Field(None, ge=1, description="trials that ended, whatever their state")
    epochs: int | None = Field(None, ge=1, description="epochs of all trials")
    seconds: float | None = Field(None, gt=0, description="virtual time")

    @model_validator(mode="after")
    def _one(self) -> BudgetSettings:
        given = [axis for axis in Axis if getattr(self, axis) is not None]
        if len(given) != 1:
            told = f"found {' and '.join(given)}" if given else "found none of them"
            raise ValueError(f"needs exactly one of trials, epochs and seconds ({told})")
        return self

    @property
    def axis(self) -> Axis:
        """What is limited."""
        return next(axis for axis in Axis if getattr(self, axis) is not None)

    @property
    def limit(self) -> float:
        """How much of it."""
        return float(getattr(self, self.axis))


class EntrySettings(Section):
    """One searcher, with its scheduler, as in a sweep file."""

    searcher: dict[str, Any] | str
    scheduler: dict[str, Any] | str | None = None
    own_seeds: bool = Field(
        default=False, description="seeds of its own instead of those that run r of all entries shares"
    )


class CompareFile(Section):
    """A whole comparison file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    space: dict[str, Any]
    trainable: dict[str, Any]
    runs: int = Field(20, ge=2, le=100_000, description="repeats of each searcher")
    workers: int = Field(1, ge=1, le=10_000, description="virtual workers")
    pack: int = Field(1, ge=1, le=1024, description="most trials that share a worker")
    budget: BudgetSettings
    best: float = Field(
        1.0, gt=0, le=100, description="per cent of the table's configurations that count as found"
    )
    reference: str = "random"
    entries: dict[Name, EntrySettings] = Field(min_length=1)
    statistics: StatisticsSettings = StatisticsSettings()

    @model_validator(mode="after")
    def _reference_is_known(self) -> CompareFile:
        if self.reference not in self.entries:
            raise ValueError(f"reference {self.reference!r} is no entry; entries: {', '.join(self.entries)}")
        if self.trainable.get("kind") != "table":
            raise ValueError(f"trainable.kind must be table (found {self.trainable.get('kind')!r})")
        return self

    def sweeps(self, where: str, epochs: int) -> dict[str, SweepFile]:
        """Return the sweep of each entry, checked; epochs: of the table's curves.

        A searcher that needs a number of trials and is given none gets as many as the budget can pay for.

        Raises:
            UsageError: an entry is no sweep; the message names it.

        """
        found = {}
        for name, entry in self.entries.items():
            scheduler = entry.scheduler if entry.scheduler != "none" else None
            affordable = partial(self._affordable, epochs, scheduled=scheduler is not None)
            data = {
                "name": self.name,
                "seed": self.seed,
                "space": self.space,
                "trainable": {**self.trainable, "epochs": epochs},
                "searcher": _with_trials(entry.searcher, affordable),
                "run": {"pack": self.pack, "max_concurrent": self.workers},
                "statistics": self.statistics.model_dump(),
                **({} if scheduler is None else {"scheduler": scheduler}),
            }
            sweep = parse_sweep(data, f"{where}: entries.{name}")
            if getattr(sweep.searcher, "policy", None) == "interactive":
                raise UsageError(
                    f"{where}: entries.{name}: nobody is there to choose in a simulation",
                    "Use the policy best-auc or significant.",
                )
            found[name] = sweep
        return found

    def _affordable(self, epochs: int, *, scheduled: bool) -> int:
        """More trials than a run can end: where trials are stopped each may cost one epoch, and draws come twice."""
        if self.budget.trials is not None:
            return self._draws(self.budget.trials)
        if self.budget.epochs is not None:
            return self._draws(self.budget.epochs if scheduled else math.ceil(self.budget.epochs / epochs))
        raise UsageError(
            "searcher.trials is missing, and a budget of seconds does not say how many there may be",
            "Give each searcher its trials.",
        )

    def _draws(self, trials: int) -> int:
        """Draws that will come to so many different trials."""
        size = space_from_spec(self.space, name="A").counts().valid_classes
        return (_DRAWN_AGAIN if size is not None and size <= _SMALL * trials else _DRAWN_TWICE) * trials

    def seed_of(self, entry: str, run: int) -> int:
        """The seed of a run, from 0: the same for all entries, but for those with seeds of their own."""
        own = (entry,) if self.entries[entry].own_seeds else ()
        return derive_seed(self.seed, "compare", run, *own)


def _with_trials(searcher: dict[str, Any] | str, trials: Callable[[], int]) -> dict[str, Any] | str:
    data = {"kind": searcher} if isinstance(searcher, str) else dict(searcher)
    section = sections().get(str(data.get("kind")))
    needed = (
        section is not None
        and "trials" in section.model_fields
        and section.model_fields["trials"].is_required()
    )
    return {**data, "trials": trials()} if needed and "trials" not in data else data


def load_comparison(path: Path, changes: Mapping[str, Any] | None = None) -> CompareFile:
    """Read a comparison file; changes: keys of the top level that stand for the file's.

    Raises:
        UsageError: it cannot be read, is not YAML, or does not describe a comparison.

    """
    try:
        text = text_of(path)
    except OSError as error:
        raise UsageError(
            f"cannot read the comparison file {path}: {error.strerror}", "docs/tables.md has an example."
        ) from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise UsageError(f"{path} does not hold a mapping of keys", "docs/tables.md has an example.")
    refuse_passwords(data, str(path))
    return parse_comparison({**data, **(changes or {})}, str(path))


def parse_comparison(data: Mapping[str, Any], where: str) -> CompareFile:
    """Check a mapping; `where` is named in errors (UsageError)."""
    try:
        return CompareFile.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {'; '.join(_told(item) for item in error.errors())}") from None


def _told(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"] if part != "[key]")
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r}{_nearest(item['loc'])}"
        case "missing":
            return f"key {key!r} is missing"
        case _:
            shown = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
            return f"{key or 'the file'}: {item['msg'].removeprefix('Value error, ')}{shown}"


def _nearest(loc: Sequence[int | str]) -> str:
    """The keys that would be right in the place of one that is unknown."""
    match loc:
        case ["entries", _, _]:
            section: type[BaseModel] = EntrySettings
        case ["budget", _]:
            section = BudgetSettings
        case ["statistics", _]:
            section = StatisticsSettings
        case _:
            section = CompareFile
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    guess = f", did you mean {near[0]!r}?" if near else ""
    return f"{guess} (known: {', '.join(known)})"
