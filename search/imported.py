"""Sweeps of the kind `import`: trials that were run elsewhere. Nothing here knows how they came in."""

from __future__ import annotations

from typing import Final

from kdsearch.spaces.errors import UsageError

KIND: Final = "import"  # of the sweep, its trainable and its searcher


def check_not_imported(name: str, kind: str) -> None:
    """Refuse to go on with trials that were run elsewhere.

    Raises:
        UsageError: the sweep was imported.

    """
    if kind == KIND:
        raise UsageError(
            f"{name} was imported: its trials were run elsewhere, and nothing here could run more of them",
            "Begin a sweep of your own on the same space, and compare the two: `kdsearch report A B --out DIR`.",
        )
