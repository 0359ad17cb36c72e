"""How every figure looks, and how one is turned into files and into a piece of a page.

Figures are plain `matplotlib.figure.Figure` objects: no pyplot, no shared state. Colours are Okabe and Ito's, which
people with colour-blindness can tell apart, and no figure relies on colour alone. Each colour is used under one name;
in a page the names become CSS variables, so that the same drawing serves light and dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#1c2430"
MUTED = "#5c6773"
FAINT = "#d5dbe1"
PAPER = "#fefefe"
TARGET = "#d7263d"  # the paper's red node
PALETTE = {
    "ink": INK,
    "muted": MUTED,
    "faint": FAINT,
    "paper": PAPER,
    "target": TARGET,
    "series-first": "#7b8794",
    "series-1": "#56b4e9",
    "series-2": "#0072b2",
    "series-3": "#009e73",
    "series-4": "#cc79a7",
    "series-5": "#e69f00",
    "series-6": "#6b4c9a",
    "series-last": "#d55e00",
    "gate-through": "#0f6fae",
    "gate-linear": "#c9560b",
    "gate-negative-linear": "#a8568a",
    "gate-correct": "#0c8f6a",
    "gate-learned": "#86690a",
}
Dashes = tuple[float, tuple[float, ...]]  # offset and lengths of dashes and gaps, in line widths
SOLID: Dashes = (0, ())
DASHES: tuple[Dashes, ...] = (
    SOLID,
    (0, (5, 1.6)),
    (0, (1.2, 1.4)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (3, 1.4)),
)
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small files, readable by people and screen readers
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": True,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9.5,
}
PNG_DPI = 150
_FONT = "'DejaVu Sans'"  # comes with matplotlib; others measure much the same
_FONTS = f"{_FONT}, Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
_MAX_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure: file stem, what it shows (for those who cannot see it), SVG text and PNG bytes."""

    stem: str
    description: str
    svg: str
    png: bytes


@contextmanager
def figure_style() -> Iterator[None]:
    """Build and save figures inside this context; other figures of the process keep their own style."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches that lays itself out; call inside `figure_style`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def series_colours(n: int) -> list[str]:
    """Return colours for an ordered series of n: grey for where it starts, vermilion for where it ends."""
    middle = [PALETTE[f"series-{i}"] for i in range(1, 7)]
    if n == 1:
        return [PALETTE["series-last"]]
    inner = [middle[i % len(middle)] for i in range(n - 2)]
    return [PALETTE["series-first"], *inner, PALETTE["series-last"]]


def plain_axes(axes: Axes, *, xlabel: str = "", ylabel: str = "", grid: str = "both") -> None:
    """Labels, a quiet grid and few ticks."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if grid in {"both", "x"}:
        axes.xaxis.grid(visible=True)
    if grid in {"both", "y"}:
        axes.yaxis.grid(visible=True)
    axes.tick_params(length=3)
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS, steps=[1, 2, 2.5, 5, 10]))


def finish(figure: Figure, stem: str, description: str) -> Drawing:
    """Render to SVG (deterministic: same figure, same bytes) and PNG; call inside `figure_style`."""
    figure.draw_without_rendering()  # lay out once,
    figure.set_layout_engine("none")  # not again for each format
    vector = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": stem}):
        figure.savefig(
            vector, format="svg", metadata={"Date": None, "Creator": "kdsearch", "Title": description}
        )
    raster = io.BytesIO()
    figure.savefig(raster, format="png", dpi=PNG_DPI)
    svg = vector.getvalue().replace(_FONT, _FONTS)
    return Drawing(stem=stem, description=description, svg=svg, png=raster.getvalue())


_PROLOGUE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_TITLE = re.compile(r"<title>.*?</title>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r'(<svg\b[^>]*?) width="[^"]*"', re.DOTALL)
_HEIGHT = re.compile(r'(<svg\b[^>]*?) height="[^"]*"', re.DOTALL)
_ID = re.compile(r'(\bid="|url\(#|href="#)')
_BLANKS = re.compile(r">\s*\n\s*<")


def inline_svg(drawing: Drawing, label_id: str) -> str:
    """The SVG as a piece of an HTML page: colours as CSS variables, identifiers unique, size left to the page.

    `label_id` is the identifier of the element that names the figure.
    """
    svg = _PROLOGUE.sub("", drawing.svg, count=1)
    for pattern in (_METADATA, _TITLE, _COMMENT):
        svg = pattern.sub("", svg)
    svg = _BLANKS.sub("><", svg)
    svg = _HEIGHT.sub(r"\1", _SIZE.sub(r"\1", svg, count=1), count=1)
    svg = _ID.sub(rf"\g<1>{drawing.stem}-", svg)
    svg = svg.replace(_FONTS, "var(--sans)")
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-labelledby="{label_id}"', 1)
