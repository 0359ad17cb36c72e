"""What each kind of trainable can be told: the JSON Schema of its settings, and the settings with their defaults.

Made of the dataclasses that read the settings: keys, types, words and defaults are theirs. Ranges stand in their
checks, and a second time here, for editors; a test holds the two together. No torch here.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from kdsearch.trainables import constant
from kdsearch.trainables.bbm.data_settings import RecordData
from kdsearch.trainables.bbm.objectives import Objective
from kdsearch.trainables.bbm.settings import BbmSettings, Method, Training
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.data.synthetic import SYNTHETIC, SyntheticSettings
from kdsearch.trainables.kd.settings import KdSettings, TeacherSettings
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.series.specs import LstmSpec, NetworkSpec, ResNetSpec, TransformerSpec
from kdsearch.trainables.settings_reading import BELOW_ONE, NOT_NEGATIVE, POSITIVE, UNIT, Interval
from kdsearch.trainables.signals.policy import MOST_TRANSFORMS
from kdsearch.trainables.table.settings import TableSettings

Schema = dict[str, Any]

# Ranges by key; a key means the same in every trainable. Whole numbers that are not named here are 1 or more.
RANGES: Final[Mapping[str, Interval]] = {
    "learning_rate": POSITIVE,
    "temperature": POSITIVE,
    "validation_temperature": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": BELOW_ONE,
    "dropout": BELOW_ONE,
    "lambda_1": UNIT,
    "ratio": UNIT,
    "lambda": NOT_NEGATIVE,
    "augment_intensity": UNIT,
    "noise": NOT_NEGATIVE,
    "validation": POSITIVE,
    "test": POSITIVE,
    "window_s": POSITIVE,
}
FROM_NOUGHT: Final = ("split_seed", "seed", "warm_up", "augment_number", "patch")
_SCHEDULE: Final[Schema] = {
    "default": "cosine",
    "anyOf": [
        {"enum": ["cosine", "constant"]},
        {
            "type": "object",
            "properties": {
                "every": {"type": "integer", "minimum": 1},
                "factor": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            },
            "required": ["every", "factor"],
            "additionalProperties": False,
        },
    ],
}


def settings_schema(kind: str) -> Schema | None:
    """Return the schema of a trainable's section without its key `kind`; None where it is not declared."""
    return _SCHEMAS[kind]() if kind in _SCHEMAS else None


def resolved_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trainable's settings with every key that has a value; as they are where it does not declare them.

    Raises:
        UsageError: they are not what it can be told.

    """
    read = _READERS.get(kind)
    return _given(dict(settings) if read is None else read(settings))


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as plain data, without those that have no value."""
    return {
        key: _given(value) if isinstance(value, Mapping) else _plain(value)
        for key, value in settings.items()
        if value is not None
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def object_of(
    *parts: type, replaced: Mapping[str, Schema] | None = None, without: Sequence[str] = ()
) -> Schema:
    """Return the schema of a mapping that dataclasses read: their fields, with some replaced or left out."""
    properties: Schema = {}
    required = []
    for part in parts:
        hints = get_type_hints(part)
        for field in fields(part):
            if field.name in without:
                continue
            properties[field.name] = _property(field.name, hints[field.name])
            if field.default is not MISSING and field.default is not None:
                properties[field.name]["default"] = _plain(field.default)
            if field.default is MISSING and field.default_factory is MISSING:
                required.append(field.name)
    properties |= replaced or {}
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _property(name: str, hint: Any) -> Schema:
    if get_origin(hint) in {Union, types.UnionType}:
        return {"anyOf": [_property(name, each) for each in get_args(hint)]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": {"type": "string"}}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"enum": [str(each) for each in hint]}
    return {"type": _TYPES.get(hint, "object"), **_range(name, hint)}


def _range(name: str, hint: Any) -> Schema:
    """The numbers that a key can be, as far as a schema can say it."""
    if hint is int:
        return {"minimum": 0 if name in FROM_NOUGHT else 1}
    return _bounds(RANGES[name]) if hint is float else {}


_TYPES: Final[Mapping[Any, str]] = {
    bool: "boolean",
    str: "string",
    int: "integer",
    float: "number",
    type(None): "null",
}


def _bounds(interval: Interval) -> Schema:
    found: Schema = {"exclusiveMinimum" if interval.low_open else "minimum": interval.low}
    if interval.high < float("inf"):
        found["exclusiveMaximum" if interval.high_open else "maximum"] = interval.high
    return found


def _images() -> Schema:
    return {"anyOf": [{"type": "string"}, object_of(DataSettings)]}


def _ktg() -> Schema:
    return object_of(KtgSettings, replaced={"data": _images(), "schedule": _SCHEDULE}, without=("target",))


def _kd() -> Schema:
    teacher = object_of(TeacherSettings, replaced={"schedule": _SCHEDULE})
    synthetic = object_of(SyntheticSettings, replaced={"name": {"const": SYNTHETIC}}) | {"required": ["name"]}
    data = {"anyOf": [*_images()["anyOf"], synthetic]}
    replaced: dict[str, Schema] = {
        "data": data,
        "teacher": {"anyOf": [teacher, {"type": "null"}]},
        "schedule": _SCHEDULE,
    }
    return object_of(KdSettings, replaced=replaced)


def _network(spec: type[NetworkSpec], *more: type, without: Sequence[str] = ()) -> Schema:
    replaced: Mapping[str, Schema] = {"network": {"const": spec.network}}
    found = object_of(spec, *more, replaced=replaced, without=without)
    return found | {"required": ["network"]}


_SPECS: Final = (ResNetSpec, LstmSpec, TransformerSpec)


def _bbm() -> Schema:
    student = {"anyOf": [_network(spec, without=("dropout",)) for spec in _SPECS]}
    teachers = [_network(spec, Training) for spec in _SPECS]
    for each in teachers:
        each["properties"]["file"] = {"type": "string"}
        for name in _properties(Training):  # by default as the student's
            each["properties"][name].pop("default", None)
    replaced: dict[str, Schema] = {
        "data": {"anyOf": [{"type": "string"}, object_of(RecordData)]},
        "student": student,
        "teacher": {"anyOf": [*teachers, {"type": "null"}]},
        "method": {"enum": [str(each) for each in Method], "default": str(Method.BBM)},
        "lambda": {"type": "number", **_bounds(RANGES["lambda"]), "default": 1.0},
        "objective": {"enum": [str(each) for each in Objective], "default": str(Objective.CHALLENGE)},
    }
    found = object_of(BbmSettings, Training, replaced=replaced, without=("matching", "training"))
    found["properties"]["augment_number"]["maximum"] = MOST_TRANSFORMS
    return found | {"required": ["data"]}


def _properties(part: type) -> list[str]:
    return [field.name for field in fields(part)]


def _table() -> Schema:
    found = object_of(TableSettings, without=("exported", "space"))
    return found | {"oneOf": [{"required": ["file"]}, {"required": ["sweep"]}]}


def _constant() -> Schema:
    types_of: Mapping[type, Schema] = {
        int: {"type": "integer", "minimum": 1},
        float: {"type": "number"},
        str: {"type": "string"},
        list: {"type": "array", "items": {"type": "integer"}},
        dict: {"type": "object"},
    }
    properties = {
        name: {**types_of[type(value)], "default": value} for name, value in constant.DEFAULTS.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


_SCHEMAS: Final[Mapping[str, Callable[[], Schema]]] = {
    "bbm": _bbm,
    "constant": _constant,
    "kd": _kd,
    "ktg": _ktg,
    "table": _table,
}
_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "bbm": lambda settings: BbmSettings.from_mapping(settings).to_mapping(),
    "constant": lambda settings: {**constant.DEFAULTS, **settings},
    "kd": lambda settings: KdSettings.from_mapping(settings).to_mapping(),
    "ktg": lambda settings: KtgSettings.from_mapping(settings).to_mapping() | {"target": None},
}
