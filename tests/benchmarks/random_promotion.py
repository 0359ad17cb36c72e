"""Coverage of bands and intervals under random promotion: the table in docs/statistics.md.

    python tests/benchmarks/random_promotion.py [--runs 300]

Sweeps as in tests/analysis/test_stat_random_promotion.py: ASHA that stops, eta 2, trials one after the other. 1/p: the
product of epsilon over the rungs where chance decided; shares: what reports take.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from kdsearch.analysis.edf import edf, edf_band
from kdsearch.analysis.intervals import auc_interval
from kdsearch.analysis.random_promotion import random_promotion
from kdsearch.search.schedulers.asha import Asha

CASES = [(0.1, 100, (1,)), (0.1, 400, (1,)), (0.3, 100, (1,)), (0.3, 100, (1, 3)), (0.3, 400, (1, 3))]
_FILE = Path(__file__).parents[1] / "analysis" / "test_stat_random_promotion.py"


def load() -> Any:
    """The test module with the generator of sweeps."""
    spec = importlib.util.spec_from_file_location("sweeps", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def holds(errors: Any, weights: Any, law: Any) -> bool:
    """Whether the band holds the true F everywhere."""
    curve = edf(errors, weights)
    band, truth = edf_band(curve), law.cdf(curve.errors)
    return bool((truth <= band.high_below + 1e-12).all() and (truth >= band.low - 1e-12).all())


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    sweeps = load()
    for epsilon, n, rungs in CASES:
        found = []
        for seed in range(runs):
            errors, ended, verdicts = sweeps.sweep(Asha, n, epsilon=epsilon, rungs=rungs, seed=seed)
            chance = random_promotion(sweeps.record_of(verdicts, epsilon))
            if chance is None or chance.unrepresented() is not None:
                continue
            shares = np.array([chance.probability(trial) for trial in ended], dtype=np.float64)
            plain = np.array([epsilon ** len(chance.spared.get(trial) or ()) for trial in ended])
            interval = auc_interval(errors, 1 / shares, rng=np.random.default_rng(seed))
            worth = edf(errors, 1 / shares).n_effective
            laws = [holds(errors, 1 / each, sweeps.LAW) for each in (plain, shares)]
            found.append((*laws, 60.0 in interval, worth))
        mean = np.mean(found, axis=0)
        print(
            f"{len(rungs)} rungs, epsilon {epsilon}, {n} draws: not refused {len(found) / runs:.2f}, band with 1/p "
            f"{mean[0]:.3f}, with shares {mean[1]:.3f}, interval {mean[2]:.3f}, worth {mean[3]:.0f} draws",
            flush=True,
        )


if __name__ == "__main__":
    main()
