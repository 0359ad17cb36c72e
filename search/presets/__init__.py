"""Presets: sweep files that come with the program, found by name."""

from __future__ import annotations

from importlib import resources

from kdsearch.spaces.errors import UnknownNameError


def names() -> tuple[str, ...]:
    """Names of all presets, sorted."""
    files = resources.files(__package__).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def text(name: str) -> str:
    """The YAML of a preset.

    Raises:
        UnknownNameError: no preset has this name.

    """
    if name not in names():
        raise UnknownNameError("preset", name, names())
    return resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
