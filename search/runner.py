"""Ray Tune runs the packs. Everything here is plumbing between Tune's events and the coordinator.

Tune sees one trial for each pack: a searcher that hands out jobs, a callback that hands back results, a stopper that
ends the run on an interrupt. Tune's own state is a cache that nobody reads again; the trial database is the truth.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from kdsearch.search.coordinator import Coordinator
from kdsearch.search.notices import CLUSTER
from kdsearch.search.runner_access import access, is_website
from kdsearch.search.runner_resources import RayOptions, Slots, counted
from kdsearch.search.runner_scratch import scratch_folder
from kdsearch.search.shipping import packed_code
from kdsearch.search.trial_states import Job
from kdsearch.search.variables import variables_set
from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.trainables.protocol import EpochReport, MemberState
from kdsearch.trainables.storage import described

# Read by Ray when it is imported or started; see the reference on Ray Tune for each.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its snapshot has all trials in it, and nobody reads it
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the runner hands out as many packs as nodes have room for
}


_SHOWN = 8000  # characters of a traceback that are kept


class RunnerError(KdsearchError):
    """Ray did not start, cannot be reached, or ended early."""


@contextlib.contextmanager
def ray_session(options: RayOptions, say: Callable[[str], None] = lambda _: None) -> Iterator[Slots]:
    """Start or join Ray, and leave it as it was found; `say` is told what is waited for.

    Raises:
        RunnerError: Ray does not start, or no cluster answers at the address.
        UsageError: a pack fits nowhere, or more packs are asked for than fit; the cluster is open to strangers, or
            refuses the token that is found here.

    """
    if options.address is not None:
        _probe(options.address)
    with variables_set({**_ENVIRONMENT, **access(options.address, allow_open=options.allow_open)}):
        import ray  # noqa: PLC0415 must come after the environment is set

        from kdsearch.search.runner_faults import raylet_logged  # noqa: PLC0415 imports Ray

        ours = not ray.is_initialized()
        with raylet_logged():
            if ours:
                _start(options)
            try:
                yield _slots(options, say)
            finally:
                if ours:
                    ray.shutdown()


def _start(options: RayOptions) -> None:
    threads = str(max(1, int(options.cpus)))
    variables = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    with contextlib.ExitStack() as stack:
        modules = [str(stack.enter_context(packed_code()))] if options.ship_code else []
        _init(options, {"env_vars": variables, **({"py_modules": modules} if modules else {})})


def _init(options: RayOptions, runtime_env: dict[str, Any]) -> None:
    import ray  # noqa: PLC0415

    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 128 * 2**20}
    try:
        ray.init(
            address=options.address or "local",
            namespace=f"kdsearch-{secrets.token_hex(8)}",  # of this sweep's actors, whoever else is on the cluster
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env=runtime_env,
            **({} if options.address else local),
        )
    except Exception as error:
        where = f"no Ray cluster answers at {options.address}" if options.address else "Ray does not start"
        told = " ".join(str(error).split())[:500]
        hint = (
            "Is the address right, and does the cluster run the same Ray and Python? `ray status` tells."
            if options.address
            else "Ray's logs lie under /tmp/ray/session_latest/logs. "
            "A full disk or too little shared memory are common causes."
        )
        raise RunnerError(f"{where}: {type(error).__name__}: {told}", hint) from error


def _probe(address: str) -> None:
    """Refuse an address where no node of Ray can be: `ray.init` would try for ever, deaf to signals."""
    if address.startswith("ray://"):
        raise UsageError(
            f"{address} is a Ray Client address, over which Ray Tune cannot be watched",
            "Start the sweep on a node of the cluster with --address auto, or hand it over: kdsearch submit.",
        )
    if address.startswith(("http://", "https://")):
        raise UsageError(
            f"{address} is the address of a Jobs API, not of a node",
            "Hand the sweep over with kdsearch submit, or give the head's own: --address HOST:6379.",
        )
    host, _, port = address.rpartition(":")
    if address in {"auto", "local"}:
        return
    if not host or not port.isdigit():
        raise UsageError(
            f"--address {address!r} has no port",
            "The head's own address is HOST:PORT, 6379 unless `ray start --port` said otherwise; on a node of the "
            "cluster, --address auto finds it.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise RunnerError(
            f"no Ray cluster answers at {address}: {error.strerror or error}",
            "Is the address right, and is the cluster up? `ray status --address HOST:PORT` tells.",
        ) from None
    if is_website(address):
        raise UsageError(
            f"{address} is the port of a dashboard or another web server, not of a node",
            "Give the head's own: --address HOST:6379, unless `ray start --port` said otherwise; or hand it over: "
            f"kdsearch submit --address http://{address}.",
        )


def _slots(options: RayOptions, say: Callable[[str], None]) -> Slots:
    """Count how many packs fit, node by node."""
    from kdsearch.search import runner_watch  # noqa: PLC0415 imports Ray

    return runner_watch.wait_for_room(options, say)


def assembled(*asked: Any, **how: Any) -> tuple[Any, list[Any]]:
    """Ask the nodes of a cluster, as `runner_probe.assembled` does."""
    from kdsearch.search import runner_probe  # noqa: PLC0415 imports Ray

    return runner_probe.assembled(*asked, **how)


def local_slots(options: RayOptions) -> Slots:
    """Count how many packs would fit on this machine, as Ray would find it; Ray is not started.

    Raises:
        UsageError: a pack fits nowhere, or more packs are asked for than fit.

    """
    with variables_set(_ENVIRONMENT):
        from ray._private.accelerators import get_accelerator_manager_for_resource  # noqa: PLC0415
        from ray._private.utils import get_num_cpus  # noqa: PLC0415

        manager: Any = get_accelerator_manager_for_resource("GPU")
        gpus = manager.get_current_node_num_accelerators()
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return counted([{"CPU": float(get_num_cpus()), "GPU": float(gpus), "memory": memory}], options)


class Interrupted(KdsearchError):  # noqa: N818 no error: the user wanted it
    """The user ended the run; what was finished is in the database."""

    exit_code = 130


def run(coordinator: Coordinator, options: RayOptions, slots: Slots, tick: Callable[[], None]) -> None:
    """Run a sweep to its end inside an open Ray session; `tick` is called on every event.

    Raises:
        Interrupted: SIGINT or SIGTERM came; running trials are marked in the database.
        RunnerError: Ray ended early.

    """
    from kdsearch.search import runner_tune  # noqa: PLC0415 imports Ray

    with scratch_folder() as folder, _signals(coordinator) as caught:
        try:
            runner_tune.fit(coordinator, options, slots, tick, folder)
        except Exception as error:
            coordinator.interrupt(f"interrupted by {caught[0]}" if caught else "the run ended early")
            if isinstance(error, KdsearchError | OSError):
                raise
            if not caught:
                raise _ended_early(coordinator, error) from error
    if caught:
        coordinator.interrupt(f"interrupted by {caught[0]}")
        raise Interrupted(
            f"interrupted by {caught[0]}; {coordinator.tally.finished} trials are finished and kept"
        )
    if not coordinator.done:
        coordinator.interrupt("Ray ended")
        raise RunnerError("Ray ended before the search was done", "`kdsearch resume` goes on from here.")


def _ended_early(coordinator: Coordinator, error: Exception) -> RunnerError:
    """What to say of an error that nobody foresaw; its traceback is kept as an event, for who looks into it."""
    frames = "".join(traceback.format_exception(error))
    with contextlib.suppress(KdsearchError):
        coordinator.notices.event(CLUSTER, {"what": "Ray ended early", "error": frames[-_SHOWN:]})
    return RunnerError(
        f"Ray ended early: {type(error).__name__}: {error}",
        "`kdsearch resume` goes on from here. The traceback is among the sweep's events (kind cluster).",
    )


@contextlib.contextmanager
def _signals(coordinator: Coordinator) -> Iterator[list[str]]:
    """First SIGINT or SIGTERM: end cleanly. Second: at once."""
    caught: list[str] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)
        coordinator.interrupted = True  # no more: the signal may have come in the middle of anything

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def job_config(job: Job, coordinator: Coordinator, options: RayOptions, slots: Slots) -> dict[str, Any]:
    """What the worker is told, as plain data."""
    from kdsearch.trainables.ray_adapter import describe_member  # noqa: PLC0415 imports Ray

    sweep = coordinator.sweep
    return {
        "id": job.id,
        "kind": sweep.trainable.kind,
        "settings": sweep.trainable_settings(job.members[0].plan),  # a pack has one data set
        "members": [describe_member(member) for member in job.members],
        "data_root": None if options.data_root is None else str(options.data_root),
        "drivers_root": None if options.drivers_root is None else str(options.drivers_root),
        "device": "cuda" if slots.gpus_per_pack else "cpu",
        "threads": max(1, int(options.cpus)),
        "checkpoints": str(coordinator.checkpoints),
        "storage": described(coordinator.storage),
        "checkpoint_every": sweep.run.checkpoint_every,
        "save_at": list(job.save_at),
        "outputs": dict(job.outputs),
        "limits": {
            "epoch_s": sweep.run.epoch_limit_s,
            "memory_bytes": None if sweep.run.memory_limit_gb is None else sweep.run.memory_limit_gb * 1e9,
        },
    }


def read_reports(rows: Sequence[Sequence[Any]]) -> list[EpochReport]:
    """Epoch reports from a worker's result."""
    return [
        EpochReport(
            number=number,
            epoch=epoch,
            state=MemberState(state),
            metrics=metrics,
            message=message,
            arrays=arrays,
        )
        for number, epoch, state, metrics, message, arrays in rows
    ]


__all__ = ["Interrupted", "RayOptions", "RunnerError", "Slots", "ray_session", "run"]
