"""Tune's side of the runner: the classes that Ray Tune calls. Imported only inside a Ray session."""

from __future__ import annotations

import logging
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from kdsearch.search.coordinator import Coordinator, Idle
from kdsearch.search.failures import Cause, Failure, Place
from kdsearch.search.notices import Unsaved
from kdsearch.search.runner import RayOptions, Slots, job_config, read_reports
from kdsearch.search.runner_controller import for_a_free_actor, forget_ended, take_back, without_room
from kdsearch.search.runner_faults import (
    Silence,
    avoidable,
    end_actor,
    failure_of,
    listen_for_last_words,
    place_of,
    selector,
    shortened,
)
from kdsearch.search.runner_resources import bundle_of, fitting
from kdsearch.search.runner_stops import Stops
from kdsearch.search.runner_watch import Watch
from kdsearch.search.trial_states import Job
from kdsearch.trainables.ray_adapter import PackTrainable

T = TypeVar("T")

_DECLINES = 4  # times that a pack may be declined by nodes that it avoids before it is bound to another one
_LOOK_EVERY_S = 2.0  # seconds between looks at packs that wait


class _Guard:
    """Keeps the first error and ends the run."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self.error: Exception | None = None

    def __call__(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 raised again once Tune has ended
            self.error = self.error or error
            self._coordinator.interrupted = True
            return None


class _Nothing:
    """What is left of the classes below when Tune pickles or copies its own state: nobody reads it again."""


class _Live:
    """Bound to the coordinator of this process: copied by reference, pickled as nothing."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Live:
        return self

    def __reduce__(self) -> tuple[type[_Nothing], tuple[()]]:
        return _Nothing, ()


class _Jobs(_Live, Searcher):
    """Hands the coordinator's jobs to Tune; None makes Tune wait for results.

    Tune turns an exception into its own, with a traceback for text: errors are kept instead, and end the run.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        options: RayOptions,
        slots: Slots,
        known: dict[str, int],
        guard: _Guard,
        stops: Stops | None,
        key: str,
        watch: Watch,
    ) -> None:
        super().__init__(metric="pack_seconds", mode="min")
        self._watch = watch
        self._live: set[str] = set()
        self._coordinator, self._known, self._guard = coordinator, known, guard
        self._options, self._slots = options, slots
        self._stops = None if stops is None else stops.name
        self._key = key

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is text
        """The next job's configuration."""
        if len(self._live) >= self._watch.room:
            return None
        job = self._guard(self._coordinator.next_job)
        if job is Idle.WAIT:
            return None
        told = self._guard(lambda: self._told(job)) if isinstance(job, Job) else None
        if not isinstance(job, Job) or told is None:
            return str(Searcher.FINISHED)
        self._known[trial_id] = job.id
        self._live.add(trial_id)
        return told

    def _told(self, job: Job) -> dict[str, Any]:
        """What Tune is told of a job: the worker's part, and the nodes that it may go to."""
        told = job_config(job, self._coordinator, self._options, self._slots)
        bundle = bundle_of(self._options, self._slots.gpus_per_pack)
        avoid = avoidable(job.avoid, lambda node: fitting(node, bundle) > 0)
        if avoid and self._watch.nodes(avoid) == []:
            avoid = []  # the others could host it, but are not fit
        # At first workers on such nodes decline, and another one may be free. A pack with a selector is sure to come to
        # another node, but Tune prefers those without, which can take over an actor that is there.
        strict = avoid if job.returned >= _DECLINES else []
        return {
            "job": {**told, "stops": self._stops, "key": f"{self._key}-{job.id}", "avoid": avoid},
            "strict": strict,
            "nodes": self._watch.nodes(strict),
        }

    def on_trial_complete(self, trial_id: str, *result: Any, **info: Any) -> None:
        """Make room for the next job; the callback has told the coordinator."""
        del result, info
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trial database is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resume rebuilds from the trial database."""


class _Results(_Live, tune.Callback):
    """Hands Tune's results to the coordinator, and the members that it stops to their pack."""

    def __init__(
        self,
        coordinator: Coordinator,
        known: dict[str, int],
        tick: Callable[[], None],
        guard: _Guard,
        stops: Stops | None,
        key: str,
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._coordinator, self._known, self._tick, self._guard = coordinator, known, tick, guard
        self._stops, self._key = stops, key
        self._unsaved = Unsaved(coordinator.notices)
        self._places: dict[str, tuple[Place | None, Any]] = {}  # where packs run, and their actors
        self._declined: set[str] = set()
        self._silence = Silence(coordinator.sweep.run.epoch_limit_s, time.monotonic)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune looks around, some times a second: end what is silent for too long, and watch the cluster."""
        del iteration, info
        self._guard(lambda: self._silence.look(trials))
        self._guard(self._watch)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack begins on a worker."""
        del iteration, trials, info
        self._silence.heard(trial.trial_id)
        place = place_of(trial)
        if place is not None and place.node in trial.config["job"]["avoid"]:
            return  # it declines
        self._places[trial.trial_id] = place, trial.temporary_state.ray_actor
        self._guard(lambda: self._coordinator.on_start(self._known[trial.trial_id], place))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """One epoch of a pack; Tune submits the next one when this is done, so no stopped member is in it."""
        del iteration, trials, info
        failure, job, stops = result["failure"], self._known[trial.trial_id], self._stops
        if result["declined"]:  # and is handed back when Tune has taken note of its end
            self._declined.add(trial.trial_id)
            return
        self._silence.heard(trial.trial_id)
        self._guard(lambda: self._unsaved.take(dict(result["saved"]), result["unsaved"]))
        stopped = self._guard(
            lambda: self._coordinator.on_result(
                job,
                read_reports(result["reports"]),
                None if failure is None else Failure(reason=shortened(failure), cause=Cause(result["cause"])),
                dict(result["saved"]),
            )
        )
        if stopped and stops is not None:
            self._guard(lambda: stops.stop(job, stopped))
        self._guard(self._tick)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker process ended, or its node is gone."""
        del iteration, trials, info
        job = self._known[trial.trial_id]
        place, actor = self._places.pop(trial.trial_id, (None, None))
        end_actor(actor)
        self._silence.ended(trial.trial_id)
        killed = self._silence.killed(trial.trial_id)
        self._guard(
            lambda: self._coordinator.on_pack_failure(
                job, killed or failure_of(trial, f"{self._key}-{job}", place)
            )
        )
        self._guard(self._tick)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack is done; or it never began: declined, or taken back."""
        del iteration, trials, info
        self._silence.ended(trial.trial_id)
        known = self._places.pop(trial.trial_id, None) is not None
        if not known or trial.trial_id in self._declined:
            self._declined.discard(trial.trial_id)
            self._guard(lambda: self._coordinator.on_return(self._known[trial.trial_id]))


class _Order(_Live, FIFOScheduler):
    """First come, first served; takes back what waits for nodes that there are no more, or for others than now."""

    def __init__(self, watch: Watch, known: dict[str, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch, self._nodes, self._known = watch, watch.nodes(), known
        self._next_look_s = 0.0

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Look at packs that wait, now and then, before Tune chooses among them; forget those that have ended."""
        nodes = self._watch.nodes()
        if nodes != self._nodes or time.monotonic() >= self._next_look_s:
            self._nodes, self._next_look_s = nodes, time.monotonic() + _LOOK_EVERY_S
            forget_ended(tune_controller, lambda trial_id: self._known.pop(trial_id, None))
            waiting = [t for t in tune_controller.get_live_trials() if t.status == Trial.PENDING]
            for trial in waiting:
                if not self._placeable(trial.config):
                    take_back(tune_controller, trial)
            self._watch.kept_off = [trial.config["strict"] for trial in without_room(tune_controller)]
        return for_a_free_actor(tune_controller) or super().choose_trial_to_run(tune_controller)

    def _placeable(self, config: Mapping[str, Any]) -> bool:
        """Whether a pack still waits for the nodes that it should wait for."""
        return bool(config["nodes"] == self._watch.nodes(config["strict"]))


class _Mute(TrialProgressCallback):
    """In place of Tune's own, which prints whenever a trial ends without a result, and keeps every trial for ever."""

    def on_trial_result(self, *_told: Any, **_info: Any) -> None:
        """Nothing."""

    def on_trial_error(self, *_told: Any, **_info: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *_told: Any, **_info: Any) -> None:
        """Nothing."""


class _Interrupt(_Live, tune.Stopper):
    """Ends the run when the coordinator was interrupted."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never by trial: members leave packs, packs end by themselves."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Whether to end now."""
        return self._coordinator.interrupted


def fit(
    coordinator: Coordinator, options: RayOptions, slots: Slots, tick: Callable[[], None], folder: Path
) -> None:
    """Run Tune until the coordinator has nothing left."""
    with _stops(coordinator) as stops:
        _fit(coordinator, options, slots, tick, folder, stops)


@contextmanager
def _stops(coordinator: Coordinator) -> Iterator[Stops | None]:
    """The way to packs of what a scheduler stops; None where there is no scheduler."""
    if coordinator.scheduler is None:
        yield None
        return
    stops = Stops()
    try:
        yield stops
    finally:
        stops.close()


def _fit(
    coordinator: Coordinator,
    options: RayOptions,
    slots: Slots,
    tick: Callable[[], None],
    folder: Path,
    stops: Stops | None,
) -> None:
    listen_for_last_words()
    known: dict[str, int] = {}
    guard = _Guard(coordinator)
    bundle = bundle_of(options, slots.gpus_per_pack)
    watch = Watch(coordinator, options, slots, tick, fleet=options.fleet)

    def takes(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        """What a pack takes, and where it may go."""
        where: Any = selector(config["strict"], among=config["nodes"])
        return tune.PlacementGroupFactory([bundle], **({"bundle_label_selector": where} if where else {}))

    key = secrets.token_hex(8)
    tuner = tune.Tuner(
        tune.with_resources(PackTrainable, takes),
        tune_config=tune.TuneConfig(
            search_alg=_Jobs(coordinator, options, slots, known, guard, stops, key, watch),
            scheduler=_Order(watch, known),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_short_name,
            trial_dirname_creator=_short_name,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(folder),
            callbacks=[_Results(coordinator, known, tick, guard, stops, key, watch), _Mute()],
            stop=_Interrupt(coordinator),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuner.fit()
    finally:
        watch.close()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    if guard.error is not None:
        raise guard.error


def _short_name(trial: Any) -> str:
    return str(trial.trial_id)
