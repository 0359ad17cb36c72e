"""A small made-up set in the official format of the Hangzhou cup: text files of eight leads, and lists beside them.

Each record has beats at the rate of its diagnosis, so that a network trained on made-up records of PhysioNet 2021 has
something to say about them. It says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from kdsearch.trainables.records.hangzhou import FILE_LEADS, RATE_HZ, STEP_MV
from kdsearch.trainables.records.hangzhou_names import NAMES
from kdsearch.trainables.records.made_up_beats import beats

RECORDS: Final = 60
TEST_RECORDS: Final = 12  # of them, without diagnoses, as in the competition
ROWS: Final = 10 * RATE_HZ
FIRST_NUMBER: Final = 100_001
_RHYTHMS: Final = {"窦性心律": 70.0, "窦性心动过缓": 48.0, "窦性心动过速": 115.0}  # beats a minute
_INVERTED_T: Final = "T波改变"
_UNSCORED: Final = "左心室高电压"  # left ventricular high voltage


def write_hangzhou(folder: Path, rng: np.random.Generator) -> Mapping[str, int]:
    """Write the records of training and test A with their lists, and return their number."""
    labels: list[str] = []
    without: list[str] = []
    for number in range(RECORDS):
        names = [tuple(_RHYTHMS)[number % len(_RHYTHMS)]]
        names += [name for name in (_INVERTED_T, _UNSCORED) if rng.random() < 1 / 4]
        is_test = number >= RECORDS - TEST_RECORDS
        part = folder / ("testA" if is_test else "train")
        part.mkdir(exist_ok=True)
        path = part / f"{FIRST_NUMBER + number}.txt"
        path.write_text(record_text(rng, names=names), encoding="ascii")
        who = f"{path.name}\t{rng.integers(20, 90)}\t{('FEMALE', 'MALE')[int(rng.integers(2))]}\t"
        (without if is_test else labels).append(who if is_test else who + "\t".join(names))
    lists = {"label": labels, "subA": without, "arrythmia": NAMES}
    for name, lines in lists.items():
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"hf_round1_{name}.txt").write_text(text, encoding="utf-8")
    return {"records": RECORDS}


def record_text(rng: np.random.Generator, *, names: list[str], rows: int = ROWS) -> str:
    """Return a made-up record with the given diagnoses as the text of its file."""
    rate = next((rate for name, rate in _RHYTHMS.items() if name in names), 75.0)
    t_wave = -0.3 if _INVERTED_T in names else 0.3
    beat = beats(rows, RATE_HZ, rate * rng.uniform(0.95, 1.05), t_wave)
    one, two = beat * rng.uniform(0.4, 0.8), beat * rng.uniform(0.8, 1.2)
    chest = beat * np.linspace(-0.5, 1.2, len(FILE_LEADS) - 2)[:, None]
    signal = np.vstack([one, two, chest]) + rng.normal(0.0, 0.02, (len(FILE_LEADS), rows))
    steps = np.rint(signal / STEP_MV).astype(int).T.tolist()
    return "\n".join([" ".join(FILE_LEADS), *(" ".join(map(str, row)) for row in steps)]) + "\n"
