"""Draws from spaces, and the trials that answer them.

Two draws that are the same graph up to symmetry are answered by one trial: the graph is trained once and keeps its
multiplicity. A draw of an ancestor that lies in the present space is a draw of the present space too. The ledger
holds which trial answers what, whether it was trained for the space at hand (`fresh`), and how each trial ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdsearch.analysis.auc import auc
from kdsearch.search.searchers.base import ConditionSoFar, Draw, Outcome, Overview, Record, Request
from kdsearch.spaces import DesignSpace, Value, configuration_key


@dataclass
class Ledger:
    """Requests, draws and outcomes of one search; numbers count up from `first_number`."""

    first_number: int
    reuse: bool = True  # may a trial answer draws of spaces below the one it was trained for?
    requests: dict[int, Request] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    homes: dict[int, str] = field(default_factory=dict)  # trial -> space it was trained for
    draws: dict[str, list[int]] = field(default_factory=dict)  # space -> trial of each draw
    records: list[Record] = field(default_factory=list)
    _queue: list[Request] = field(default_factory=list)
    _by_key: dict[str, list[int]] = field(default_factory=dict)

    def draw(self, space: DesignSpace, configuration: Mapping[str, Value], design: str) -> None:
        """One more draw from `space`; asks for a trial if no known one answers it."""
        canonical = space.canonical(configuration)
        answers = self.trials_of(space, canonical)
        self.answer(space, answers[0] if answers else self.request(space, canonical, design))

    def request(
        self,
        space: DesignSpace,
        canonical: Mapping[str, Value],
        design: str,
        *,
        probability: float | None = 1.0,
        plan: Mapping[str, Any] | None = None,
    ) -> int:
        """Ask for a trial of a canonical configuration and return its number."""
        number = self.first_number + len(self.requests)
        request = Request(
            number=number,
            configuration=dict(canonical),
            orbit_size=space.orbit_size(canonical),
            design=design,
            probability=probability,
            plan=plan or {},
        )
        self.requests[number] = request
        self.homes[number] = _name(space)
        self._by_key.setdefault(configuration_key(canonical), []).append(number)
        self._queue.append(request)
        return number

    def answer(self, space: DesignSpace, trial: int) -> None:
        """Record that the next draw of `space` is answered by `trial`."""
        name = _name(space)
        draws = self.draws.setdefault(name, [])
        self.records.append(Draw(space=name, draw=len(draws), trial=trial, fresh=self.homes[trial] == name))
        draws.append(trial)

    def inherit(self, parent: DesignSpace, child: DesignSpace) -> None:
        """Let every draw of `parent` that lies in `child` count as a draw of `child`."""
        if not self.reuse:
            return
        for trial in self.draws.get(_name(parent), []):
            if self.requests[trial].configuration in child:
                self.answer(child, trial)

    def trials_of(self, space: DesignSpace, canonical: Mapping[str, Value]) -> list[int]:
        """Trials of this canonical configuration that may answer draws of `space`, oldest first."""
        trials = self._by_key.get(configuration_key(canonical), ())
        return [trial for trial in trials if self.reuse or self.homes[trial] == _name(space)]

    def take(self, n: int) -> list[Request]:
        """At most n requests that were not handed out yet."""
        taken, self._queue = self._queue[:n], self._queue[n:]
        return taken

    def overview(self, space: DesignSpace, *, a: float = 0.0, tau: float = 100.0) -> Overview:
        """Trials of `space` so far, and the AUC of each condition that is open in it."""
        draws = self.draws.get(_name(space), [])
        known = [trial for trial in draws if trial in self.outcomes]
        conditions = []
        for group in space.groups():
            scores: dict[str, list[float]] = {}
            for trial in known:
                value = group.value_of(self.requests[trial].configuration)
                scores.setdefault(value, []).append(self.outcomes[trial].error)
            conditions += [
                ConditionSoFar(
                    group=group.name,
                    value=value,
                    n=len(scores[value]),
                    auc=auc(np.array(scores[value]), a=a, tau=tau),
                )
                for value in group.values
                if value in scores
            ]
        return Overview(
            space=_name(space),
            restriction=None if space.restriction is None else str(space.restriction),
            done=len(set(known)),
            planned=len(set(draws)),
            conditions=conditions,
        )

    def settled(self, space: DesignSpace) -> bool:
        """Every draw of `space` has its outcome."""
        return all(trial in self.outcomes for trial in self.draws.get(_name(space), ()))

    @property
    def idle(self) -> bool:
        """Every trial that was asked for has its outcome."""
        return not self._queue and len(self.outcomes) == len(self.requests)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the first outcome of a trial.

        Raises:
            KeyError: the trial was never asked for.

        """
        if number not in self.requests:
            raise KeyError(number)
        self.outcomes.setdefault(number, outcome)

    def drain(self) -> list[Record]:
        """Records since the last call."""
        records, self.records = self.records, []
        return records


def _name(space: DesignSpace) -> str:
    return space.name or "A"
