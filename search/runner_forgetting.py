"""Lets Ray Tune forget trials that have ended, so that the driver's memory and its work do not grow with them.

Tune keeps every trial with its results, and would write a snapshot of all of them every ten seconds or so (which the
runner's environment keeps it from): nobody reads either here, since the trial database is the truth. Tune has no call
for forgetting, so this reaches into its controller; where a Ray has other attributes, nothing is forgotten and nothing
breaks. Imported only inside a Ray session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

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
    inner = getattr(controller, "_tune_controller", controller)  # schedulers are given a wrapper
    held = vars(inner)
    if not all(isinstance(held.get(name), Collection) for name in (*_LISTS, *_SETS, *_BY_ID, *_IN_USE)):
        return 0
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
    return len(ended)


def _remove_folder(trial: Any) -> None:
    """Tune makes a folder for each trial; errors that were written there have been read."""
    with contextlib.suppress(OSError, TypeError):
        folder = Path(trial.local_path)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
