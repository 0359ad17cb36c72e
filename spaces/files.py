"""Spaces from and to specifications and YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kdsearch.spaces import ktg, reading, space
from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.printable import holds_control, printable
from kdsearch.spaces.protocol import DesignSpace

MAX_BYTES = 4 << 20
MAX_VALUES = 1_000_000

KINDS: dict[str, Callable[..., DesignSpace]] = {
    ktg.KIND: ktg.KtgSpace.from_spec,
    space.KIND: space.Space.from_spec,
}


def space_from_spec(spec: Mapping[str, Any], *, name: str | None = None, where: str = "space") -> DesignSpace:
    """Return the space that a specification describes; `where` names its place in messages.

    Raises:
        UnknownNameError: for an unknown kind, key, gate, group, parameter or value.
        SpaceError: for anything else that is not well formed.
    """
    if "kind" not in reading.mapping(spec, where):
        raise SpaceError(f"{where} lacks kind", f"Known: {', '.join(KINDS)}.")
    kind = spec["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownNameError("kind of space", kind, KINDS, where)
    try:
        return KINDS[kind](spec, name=name, where=where)
    except SpaceError as error:
        if where in error.message:
            raise
        raise SpaceError(f"{where}: {error.message}", error.hint) from error


def load_space(path: Path | str, *, name: str | None = None) -> DesignSpace:
    """Read a space from a YAML file.

    Raises:
        SpaceError: if the file cannot be read, is not YAML, or describes no space; the message names the
        file.
    """
    path = Path(path)
    try:
        text = text_of(path)
    except OSError as error:
        raise SpaceError(
            f"cannot read the space file {path}: {error}", "Give the path of a YAML file."
        ) from error
    return space_from_spec(parse_yaml(text, str(path)), name=name, where=str(path))


def save_space(space: DesignSpace, path: Path | str) -> None:
    """Write a space to a YAML file that `load_space` reads."""
    Path(path).write_text(dump_space(space), encoding="utf-8")


def dump_space(space: DesignSpace) -> str:
    """Return the space's specification as YAML."""
    return yaml.dump(
        space.to_spec(),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=110,
    )


def text_of(path: Path) -> str:
    """Return the text of a YAML file, reading no more of it than a sweep file can have.

    Raises:
        SpaceError: it has more than 4 MiB, or is no text in UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SpaceError(
            f"{path} has more than {MAX_BYTES >> 20} MiB", "That is no sweep file; is it the right path?"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpaceError(f"{path} is not a text file: {error}", "Such a file is YAML in UTF-8.") from None


def parse_yaml(text: str, where: str) -> Any:
    """Return the data of a YAML text, read as YAML 1.2: 1e-4 is a number, on and off are text, no key twice.

    Plain data alone: a tag that would make anything else is refused, and so are aliases that multiply a few lines into
    millions of values, or that hold themselves, and control characters, which a terminal would obey.

    Raises:
        SpaceError: if it is not YAML; the message names the place.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except RecursionError:
        raise SpaceError(f"{where} is nested too deeply", "A sweep file has a few levels.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpaceError(
            f"{where} is not YAML: {error}", "Check indentation, quotes and brackets."
        ) from error


class _Loader(yaml.SafeLoader):
    """The safe loader with the numbers and booleans of YAML 1.2, refusing a key that stands twice."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _Measure().size(node)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        seen: set[Hashable] = set()
        for index, key in enumerate(keys):
            if not isinstance(key, Hashable):
                continue  # the safe loader says so
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.value[index][0].start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Measure:
    """Counts the values that a node stands for, where each alias counts as often as it is used; looks at the texts."""

    def __init__(self) -> None:
        self._known: dict[int, int | None] = {}  # None: being counted

    def size(self, node: yaml.Node) -> int:
        """Return how many values there are in a node; ConstructorError where there are too many, or no end of them."""
        if id(node) in self._known:
            known = self._known[id(node)]
            if known is None:
                raise yaml.constructor.ConstructorError(None, None, "a value holds itself", node.start_mark)
            return known
        self._known[id(node)] = None
        if isinstance(node, yaml.ScalarNode) and holds_control(node.value):
            told = f"a control character, in {printable(node.value)[:60]!r}"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        total = 1
        for child in children:
            total += self.size(child)
            if total > MAX_VALUES:
                told = f"more than {MAX_VALUES:,} values, with what aliases repeat"
                raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        self._known[id(node)] = total
        return total


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Read a whole number: 010 is ten, not eight."""
    return int(loader.construct_scalar(node))


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which puts text in quotes where either version of YAML would take it for something else."""


_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_YAML_1_2 = {  # tag: pattern, first characters; integers come before floats, whose pattern has them too
    f"{_TAG}bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    f"{_TAG}int": (r"[-+]?[0-9]+", "-+0123456789"),
    f"{_TAG}float": (_FLOAT, "-+0123456789."),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {*_YAML_1_2, f"{_TAG}timestamp"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _first) in _YAML_1_2.items():
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(f"{_TAG}int", _decimal)
