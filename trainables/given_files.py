"""Where files that settings name are looked for. No torch here."""

from __future__ import annotations

from pathlib import Path


def given_file(file: str, data_root: Path | None) -> Path:
    """Return the path of a file that was given: absolute, or from the current folder or the data root."""
    path = Path(file).expanduser()
    if not path.is_absolute() and not path.exists() and data_root is not None:
        return data_root / path
    return path.resolve()
