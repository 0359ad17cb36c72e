"""The JSON Schema of a space in a sweep file, for editors: keys, kinds of parameters, gates, restrictions."""

from __future__ import annotations

from typing import Any, Final

from kdsearch.spaces.constraints import OPERATORS
from kdsearch.spaces.domains import KINDS, Categorical
from kdsearch.spaces.graph import Gate

Schema = dict[str, Any]
_VALUE: Final[Schema] = {"type": ["string", "number", "boolean"]}
_VALUES: Final[Schema] = {"anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1}]}
_BY_NAME: Final[Schema] = {"type": "object", "minProperties": 1, "additionalProperties": _VALUES}
_RESTRICTIONS: Final[Schema] = {
    "type": "array",
    "items": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {
            "anyOf": [
                *_VALUES["anyOf"],
                {
                    "type": "object",
                    "properties": {"only": _VALUES["anyOf"][1]},
                    "required": ["only"],
                    "additionalProperties": False,
                },
            ]
        },
    },
}


def space_schema() -> Schema:
    """Return the schema of a space of either kind."""
    return {"oneOf": [_graphs(), _parameters()]}


def parameter_schema() -> Schema:
    """Return the schema of one parameter: its type with the keys of this type, and `when`."""
    return {"oneOf": [_parameter(kind) for kind in KINDS]}


def _closed(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _graphs() -> Schema:
    models: Schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    auxiliary = _closed({"count": {"type": "integer", "minimum": 0}, "models": models}, ["count"])
    gates: Schema = {
        "type": "array",
        "items": {"enum": [str(gate) for gate in Gate]},
        "uniqueItems": True,
        "minItems": 1,
    }
    properties: Schema = {
        "kind": {"const": "ktg"},
        "target": {"type": "string"},
        "auxiliary": auxiliary,
        "gates": gates,
        "restrictions": _RESTRICTIONS,
    }
    return _closed(properties, ["kind", "target", "auxiliary", "gates"])


def _parameters() -> Schema:
    name: Schema = {"type": "string"}
    sign: Schema = {"enum": list(OPERATORS)}
    compare: Schema = {
        "type": "array",
        "prefixItems": [name, sign, {"type": ["string", "number"]}],
        "items": False,
        "minItems": 3,
    }
    constraint = {
        "oneOf": [_closed({"forbid": _BY_NAME}, ["forbid"]), _closed({"compare": compare}, ["compare"])]
    }
    properties: Schema = {
        "kind": {"const": "parameters"},
        "parameters": {"type": "object", "additionalProperties": parameter_schema()},
        "constraints": {"type": "array", "items": constraint},
        "groups": {"type": "array", "items": name},
        "restrictions": _RESTRICTIONS,
    }
    return _closed(properties, ["kind", "parameters"])


def _parameter(kind: str) -> Schema:
    _, required, optional = KINDS[kind]
    numbers: Schema = {key: {"type": "number"} for key in (*required, *optional)}
    if kind == Categorical.kind:
        numbers = {"values": {"type": "array", "items": _VALUE, "minItems": 1}}
    if kind == "integer":
        numbers = {key: {"type": "integer"} for key in (*required, *optional)}
    return _closed({"type": {"const": kind}, **numbers, "when": _BY_NAME}, ["type", *required])
