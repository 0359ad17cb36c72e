"""What `kdsearch space --json` prints of a space."""

from __future__ import annotations

from typing import Any

from kdsearch.spaces.protocol import DesignSpace, lineage


def describe(space: DesignSpace) -> dict[str, Any]:
    """Return a space's sizes, restriction by restriction, as plain data.

    `encodings`, `classes`, `valid_encodings`, `valid_classes` are those of the root, without restrictions;
    None stands for infinitely many. `restrictions` has for each restriction in turn its text and the same
    four numbers with it and all before it. `parameters` tells what each parameter can be under all
    restrictions.
    """
    root, *children = lineage(space)
    steps = [{"restriction": str(child.restriction)} | child.counts().to_dict() for child in children]
    return root.counts().to_dict() | {"restrictions": steps, "parameters": space.parameters_spec()}
