"""Sweep files: what a sweep is, as YAML a person writes and as a value the program trusts.

pydantic stands at this border only. Every key is known (`extra="forbid"`), every range is checked, and every error
names the key, the file and what would be right. `--set key=value` changes one key before the check.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdsearch.search import presets
from kdsearch.spaces import DesignSpace, KtgSpace, parse_yaml, space_from_spec
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.registry import trainable_kind, trainable_names

MOST_LISTED = 1_000_000  # configurations of a space that is trained in full


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RefinementSettings(_Section):
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


class RandomSettings(_Section):
    """Uniform draws from the space."""

    kind: Literal["random"]
    trials: int = Field(ge=1, description="draws")


class EnumerationSettings(_Section):
    """Every configuration of a finite space, symmetric duplicates once."""

    kind: Literal["enumeration"]
    repeats: int = Field(1, ge=1)


SearcherSettings = Annotated[
    RefinementSettings | RandomSettings | EnumerationSettings, Field(discriminator="kind")
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


class RunSettings(_Section):
    """Where and how trials run."""

    pack: int = Field(16, ge=1, le=1024, description="most trials of one shape that share a program")
    max_concurrent: int | None = Field(None, ge=1, description="packs at a time; default: what fits")
    cpus: float = Field(1.0, gt=0, description="CPU cores of one pack")
    gpus: float | Literal["auto"] = Field(
        0.0, description="GPUs of one pack; fractions share a GPU; auto: one where there are any"
    )
    attempts: int = Field(3, ge=1, description="tries of a trial before it is marked failed")
    checkpoint_every: int = Field(0, ge=0, description="epochs between checkpoints; 0: none")

    @field_validator("gpus")
    @classmethod
    def _whole_or_fraction(cls, gpus: float | Literal["auto"]) -> float | Literal["auto"]:
        if gpus == "auto":
            return gpus
        if gpus < 0:
            raise ValueError("GPUs cannot be negative")
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("more than one GPU must be a whole number")
        return gpus


class StatisticsSettings(_Section):
    """Fixed before any data is seen, and stored with the result (per cent)."""

    a: float = Field(0.0, ge=0, lt=100)
    tau: float = Field(100.0, gt=0, le=100)
    alpha: float = Field(0.05, gt=0, lt=1)
    diverged_error: float = Field(100.0, ge=0, le=100)

    @model_validator(mode="after")
    def _interval(self) -> StatisticsSettings:
        if self.a >= self.tau:
            raise ValueError(f"a ({self.a}) must be less than tau ({self.tau})")
        return self


class SweepFile(_Section):
    """A whole sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    space: dict[str, Any]
    trainable: TrainableSettings
    searcher: SearcherSettings
    run: RunSettings = RunSettings()
    statistics: StatisticsSettings = StatisticsSettings()

    def design_space(self) -> DesignSpace:
        """The space as a value, named A."""
        return space_from_spec(self.space, name="A")

    def trainable_settings(self) -> dict[str, Any]:
        """What every trial of the sweep is given; for KTG with the target's architecture from the space."""
        settings = self.trainable.settings()
        if self.space.get("kind") == "ktg":
            settings["target"] = self.space.get("target")
        return settings

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
    for change in changes:
        _apply(data, change)
    if seed is not None:
        data["seed"] = seed
    return parse_sweep(data, where)


def parse_sweep(data: Mapping[str, Any], where: str) -> SweepFile:
    """Check a mapping; `where` is named in errors."""
    try:
        sweep = SweepFile.model_validate(data)
    except ValidationError as error:
        raise _explained(error, where) from None
    try:
        space = sweep.design_space()
        _check_trainable(sweep, space)
    except UsageError as error:
        error.message = f"{where}: {error.message}" if not error.message.startswith(where) else error.message
        raise
    _check_listing(sweep, space, where)
    return sweep


def _check_listing(sweep: SweepFile, space: DesignSpace, where: str) -> None:
    """Refuse to train a space in full that is too large to be listed."""
    classes = space.counts().valid_classes
    if isinstance(sweep.searcher, EnumerationSettings):
        if classes is None:
            raise UsageError(
                f"{where}: the space is infinite and cannot be enumerated", "Use the searcher random."
            )
        if classes > MOST_LISTED:
            raise UsageError(
                f"{where}: the space has {classes:,} configurations; at most {MOST_LISTED:,} can be listed",
                "Use the searcher random, or restrict the space.",
            )
    if isinstance(sweep.searcher, RefinementSettings) and sweep.searcher.limit > MOST_LISTED:
        raise UsageError(
            f"{where}: searcher.limit is {sweep.searcher.limit:,}; at most {MOST_LISTED:,} can be trained in full",
            "The limit is the size at which refining ends and every graph is trained; the paper's is 500.",
        )


def _check_trainable(sweep: SweepFile, space: DesignSpace) -> None:
    if sweep.trainable.kind == "ktg" and not isinstance(space, KtgSpace):
        raise UsageError("the trainable ktg needs a space of kind ktg")
    trainable_kind(sweep.trainable.kind).check(sweep.trainable_settings(), _models(space))


def _models(space: DesignSpace) -> tuple[str, ...]:
    """Architectures that a KTG space can ask for."""
    if not isinstance(space, KtgSpace):
        return ()
    spec = space.to_spec()
    return tuple(dict.fromkeys([spec["target"], *spec["auxiliary"]["models"]]))


def _source(preset_or_path: str) -> tuple[str, str]:
    if preset_or_path in presets.names():
        return f"preset {preset_or_path}", presets.text(preset_or_path)
    path = Path(preset_or_path)
    if path.suffix not in {".yaml", ".yml"} and not path.exists():
        raise UnknownNameError("preset", preset_or_path, presets.names())
    try:
        return str(path), path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read the sweep file {path}: {error.strerror}", f"Presets: {', '.join(presets.names())}."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file", "A sweep file is YAML in UTF-8.") from None


def _apply(data: dict[str, Any], change: str) -> None:
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


def _explained(error: ValidationError, where: str) -> UsageError:
    lines = []
    for item in error.errors():
        kinds = [str(part) for part in item["loc"] if part in _SEARCHERS]
        location = [str(part) for part in item["loc"] if part not in _SEARCHERS]
        key = ".".join(location)
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}{_nearest(location, kinds)}")
        elif item["type"] == "missing":
            lines.append(f"key {key!r} is missing")
        elif item["type"] == "union_tag_not_found":
            lines.append(f"key '{key}.kind' is missing (refinement, random or enumeration)")
        elif item["type"] == "union_tag_invalid":
            lines.append(f"unknown {key} {item['ctx']['tag']!r}; known: {item['ctx']['expected_tags']}")
        else:
            if item["type"] in {"model_attributes_type", "dict_type", "model_type"}:
                lines.append(f"{key}: must be a section of keys (found {item['input']!r})")
                continue
            shown = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
            lines.append(f"{key or 'sweep'}: {item['msg'].removeprefix('Value error, ')}{shown}")
    return UsageError(f"{where}: " + "; ".join(lines))


_SEARCHERS: dict[str, type[BaseModel]] = {
    "refinement": RefinementSettings,
    "random": RandomSettings,
    "enumeration": EnumerationSettings,
}
_SECTIONS: dict[str, type[BaseModel]] = {"": SweepFile, "run": RunSettings, "statistics": StatisticsSettings}


def _nearest(location: Sequence[str], kinds: Sequence[str]) -> str:
    """The keys that would be right there: those of the section, or of the chosen kind of searcher."""
    model = _SEARCHERS[kinds[0]] if kinds else _SECTIONS.get(".".join(location[:-1]))
    if model is None:
        return ""
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1)
    guess = f", did you mean {near[0]!r}?" if near else ""
    where = f" of the searcher {kinds[0]}" if kinds else ""
    return f"{guess} (known{where}: {', '.join(known)})"
