"""Rows of retrained.csv: versions by data set."""

from __future__ import annotations

from collections.abc import Iterator

from kdsearch.analysis.results import SweepResult

COLUMNS = (
    *("data", "version", "subject", "seeds", "mean", "spread", "error", "least", "greatest"),
    *("diverged", "failed", "unfinished"),
    *("pairs", "difference", "low", "high", "p", "p_holm", "n_needed", "decided"),
)

Row = tuple[object, ...]


def rows(result: SweepResult) -> Iterator[Row]:
    """One row a data set and version; the last eight columns are of the subject less the version."""
    found = result.retrained
    for part in found.sets if found is not None else ():
        for row in part.rows:
            one = part.differences.get(row.name)
            judged: Row = (None,) * 8
            if one is not None:
                judged = (
                    one.n,
                    one.mean,
                    one.low,
                    one.high,
                    one.p,
                    one.p_holm,
                    one.n_needed,
                    int(one.decided),
                )
            is_subject = found is not None and row.name == found.subject
            yield (
                *(part.name, row.name, int(is_subject), row.runs, row.mean, row.spread, 100 - row.mean),
                *(row.low, row.high, row.diverged, row.failed, row.unfinished),
                *judged,
            )
