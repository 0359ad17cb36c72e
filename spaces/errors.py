"""The root of every error that kdsearch raises on purpose.

Errors carry a message that names what is wrong and where, and a hint that says what to do. They survive pickling,
because they cross Ray's process boundaries. The command line prints them without a traceback and exits with
`exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class KdsearchError(Exception):
    """An error with a message for a person and, where there is one, a hint about what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class UsageError(KdsearchError, ValueError):
    """The user asked for something that cannot be done as written (exit code 2)."""

    exit_code: ClassVar[int] = 2


class SpaceError(UsageError):
    """A design space, parameter, restriction or configuration that is not well formed."""


class UnknownNameError(UsageError, LookupError):
    """A name that no registry holds; the message lists the known ones."""

    def __init__(self, kind: str, name: object, known: Iterable[str], where: str | None = None) -> None:
        self.kind, self.name, self.known, self.where = kind, name, tuple(known), where
        near = difflib.get_close_matches(str(name), self.known, n=1)
        place = f" in {where}" if where else ""
        guess = f"Did you mean {near[0]!r}? " if near else ""
        super().__init__(
            f"unknown {kind} {str(name)!r}{place}", f"{guess}Known: {', '.join(self.known) or '(none)'}."
        )

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[object, ...]]:
        return type(self), (self.kind, self.name, self.known, self.where)
