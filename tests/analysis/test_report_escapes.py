"""Nothing that a sweep file or a trial says becomes an element of the page, of a figure, or a formula of a CSV file.

What is planted stands in every text that users and trials supply. A page and its figures consist of a few kinds of
elements and attributes; with what is planted there are no others, and no link leads anywhere else.
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import synthetic
import synthetic_bbm
import synthetic_methods

from kdsearch.analysis.report import write_report

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&--> $\\frac{$ [red]"
FORMULA = '=HYPERLINK("http://example.org/?"&A1)'


HTML = {
    "a",
    "b",
    "body",
    "br",
    "code",
    "data",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "head",
    "header",
    "html",
    "i",
    "li",
    "main",
    "meta",
    "nav",
    "ol",
    "p",
    "pre",
    "q",
    "section",
    "span",
    "strong",
    "style",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "title",
    "tr",
}
SVG = {"clippath", "defs", "g", "image", "path", "rect", "style", "svg", "text", "use"}
OF_FIGURES = SVG | {"agent", "creator", "format", "metadata", "rdf", "title", "type", "work"}
ATTRIBUTES = {
    "aria-hidden",
    "aria-label",
    "aria-labelledby",
    "charset",
    "class",
    "clip-path",
    "colspan",
    "content",
    "d",
    "height",
    "href",
    "http-equiv",
    "id",
    "lang",
    "name",
    "role",
    "scope",
    "style",
    "transform",
    "type",
    "value",
    "version",
    "viewbox",
    "width",
    "x",
    "xlink:href",
    "xmlns",
    "xmlns:xlink",
    "y",
}


class Elements(HTMLParser):
    """The elements and attributes of a page, where it links to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links |= {value for name, value in attributes if name in {"href", "xlink:href", "src"}}

    def handle_data(self, data):
        self.text += data


def renamed(value, names: Mapping[str, str]):
    """The value with every text that is one of the names replaced, also as a key or the name of a column."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, pd.DataFrame):
        return value.rename(columns=lambda name: names.get(name, name)).map(lambda cell: renamed(cell, names))
    if isinstance(value, Mapping):
        return {renamed(key, names): renamed(item, names) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(renamed(item, names) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: renamed(getattr(value, f.name), names) for f in fields(value)})
    return value


def planted(record, names: tuple[str, ...], text: str):
    """The record with a text added to these names and to all free texts."""
    record = renamed(record, {name: f"{name}{text}" for name in names})
    trials = record.trials.copy()
    trials["message"] = trials["message"].astype(object)
    trials.loc[trials.index[:3], "message"] = text
    trials.loc[trials.index[:3], "state"] = "failed"
    return replace(
        record,
        trials=trials,
        notes=(*record.notes, f"note {text}"),
        environment={**record.environment, f"key {text}": f"host {text}", "command": f"kdsearch {text}"},
        settings={**record.settings, "title": f"title {text}", "note": text},
        decisions=tuple(
            replace(each, reason=f"{each.reason} {text}", chooser=f"{each.chooser} {text}")
            for each in record.decisions
        ),
    )


RECORDS = {
    "refinement": (lambda: synthetic.refinement(draws=20, epochs=3), ()),
    "parameters": (synthetic.generic, ("temperature", "width", "loss", "kl", "mse")),
    "comparison": (lambda: synthetic_methods.comparison(runs=4, epochs=4), ("naive", "random")),
    "bbm": (lambda: synthetic_bbm.study(seeds=2, epochs=4, methods=("transformer", "bbm one")), ("bbm one",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS)
def test_what_a_sweep_says_is_text_and_nothing_else(kind, tmp_path):
    make, names = RECORDS[kind]
    files = write_report([planted(make(), names, EVIL)], tmp_path / "out")
    page = Elements(files.page.read_text(encoding="utf-8"))
    assert page.tags <= HTML | SVG
    assert page.attributes <= ATTRIBUTES
    assert not [link for link in page.links if not link.startswith(("#", "data:image/png;base64,"))]
    assert page.text.count(EVIL) >= 3  # it is there, as a text
    assert figures_tags(files) <= OF_FIGURES


def figures_tags(files) -> set[str]:
    """The kinds of elements in the figures, in lower case; a figure that is no XML fails."""
    found = [
        ET.fromstring(each.read_text(encoding="utf-8"))  # noqa: S314 it was just made
        for each in files.figures
        if each.suffix == ".svg"
    ]
    return {element.tag.rpartition("}")[2].lower() for figure in found for element in figure.iter()}


@pytest.mark.parametrize("kind", ["parameters", "bbm"])  # the two writers of tables
def test_no_cell_of_a_csv_file_is_a_formula(kind, tmp_path):
    make, names = RECORDS[kind]
    record = renamed(make(), {name: f"={name}" for name in names})
    files = write_report([planted(record, (), FORMULA)], tmp_path / "out")
    found = [cell for path in files.tables for row in rows(path) for cell in row]
    assert not [cell for cell in found if cell[:1] in set("=+@\t\r") and not number(cell)]
    assert not [cell for cell in found if cell.startswith("-") and not number(cell)]
    if names:
        assert f"'={names[0]}" in found
    assert not [cell for cell in found if cell.startswith("'") and number(cell[1:])]  # numbers stay numbers


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
