"""Retraining: versions of a configuration, each once for each seed on each data set, judged on the test part.

Nothing is searched and nothing is learned from an outcome, so that everything is asked for at once: by seed, then data
set, then version. Seed s is derived from the sweep's seed and s alone: every version begins with the same weights and
sees the same images in the same order on a data set, and no trial of a search had this seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kdsearch.search.retrain_settings import RetrainSettings, Version
from kdsearch.search.searchers.base import ConditionSoFar, Outcome, Overview, Record, Request, Stage
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.plans import final_plan
from kdsearch.spaces import Categorical, DesignSpace, Parameter, Space
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.protocol import TrainableKind

DESIGN: Final = "retrain"
_GROUP = "method"  # by which the display knows that it is shown accuracies


def retrain_plan(
    name: str, version: Version, settings: RetrainSettings, *, seed: int, data: str | None
) -> dict[str, Any]:
    """What a trial is told: it is a final one, and sees the test part of the data set `data`."""
    plan = final_plan(
        name, seed, train_on=settings.train_on, optimised=version.optimised, optimiser=version.descent
    )
    return plan if data is None else plan | {"data": data}


def check_retraining(settings: RetrainSettings, task: Task) -> None:
    """Refuse versions that the trainable cannot train, or cannot judge on the test part.

    Raises:
        UsageError: what does not fit, and what would.

    """
    space, kind = task.space, task.trainable
    for label in settings.labels:
        told = settings.on(task.settings, label)
        for name, version in settings.versions.items():
            try:
                _check_version(version, space, kind, told)
                kind.check_plan(told, retrain_plan(name, version, settings, seed=0, data=label))
            except UsageError as error:
                where = "" if label is None else f" on {label}"
                raise UsageError(f"searcher.versions.{name}{where}: {error.message}", error.hint) from None
    if settings.train_on == "all" and any(each.optimiser for each in settings.versions.values()):
        raise UsageError(
            "metaparameters that follow the validation loss need a validation part, and train_on: all leaves none",
            "Use train_on: training.",
        )


def _check_version(
    version: Version, space: DesignSpace, kind: TrainableKind, trainable: Mapping[str, object]
) -> None:
    """Refuse a configuration that is none of this trainable; it may lie outside the space."""
    if isinstance(space, Space):
        values = version.configuration.items()
        single = Space(tuple(Parameter(name, Categorical((value,))) for name, value in values))
        kind.check_space(trainable, single)
    kind.shape(trainable, version.configuration)  # reads the graph
    declared = {each.name for each in kind.metaparameters(trainable, version.configuration)}
    if not isinstance(space, Space) and declared and version.optimiser is None:
        raise UsageError(
            f"nothing optimises the learned gates {', '.join(sorted(declared))}",
            "Give the version the optimiser of the trial that it is taken from.",
        )


class Retraining:
    """The searcher; see the module's text."""

    def __init__(self, space: DesignSpace, settings: RetrainSettings, *, first_number: int) -> None:
        self.space = space if space.name else space.renamed("A")
        self._settings, self._first = settings, first_number
        self._requests = {
            request.number: request for request in (self._request(*each) for each in self._planned())
        }
        self._queue = list(self._requests.values())
        self._outcomes: dict[int, Outcome] = {}
        self._records: list[Record] = [Stage(space=self.space, parent=None, exhaustive=False)]

    @property
    def done(self) -> bool:
        """Every trial has its outcome."""
        return len(self._outcomes) == len(self._requests)

    def overview(self) -> Overview:
        """Where it stands: the mean accuracy of each version on each data set over the seeds that are in."""
        errors: dict[str, list[float]] = {}
        for number, request in self._requests.items():
            data = request.plan.get("data")
            name = str(request.plan["method"]) if data is None else f"{data}: {request.plan['method']}"
            ended = errors.setdefault(name, [])
            if number in self._outcomes:
                ended.append(self._outcomes[number].error)
        conditions = [
            ConditionSoFar(
                group=_GROUP,
                value=name,
                n=len(found),
                auc=100 - sum(found) / len(found) if found else float("nan"),
            )
            for name, found in errors.items()
        ]
        return Overview(
            space=self.space.name or "A",
            restriction=None,
            done=len(self._outcomes),
            planned=len(self._requests),
            conditions=conditions,
        )

    def ask(self, n: int) -> list[Request]:
        """At most n new trials."""
        taken, self._queue = self._queue[:n], self._queue[n:]
        return taken

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the first outcome of a trial.

        Raises:
            KeyError: the trial was never asked for.

        """
        if number not in self._requests:
            raise KeyError(number)
        self._outcomes.setdefault(number, outcome)

    def drain(self) -> list[Record]:
        """The space, once."""
        records, self._records = self._records, []
        return records

    def _planned(self) -> list[tuple[int, str | None, str, int]]:
        """(number, data set, version, seed) of every trial."""
        settings = self._settings
        each = [
            (data, name, seed)
            for seed in range(settings.seeds)
            for data in settings.labels
            for name in settings.versions
        ]
        return [(number, *one) for number, one in enumerate(each, start=self._first)]

    def _request(self, number: int, data: str | None, name: str, seed: int) -> Request:
        version = self._settings.versions[name]
        return Request(
            number=number,
            configuration=version.configuration,
            orbit_size=1,
            design=DESIGN,
            probability=None,
            plan=retrain_plan(name, version, self._settings, seed=seed, data=data),
            seed_key=("retrain", seed),
        )


KIND = SearcherKind(
    RetrainSettings,
    build=lambda settings, task: Retraining(task.space, settings, first_number=task.first_number),
    check=check_retraining,
)
