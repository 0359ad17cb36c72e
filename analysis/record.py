"""What analysis is given: a finished or unfinished sweep as values and data frames.

`search` fills these from the trial database; nothing here knows SQL. Errors are in per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

IMPORT = "import"  # the kind of a sweep whose trials were run elsewhere
RUNG_COLUMNS = ("trial", "rung", "value", "cutoff", "stopped", "paused", "late", "probability")


@dataclass(frozen=True, kw_only=True)
class SpaceRecord:
    """One design space of a sweep's lineage."""

    name: str  # "A", "B", ..., "X"
    spec: Mapping[str, Any]  # `kdsearch.spaces.space_from_spec` reads it
    parent: str | None
    restriction: str | None  # readable, as added to the parent
    counts: Mapping[str, int | None]  # encodings, classes, valid_encodings, valid_classes
    exhaustive: bool  # every valid encoding was drawn (the last space), not a random sample
    repeats: int = 1  # trainings of each graph of an exhaustive space


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """One decision of a refinement, with its evidence."""

    step: int  # counts from 1
    space: str
    policy: str  # best-auc, significant, interactive
    chooser: str  # "kdsearch", or the person's login name
    group: str | None  # None: nothing was fixed
    value: str | None
    child: str | None  # the space that the decision led to
    reason: str  # one sentence for the reader
    at: datetime  # aware, UTC
    alpha: float  # level of this step after division among steps and looks
    draws: int  # draws of the space at the time of the decision
    table: tuple[Mapping[str, Any], ...]  # ConditionRow fields as stored at the time
    look: int = 1  # which look at this space it was


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """All that a report needs.

    trials: one row a trial, index free, columns `number` (int), `role` ("search" or "pretrain"), `state` (waiting,
        running, paused, complete, stopped, diverged, failed, lost), `error` (per cent, NaN if none), `best_error`,
        `best_epoch`, `last_epoch`, `orbit_size`, `seed` (int), `seconds`, `attempts`, `message` (why it failed or
        diverged), `started`, `ended` (aware datetimes or NaT), `design` (how it was proposed: `population.Proposal`);
        what its searcher told it beside the configuration: `method` (str) and `run` (int from 0; trials of one run
        share a seed), NA where a sweep compares no methods, `final` (bool: the trial that stands for its method's run
        in the table, the others belong to the search for it) and `plan` (the whole of it, a mapping, or None);
        and a column for each parameter (NA where a trial has none of it; pretrain trials have `model.1` and
        `label->1`; a parameter that has the name of a column above is called "parameter:<name>").
    draws: `space`, `draw` (int from 0 in each space), `trial` (number), `fresh` (0 or 1: the trial was trained for
        this space, not reused from an ancestor).
    curves: long form, `trial` (number), `node` (int), `metric` (train_loss, val_loss, val_error; test_loss,
        test_error where a trial evaluates), `epoch`, `value`; trial-level metrics (seconds, images_per_s, the costs,
        `meta.<name>` of each differentiable metaparameter) have node 0.
    arrays: by (trial, name) what a trial measured beside its metrics, such as the similarity of layers.
    rungs: what a scheduler decided, in its order, columns `trial` (number), `rung` (epoch), `value` (error in per
        cent, NaN if it was not finite), `cutoff` (the highest error that went on; NaN: nothing to compare with),
        `stopped` (bool), `paused` (bool: it waits to be promoted), `late` (bool: about a trial that waited),
        `probability` (of going on, NaN if nobody knows).
    content: a digest of the data that it trains on; "" where there are none, or where nobody wrote it down.
    """

    name: str
    kind: str  # refine, sweep, or import: run elsewhere
    trainable: str  # ktg, kd
    state: str  # running, complete, interrupted, failed
    seed: int
    settings: Mapping[str, Any]  # the resolved sweep file
    environment: Mapping[str, Any]  # versions, host's hardware, command
    created: datetime
    ended: datetime | None
    tau: float = 100.0
    a: float = 0.0
    alpha: float = 0.05
    diverged_error: float = 100.0  # the error that a diverged or failed draw counts with
    spaces: tuple[SpaceRecord, ...]
    decisions: tuple[DecisionRecord, ...] = ()
    trials: pd.DataFrame
    draws: pd.DataFrame
    curves: pd.DataFrame
    notes: tuple[str, ...] = field(default=())  # things a reader must know (interrupted, budget spent, ...)
    arrays: Mapping[tuple[int, str], npt.NDArray[np.float32]] = field(default_factory=dict)
    rungs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(RUNG_COLUMNS)))
    content: str = ""

    @property
    def imported(self) -> bool:
        """Whether its trials were run elsewhere; then `settings["source"]` says where they came from."""
        return self.kind == IMPORT

    @property
    def seeds_known(self) -> bool:
        """Whether anybody knows the seeds of its trials."""
        source = self.settings.get("source")
        return not self.imported or not isinstance(source, Mapping) or bool(source.get("seeds"))
