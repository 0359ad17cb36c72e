"""What is done inside Ray Tune's controller, since Tune has no call for it; nothing else touches its private parts.

- Ended trials are forgotten, so that the driver's memory and its work do not grow with them. Tune keeps every trial
  with its results, and would write a snapshot of all of them every ten seconds or so (which the runner's environment
  keeps it from): nobody reads either here, since the trial database is the truth.
- An actor that has finished goes to a pack that waits for room, as long as there is one, and not to one whose own actor
  is starting already: Tune would end that one, and where packs are shorter than a process takes to start, few workers
  would ever be there. Where no pack waits for room, Tune does as it always does.
- A pack that is taken back leaves nothing behind that would keep an actor, with its cores, for packs that never come.

Imported only inside a Ray session. Written for Ray 2.60; `controller` is Tune's, or the wrapper that schedulers get.
"""

# ruff: noqa: SLF001  private parts are what this module is for

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from ray.tune.experiment import Trial

_LISTS: Final = ("_trials", "_pending_trials_list")
_SETS: Final = ("_stopped_trials", "_failed_trials", "_trials_to_cache", "_live_trials")
_BY_ID: Final = ("_trial_metadata", "_cached_trial_decisions", "_queued_trial_decisions")
_IN_USE: Final = (
    "_trial_to_actor",
    "_staged_trials",
    "_resetting_trials",
    "_running_trials",
    "_pending_trials",
)


def forget_ended(controller: Any, say: Callable[[str], object]) -> int:
    """Drop trials that have ended and hold no actor from Tune's controller, and tell their ids; return how many.

    The newest one stays: with none at all, Tune would read its snapshot when it ends.
    """
    held = vars(_inner(controller))
    if not all(isinstance(held.get(name), Collection) for name in (*_LISTS, *_SETS, *_BY_ID, *_IN_USE)):
        return 0
    for trial in [trial for trial in held["_resetting_trials"] if trial.is_finished()]:
        if trial not in held["_trial_to_actor"]:  # its worker died meanwhile, and Tune does not look again
            held["_resetting_trials"].discard(trial)
    in_use = set().union(*(held[name] for name in _IN_USE))
    ended = [trial for trial in held["_trials"][:-1] if trial.is_finished() and trial not in in_use]
    gone = set(ended)
    for name in _LISTS:
        held[name][:] = [trial for trial in held[name] if trial not in gone]
    for name in _SETS:
        held[name].difference_update(gone)
    for trial in ended:
        for name in _BY_ID:
            held[name].pop(trial.trial_id, None)
        _remove_folder(trial)
        say(trial.trial_id)
    _forget_actors(held.get("_actor_manager"))
    return len(ended)


def _forget_actors(manager: Any) -> None:
    """Drop what was to be called on actors that were taken back before there was room for them: Tune keeps it."""
    calls = getattr(manager, "_pending_actors_to_enqueued_actor_tasks", {})
    waiting = getattr(manager, "_pending_actors_to_attrs", calls)
    for actor in [actor for actor in calls if actor not in waiting]:
        del calls[actor]


def without_room(controller: Any) -> list[Trial]:
    """Trials that wait for a place, in order: those that run, or whose actor is starting or reset, have one."""
    inner = _inner(controller)
    trials: list[Trial] = inner._trials
    return [trial for trial in trials if _has_no_room(inner, trial)]


def for_a_free_actor(controller: Any) -> Trial | None:
    """The first trial without a place that a finished actor suits; None without one, or without an actor."""
    inner = _inner(controller)
    cache = inner._actor_cache
    if not cache.num_cached_objects:
        return None
    trials: list[Trial] = inner._trials
    for trial in trials:
        if _has_no_room(inner, trial) and cache.has_cached_object(trial.placement_group_factory):
            return trial
    return None


def _has_no_room(inner: Any, trial: Trial) -> bool:
    if trial.status != Trial.PENDING or trial in inner._resetting_trials:
        return False
    actor = inner._trial_to_actor.get(trial)
    # an actor that is pending has no process yet
    return actor is None or actor in inner._actor_manager._pending_actors_to_attrs


def take_back(controller: Any, trial: Trial) -> None:
    """Stop a trial that waits, and take it out of Tune's books of staged ones, where `stop_trial` would leave it."""
    inner = _inner(controller)
    if trial in inner._staged_trials:
        inner._unstage_trial_with_resources(trial)
    inner.stop_trial(trial)


def _inner(controller: Any) -> Any:
    return getattr(controller, "_tune_controller", controller)


def _remove_folder(trial: Any) -> None:
    """Tune makes a folder for each trial; errors that were written there have been read."""
    with contextlib.suppress(OSError, TypeError):
        folder = Path(trial.local_path)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
