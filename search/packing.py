"""Which trials share a pack: those of one shape and one plan, in packs of nearly equal size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdsearch.search.searchers.plans import shared_part
from kdsearch.search.trial_states import LiveTrial
from kdsearch.trainables.protocol import TrainableKind


def packed(
    trials: Sequence[LiveTrial],
    kind: TrainableKind,
    settings: Mapping[str, object],
    *,
    most: int,
    workers: int,
) -> list[list[int]]:
    """Numbers of the trials, pack by pack, larger packs first."""
    shapes: dict[tuple[str, str], list[int]] = {}
    for trial in trials:
        shapes.setdefault(shape_of(trial, kind, settings), []).append(trial.number)
    return even_packs(list(shapes.values()), most=most, workers=workers)


def shape_of(trial: LiveTrial, kind: TrainableKind, settings: Mapping[str, object]) -> tuple[str, str]:
    """What the trials of a pack have in common: the program, and the plan but for what each has of its own."""
    return kind.shape(settings, trial.configuration), shared_part(trial.plan)


def even_packs(shapes: Sequence[Sequence[int]], *, most: int, workers: int) -> list[list[int]]:
    """Cut each shape's trials into packs of nearly equal size, at most `most` in one; larger packs first.

    As many packs as there are workers, or a multiple of that, so that no worker idles while the last packs run.
    """
    counts = [-(-len(members) // most) for members in shapes]
    while sum(counts) % workers:
        largest = max(range(len(shapes)), key=lambda i: len(shapes[i]) / counts[i])
        if len(shapes[largest]) <= counts[largest]:
            break  # every trial has a pack of its own
        counts[largest] += 1
    packs = [
        list(members[i::count]) for members, count in zip(shapes, counts, strict=True) for i in range(count)
    ]
    return sorted(packs, key=len, reverse=True)
