"""Values and configurations: what they may be, how they are labelled, and the key they are known by.

A configuration is a plain mapping from parameter name to value that JSON can hold. It lists active parameters
only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from kdsearch.spaces.errors import SpaceError

Value: TypeAlias = str | int | float | bool
Configuration: TypeAlias = Mapping[str, Value]

SEPARATOR = " & "  # stands between the members' labels in the label of a group's value


def label_of(value: Value) -> str:
    """Return the text that stands for a value in restrictions and tables: `true`, `3`, `0.05`, `adam`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def same_value(left: object, right: object) -> bool:
    """Tell whether two values are equal and both or neither are a bool, so that 1 never passes for true."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def canonical_json(data: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN, so that equal data give equal text.

    Raises:
        SpaceError: if JSON cannot hold the data.
    """
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpaceError(
            f"{data!r} cannot be written as JSON: {error}", "Use text, numbers, booleans."
        ) from error


def configuration_key(configuration: Configuration) -> str:
    """Return the SHA-256 of the configuration's canonical JSON: 64 hexadecimal digits, equal on any machine."""
    return digest(dict(configuration))


def digest(data: Any) -> str:
    """Return the SHA-256 of `data`'s canonical JSON as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(data).encode("ascii")).hexdigest()
