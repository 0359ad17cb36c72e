"""Configurations in one line."""

from __future__ import annotations

from collections.abc import Mapping

from kdsearch.spaces import DesignSpace, Graph, KtgSpace, Value


def line_of(found: DesignSpace, configuration: Mapping[str, Value]) -> str:
    """A configuration in one line: a graph's text, or name=value pairs."""
    if isinstance(found, KtgSpace):
        return Graph.from_configuration(configuration, found.to_spec()["target"]).to_text()
    return " ".join(f"{name}={value}" for name, value in configuration.items())
