"""The thin `ray.tune.Trainable` around a pack: one Ray trial hosts one pack, one step is one epoch.

The actor is reused for pack after pack. An exception of a pack ends that pack and travels back as text in the result:
the actor lives on, and the driver decides what becomes of the members. Only this module and the runner import Ray.
"""

from __future__ import annotations

import contextlib
import gc
import platform
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.experimental.internal_kv import _internal_kv_put

from kdsearch.trainables.keeping import Keeper
from kdsearch.trainables.node_check import root_here
from kdsearch.trainables.protocol import EpochReport, Member, Pack
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.storage import StorageError
from kdsearch.trainables.watchdog import Limits, Watchdog

LAST_WORDS = (
    "kdsearch last words"  # namespace in Ray's key-value store: what a watchdog said of a job, by its key
)


def describe_member(member: Member) -> dict[str, Any]:
    """A member as plain data for Ray Tune's configuration."""
    return {
        "number": member.number,
        "seed": member.seed,
        "configuration": dict(member.configuration),
        "checkpoint": None if member.checkpoint is None else str(member.checkpoint),
        "inputs": {role: str(path) for role, path in member.inputs.items()},
        "plan": dict(member.plan),
    }


def read_member(data: Mapping[str, Any]) -> Member:
    """The inverse of `describe_member`."""
    return Member(
        number=data["number"],
        seed=data["seed"],
        configuration=data["configuration"],
        checkpoint=None if data["checkpoint"] is None else Path(data["checkpoint"]),
        inputs={role: Path(path) for role, path in data["inputs"].items()},
        plan=data["plan"],
    )


class PackTrainable(tune.Trainable):
    """Hosts the pack that `config["job"]` describes.

    job: `id`, `kind`, `settings`, `members`, `data_root` and `drivers_root` (`root_here`), `device`, `threads`,
    `checkpoints` (folder or None), `checkpoint_every` (epochs), `save_at` (further epochs after which all members are
    checkpointed), `outputs` (member number -> path that gets its weights when it is complete), `storage` (what
    `storage_of` reads; None: paths are as they are), `stops` (name of the actor that knows which members were stopped;
    None, or no such key: none ever are), `limits` (`Limits` as a mapping), `key` (unique among all jobs of the cluster:
    where the watchdog leaves its last words), `avoid` (nodes on which it does not begin).
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Remember the job; the pack is built in the first step, where its errors can be reported."""
        self._job: dict[str, Any] = config["job"]
        self._pack: Pack | None = None
        self._stops: Any = None
        self._keeper = Keeper(self._job)
        self._watchdog = Watchdog(Limits(**self._job.get("limits", {})), self._leave_last_words)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job in the same process; nothing of the last one stays."""
        self._release()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch of the pack without the members that were stopped, or what went wrong in it."""
        if self._declined():
            result = self._result([], done=True, started=time.perf_counter(), failure=None)
            return {**result, "declined": True}
        with self._watchdog.watching():
            return self._epoch()

    def _declined(self) -> bool:
        """Whether the pack shall not run on this node; it has not begun yet."""
        avoid = self._job.get("avoid", ())
        return bool(avoid) and self._pack is None and ray.get_runtime_context().get_node_id() in avoid

    def _epoch(self) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            if self._pack is None:
                self._pack = self._build()
            else:
                self._drop_stopped(self._pack)
            if not self._pack.active:
                self._release()
                return self._result([], done=True, started=started, failure=None)
            reports = self._pack.run_epoch()
            kept = self._keeper.keep(self._pack, reports)
        except Exception as error:  # noqa: BLE001 the driver must learn of whatever a pack raises
            self._release()
            cause = "storage" if isinstance(error, StorageError) else "error"
            return {
                **self._result([], done=True, started=started, failure=_told(error)),
                "cause": cause,
            }
        result = self._result(reports, done=not self._pack.active, started=started, failure=None)
        return {**result, "saved": kept.saved, "unsaved": kept.unsaved}

    def cleanup(self) -> None:
        """Free the pack."""
        self._release()

    def _build(self) -> Pack:
        job = self._job
        if "torch" in sys.modules or job["kind"] != "constant":
            import torch  # noqa: PLC0415 only workers that train pay for it

            torch.set_num_threads(job["threads"])
        told = [read_member(member) for member in job["members"]]
        with self._keeper.brought(told, job["settings"]) as (members, settings):
            return trainable_kind(job["kind"]).make_pack(
                settings,
                members,
                data_root=root_here(job),
                device=job["device"],
            )

    def _leave_last_words(self, words: str) -> None:
        """Tell the driver, past the thread that hangs, why this process is about to end."""
        with contextlib.suppress(Exception):  # the end must come all the same
            _internal_kv_put(self._job["key"], words, overwrite=True, namespace=LAST_WORDS)

    def _drop_stopped(self, pack: Pack) -> None:
        """Let members go that the driver stopped after an epoch before this one."""
        name = self._job.get("stops")
        if name is None:
            return
        if self._stops is None:
            self._stops = ray.get_actor(name)
        for number in set(ray.get(self._stops.stopped.remote(self._job["id"]))) & set(pack.active):
            pack.drop(number)

    def _result(
        self, reports: Sequence[EpochReport], *, done: bool, started: float, failure: str | None
    ) -> dict[str, Any]:
        return {
            "job": self._job["id"],
            "host": platform.node(),
            "reports": [
                (r.number, r.epoch, str(r.state), dict(r.metrics), r.message, dict(r.arrays)) for r in reports
            ],
            "pack_seconds": time.perf_counter() - started,
            "failure": failure,
            "cause": "error",
            "saved": [],
            "unsaved": [],
            "declined": False,
            "done": done,
        }

    def _release(self) -> None:
        if self._pack is None:
            return
        self._pack = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():  # elsewhere a collection costs more than it frees
            gc.collect()
            torch.cuda.empty_cache()


def _told(error: BaseException) -> str:
    """The error's message first, then where it came from."""
    frames = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error}\n{frames}"
