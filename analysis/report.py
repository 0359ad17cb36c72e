"""Reports: a page that a person reads, figures as SVG and PNG, and tables that anyone can compute with.

Everything is worked out once (`results.analyse`) and rendered from there, so that page, figures and CSV files say
the same numbers. Files are written to a temporary folder beside the report and moved into place one by one: a
report that fails leaves the old one as it was.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kdsearch.analysis.bbm_figures import bbm_drawings
from kdsearch.analysis.bbm_page import render_bbm
from kdsearch.analysis.bbm_study import analyse_bbm
from kdsearch.analysis.bbm_tables import bbm_tables, layer_arrays, story_json
from kdsearch.analysis.figure_style import Drawing
from kdsearch.analysis.figures import comparison_drawing, slug, sweep_drawings
from kdsearch.analysis.page import render
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.results import analyse
from kdsearch.analysis.sweep_kinds import BBM
from kdsearch.analysis.tables import all_tables, lineage, retrained_tables
from kdsearch.spaces.errors import KdsearchError, UsageError


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """Where the files of a report are."""

    folder: Path
    page: Path  # report.html
    tables: tuple[Path, ...]  # every CSV file: trials.csv, curves.csv, ...
    lineage: Path
    figures: tuple[Path, ...]  # figures/*.svg and figures/*.png
    others: tuple[Path, ...] = ()  # of block-by-block matching: bbm.json, arrays.npz


class ReportError(UsageError):
    """A report that cannot be made or written as asked."""


def write_report(records: Sequence[SweepRecord], out: Path) -> ReportFiles:
    """Write report.html, the figures, the CSV files and lineage.json of one or more sweeps into the folder `out`.

    The folder is made if it is not there. Files of an earlier report are replaced one by one, after all new ones
    are complete; other files in the folder stay.

    Raises:
        ReportError: no records, two records of one name, block-by-block matching and others together, or `out` is a
            file or cannot be written to.
        KdsearchError: the disk is full; nothing of the new report is left behind.

    """
    if not records:
        raise ReportError("a report needs at least one sweep", "Name one: kdsearch report NAME --out DIR.")
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        raise ReportError(
            f"the same sweep stands twice in the report: {', '.join(names)}", "Name each sweep once."
        )
    contents = contents_of(records)
    with _writing(out):
        _write(contents, out)
    return ReportFiles(
        folder=out,
        page=out / "report.html",
        tables=tuple(out / name for name in contents if name.endswith(".csv")),
        lineage=out / "lineage.json",
        figures=tuple(out / name for name in contents if name.startswith("figures/")),
        others=tuple(out / name for name in contents if name in {"bbm.json", "arrays.npz"}),
    )


def contents_of(records: Sequence[SweepRecord]) -> dict[str, bytes]:
    """Every file of the report by its name relative to the folder."""
    matched = [record.trainable == BBM for record in records]
    if any(matched):
        if not all(matched):
            raise ReportError(
                "sweeps of block-by-block matching and others have nothing in common that a report could compare",
                f"Report them apart: {', '.join(r.name for r, bbm in zip(records, matched, strict=True) if bbm)} "
                "in one folder, the others in another.",
            )
        return _bbm_contents(records)
    results = [analyse(record) for record in records]
    prefixes = _prefixes([record.name for record in records])
    figures = [sweep_drawings(result, prefix) for result, prefix in zip(results, prefixes, strict=True)]
    comparison = comparison_drawing(results)
    contents = {"report.html": render(results, figures, comparison).encode()}
    contents |= {table.name: table.to_csv().encode() for table in all_tables(results)}
    contents["lineage.json"] = lineage(results).encode()
    for drawing in _all(figures, comparison):
        contents[f"figures/{drawing.stem}.svg"] = drawing.svg.encode()
        contents[f"figures/{drawing.stem}.png"] = drawing.png
    return contents


def _bbm_contents(records: Sequence[SweepRecord]) -> dict[str, bytes]:
    """The same for sweeps of block-by-block matching."""
    report = analyse_bbm(records)
    figures = bbm_drawings(report)
    contents = {table.name: table.to_csv().encode() for table in bbm_tables(report)}
    again = retrained_tables([sweep.result for sweep in report.sweeps])
    contents |= {table.name: table.to_csv().encode() for table in again}
    contents |= {"lineage.json": lineage([sweep.result for sweep in report.sweeps]).encode()}
    contents["bbm.json"] = story_json(report).encode()
    if arrays := layer_arrays(report):
        contents["arrays.npz"] = arrays
    contents["report.html"] = render_bbm(report, figures, tuple(contents)).encode()
    for stem, drawing in figures.items():
        contents |= {f"figures/{stem}.svg": drawing.svg.encode(), f"figures/{stem}.png": drawing.png}
    return contents


def _prefixes(names: Sequence[str]) -> list[str]:
    """What the file names of each sweep's figures begin with: nothing for a single one."""
    if len(names) == 1:
        return [""]
    return [f"{i}-{slug(name)}-" for i, name in enumerate(names, start=1)]


def _all(figures: Sequence[Mapping[str, Drawing]], comparison: Drawing | None) -> Iterator[Drawing]:
    if comparison is not None:
        yield comparison
    for drawn in figures:
        yield from drawn.values()


def _write(contents: Mapping[str, bytes], out: Path) -> None:
    with _folder(out):
        _write_into(contents, out)


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make a folder with those above it; where what is done in it fails, the empty ones that were made go again."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # not made, or no longer empty
                folder.rmdir()
        raise


def _write_into(contents: Mapping[str, bytes], out: Path) -> None:
    # Inside the folder, so that moving is a rename on one file system.
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=out))
    try:
        for name, content in contents.items():
            path = draft / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        for name in contents:
            (out / name).parent.mkdir(exist_ok=True)
            (draft / name).replace(out / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn what the file system says into what a person can act on."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise ReportError(
            f"cannot write a report to {out}: it is, or lies below, a file", "Give a folder."
        ) from None
    except IsADirectoryError as error:
        raise ReportError(
            f"cannot write a report to {out}: {error.filename2 or error.filename} is a folder",
            "Give another folder with --out, or move that one away.",
        ) from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise KdsearchError(
                f"cannot write a report to {out}: {error.strerror}",
                "Free some space and run the command again.",
            ) from None
        raise ReportError(
            f"cannot write a report to {out}: {error.strerror}",
            "Give a folder that you can write to with --out.",
        ) from None
