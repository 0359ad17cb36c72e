"""Sweep files: what a sweep is, as YAML a person writes and as a value the program trusts.

pydantic stands at this border only. Every key is known (`extra="forbid"`), every range is checked, and every error
names the key, the file and what would be right. `--set key=value` changes one key before the check.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdsearch.search import presets
from kdsearch.search.masking import refuse_passwords
from kdsearch.search.retrain_settings import RetrainSettings
from kdsearch.search.run_settings import RunSettings
from kdsearch.search.schedulers.settings import AshaSettings
from kdsearch.search.searcher_settings import (
    METHODS,
    ComparisonSettings,
    EnumerationSettings,
    GradientSettings,
    NamedSettings,
    PeriodsSettings,
    RandomSettings,
    RefinementSettings,
    SearcherSection,
    Section,
    TpeSettings,
)
from kdsearch.search.searchers.enumeration import MOST_LISTED
from kdsearch.search.searchers.kinds import Task
from kdsearch.search.searchers.registry import SearcherSettings, registry, sections
from kdsearch.spaces import DesignSpace, KtgSpace, parse_yaml, space_from_spec, text_of
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.registry import trainable_kind, trainable_names

__all__ = [
    "MOST_LISTED",
    "AshaSettings",
    "ComparisonSettings",
    "EnumerationSettings",
    "GradientSettings",
    "NamedSettings",
    "RandomSettings",
    "RefinementSettings",
    "RetrainSettings",
    "RunSettings",
    "SearcherSection",
    "StatisticsSettings",
    "SweepFile",
    "TpeSettings",
    "apply_change",
    "changed_sweep",
    "load_sweep",
    "parse_sweep",
]


class TrainableSettings(BaseModel):
    """The kind of trainable; the other keys are checked by the trainable itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str = "ktg"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in trainable_names():
            raise ValueError(str(UnknownNameError("trainable", kind, trainable_names())))
        return kind

    def settings(self) -> dict[str, Any]:
        """All keys but the kind."""
        return dict(self.model_extra or {})


class StatisticsSettings(Section):
    """Fixed before any data is seen, and stored with the result (per cent)."""

    a: float = Field(0.0, ge=0, lt=100)
    tau: float = Field(100.0, gt=0, le=100)
    alpha: float = Field(0.05, gt=0, lt=1)
    diverged_error: float = Field(
        100.0,
        ge=0,
        le=1000,
        description="of trials that diverged or failed; above 100 where a complete trial's error can be",
    )

    @model_validator(mode="after")
    def _interval(self) -> StatisticsSettings:
        if self.a >= self.tau:
            raise ValueError(f"a ({self.a}) must be less than tau ({self.tau})")
        return self


class SweepFile(Section):
    """A whole sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    space: dict[str, Any]
    trainable: TrainableSettings
    configurations: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="configurations by name, for the searcher named"
    )
    searcher: SearcherSettings
    scheduler: AshaSettings | None = None
    run: RunSettings = RunSettings()
    statistics: StatisticsSettings = StatisticsSettings()

    @field_validator("scheduler", mode="before")
    @classmethod
    def _none_is_a_word(cls, scheduler: object) -> object:
        return None if scheduler in ("none", {"kind": "none"}) else scheduler

    @model_validator(mode="after")
    def _names_are_known(self) -> SweepFile:
        if not isinstance(self.searcher, NamedSettings):
            return self
        if not self.configurations:
            raise ValueError("the searcher named needs configurations, and the sweep names none")
        for name in self.searcher.names or ():
            if name not in self.configurations:
                known = ", ".join(self.configurations)
                raise ValueError(f"searcher.names has {name!r}; the sweep's configurations: {known}")
        for name in self.searcher.names or self.configurations:
            try:
                self.searcher.model_copy(update={"names": [name]}).comparison(self.configurations)
            except ValidationError as error:
                told = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"configurations.{name}: {told}") from None
        return self

    def search(self) -> SearcherSection:
        """The searcher's settings; named configurations are a comparison of fixed methods."""
        if isinstance(self.searcher, NamedSettings):
            return self.searcher.comparison(self.configurations)
        return self.searcher

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which the scheduler compares trials; none without a scheduler, or where nothing is searched."""
        if self.scheduler is None or isinstance(self.searcher, NamedSettings | RetrainSettings):
            return ()
        epochs = self.trainable_settings().get("epochs")
        return self.scheduler.epochs_of_rungs(epochs if isinstance(epochs, int) else None)

    def design_space(self) -> DesignSpace:
        """The space as a value, named A."""
        return space_from_spec(self.space, name="A")

    def trainable_settings(self, plan: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What every trial of the sweep is given; for KTG with the target's architecture from the space.

        A table is given the space itself, to read its rows by. plan: the trial's, which may name one of the data sets
        of a retraining.
        """
        settings = self.trainable.settings()
        if self.trainable.kind == "table":
            settings["space"] = self.space
        if self.space.get("kind") == "ktg" and self.trainable.kind == "ktg":
            settings["target"] = self.space.get("target")
        label = (plan or {}).get("data")
        return self.searcher.on(settings, label) if isinstance(self.searcher, RetrainSettings) else settings

    def settings_by_data(self) -> dict[str | None, dict[str, Any]]:
        """The same for each data set of a retraining, by its name; one entry, None, for any other sweep."""
        labels = self.searcher.labels if isinstance(self.searcher, RetrainSettings) else (None,)
        return {label: self.trainable_settings({"data": label}) for label in labels}

    def models(self) -> tuple[str, ...]:
        """Architectures that the space can ask for, the target's first; a space that is no KTG asks for none.

        Those of a retraining are its versions', which may lie outside the space.
        """
        space = self.design_space()
        if not isinstance(space, KtgSpace):
            return ()
        spec = space.to_spec()
        if isinstance(self.searcher, RetrainSettings):
            held = [each.configuration.items() for each in self.searcher.versions.values()]
            others = [str(value) for items in held for name, value in items if name.startswith("model.")]
            return tuple(dict.fromkeys([spec["target"], *others]))
        return tuple(dict.fromkeys([spec["target"], *spec["auxiliary"]["models"]]))

    def resolved(self) -> dict[str, Any]:
        """All keys with their defaults, JSON-able; the same file always gives the same mapping."""
        return self.model_dump(mode="json")


def load_sweep(preset_or_path: str, changes: Sequence[str] = (), seed: int | None = None) -> SweepFile:
    """Read a preset or a sweep file, apply `key=value` changes, and check it all.

    Raises:
        UsageError: the file or preset does not exist, is not YAML, or does not describe a sweep.

    """
    where, text = _source(preset_or_path)
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise UsageError(
            f"{where} does not hold a mapping of keys", "Compare with `kdsearch presets --show NAME`."
        )
    _name_searcher(data)
    for change in changes:
        apply_change(data, change)
        _name_searcher(data)
    if seed is not None:
        data["seed"] = seed
    refuse_passwords(data, where)
    return parse_sweep(data, where)


def changed_sweep(sweep: SweepFile, changes: Sequence[str]) -> SweepFile:
    """The sweep with `key=value` changes, checked anew.

    Raises:
        UsageError: a change is none, or does not describe a sweep.

    """
    data = sweep.resolved()
    for change in changes:
        apply_change(data, change)
        _name_searcher(data)
    refuse_passwords(data, f"sweep {sweep.name}")
    return parse_sweep(data, f"sweep {sweep.name}")


def parse_sweep(data: Mapping[str, Any], where: str) -> SweepFile:
    """Check a mapping; `where` is named in errors."""
    searcher = data.get("searcher")
    try:
        registry().check(searcher.get("kind") if isinstance(searcher, Mapping) else searcher)
        sweep = SweepFile.model_validate(data)
    except ValidationError as error:
        raise _explained(error, where, data.get("configurations")) from None
    except UsageError as error:
        error.message = f"{where}: {error.message}"
        raise
    try:
        space = sweep.design_space()
        _check_trainable(sweep, space)
        _check_scheduler(sweep)
    except UsageError as error:
        error.message = f"{where}: {error.message}" if not error.message.startswith(where) else error.message
        raise
    return sweep


def _check_trainable(sweep: SweepFile, space: DesignSpace) -> None:
    """Refuse what the trainable cannot do: its settings, the space, and what the searcher asks of it."""
    kind, settings = trainable_kind(sweep.trainable.kind), sweep.trainable_settings()
    for told in (settings, *sweep.settings_by_data().values()):
        kind.check(told, sweep.models())
    kind.check_space(settings, space)
    try:
        search = sweep.search()
        registry().kinds[search.kind].check(search, Task.of(sweep))
    except UsageError as error:
        if isinstance(sweep.searcher, NamedSettings):  # it is checked as the comparison that it is
            error.message = error.message.replace("searcher.methods.", "configurations.", 1)
        raise


def _check_scheduler(sweep: SweepFile) -> None:
    """Refuse rungs that no trial could be stopped at, and to stop trials that a searcher takes for a sample."""
    if sweep.rungs() and isinstance(sweep.searcher, RefinementSettings):
        raise UsageError(
            "a refinement compares the errors of fully trained trials, and a scheduler would stop some of them early",
            "Leave scheduler out, or use another searcher.",
        )


def _source(preset_or_path: str) -> tuple[str, str]:
    if preset_or_path in presets.names():
        return f"preset {preset_or_path}", presets.text(preset_or_path)
    path = Path(preset_or_path)
    if path.suffix not in {".yaml", ".yml"} and not path.exists():
        raise UnknownNameError("preset", preset_or_path, presets.names())
    try:
        return str(path), text_of(path)
    except OSError as error:
        raise UsageError(
            f"cannot read the sweep file {path}: {error.strerror}", f"Presets: {', '.join(presets.names())}."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file", "A sweep file is YAML in UTF-8.") from None


def _name_searcher(data: dict[str, Any]) -> None:
    """Read `searcher: NAME`: one of the sweep's configurations, or else a kind of searcher."""
    name, configurations = data.get("searcher"), data.get("configurations")
    if isinstance(name, str):
        named = isinstance(configurations, dict) and name in configurations
        data["searcher"] = {"kind": "named", "names": [name]} if named else {"kind": name}


def apply_change(data: dict[str, Any], change: str) -> None:
    """Carry out one `a.b.c=value`; the value is read as YAML."""
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {change!r} is not key=value", "Example: --set searcher.draws=100")
    *parents, last = key.split(".")
    node = data
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UsageError(f"--set {key}: {parent!r} is a value, not a section")
        node = child
    node[last] = parse_yaml(value, f"--set {key}")


def _explained(error: ValidationError, where: str, configurations: object = None) -> UsageError:
    """One error for all that pydantic found, in the words of the file; configurations: those that it names."""
    lines = []
    for item in error.errors():
        location, model = _place(item["loc"])
        key = ".".join(location)
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}{_nearest(location[-1], model)}")
        elif item["type"] == "missing":
            lines.append(f"key {key!r} is missing")
        elif item["type"] == "union_tag_not_found":
            kinds = sections() if key == "searcher" else METHODS
            lines.append(f"key '{key}.kind' is missing ({', '.join(kinds)})")
        elif item["type"] == "union_tag_invalid":
            more = list(configurations) if key == "searcher" and isinstance(configurations, dict) else []
            lines.append(_unknown_kind(key, item["ctx"], [str(name) for name in more]))
        elif item["type"] in {"model_attributes_type", "dict_type", "model_type"}:
            lines.append(f"{key}: must be a section of keys (found {item['input']!r})")
        else:
            shown = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
            lines.append(f"{key or 'sweep'}: {item['msg'].removeprefix('Value error, ')}{shown}")
    return UsageError(f"{where}: " + "; ".join(lines))


def _unknown_kind(key: str, told: Mapping[str, Any], configurations: Sequence[str]) -> str:
    """Say which kinds there are; a searcher may also be named by a configuration of the file."""
    known = sections() if key == "searcher" else METHODS
    near = difflib.get_close_matches(str(told["tag"]), [*configurations, *known], n=1)
    guess = f", did you mean {near[0]!r}?" if near else ""
    more = f"; configurations of this file: {', '.join(configurations)}" if configurations else ""
    if key == "searcher":
        more += "; others come with packages that are installed (docs/searchers.md)"
    return f"unknown {key} {told['tag']!r}{guess}; known: {told['expected_tags']}{more}"


_SECTIONS: dict[str, type[BaseModel]] = {
    "": SweepFile,
    "run": RunSettings,
    "statistics": StatisticsSettings,
    "scheduler": AshaSettings,
}


def _place(loc: Sequence[int | str]) -> tuple[list[str], type[BaseModel] | None]:
    """The keys that lead to an error, as they stand in the file, and the section that the last one stands in.

    pydantic puts the kind of a searcher, and of a comparison's method, among the keys.
    """
    parts = [str(part) for part in loc]
    if parts[:1] != ["searcher"]:
        return parts, _SECTIONS.get(".".join(parts[:-1]))
    match parts[1:]:
        case ["comparison", "methods", name, kind, *keys]:
            return ["searcher", "methods", name, *keys], METHODS.get(kind)
        case ["comparison", "periods", key, *keys]:
            return ["searcher", "periods", key, *keys], PeriodsSettings
        case [kind, *keys]:
            return ["searcher", *keys], sections().get(kind)
    return parts, SweepFile


def _nearest(key: str, model: type[BaseModel] | None) -> str:
    """The keys that would be right there."""
    if model is None:
        return ""
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(key, known, n=1)
    guess = f", did you mean {near[0]!r}?" if near else ""
    where = next((f" of the searcher {kind}" for kind, each in sections().items() if each is model), "")
    return f"{guess} (known{where}: {', '.join(known)})"
