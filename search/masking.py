"""What people may see of a text that may hold a password: `***` stands for it.

Passwords travel in database URLs, in keys of URLs and settings (`password=`, `secret_key=`), and in HTTP headers. What
looks like a password in such a place is taken for one: rather too much is covered than too little. Words that settings
have too (`basic block`, `token=cls`) need what only a credential has: the header before it, or its length.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdsearch.spaces.errors import UsageError

HIDDEN = "***"

_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*:/+"  # a URL that was taken for a path has one slash
_IN_TEXT = re.compile(rf"({_SCHEME}[^\s:/@'\"]*):[^\s'\"]*@")  # up to the last @, as a password may hold one
_ALONE = re.compile(rf"({_SCHEME}[^:/@]*):.*@", re.DOTALL)  # a text that is all URL: spaces and quotes too
_NAME = r"[\w.\-]*(?:passw(?:or)?d|secret(?:_?key)?|access_?key|credentials?|(?:auth|access|session|api)[_\-]?token)"
_LEAST = 16  # characters of a credential that nothing else tells from a word
_KEY = re.compile(
    rf"((?:^|[^\w.\-]){_NAME})=([^\s&;'\",]+)|((?:^|[^\w.\-])token)=([^\s&;'\",]{{{_LEAST},}})", re.IGNORECASE
)
_HEADER = re.compile(r"(\bauthorization['\"]?\s*[:=]\s*['\"]?[a-z]+)\s+[^\s'\"]+", re.IGNORECASE)
_BEARER = re.compile(rf"\b((?i:Bearer|Basic))\s+(?=\S*[0-9A-Z])[\w.~+/=\-]{{{_LEAST},}}")


def masked(text: str) -> str:
    """Return a text with `***` for every password in it."""
    text = _IN_TEXT.sub(rf"\1:{HIDDEN}@", text)
    text = _KEY.sub(lambda found: f"{found[1] or found[3]}={HIDDEN}", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", _HEADER.sub(rf"\1 {HIDDEN}", text))


def masked_command(arguments: Iterable[str]) -> str:
    """Return a command for the record, quoted for a shell, without the passwords among its arguments."""
    return shlex.join(_argument(each) for each in arguments)


def _argument(text: str) -> str:
    return masked(_ALONE.sub(rf"\1:{HIDDEN}@", text))


def holds_password(text: str) -> bool:
    """Whether a text is, or holds, a URL with a password, or a key that is one."""
    return _argument(text) != text


def find_password(value: Any, key: str = "") -> str | None:
    """Return the key, with dots, of the first value in plain data that holds a password; None where none does."""
    if isinstance(value, str):
        return key if holds_password(value) else None
    named: Iterable[tuple[object, Any]] = ()
    if isinstance(value, Mapping):
        named = value.items()
    elif isinstance(value, Sequence):
        named = enumerate(value)
    found = (find_password(each, f"{key}.{name}" if key else str(name)) for name, each in named)
    return next((each for each in found if each is not None), None)


def refuse_passwords(data: Any, where: str) -> None:
    """Refuse settings that hold a password: they are stored, shown and reported (UsageError names the key)."""
    key = find_password(data)
    if key is not None:
        raise UsageError(
            f"{where}: {key or 'the value'} holds a password, and settings are stored and shown",
            "Leave the password out: PostgreSQL finds it in the file of PGPASSFILE or ~/.pgpass, cloud storage in its "
            "own credentials.",
        )
