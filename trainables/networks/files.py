"""Weight files, and how files of tensors are written and read.

A file is written whole or not at all (a temporary file beside the target, then a rename), and read back with torch's
`weights_only` unpickler, which runs no code that a file may hold.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.networks.architectures import Architecture, TensorSpec

WEIGHTS_FORMAT: Final = "kdsearch weights 1"


class FileError(KdsearchError):
    """A weight file or checkpoint that cannot be written, cannot be read, or does not fit; the message names it."""


def save_weights(
    path: Path,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write one network; origin: plain data on what it was trained on, for `read_origin`.

    Raises:
        FileError: the file cannot be written.

    """
    content = {"format": WEIGHTS_FORMAT, "built": _built(architecture), "tensors": on_cpu(tensors)}
    write_tensors(path, content if origin is None else {**content, "origin": dict(origin)})


def read_origin(path: Path) -> Mapping[str, Any] | None:
    """Return what a weight file says of its training; None if it says nothing. Errors are those of `load_weights`."""
    origin = read_tensors(path, WEIGHTS_FORMAT, "a weight file").get("origin")
    return origin if isinstance(origin, dict) else None


def load_weights(path: Path, architecture: Architecture) -> dict[str, Tensor]:
    """Read one network of this architecture.

    Raises:
        FileError: there is no such file, it is no weight file, or it holds another network; the message names the
            file and says what does not fit.

    """
    content = read_tensors(path, WEIGHTS_FORMAT, "a weight file")
    built = content.get("built")
    if not isinstance(built, dict):
        raise FileError(f"{path} is not a weight file, or is damaged: it does not say what it was made with")
    for what, expected in _built(architecture).items():
        found = built.get(what)
        if found != expected:
            raise FileError(f"{path} does not fit: it was made with {what} {found!r}, not {expected!r}")
    tensors = content.get("tensors")
    check_tensors(path, "the network", tensors, architecture.tensors)
    return tensors  # type: ignore[return-value]  # checked


def check_tensors(
    path: Path, what: str, tensors: object, specs: tuple[TensorSpec, ...] | list[TensorSpec]
) -> None:
    """Compare names and shapes with what a network needs: a mapping from names to floating-point tensors.

    Raises:
        FileError: naming the first tensor that is missing, unexpected, of another shape, or no tensor of floats.

    """
    if not isinstance(tensors, dict):
        raise FileError(f"{path} does not fit: {what} is no set of named tensors")
    expected = {spec.name: spec.shape for spec in specs}
    for name in expected.keys() - tensors.keys():
        raise FileError(f"{path} does not fit: {what} lacks {name}")
    for name, tensor in tensors.items():
        if name not in expected:
            raise FileError(f"{path} does not fit: {what} has {name}, which is not expected")
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise FileError(f"{path} does not fit: {name} of {what} is no tensor of floating-point numbers")
        if tuple(tensor.shape) != expected[name]:
            shapes = f"{list(tensor.shape)}, not {list(expected[name])}"
            raise FileError(f"{path} does not fit: {name} of {what} has shape {shapes}")


def _built(architecture: Architecture) -> dict[str, Any]:
    return {
        "model": architecture.name,
        "channels": architecture.channels,
        "classes": architecture.classes,
        "stem_stride": architecture.stem_stride,
    }


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without gradients, on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values.

    Raises:
        FileError: the file cannot be written.

    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        Path(temporary).replace(path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        reason = str(error).splitlines()[0]
        raise FileError(
            f"cannot write {path}: {reason}", "Is the disk full, or the folder read-only?"
        ) from error


def read_tensors(path: Path, expected_format: str, what: str) -> dict[str, Any]:
    """Read what `write_tensors` wrote; its key `format` must be the expected one.

    Raises:
        FileError: there is no such file, or it is not `what`.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about formats that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist; {what} was expected there") from None
    except IsADirectoryError:
        raise FileError(f"{path} is not {what}: it is a folder") from None
    except Exception as error:  # noqa: BLE001 a damaged file can raise anything from within unpickling
        # torch's own words advise to load such files all the same
        foreign = isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error)
        told = "it holds objects, which are never loaded" if foreign else "it cannot be read as one"
        raise FileError(f"{path} is not {what}, or is damaged: {told}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != expected_format:
        raise FileError(f"{path} is not {what}: its format is {found!r}, not {expected_format!r}")
    return content  # type: ignore[no-any-return]
