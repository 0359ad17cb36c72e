"""Files of a few bytes that are there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def write_whole(path: Path, data: Mapping[str, object]) -> None:
    """Write JSON under another name, then rename; OSError leaves nothing behind."""
    temporary = path.with_suffix(".part")
    try:
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
