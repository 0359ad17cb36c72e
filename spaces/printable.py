"""Texts of others for a terminal: control characters as one can read them.

A terminal obeys escape sequences: a text can recolour what follows, or write over what stood before. What
comes from trials, files and databases is printed with such characters told by their code.
"""

from __future__ import annotations

import re

# C0 without tab and line feed, delete, C1; overrides of the direction of writing, which can hide what is written
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return a text with its control characters as escapes; tabs and line feeds stay.

    >>> print(printable("plain \x1b[31mred"))
    plain \x1b[31mred
    """
    return _CONTROL.sub(_told, text)


def holds_control(text: str) -> bool:
    """Whether a text holds a control character."""
    return _CONTROL.search(text) is not None


def _told(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
