"""Variables set for a while: Ray reads its own in the environment, and they must not leak into later processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def variables_set(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or take them away (None), and put back what was there."""
    before = {key: os.environ.get(key) for key in values}
    _put(values)
    try:
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
