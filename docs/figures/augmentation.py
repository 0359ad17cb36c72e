# ruff: noqa: INP001 - a script of the documentation, no package
"""Draw docs/images/augmentation.png: one real record under each of the six transforms, the original in grey beneath.

    KDSEARCH_DATA=FOLDER python docs/figures/augmentation.py [RECORD]

Where no PhysioNet 2021 is below the data root, the made-up sample is drawn, and the title says so.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from kdsearch.analysis.figure_style import FAINT, INK, MUTED, PALETTE, figure_style, new_figure
from kdsearch.trainables.data import DataError
from kdsearch.trainables.records import LEADS, EcgSettings, find_records, sample_records
from kdsearch.trainables.records.physionet2021 import EcgRecord, read_record
from kdsearch.trainables.records.sets import PHYSIONET_2021
from kdsearch.trainables.signals.policy import WANDER_HZ, Policy, Transform
from kdsearch.trainables.signals.rand_augment import RandAugment
from kdsearch.trainables.signals.transforms import TRANSFORMS

OUT: Final = Path(__file__).parents[1] / "images" / "augmentation.png"
RECORD: Final = "E00003"  # sinus rhythm, clear waves in all leads and a quiet baseline
INTENSITY: Final = 0.7  # as chosen for the paper's CNN
SHORT_S: Final = 2.5  # where single waves matter
FROM_S: Final = 0.35  # of the twelve leads: room for their names before the first beat
GREY: Final = "#b3bac2"
DPI: Final = 130
COLOURS_KEPT: Final = 64  # a palette makes the file a third as large
ROW_SD: Final = 11.0  # between two rows of leads
CLINICAL: Final = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
COLOURS: Final = {
    Transform.SMOOTHING: PALETTE["series-2"],
    Transform.RESAMPLING: PALETTE["series-6"],
    Transform.NOISE: PALETTE["series-3"],
    Transform.WANDER: PALETTE["series-last"],
    Transform.TIME_MASK: PALETTE["target"],
    Transform.CHANNEL_MASK: PALETTE["series-2"],
}
SHORT_NAMES: Final = {
    Transform.SMOOTHING: "smoothing",
    Transform.RESAMPLING: "resampling",
    Transform.NOISE: "noise",
    Transform.WANDER: "wander",
    Transform.TIME_MASK: "time mask",
    Transform.CHANNEL_MASK: "channel mask",
}
SEEDS: Final = dict.fromkeys(Transform, 3) | {
    Transform.WANDER: 18,
    Transform.TIME_MASK: 4,
    Transform.CHANNEL_MASK: 0,
}
SEED_OF_THREE: Final = 7


def main(wanted: str) -> None:
    """Read the record, draw it and write the file."""
    settings = EcgSettings()
    record, is_sample = real_or_made_up(wanted, settings)
    with figure_style():
        figure = drawn(record, settings, is_sample=is_sample)
        write(figure, OUT)


def write(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG with a palette."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    image = Image.open(buffer).convert("RGB")
    image.quantize(COLOURS_KEPT, dither=Image.Dither.NONE).save(path, optimize=True)


def real_or_made_up(wanted: str, settings: EcgSettings) -> tuple[EcgRecord, bool]:
    """Return the wanted record, or else the first, and whether it is made up."""
    try:
        files = find_records(PHYSIONET_2021)
    except DataError:
        with tempfile.TemporaryDirectory() as scratch:
            sample_records(PHYSIONET_2021, scratch)
            return read_record(find_records(PHYSIONET_2021, scratch).records[0], settings), True
    path = next((path for path in files.records if path.stem == wanted), files.records[0])
    return read_record(path, settings), files.is_sample


def drawn(record: EcgRecord, settings: EcgSettings, *, is_sample: bool) -> Figure:
    """Return the figure: five transforms of one lead, three at once, and the channel mask of all twelve leads."""
    policy = Policy(1, INTENSITY, settings.rate_hz)
    signals = torch.from_numpy(record.signal)[None]
    panels = Panels(signals[0], settings.rate_hz)
    figure = new_figure(9.6, 9.4)
    grid = figure.add_gridspec(4, 2, height_ratios=(1, 1, 1, 1.75))
    window = settings.window
    titles = {
        Transform.SMOOTHING: f"kernel with sd {1000 * policy.smoothing_samples / settings.rate_hz:.0f} ms",
        Transform.NOISE: f"{policy.noise:.2f} sd",
        Transform.RESAMPLING: f"time × {policy.stretch:.2f} or ÷ {policy.stretch:.2f}",
        Transform.WANDER: f"below {WANDER_HZ[1]:g} Hz, at most {policy.wander:.1f} sd",
        Transform.TIME_MASK: f"{policy.masked_samples(window) / settings.rate_hz:.1f} s of all leads",
    }
    for place, (transform, detail) in enumerate(titles.items()):
        axes = figure.add_subplot(grid[place // 2, place % 2], sharey=figure.axes[0] if place else None)
        changed = TRANSFORMS[transform](signals, policy, generator(SEEDS[transform]))[0]
        length_s = SHORT_S if transform in {Transform.SMOOTHING, Transform.NOISE} else settings.window_s
        panels.one_lead(axes, changed, length_s, COLOURS[transform])
        entitle(axes, str(transform), detail)
    axes = figure.add_subplot(grid[2, 1], sharey=figure.axes[0])
    augment = RandAugment(3, INTENSITY, settings.rate_hz)
    panels.one_lead(axes, augment(signals, generator(SEED_OF_THREE))[0], settings.window_s, INK)
    three = augment.drawn(1, generator(SEED_OF_THREE))[:, 0].tolist()
    entitle(axes, "RandAugment", ", ".join(SHORT_NAMES[list(Transform)[one]] for one in three))
    axes = figure.add_subplot(grid[3, :])
    masked = TRANSFORMS[Transform.CHANNEL_MASK](signals, policy, generator(SEEDS[Transform.CHANNEL_MASK]))[0]
    panels.all_leads(axes, masked, COLOURS[Transform.CHANNEL_MASK])
    entitle(
        axes, str(Transform.CHANNEL_MASK), f"{policy.masked_leads} of 12 leads; {SHORT_S} s of each shown"
    )
    source = "made-up sample, no patient" if is_sample else "PhysioNet/CinC 2021"
    figure.suptitle(
        f"{record.name} ({source}) at intensity {INTENSITY:g}; the original in grey",
        x=0.01,
        ha="left",
        fontsize=12,
        color=INK,
    )
    return figure


def generator(seed: int) -> torch.Generator:
    """Return a generator of the CPU with that seed."""
    return torch.Generator().manual_seed(seed)


def entitle(axes: Axes, name: str, detail: str) -> None:
    """Put the transform's name and, in grey, its magnitude above the panel."""
    axes.set_title(name)
    axes.text(1, 1.03, detail, transform=axes.transAxes, ha="right", va="bottom", fontsize=9, color=MUTED)
    axes.tick_params(length=3)
    axes.grid(visible=True, color=FAINT, linewidth=0.6)


class Panels:
    """Draws augmented signals [12, T] above the original."""

    def __init__(self, original: Tensor, rate_hz: float) -> None:
        self.original, self.rate_hz = original, rate_hz

    def one_lead(self, axes: Axes, changed: Tensor, length_s: float, colour: str, lead: str = "II") -> None:
        """Draw the first seconds of one lead."""
        count = round(length_s * self.rate_hz)
        seconds = np.arange(count) / self.rate_hz
        at = LEADS.index(lead)
        axes.plot(seconds, self.original[at, :count], color=GREY, linewidth=1.6)
        axes.plot(seconds, changed[at, :count], color=colour, linewidth=0.9)
        axes.set_xlim(0, length_s)
        axes.set_xlabel("time (s)", labelpad=1)
        axes.set_ylabel(f"lead {lead} (sd)")

    def all_leads(self, axes: Axes, changed: Tensor, colour: str) -> None:
        """Draw all leads as they are printed on paper: four columns of 2.5 s in three rows."""
        first, count = round(FROM_S * self.rate_hz), round(SHORT_S * self.rate_hz)
        part = slice(first, first + count)
        seconds = np.arange(count) / self.rate_hz
        for row, names in enumerate(CLINICAL):
            for column, name in enumerate(names):
                at, base = LEADS.index(name), -ROW_SD * row
                shifted = seconds + column * SHORT_S
                axes.plot(shifted, self.original[at, part] + base, color=GREY, linewidth=1.6)
                axes.plot(shifted, changed[at, part] + base, color=colour, linewidth=0.9)
                axes.text(
                    column * SHORT_S + 0.05,
                    base + ROW_SD / 2 - 2,
                    name,
                    fontsize=9,
                    fontweight="bold",
                    color=INK,
                )
        columns = len(CLINICAL[0])
        axes.set_xlim(0, columns * SHORT_S)
        axes.set_xticks([column * SHORT_S for column in range(columns + 1)], labels=[""] * (columns + 1))
        axes.set_yticks([])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else RECORD)
