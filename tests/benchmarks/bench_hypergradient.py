"""What a step of each method costs, against a plain step of the same student, side by side.

Run by hand: `python tests/benchmarks/bench_hypergradient.py [--out FILE] [--repeats N]`. One CPU thread.
Students of the paper (32 x 32 x 3 and 28 x 28 x 1) and of the digits, batches of 128, also for validation, K = 1 and
K = 5 students as one program; the teacher's logits are given, so that only the student's work is timed. Contenders:

    plain                an SGD step on the distillation loss
    predicted            likewise, the metaparameters on the line of Algorithm 1
    finite difference    with a step on the metaparameters each iteration
    exact                likewise, by forward mode
    e1 = e2 = 10, ...    a whole period of 20 iterations, per iteration

Every run of a contender comes straight after one of the plain step, and the ratio is that of these two, so that a busy
machine slows both alike; reported are the median, the lowest and the highest ratio. Time is the process's own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import machine
from torch import Tensor

from kdsearch.trainables.kd.losses import by_metaparameters, kd_loss, validation_loss
from kdsearch.trainables.kd.settings import Distillation
from kdsearch.trainables.metaparameters.hypergradient import constant_beside, directional_derivative
from kdsearch.trainables.metaparameters.path import MetaPath, PathState
from kdsearch.trainables.metaparameters.settings import Hypergradient, OptimiserSettings
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot
from kdsearch.trainables.networks.stacked import StackedNetwork, initial_tensors, slot_images

BATCH, CLASSES, RATE = 128, 10, 0.1
PERIOD = 10  # e1 and e2
PACKS = (1, 5)
STUDENTS = {  # model, channels, rows and columns
    "paper, 32x32x3": ("cnn8-16-32", 3, 32),
    "paper, 28x28x1": ("cnn8-16-128", 1, 28),
    "digits, 8x8x1": ("cnn4-8-16p", 1, 8),
}
NAMES = ("lambda_1", "temperature")
START = {"lambda_1": 0.5, "temperature": 2.0}
BOUNDS = {"lambda_1": (0.0, 1.0), "temperature": (0.1, 10.0)}
KD = {"distillation": Distillation.SOFT, "squared": False}


@dataclass(frozen=True)
class Batch:
    images: Tensor  # [K, B, C, H, W]
    labels: Tensor  # [K, B]


class Bench:
    """K students and what they learn from."""

    def __init__(self, model: str, channels: int, size: int, count: int) -> None:
        rng = np.random.default_rng(0)
        built = architecture(model, channels=channels, classes=CLASSES, size=(size, size))
        states = [NodeState(initial_tensors(built, rng)) for _ in range(count)]
        slots = [Slot(number, 1) for number in range(count)]
        device, dtype = torch.device("cpu"), torch.float32
        self.stack = NetworkStack(built, slots, states, trained=True, device=device, dtype=dtype)
        shape = (count, BATCH, channels, size, size)
        self.train, self.held_out = (
            Batch(
                torch.from_numpy(rng.standard_normal(shape, np.float32)),
                torch.from_numpy(rng.integers(0, CLASSES, (count, BATCH))),
            )
            for _ in range(2)
        )
        self.teacher = torch.from_numpy(rng.standard_normal((count, BATCH, CLASSES), np.float32))
        self.owners = torch.arange(count)
        self.rates = self.stack.spread([RATE] * count)

    def path(self, **changes: object) -> MetaPath:
        settings = OptimiserSettings(start=START, bounds=BOUNDS, **changes)  # type: ignore[arg-type]
        states = [PathState.start(settings, NAMES)] * len(self.owners)
        return MetaPath(settings, NAMES, states, device="cpu", dtype=torch.float32)

    def descend(self, logits: Tensor, values: Tensor) -> None:
        losses = kd_loss(logits.detach(), self.teacher, self.train.labels, values, **KD)
        gradient = self.stack.gradient(logits, losses.gradients)
        self.stack.step(gradient, learning_rates=self.rates, momentum=0.0, weight_decay=0.0)

    def plain_step(self, values: Tensor) -> None:
        images = slot_images(self.train.images, self.owners)
        self.descend(self.stack.network(training=True).logits(images), values)

    def step(self, path: MetaPath, method: Hypergradient) -> None:
        """Take one iteration of Algorithm 1."""
        if not any(path.wants()):
            self.plain_step(path.values)
            path.advance()
            return
        images, values = slot_images(self.train.images, self.owners), path.values
        before = self.stack.parameters.clone()
        recorded = self.stack.record(images) if method is Hypergradient.EXACT else None
        logits = self.stack.network(training=True).logits(images) if recorded is None else recorded.logits
        self.descend(logits, values)

        def derivatives(network: StackedNetwork) -> Tensor:
            logits = network.logits(images)
            teacher, fixed = (constant_beside(logits, each) for each in (self.teacher, values))
            return by_metaparameters(logits, teacher, self.train.labels, fixed, **KD)

        along = self.validation_gradient()
        found = directional_derivative(
            self.stack, before, along, derivatives, method=method, recorded=recorded
        )
        path.advance(found.mul_(-RATE))

    def validation_gradient(self) -> Tensor:
        network = self.stack.network(training=True, track=False)
        logits = network.logits(slot_images(self.held_out.images, self.owners))
        losses = validation_loss(
            logits.detach(), self.held_out.labels, temperature=1.0, distillation=Distillation.SOFT
        )
        return self.stack.gradient(logits, losses.gradients)


def contenders(bench: Bench) -> dict[str, tuple[int, Callable[[], None]]]:
    """Return for each contender what to run and how many iterations it is."""
    line = bench.path(e1=1, e2=10**9)
    bench.step(line, Hypergradient.EXACT)
    made = {"predicted": (PERIOD, walk(PERIOD, bench, line, Hypergradient.EXACT))}
    for method in (Hypergradient.FINITE_DIFFERENCE, Hypergradient.EXACT):
        name = str(method).replace("-", " ")
        made[name] = (PERIOD, walk(PERIOD, bench, bench.path(e2=0), method))
        period = bench.path(e1=PERIOD, e2=PERIOD)
        made[f"e1 = e2 = {PERIOD}, {name}"] = (2 * PERIOD, walk(2 * PERIOD, bench, period, method))
    return made


def walk(iterations: int, bench: Bench, path: MetaPath, method: Hypergradient) -> Callable[[], None]:
    def run() -> None:
        for _ in range(iterations):
            bench.step(path, method)

    return run


def plain(iterations: int, bench: Bench) -> Callable[[], None]:
    values = bench.path().values

    def run() -> None:
        for _ in range(iterations):
            bench.plain_step(values)

    return run


def timed(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def measure(bench: Bench, repeats: int) -> dict[str, dict[str, float]]:
    """Return milliseconds an iteration and times plain for each contender."""
    base, made = plain(PERIOD, bench), contenders(bench)
    for run in (base, *(run for _, run in made.values())):
        run()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", *made)}
    ratios: dict[str, list[float]] = {"plain": [1.0]} | {name: [] for name in made}
    for _ in range(repeats):
        for name, (iterations, run) in made.items():
            seconds["plain"].append(timed(base) / PERIOD)
            seconds[name].append(timed(run) / iterations)
            ratios[name].append(seconds[name][-1] / seconds["plain"][-1])
    return {
        name: {
            "milliseconds": 1000 * median(seconds[name]),
            "times_plain": median(each),
            "times_plain_lowest": min(each),
            "times_plain_highest": max(each),
        }
        for name, each in ratios.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("bench_hypergradient.json"))
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for student, (model, channels, size) in STUDENTS.items():
        for count in PACKS:
            title = f"{student} ({model}), K = {count}"
            print(title)
            results[title] = measure(Bench(model, channels, size, count), arguments.repeats)
            for name, row in results[title].items():
                print(
                    f"  {name:31s} {row['milliseconds']:8.2f} ms, {row['times_plain']:5.2f} times plain "
                    f"({row['times_plain_lowest']:.2f} to {row['times_plain_highest']:.2f})"
                )
    record = {
        "benchmark": "cost of a step with metaparameter optimisation against a plain one",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "batch": BATCH,
        "repeats": arguments.repeats,
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
