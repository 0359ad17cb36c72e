"""The kinds of trainable, by name. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from kdsearch.spaces.errors import UnknownNameError
from kdsearch.trainables.protocol import TrainableKind

# name -> module that holds `KIND`
_MODULES = {
    "bbm": "kdsearch.trainables.bbm",
    "constant": "kdsearch.trainables.constant",
    "kd": "kdsearch.trainables.kd",
    "ktg": "kdsearch.trainables.ktg",
    "table": "kdsearch.trainables.table",
}


def trainable_names() -> Sequence[str]:
    """All registered names, sorted."""
    return sorted(_MODULES)


def trainable_kind(name: str) -> TrainableKind:
    """Look a kind up.

    Raises:
        UnknownNameError: no kind has this name.

    """
    if name not in _MODULES:
        raise UnknownNameError("trainable", name, trainable_names())
    return cast(TrainableKind, import_module(_MODULES[name]).KIND)
