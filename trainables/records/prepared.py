"""Records in the form that networks see, memory-mapped from the cache: made once, shared by all trials of a machine.

An entry is keyed by the digest of the files' contents and by all that its numbers depend on; it keeps the summary of
what was read. Signals are stored as 16-bit whole numbers times a step for each lead, half the size of float32. The step
is the lead's largest value / 32,767, so an error is at most half a step; a lead of W samples with mean 0 and standard
deviation 1 has no value beyond sqrt(W - 1), which bounds the error by sqrt(W - 1) / 65,534: 0.0007 for W = 2,000.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.records.cache import Cache, Draft, Entry
from kdsearch.trainables.records.eicu import load_eicu
from kdsearch.trainables.records.hangzhou import HangzhouReader
from kdsearch.trainables.records.leads import LEADS
from kdsearch.trainables.records.parts import FEWEST, Part, Shares, divide
from kdsearch.trainables.records.physionet2019 import Patients, Scaling, features, load_patients
from kdsearch.trainables.records.physionet2021 import EcgReader, EcgSettings
from kdsearch.trainables.records.prepared_batches import epoch_batches, padded_share
from kdsearch.trainables.records.prepared_files import (
    Content,
    Root,
    files_or_sample,
    summary_from_mapping,
    summary_to_mapping,
)
from kdsearch.trainables.records.sets import EICU, HANGZHOU, PHYSIONET_2019, PHYSIONET_2021, RecordFiles
from kdsearch.trainables.records.summary import ReadSummary
from kdsearch.trainables.scores.physionet2021 import scored_classes

__all__ = [
    "PreparedHours",
    "PreparedSignals",
    "epoch_batches",
    "padded_share",
    "prepared_hours",
    "prepared_signals",
    "stored_signal",
]

FORMAT: Final = 1  # of entries; count it up when a reader gives other numbers for the same files
LARGEST: Final = np.iinfo(np.int16).max
PIECE: Final = 1_000  # patients that are standardised at once

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

_SIGNALS: Final[Mapping[str, Callable[[RecordFiles, EcgSettings], EcgReader]]] = {
    PHYSIONET_2021: EcgReader,
    HANGZHOU: HangzhouReader,
}
_HOURS: Final[Mapping[str, Callable[[Root], tuple[Patients, ReadSummary]]]] = {
    PHYSIONET_2019: load_patients,
    EICU: load_eicu,
}


@dataclass(frozen=True, eq=False)
class PreparedSignals:
    """ECG records of one form, in the order of their names.

    `stored` [N, 12, W] (memory-mapped) times `steps` [N, 12] is the signal; `samples` [N] counts what comes before the
    padding; `labels` [N, 26] are the scored classes. `digest` is that of contents and form.
    """

    names: tuple[str, ...]
    stored: NDArray[np.int16]
    steps: Floats
    samples: Indices
    labels: Flags
    summary: ReadSummary
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_sample(self) -> bool:
        """Whether the records are made up."""
        return self.summary.is_sample

    def batch(self, chosen: Indices) -> tuple[Floats, Flags]:
        """Return signals [B, 12, W] and labels [B, 26] of the records at these positions, in their order."""
        signals: Floats = np.multiply(
            self.stored[chosen], self.steps[chosen][:, :, None], dtype=np.float32, casting="same_kind"
        )
        _let_go(self.stored)
        return signals, self.labels[chosen]


@dataclass(frozen=True, eq=False)
class PreparedHours:
    """Patients by the hour: patient i has the rows offsets[i] to offsets[i + 1].

    `values` [rows, F] (memory-mapped) are standardised by `scaling`, 0 where a variable was not measured so far, with
    the indicators behind the 40 variables where they were asked for; `labels` [rows] are 0 or 1; `septic` [N] says who
    has a labelled hour. `parts` has the positions of each part, and is empty where there are fewer than three patients.
    `digest` is that of contents and form.
    """

    names: tuple[str, ...]
    values: Floats
    labels: NDArray[np.uint8]
    offsets: Indices
    septic: Flags
    parts: Mapping[Part, Indices]
    scaling: Scaling
    summary: ReadSummary
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    @property
    def hours(self) -> Indices:
        """Rows of each patient [N]."""
        return np.diff(self.offsets)

    @property
    def is_sample(self) -> bool:
        """Whether the patients are made up."""
        return self.summary.is_sample

    def batch(
        self, chosen: Indices, *, most_hours: int | None = None
    ) -> tuple[Floats, NDArray[np.uint8], Flags]:
        """Return values [B, T, F], labels [B, T] and real [B, T] of the patients at these positions, in their order.

        T is the longest of them. Behind a patient's last hour all three are 0. most_hours, 1 or more: each patient's
        first hours alone, for which a causal network says the same as it would with the rest.
        """
        if most_hours is not None and most_hours < 1:
            raise UsageError(f"most_hours must be 1 or more, not {most_hours}")
        starts = self.offsets[chosen]
        lengths = self.offsets[np.asarray(chosen) + 1] - starts
        if most_hours is not None:
            lengths = np.minimum(lengths, most_hours)
        real = np.arange(lengths.max(initial=0)) < lengths[:, None]
        values = np.zeros((*real.shape, self.values.shape[1]), dtype=np.float32)
        labels = np.zeros(real.shape, dtype=np.uint8)
        for at, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            values[at, :length] = self.values[start : start + length]
            labels[at, :length] = self.labels[start : start + length]
        _let_go(self.values)
        return values, labels, real


def _let_go(mapped: NDArray[Any]) -> None:
    """Take the pages that were read out of this process's memory; the system keeps them as long as there is room."""
    held: object = mapped.base
    if isinstance(held, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)


def prepared_signals(
    name: str,
    root: Root = None,
    settings: EcgSettings | None = None,
    *,
    or_sample: bool = False,
    cache: str | Path | None = None,
) -> PreparedSignals:
    """Return the ECG records of physionet2021 or hangzhou below the data root (`root`, else KDSEARCH_DATA).

    They are read one by one into the cache folder (`cache`, else KDSEARCH_CACHE, else the user's cache folder) unless
    they are there. With `or_sample`, a made-up set stands in for one that is not there.

    Raises:
        DataError: there are no records, or more than half of them cannot be used.
        CacheError: the cache folder is full or may not be written to.
        UnknownNameError: no such set of ECG records.

    """
    _check_known("set of ECG records", name, _SIGNALS)
    settings = EcgSettings() if settings is None else settings
    store = Cache(cache)
    content = Content.of(files_or_sample(name, root, store, or_sample=or_sample), store)
    form = {"window": settings.window, "rate_hz": settings.rate_hz, "scale_leads": settings.scale_leads}
    key = _key(name, content, {**form, "classes": list(scored_classes().names)})
    needs = len(content.files.records) * len(LEADS) * settings.window * np.dtype(np.int16).itemsize
    entry = store.entry(key, lambda draft: _write_signals(draft, content, settings), needs_bytes=needs)
    return PreparedSignals(
        names=tuple(entry.meta["names"]),
        stored=entry.mapped("signals"),
        steps=entry.read("steps"),
        samples=entry.read("samples"),
        labels=entry.read("labels"),
        summary=summary_from_mapping(entry.meta["summary"], content.files),
        digest=key,
    )


def _write_signals(draft: Draft, content: Content, settings: EcgSettings) -> Mapping[str, Any]:
    """Read record by record; what is kept of each in memory is a few hundred bytes."""
    reader = _SIGNALS[content.files.known.name](content.files, settings)
    names, steps, samples, labels = [], [], [], []
    with draft.growing("signals", np.int16, (len(LEADS), settings.window)) as signals:
        for record in reader:
            stored, step = stored_signal(record.signal)
            signals.append(stored[None])
            names.append(record.name)
            steps.append(step)
            samples.append(record.samples)
            labels.append(record.labels)
    content.check_unchanged()
    draft.add("steps", np.stack(steps))
    draft.add("samples", np.array(samples, dtype=np.int64))
    draft.add("labels", np.stack(labels))
    return {"names": names, "summary": summary_to_mapping(reader.summary())}


def stored_signal(signal: Floats) -> tuple[NDArray[np.int16], Floats]:
    """Return a signal [leads, samples], finite, as whole numbers [leads, samples] and the step of each lead [leads].

    Their product differs from the signal by half a step at most. 0 stays 0.
    """
    steps = (np.abs(signal).max(axis=1) / LARGEST).astype(np.float32)
    whole = np.zeros(signal.shape)
    np.divide(signal, steps[:, None], out=whole, where=steps[:, None] > 0, dtype=np.float64)
    return np.clip(np.rint(whole), -LARGEST, LARGEST).astype(np.int16), steps


def prepared_hours(
    name: str,
    root: Root = None,
    *,
    shares: Shares | None = None,
    indicators: bool = False,
    scaling: Scaling | None = None,
    or_sample: bool = False,
    cache: str | Path | None = None,
) -> PreparedHours:
    """Return the patients of physionet2019 or eicu below the data root (`root`, else KDSEARCH_DATA).

    They are standardised with `scaling`, which patients from elsewhere need, or else with mean and standard deviation
    of their own training part under `shares`. `or_sample`, `cache` and errors are those of `prepared_signals`, and a
    `UsageError` tells that there are too few patients to divide where they have to be.
    """
    _check_known("set of patients by the hour", name, _HOURS)
    shares = Shares() if shares is None else shares
    store = Cache(cache)
    content = Content.of(files_or_sample(name, root, store, or_sample=or_sample), store)
    by = _division(shares) if scaling is None else {"scaling": _scaling_digest(scaling)}
    key = _key(name, content, {"indicators": indicators, **by})
    entry = store.entry(
        key, lambda draft: _write_hours(draft, content, shares, scaling, indicators=indicators)
    )
    return _opened_hours(entry, content, shares, key)


def _opened_hours(entry: Entry, content: Content, shares: Shares, key: str) -> PreparedHours:
    names = tuple(entry.meta["names"])
    offsets, labels = entry.read("offsets"), entry.read("labels")
    return PreparedHours(
        names=names,
        values=entry.mapped("values"),
        labels=labels,
        offsets=offsets,
        septic=np.logical_or.reduceat(labels.astype(bool), offsets[:-1]),
        parts=divide(content.files.known.name, names, shares) if len(names) >= FEWEST else {},
        scaling=Scaling(entry.read("mean"), entry.read("scale")),
        summary=summary_from_mapping(entry.meta["summary"], content.files),
        digest=key,
    )


def _write_hours(
    draft: Draft, content: Content, shares: Shares, scaling: Scaling | None, *, indicators: bool
) -> Mapping[str, Any]:
    name = content.files.known.name
    patients, summary = _HOURS[name](content.files.folder.parent)  # the data root that they were found in
    content.check_unchanged()
    if scaling is None:
        training = divide(name, patients.names, shares)[Part.TRAINING]
        scaling = Scaling.fit(patients.take(training))
    width = patients.values.shape[1]
    with draft.growing("values", np.float32, (width * 2 if indicators else width,)) as values:
        for first in range(0, len(patients), PIECE):
            piece = patients.take(np.arange(first, min(first + PIECE, len(patients))))
            values.append(features(piece, scaling, indicators=indicators))
    draft.add("labels", patients.labels)
    draft.add("offsets", patients.offsets)
    draft.add("mean", scaling.mean)
    draft.add("scale", scaling.scale)
    return {"names": patients.names, "summary": summary_to_mapping(summary)}


def _check_known(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in (names := tuple(known)):
        raise UnknownNameError(kind, name, names)


def _key(name: str, content: Content, form: Mapping[str, Any]) -> str:
    """Return the key of an entry: all that its numbers depend on."""
    whole = {"format": FORMAT, "name": name, "content": content.digest, "form": form}
    told = json.dumps({**whole, "is_sample": content.files.is_sample}, sort_keys=True)
    return f"{name}-{hashlib.blake2b(told.encode(), digest_size=16).hexdigest()}"


def _division(shares: Shares) -> Mapping[str, Any]:
    return {"validation": float(shares.validation), "test": float(shares.test), "seed": shares.seed}


def _scaling_digest(scaling: Scaling) -> str:
    numbers = np.stack([scaling.mean, scaling.scale]).astype("<f8").tobytes()
    return hashlib.blake2b(numbers, digest_size=16).hexdigest()
