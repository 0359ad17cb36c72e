"""Graphs trained per second: the engine against a plain PyTorch loop over nodes and edges, side by side.

Run by hand: `python tests/benchmarks/bench_engine.py [--out FILE] [--repeats N]`. One CPU thread. Every trial is a
graph of three nodes (widths 4, 4 and 8, depth 8) with random gates on scikit-learn's digits: 256 training images,
12 epochs of batches of 32, all nodes evaluated on 360 images after each epoch. The plain loop is the one that the
tests hold the engine's numbers against; it gets the same batches from the same code, so that only training is compared.
Repeats of the plain loop and of every pack size take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import torch
from machine import machine

from kdsearch.spaces.graph import Gate, Graph
from kdsearch.trainables.data.batches import plain_batches
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.ktg.pack import KtgPack
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.protocol import Member

MODELS = ("resnet8w4", "resnet8w4", "resnet8w8")
GATES = (Gate.THROUGH, Gate.CUTOFF, Gate.LINEAR)
PACKS = (1, 4, 16)
PLAIN_TRIALS = 2  # of one repeat
SETTINGS = KtgSettings.from_mapping(
    {
        "data": {"name": "digits", "train_size": 256, "val_size": 360},
        "target": MODELS[0],
        "epochs": 12,
        "batch_size": 32,
    }
)


def load_plain() -> ModuleType:
    path = Path(__file__).parent.parent / "trainables" / "ktg_plain.py"
    spec = importlib.util.spec_from_file_location("ktg_plain", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_graphs(count: int) -> list[Graph]:
    """Draw random graphs of which every node trains, so that each trial is the same amount of work."""
    rng = np.random.default_rng(0)
    graphs: list[Graph] = []
    while len(graphs) < count:
        rows = [[Gate.CUTOFF if s == t else GATES[rng.integers(3)] for s in range(4)] for t in (1, 2, 3)]
        graph = Graph(MODELS, tuple(map(tuple, rows)))
        if not graph.is_degenerate and not graph.frozen_nodes():
            graphs.append(graph)
    return graphs


def run_engine(data: PackData, graphs: list[Graph]) -> None:
    members = [Member(number=n, seed=n, configuration=g.to_configuration()) for n, g in enumerate(graphs)]
    pack = KtgPack(SETTINGS, members, data)
    while pack.active:
        pack.run_epoch()


def run_plain(plain: ModuleType, data: PackData, graphs: list[Graph]) -> None:
    for seed, graph in enumerate(graphs):
        nodes = []
        for model in MODELS:
            built = architecture(model, channels=1, classes=data.classes)
            sizes = {"blocks": built.blocks_per_stage, "stem": built.stem_width, "widths": built.widths}
            nodes.append(plain.Network(wide=False, channels=1, classes=data.classes, stride=1, **sizes))
        optimizers = [plain.sgd(node, SETTINGS.learning_rate) for node in nodes]
        steps = data.batches.iterations_per_epoch
        for epoch in range(SETTINGS.epochs):
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = SETTINGS.rate(epoch)
            plans = data.batches.draw([(seed, epoch)])
            batches = ((x[0], y[0]) for x, y in data.batches.epoch(plans))
            losses = plain.train_epoch(
                graph, nodes, optimizers, batches, done=epoch * steps, total=SETTINGS.epochs * steps
            )
            torch.tensor(losses).mean(0).tolist()
            for node in nodes:
                held_out = plain_batches(
                    data.eval_images, data.eval_labels, batch_size=SETTINGS.eval_batch_size
                )
                plain.evaluate(node, held_out)


def timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("bench_engine.json"))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plain = load_plain()
    data = PackData.load(SETTINGS, load_images("digits"), "cpu")
    graphs = draw_graphs(max(PACKS))
    contenders: dict[str, tuple[int, Callable[[], None]]] = {
        "plain": (PLAIN_TRIALS, lambda: run_plain(plain, data, graphs[:PLAIN_TRIALS]))
    }
    for pack in PACKS:
        contenders[f"engine K={pack}"] = (pack, lambda pack=pack: run_engine(data, graphs[:pack]))
    contenders["plain"][1]()  # warm up
    contenders["engine K=1"][1]()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.repeats):
        for name, (trials, run) in contenders.items():
            seconds[name].append(timed(run) / trials)
    results = {}
    for name, each in seconds.items():
        ratios = [mine / other for mine, other in zip(seconds["plain"], each, strict=True)]
        results[name] = {
            "seconds_a_trial": median(each),
            "graphs_a_second": 1 / median(each),
            "times_plain": median(ratios),
            "times_plain_lowest": min(ratios),
            "times_plain_highest": max(ratios),
        }
        row = results[name]
        print(
            f"{name:12s} {row['seconds_a_trial']:6.3f} s a trial, {row['graphs_a_second']:6.2f} graphs/s, "
            f"{row['times_plain']:5.2f} times plain ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    record = {
        "benchmark": "graphs trained per second, engine against a plain loop",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": SETTINGS.to_mapping(),
        "models": MODELS,
        "repeats": arguments.repeats,
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
