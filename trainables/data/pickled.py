"""An unpickler that admits nothing but arrays, bytes, strings, numbers, lists and dictionaries.

A pickle is a program: whoever wrote it can run anything on the machine that loads it. The official Python
version of CIFAR is a pickle, and copies of it travel. This one calls no foreign code: the few names that a
NumPy array needs are answered by our own inert classes, every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 30  # five times the largest official file
MAX_VALUES = 10_000_000  # the official files have one for each image

Plain: TypeAlias = "str | bytes | int | float | list[Plain] | dict[Plain, Plain] | NDArray[Any]"


class RefusedPickleError(ValueError):
    """A pickle that holds or does something that a file of data has no need of."""


class _DataType:
    """Stands for `numpy.dtype`: remembers its name and byte order."""

    ADMITTED: ClassVar = frozenset({"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})

    def __init__(self, name: object, *_flags: object) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        self.name = text.lstrip("<>|=")
        self.order = "<"
        if self.name not in self.ADMITTED:
            raise RefusedPickleError(f"an array of type {text!r}")

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        self.order = ">" if order in (">", b">") else "<"

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


class _Array:
    """Stands for `numpy.ndarray`: remembers shape, type and bytes until the whole pickle is read."""

    def __init__(self, *_arguments: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def numpy(self) -> NDArray[Any]:
        match self.state:
            case (_, tuple(shape), _DataType() as kind, fortran, bytes(raw)):
                dtype = kind.numpy()
            case _:
                raise RefusedPickleError("an array without plain bytes")
        if not all(isinstance(length, int) and length >= 0 for length in shape):
            raise RefusedPickleError(f"an array of shape {shape!r}")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise RefusedPickleError(f"an array of shape {shape!r} and type {dtype} in {len(raw):,} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_arguments: object) -> _Array:
    return _Array()


def _frombuffer(raw: object, kind: object, shape: object, order: object = "C") -> _Array:
    """Stand for the function by which NumPy writes arrays in protocol 5."""
    array = _Array()
    array.state = (1, shape, kind, order == "F", bytes(raw) if isinstance(raw, bytearray) else raw)
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stand for `codecs.encode`, by which Python 3 writes bytes in old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise RefusedPickleError(f"an encoding {encoding!r}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    NAMES: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DataType,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 1
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 2
        ("numpy.core.numeric", "_frombuffer"): _frombuffer,
        ("numpy._core.numeric", "_frombuffer"): _frombuffer,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return self.NAMES[module, name]
        except KeyError:
            raise RefusedPickleError(f"the name {module}.{name}") from None


def load_plain(content: bytes) -> Plain:
    """Return what the pickle holds; strings of Python 2 come back as bytes.

    Raises `RefusedPickleError` for anything but arrays of numbers, bytes, strings, numbers, lists and
    dictionaries, and for a pickle that is damaged. Nothing that the pickle names is ever imported or called.
    """
    if len(content) > MAX_BYTES:
        raise RefusedPickleError(f"{len(content):,} bytes")
    try:
        return _Plainly().plain(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except RefusedPickleError:
        raise
    except RecursionError:
        raise RefusedPickleError("a list or dictionary that holds itself") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise RefusedPickleError(f"a damaged pickle ({type(error).__name__}: {error})") from error


class _Plainly:
    """Makes arrays real and refuses all else; counts, as a few lists that hold each other are billions of values."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def plain(self, value: object) -> Plain:
        """Return the value, or refuse it."""
        self._left -= 1
        if self._left < 0:
            raise RefusedPickleError(f"more than {MAX_VALUES:,} values")
        if isinstance(value, _Array):
            return value.numpy()
        if type(value) is list:
            return [self.plain(item) for item in value]
        if type(value) is dict:
            return {_key(key): self.plain(item) for key, item in value.items()}
        if isinstance(value, (str, bytes, int, float)):
            return value
        raise RefusedPickleError(f"a value of type {type(value).__name__}")


def _key(key: object) -> str | bytes | int | float:
    if isinstance(key, (str, bytes, int, float)):
        return key
    raise RefusedPickleError(f"a key of type {type(key).__name__}")
