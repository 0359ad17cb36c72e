"""Made-up sweeps of block-by-block matching: scores, layers and attention from formulas, nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.record import SpaceRecord, SweepRecord
from kdsearch.spaces import space_from_spec

STARTED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SPACE = {
    "kind": "parameters",
    "parameters": {
        "learning_rate": {"type": "log-uniform", "low": 1e-4, "high": 1e-2},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "heads": {"type": "categorical", "values": [4, 8]},
        "lambda": {"type": "log-uniform", "low": 0.01, "high": 10.0},
    },
}
LEVEL = {"transformer": 0.560, "teacher": 0.655, "deit": 0.578, "bbm": 0.612}  # challenge score
LIKENESS = {"transformer": 0.44, "deit": 0.47, "bbm": 0.78, "teacher": 0.93}  # of outputs and layers
LOCALITY = {"transformer": 0.15, "deit": 0.2, "bbm": 0.75}
TOKENS = {"physionet2021": 40, "physionet2019": 24}
WINDOW_S = {"physionet2021": 4.0, "physionet2019": 10.0}  # so that there are as many patches
UNITS = {"physionet2021": (8, 16), "physionet2019": (3, 3)}  # of student and teacher
METHODS = ("transformer", "teacher", "deit", "bbm")


def study(
    *,
    name: str = "bbm-made-up",
    data: str = "physionet2019",
    methods: Sequence[str] = METHODS,
    seeds: int = 3,
    epochs: int = 12,
    seed: int = 0,
    blocks: Mapping[str, int] | None = None,
    given: bool = True,
    arrays: bool = True,
    elsewhere: bool = True,
    similarity: bool = True,
    gains: Mapping[str, float] | None = None,
    endings: Mapping[tuple[str, int], str] | None = None,
    lost: Mapping[tuple[str, int], Sequence[str]] | None = None,
    notes: Sequence[str] = (),
    searched: int = 0,
) -> SweepRecord:
    """A sweep that trains each method `seeds` times.

    methods: by name; one that is called "bbm" or "bbm ..." is of kind bbm, and so on. blocks: of methods of kind bbm
    (default 3). given: a teacher was trained beforehand. gains: of methods, added to `LEVEL`. endings: states of runs
    (method, run) other than complete. lost: metrics that a run reports as NaN. searched: trials of a random search
    with ASHA before.
    """
    maker = _Maker(data=data, epochs=epochs, seed=seed, seeds=seeds)
    maker.blocks, maker.gains, maker.lost = dict(blocks or {}), dict(gains or {}), dict(lost or {})
    maker.endings, maker.elsewhere, maker.similarity = dict(endings or {}), elsewhere, similarity and given
    maker.with_arrays = arrays and given
    if given:
        maker.teacher()
    if searched:
        maker.search(searched)
    for method in methods:
        for run in range(seeds):
            maker.run(method, run)
    return maker.record(name, notes)


def search(
    *, name: str = "bbm-search", trials: int = 24, decisions: bool = True, **other: Any
) -> SweepRecord:
    """A random search with ASHA for the configuration of bbm; decisions: the scheduler's are kept."""
    found = study(name=name, methods=(), searched=trials, **other)
    return found if decisions else replace(found, rungs=found.rungs.iloc[:0])


class _Maker:
    """Trials, curves and arrays as they come."""

    def __init__(self, *, data: str, epochs: int, seed: int, seeds: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.data, self.epochs, self.seed = data, epochs, seed
        self.luck = self.rng.normal(0, 0.004, max(seeds, 1))
        self.space = space_from_spec(SPACE, name="A")
        self.trials: list[dict[str, Any]] = []
        self.curves: list[tuple[int, int, str, int, float]] = []
        self.arrays: dict[tuple[int, str], np.ndarray] = {}
        self.rungs: list[tuple[int, int, float, float, bool]] = []

    def teacher(self) -> None:
        number = self._trial("teacher", {"parameter:method": "teacher"}, role="pretrain", plan=None)
        self._validation(number, LEVEL["teacher"], self.epochs)

    def run(self, method: str, run: int) -> None:
        """The final trial of one run of a method."""
        kind = method.split(maxsplit=1)[0]
        level = LEVEL[kind] + self.gains.get(method, 0.0) + self.luck[run] + self.rng.normal(0, 0.003)
        blocks = self.blocks.get(method, 3)
        level -= 0.004 * (3 - blocks) if kind == "bbm" else 0.0
        state = self.endings.get((method, run), "complete")
        plan = {"method": method, "run": run, "final": True, "evaluate": True, "objective": "test_error"}
        configuration = {"parameter:method": kind, **({"blocks": blocks} if kind == "bbm" else {})}
        number = self._trial(kind, configuration, plan=plan, state=state, error=100 * (1 - level), run=run)
        last = self.epochs if state == "complete" else self.epochs // 2
        self._validation(number, level, last)
        if state != "complete":
            return
        self._test(number, level, self.lost.get((method, run), ()))
        if self.similarity:
            self._similar(number, kind, self.lost.get((method, run), ()))
        if self.with_arrays:
            self._layers(number, kind)

    def _test(self, number: int, level: float, lost: Sequence[str]) -> None:
        values = {"challenge": level, "f1": 0.55 * level, "auroc": 0.6 + 0.4 * level, "auprc": 0.5 * level}
        told = {f"test_{name}": value + self.rng.normal(0, 0.002) for name, value in values.items()}
        told |= {"test_challenge": level, "test_error": 100 * (1 - level), "test_loss": 0.1}
        for metric, value in told.items():
            self.curves.append((number, 1, metric, self.epochs, np.nan if metric in lost else value))

    def _similar(self, number: int, kind: str, lost: Sequence[str]) -> None:
        told = {"r2": LIKENESS[kind]} | ({"r2_external": 0.8 * LIKENESS[kind]} if self.elsewhere else {})
        for metric, value in told.items():
            found = np.nan if metric in lost else value + self.rng.normal(0, 0.01)
            self.curves.append((number, 1, metric, self.epochs, found))
        if kind in LOCALITY:
            tokens = TOKENS[self.data]
            for unit in range(1, UNITS[self.data][0] + 1):
                reach = (1 - LOCALITY[kind]) * tokens / 3 * (1 + 0.05 * unit) + self.rng.normal(0, 0.1)
                self.curves.append((number, 0, f"attention_distance.{unit}", self.epochs, reach))
                if self.elsewhere:
                    elsewhere = (number, 0, f"attention_distance_external.{unit}", self.epochs, 1.2 * reach)
                    self.curves.append(elsewhere)

    def _layers(self, number: int, kind: str) -> None:
        students, teachers = UNITS[self.data]
        students = teachers if kind == "teacher" else students
        place = np.linspace(0, 1, students)[:, None] - np.linspace(0, 1, teachers)[None, :]
        for name in ("cka", "cka_external") if self.elsewhere else ("cka",):
            likeness = LIKENESS[kind] * (0.9 if name == "cka" else 0.7)
            noise = self.rng.normal(0, 0.01, place.shape)
            cka = np.clip(likeness * np.exp(-2.5 * place**2) + noise, 0, 1)
            self.arrays[number, name] = cka.astype(np.float32)
        if kind not in LOCALITY:
            return
        tokens = TOKENS[self.data]
        gap = np.abs(np.subtract.outer(np.arange(tokens), np.arange(tokens)))
        for name in ("attention", "attention_external") if self.elsewhere else ("attention",):
            width = tokens * (1.05 - LOCALITY[kind])
            logits = [-(gap / (width * (1 + 0.1 * unit))) for unit in range(students)]
            attention = np.exp(np.stack(logits) + self.rng.normal(0, 0.05, (students, tokens, tokens)))
            if self.data == "physionet2019":
                attention = np.tril(attention)
            attention /= attention.sum(axis=-1, keepdims=True)
            self.arrays[number, name] = attention.astype(np.float32)

    def search(self, trials: int) -> None:
        """Random draws, half of which are stopped at every rung."""
        rungs = [self.epochs // 4, self.epochs // 2, 3 * self.epochs // 4]
        drawn = [dict(self.space.sample(self.rng)) for _ in range(trials)]
        level = [0.6 - 0.05 * abs(np.log10(c["learning_rate"]) + 3) - 0.1 * c["dropout"] for c in drawn]
        level = [each + self.rng.normal(0, 0.01) for each in level]
        for configuration, reached in zip(drawn, level, strict=True):
            number, last = len(self.trials), self.epochs
            for rung in rungs:
                value = 100 * (1 - reached * (1 - np.exp(-5 * rung / self.epochs)))
                before = sorted(v for _, r, v, _, _ in self.rungs if r == rung)
                cutoff = float(np.median(before)) if before else np.nan
                stopped = bool(before) and value > cutoff
                self.rungs.append((number, rung, value, cutoff, stopped))
                if stopped:
                    last = rung
                    break
            state = "complete" if last == self.epochs else "stopped"
            self._trial(
                "bbm",
                configuration,
                plan=None,
                state=state,
                error=100 * (1 - reached),
                last=last,
                design="random",
            )
            self._validation(number, reached, last, exact=True)

    def _validation(self, number: int, level: float, last: int, *, exact: bool = False) -> None:
        for epoch in range(1, last + 1):
            value = level * (1 - float(np.exp(-5 * epoch / self.epochs)))
            value += 0.0 if exact else float(self.rng.normal(0, 0.004))
            told = {"val_error": 100 * (1 - value), "val_challenge": value, "val_f1": 0.55 * value}
            told |= {"val_auroc": 0.6 + 0.4 * value, "val_auprc": 0.5 * value, "train_loss": 1 - value}
            self.curves += [(number, 1, metric, epoch, each) for metric, each in told.items()]
            self.curves.append((number, 0, "seconds", epoch, 1.5))

    def _trial(
        self,
        kind: str,
        configuration: Mapping[str, Any],
        *,
        plan: Mapping[str, Any] | None,
        role: str = "search",
        state: str = "complete",
        error: float = 35.0,
        run: int | None = None,
        last: int | None = None,
        design: str = "fixed",
    ) -> int:
        number = len(self.trials)
        done = state == "complete"
        last = last or (self.epochs if done else self.epochs // 2)
        began = STARTED + timedelta(seconds=5 * number)
        messages = {"diverged": "train_loss is not finite", "failed": "out of <memory>"}
        self.trials.append(
            {
                "number": number,
                "role": role,
                "state": state,
                "error": error if done else float("nan"),
                "best_error": error if done else float("nan"),
                "best_epoch": last if done else None,
                "last_epoch": last,
                "orbit_size": 1,
                "seed": 7 if run is None else 1000 + run,
                "seconds": 1.5 * last * (1.7 if kind == "bbm" else 1.0),
                "attempts": 1,
                "message": messages.get(state, ""),
                "started": began,
                "ended": pd.NaT if state == "running" else began + timedelta(seconds=60),
                "design": "baseline" if role == "pretrain" else design,
                "method": None if plan is None else plan["method"],
                "run": run,
                "final": plan is not None,
                "plan": None if plan is None else dict(plan),
                **configuration,
            }
        )
        return number

    def record(self, name: str, notes: Sequence[str]) -> SweepRecord:
        text = pd.StringDtype(na_value=np.nan)
        columns = {
            "method": text,
            "run": "Int64",
            "best_epoch": "Int64",
            "last_epoch": "Int64",
            "final": bool,
        }
        trials = pd.DataFrame(self.trials).astype(columns)
        if "blocks" in trials:
            trials = trials.astype({"blocks": "Int64"})
        space = SpaceRecord(
            name="A",
            spec=self.space.to_spec(),
            parent=None,
            restriction=None,
            counts=self.space.counts().to_dict(),
            exhaustive=False,
        )
        return SweepRecord(
            name=name,
            kind="sweep",
            trainable="bbm",
            state="interrupted" if "running" in self.endings.values() else "complete",
            seed=self.seed,
            settings={
                "name": name,
                "space": SPACE,
                "searcher": {"kind": "comparison"},
                "trainable": {
                    "kind": "bbm",
                    "data": {"name": self.data, "elsewhere": None, "window_s": WINDOW_S[self.data]},
                    "method": "bbm",
                    "blocks": 3,
                    "epochs": self.epochs,
                    "student": {"network": "transformer", "patch": 20},
                },
            },
            environment={"kdsearch": "0.3.0", "python": "3.11.9", "command": f"kdsearch sweep {name}"},
            created=STARTED,
            ended=STARTED + timedelta(minutes=12),
            spaces=(space,),
            trials=trials,
            draws=pd.DataFrame({"space": [], "draw": [], "trial": [], "fresh": []}),
            curves=pd.DataFrame(self.curves, columns=["trial", "node", "metric", "epoch", "value"]),
            notes=tuple(notes),
            arrays=self.arrays,
            rungs=pd.DataFrame(self.rungs, columns=["trial", "rung", "value", "cutoff", "stopped"]),
        )
