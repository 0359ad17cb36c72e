"""The teacher: a trained network that only answers, always in eval mode, and is asked no more often than needed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdsearch.trainables.kd.files import keep_logits, kept_logits
from kdsearch.trainables.kd.parts import Batch, Part, Parts
from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.networks.files import FileError, load_weights, read_origin
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot

_SLOT = Slot(0, 1)


class Teacher:
    """Answers about the objects of `parts.known`: kept logits, or new ones for every augmented batch.

    Raises:
        FileError: the file of weights is missing, is none, or holds another network than `architecture`.

    """

    def __init__(
        self,
        weights: Path,
        architecture: Architecture,
        parts: Parts,
        *,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        state = NodeState(_weights(weights, _stamp(weights), architecture))
        self._stack = NetworkStack(architecture, [_SLOT], [state], trained=False, device=device, dtype=dtype)
        self._augmented = parts.batches.augmented
        self._logits: Tensor | None = None
        if not self._augmented and parts.known is not None:
            asked = {**parts.identity, "dtype": str(dtype)}
            found = kept_logits(weights, asked, (len(parts.known.labels), parts.classes))
            if found is None:
                found = self._ask(parts.known, batch_size, dtype)
                keep_logits(weights, asked, found)
            self._logits = found.to(device, dtype)

    def logits(self, batch: Batch) -> Tensor:
        """Return the teacher's logits [K, B, classes] for a batch of K trials."""
        if self._logits is not None:
            flat = self._logits.index_select(0, batch.objects.reshape(-1))
            return flat.view(*batch.objects.shape, -1)
        return self._forward(batch.inputs.flatten(0, 1)).view(*batch.labels.shape, -1)

    def _ask(self, known: Part, batch_size: int, dtype: torch.dtype) -> Tensor:
        return torch.cat([self._forward(x) for x, _ in known.batches(batch_size, dtype)])

    @torch.no_grad()
    def _forward(self, inputs: Tensor) -> Tensor:
        images = inputs.contiguous(memory_format=torch.channels_last)
        return self._stack.network(training=False).logits(images)[0]


def check_weights(path: Path, architecture: Architecture) -> Mapping[str, Any] | None:
    """Refuse a file that cannot teach; return what it says of its training, if anything.

    Raises:
        FileError: the message names the file and says what does not fit.

    """
    tensors = load_weights(path, architecture)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise FileError(f"{path} cannot teach: {broken[0]} holds values that are not finite numbers")
    return read_origin(path)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written anew."""
    try:
        status = path.stat()
    except OSError:
        raise FileError(f"{path} does not exist; a teacher's weights were expected there") from None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2)
def _weights(path: Path, stamp: tuple[int, int], architecture: Architecture) -> dict[str, Tensor]:
    """A worker trains pack after pack with one teacher: its file is read once."""
    del stamp
    return load_weights(path, architecture)
