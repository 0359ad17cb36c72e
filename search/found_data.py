"""The data that a sweep trains on: there and whole before anything starts, and the same ones when it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kdsearch.search.config import RetrainSettings, SweepFile
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.operations import EventRow
from kdsearch.search.trialdb.record import DATA, NOTE, note_event
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.findings import DataError
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.registry import FOLDER_PREFIX, data_set_names
from kdsearch.trainables.data.roots import DATA_ROOT_VARIABLE, resolve_data_root
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.training_settings import read_data


@dataclass(frozen=True, kw_only=True)
class FoundData:
    """What was found of a sweep's data."""

    contents: Mapping[str, str]  # digest of each data set of a retraining; of any other sweep one, under ""
    root: str | None  # absolute; None: none is given, or none that is there (and none was needed)
    notes: Sequence[str]  # for the reader

    @property
    def content(self) -> str:
        """All digests as one text; "" where there is nothing that could be other data."""
        return " ".join(self.contents.values())


def check_data(sweep: SweepFile, data_root: Path | None) -> FoundData:
    """Refuse missing or broken data before anything is written or started."""
    kind, notes, contents = trainable_kind(sweep.trainable.kind), list[str](), dict[str, str]()
    for label, settings in sweep.settings_by_data().items():
        try:
            notes += kind.check_data(settings, data_root)
        except UsageError as error:
            if label is not None and label not in error.message:
                error.message = f"{label}: {error.message}"
            raise
        contents[label or ""] = kind.content(settings, data_root)
        if isinstance(sweep.searcher, RetrainSettings):
            notes += _trained_share(settings, data_root, on_all=sweep.searcher.train_on == "all")
    own = list(dict.fromkeys(notes))
    return FoundData(contents=contents, root=_absolute(data_root), notes=own)


def _trained_share(settings: Mapping[str, Any], data_root: Path | None, *, on_all: bool) -> list[str]:
    """Say how many of a data set's training images a retraining trains on, if these are not all."""
    data = settings.get("data")
    name = data.get("name") if isinstance(data, Mapping) else data
    if not isinstance(name, str) or not (name in data_set_names() or name.startswith(FOLDER_PREFIX)):
        return []  # records, or objects that are drawn
    images = load_images(name, data_root)
    split = make_split(images, read_data(data))
    trained = len(split.train_labels) + (len(split.eval_labels) if on_all else 0)
    whole = len(images.train_labels)
    return [f"Trained on {trained:,} of the {whole:,} training images of {name}."] if trained < whole else []


def events_of(found: FoundData, now: datetime) -> list[EventRow]:
    """What a sweep that begins keeps of its data."""
    data = EventRow(kind=DATA, at=now, data={"content": found.content, "data_root": found.root})
    return [data, *(note_event(text, now) for text in found.notes)]


def _absolute(data_root: Path | None) -> str | None:
    try:
        root = resolve_data_root(data_root)
    except DataError:
        return None
    return None if root is None else str(root.absolute())


def check_same_data(sweep: SweepFile, database: TrialDatabase, found: FoundData) -> None:
    """Refuse to go on with other data than the sweep began with; a database of earlier versions does not tell."""
    began = [event.data for event in database.events(sweep.name, kinds=[DATA])]
    if began and str(began[0]["content"]) != found.content:
        where = "no data root is given" if found.root is None else f"the data root in use is {found.root}"
        raise UsageError(
            f"the data are not those that the sweep {sweep.name} began with: {where}{_first_root(began[0])}",
            f"Give the data root that it began with (--data-root or {DATA_ROOT_VARIABLE}), or start a new sweep.",
        )


def _first_root(began: Mapping[str, Any]) -> str:
    """Say with which data root a sweep began; early versions did not write it down."""
    return f", and it began with {began['data_root'] or 'none'}" if "data_root" in began else ""


def write_notes(database: TrialDatabase, name: str, notes: Sequence[str]) -> None:
    """Keep notes that the sweep does not have yet; a resume may find records from elsewhere that were not there."""
    told = {event.data["text"] for event in database.events(name, kinds=[NOTE])}
    for text in notes:
        if text not in told:
            database.add_event(name, NOTE, {"text": text})
