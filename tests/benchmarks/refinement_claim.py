"""With how many draws a step a refinement of space C ends where one with 2,500 does, and how often it fixes noise.

    python tests/benchmarks/refinement_claim.py [--runs 60] [--null 100]

The searcher is asked and told directly, on the table ktg-digits-c with trial seeds as a sweep derives them, which
decides as `kdsearch compare docs/comparisons/ktg-digits-refinement.yaml` does and is faster. --null: refinements of
space C whose errors are drawn anew for each trial from all of the table's, so that no condition makes a difference.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdsearch.search.compare.settings import load_comparison
from kdsearch.search.compare.study import prepare
from kdsearch.search.config import StatisticsSettings
from kdsearch.search.searcher_settings import RefinementSettings
from kdsearch.search.searchers.base import Decision, Draw, Outcome, Record, Request, Stage
from kdsearch.search.searchers.policies import policy_for
from kdsearch.search.searchers.refinement import LAST, Refinement
from kdsearch.trainables.seeds import derive_seed

FILE = Path(__file__).parents[2] / "docs" / "comparisons" / "ktg-digits-refinement.yaml"
MODAL = "auxiliary->target = linear & linear + label->target = through"
CASES: list[dict[str, Any]] = [
    *({"policy": "best-auc", "draws": n} for n in (50, 100, 200, 300, 500, 2500)),
    {"policy": "significant", "draws": 100, "budget": 500},
    {"policy": "significant", "draws": 500, "budget": 500},
    {"policy": "significant", "draws": 100, "budget": 2500},
    {"policy": "significant", "draws": 2500, "budget": 2500},
]
LONG, FEWER = 2500, 3  # cases with so many draws take a third of the runs


def refine(space: Any, seed: int, answer: Callable[[Request], float], case: dict[str, Any]) -> list[Record]:
    """Refine until the last space would be trained; return what was drawn and decided."""
    settings = RefinementSettings(kind="refinement", limit=60, repeats=1, **case)
    policy = policy_for(settings, None)
    searcher = Refinement(space, settings, StatisticsSettings(), policy, seed=seed, first_number=0)
    records: list[Record] = []
    while searcher.space.name != LAST and (asked := searcher.ask(10_000)):
        for request in asked:
            searcher.tell(request.number, Outcome(state="complete", error=answer(request)))
        records += searcher.drain()
    return [*records, *searcher.drain()]


def final(records: list[Record]) -> str:
    """The restrictions that were added."""
    stages = [each.space for each in records if isinstance(each, Stage)]
    return " + ".join(sorted(str(space.restriction) for space in stages[1:]))


def main() -> None:
    """Run every case and print where its runs ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--null", type=int, default=100)
    given = parser.parse_args()
    study = prepare(load_comparison(FILE), str(FILE), db="", folder=FILE.parent, data_root=None)
    space, table = study.sweeps["2500 draws"].design_space(), study.truth.table
    for case in CASES:
        ends, draws, trained = Counter[str](), [], []
        runs = given.runs // (FEWER if LONG in case.values() else 1)
        for run in range(runs):
            seed = derive_seed(7, "claim", run)

            def answer(request: Request, seed: int = seed) -> float:
                curve = table.curve(request.configuration, derive_seed(seed, "trial", request.number))
                return study.truth.worth(curve)

            records = refine(space, seed, answer, case)
            ends[final(records)] += 1
            names = [each.space.name for each in records if isinstance(each, Stage) and not each.exhaustive]
            draws.append(sum(isinstance(each, Draw) and each.space in names for each in records) / len(names))
            trained.append(len({e.trial for e in records if isinstance(e, Draw) and e.space in names}))
        cost = f"draws a step {np.mean(draws):.0f}; {np.mean(trained):.0f} trainings"
        print(f"{case}: {ends[MODAL]} of {runs} in {MODAL}; {cost}", flush=True)
        for name, count in ends.most_common():
            print(f"    {count:3}  {name}")
    errors = np.array([study.truth.worth(c) for each in table.configurations for c in table.curves(each)])
    fixed = 0
    for run in range(given.null):
        rng = np.random.default_rng([8, run])
        records = refine(space, derive_seed(8, run), lambda _, rng=rng: float(rng.choice(errors)), CASES[-3])
        fixed += any(isinstance(each, Decision) and each.child is not None for each in records)
    print(f"without any difference, {CASES[-3]} fixed something in {fixed} of {given.null} runs")


if __name__ == "__main__":
    main()
