"""The marker of a made-up sample: a file that says how few images to expect, and that they are not real."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdsearch.trainables.data.findings import Findings

MARKER_FILE = "KDSEARCH_SAMPLE.json"
_EXPECTED = "JSON with `data_set`, `seed` and `counts`, as `kdsearch data sample` writes it"


@dataclass(frozen=True)
class Marker:
    """What the marker says; `counts` stand in for those of the official files."""

    data_set: str
    seed: int
    counts: Mapping[str, int]

    def write(self, folder: Path) -> None:
        """Write the marker into the folder of the data set."""
        note = "made up, written by `kdsearch data sample`; results on them mean nothing"
        content = {"note": note, "data_set": self.data_set, "seed": self.seed, "counts": dict(self.counts)}
        (folder / MARKER_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_marker(folder: Path, name: str, official: Mapping[str, int], findings: Findings) -> Marker | None:
    """Return the marker of `folder`, or None where there is none; note one that is wrong or of another set.

    A sample has no more images than the `official` files.
    """
    path = folder / MARKER_FILE
    if not path.exists():
        return None
    text = findings.read(path, _EXPECTED)
    if text is None:
        return None
    marker = _parse(text)
    if marker is None:
        findings.add(path, _EXPECTED, "something else")
    elif marker.data_set != name:
        findings.add(path, f"a sample of {name}", f"a sample of {marker.data_set}")
    elif any(count > official.get(part, 0) for part, count in marker.counts.items()):
        findings.add(path, f"counts of at most {dict(official)}", f"{dict(marker.counts)}")
    else:
        return marker
    return None


def _parse(text: bytes) -> Marker | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match content:
        case {"data_set": str(data_set), "seed": int(seed), "counts": dict(counts)}:
            sound = all(type(count) is int and count > 0 for count in counts.values())
            return Marker(data_set, seed, counts) if sound else None
    return None
