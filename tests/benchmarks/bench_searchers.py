"""How long a searcher takes for its n-th trial: to propose it, and to learn how it ended. Run by hand:

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_searchers.py --out searchers.json

TPE by Optuna and by Hyperopt, one trial after the other, side by side on the same spaces, and Hyperopt once more with
the list of trials that its own loop keeps, which is made anew after each trial. What a searcher takes is the median
over a window of trials around n; errors are a hash of the configuration, so nothing is trained.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import click
from hyperopt.base import Trials
from machine import machine

from kdsearch.search.searcher_settings import TpeMethod
from kdsearch.search.searchers import tpe_hyperopt
from kdsearch.search.searchers.axes import axes_of
from kdsearch.search.searchers.base import Outcome
from kdsearch.search.searchers.proposing import Proposals, Proposer
from kdsearch.search.searchers.tpe import make_proposer
from kdsearch.spaces import DesignSpace, configuration_key, space_from_spec

PARAMETERS = {
    "lambda_1": {"type": "float", "low": 0, "high": 1},
    "temperature": {"type": "log-uniform", "low": 0.1, "high": 10},
    "learning_rate": {"type": "log-uniform", "low": 1e-4, "high": 1},
    "depth": {"type": "integer", "low": 1, "high": 8},
    "optimiser": {"type": "categorical", "values": ["sgd", "adam"]},
    "momentum": {"type": "float", "low": 0, "high": 1, "when": {"optimiser": "sgd"}},
}
SPACES = {
    "six parameters": {"kind": "parameters", "parameters": PARAMETERS},
    "graphs": {
        "kind": "ktg",
        "target": "resnet32",
        "auxiliary": {"count": 2, "models": ["resnet32", "wrn28-2"]},
        "gates": ["through", "cutoff", "linear"],
    },
}


class Refreshed(Trials):
    """Hyperopt's own list; `tpe_hyperopt` adds to it without the refresh that Hyperopt's loop makes each time."""

    def insert_trial_docs(self, docs: list[object]) -> list[int]:
        found = super().insert_trial_docs(docs)
        self.refresh()
        return found


def hyperopt_as_it_is(space: DesignSpace) -> Proposer:
    proposer = tpe_hyperopt.make(axes_of(space), seed=1, startup=None)
    proposer._trials = Refreshed()
    proposer.keep = lambda configuration: None  # what it suggested stands in the list already
    return proposer


def by(library: str) -> Callable[[DesignSpace], Proposer]:
    options = TpeMethod(kind="tpe", library=library)
    return lambda space: make_proposer(options, axes_of(space), 1)


SEARCHERS = {"optuna": by("optuna"), "hyperopt": by("hyperopt"), "hyperopt's own list": hyperopt_as_it_is}


def error_of(configuration: Mapping[str, object]) -> float:
    return 100 * int(configuration_key(configuration)[:8], 16) / 2**32


class Chain:
    """A search, one trial after the other."""

    def __init__(self, make: Callable[[DesignSpace], Proposer], space: DesignSpace) -> None:
        self._proposals = Proposals(space, make(space), seed=1)
        self.seconds: list[float] = []  # of processor time, of each trial

    def step(self) -> None:
        start = time.process_time()
        configuration = self._proposals.next()
        self._proposals.learn(len(self.seconds), Outcome(state="complete", error=error_of(configuration)))
        self.seconds.append(time.process_time() - start)


def chains(name: str, trials: int) -> dict[str, Chain]:
    """Searches of a space, trial by trial in turn."""
    space = space_from_spec(SPACES[name], name="A")
    # of graphs, what Hyperopt's own list would keep is not what is trained
    names = [each for each in SEARCHERS if name != "graphs" or each != "hyperopt's own list"]
    found = {each: Chain(SEARCHERS[each], space) for each in names}
    for _ in range(trials):
        for chain in found.values():
            chain.step()
    return found


@click.command()
@click.option("--at", multiple=True, default=(100, 1000), show_default=True, help="n; repeatable.")
@click.option("--window", default=20, show_default=True, help="Trials around n of which the median is taken.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def main(at: tuple[int, ...], window: int, out: Path | None) -> None:
    """Search, print."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for name in SPACES:
        found[name] = {}
        for searcher, chain in chains(name, max(at) + window // 2).items():
            near = {n: chain.seconds[max(0, n - window // 2) : n + window // 2] for n in at}
            found[name][searcher] = {
                "ms": {n: 1000 * statistics.median(each) for n, each in near.items()},
                "all_s": sum(chain.seconds),
            }
            click.echo(f"{name}, {searcher}: {json.dumps(found[name][searcher])}")
    versions = {package: version(package) for package in ("optuna", "hyperopt", "numpy")}
    figures = {"machine": machine(), "versions": versions, "window": window, "spaces": found}
    if out is not None:
        out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
