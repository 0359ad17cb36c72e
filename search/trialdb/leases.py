"""One driver for each sweep: a lease with a heartbeat in the sweep's row.

A driver claims the sweep, its writer renews the claim, and every batch it writes is fenced: in the same
transaction it is checked that the lease is still its own. A lease can be taken over when its heartbeat is
old, and at once when its process ran on this very machine and is gone (after SIGKILL, say).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, or_, select, update

from kdsearch.search.trialdb.errors import LeaseLostError, SweepBusyError
from kdsearch.search.trialdb.schema import SWEEP
from kdsearch.search.trialdb.writes import sweep_id


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A driver's claim on a sweep."""

    sweep: str
    host: str
    pid: int
    token: str  # "<where process numbers mean the same>/<random>"


def new_lease(sweep: str) -> Lease:
    """Return a lease in this process's name, not yet claimed."""
    return Lease(
        sweep=sweep, host=socket.gethostname(), pid=os.getpid(), token=f"{_process_namespace()}/{uuid4().hex}"
    )


def claim(connection: Connection, lease: Lease, now: datetime, stale_after_s: float) -> None:
    """Take a sweep's lease; SweepBusyError if a living driver has it, UnknownNameError without a sweep."""
    key = sweep_id(connection, lease.sweep)
    held = connection.execute(
        select(SWEEP.c.lease_host, SWEEP.c.lease_pid, SWEEP.c.lease_token, SWEEP.c.lease_heartbeat).where(
            SWEEP.c.id == key
        )
    ).one()
    free = [SWEEP.c.lease_token.is_(None), SWEEP.c.lease_heartbeat < now - timedelta(seconds=stale_after_s)]
    if held.lease_token is not None and _gone(held.lease_token, held.lease_pid):
        free.append(SWEEP.c.lease_token == held.lease_token)
    taken = connection.execute(
        update(SWEEP)
        .where(SWEEP.c.id == key, or_(*free))
        .values(lease_host=lease.host, lease_pid=lease.pid, lease_token=lease.token, lease_heartbeat=now)
    )
    if taken.rowcount != 1:
        age_s = (now - held.lease_heartbeat).total_seconds() if held.lease_heartbeat else 0.0
        raise SweepBusyError(
            lease.sweep, held.lease_host or "unknown", held.lease_pid or 0, max(age_s, 0.0), stale_after_s
        )


def driver_state(connection: Connection, sweep: str, now: datetime, stale_after_s: float) -> str:
    """Say whether a sweep's driver is "alive", "gone" (killed, or silent for too long), or "none"."""
    held = connection.execute(
        select(SWEEP.c.lease_pid, SWEEP.c.lease_token, SWEEP.c.lease_heartbeat).where(
            SWEEP.c.id == sweep_id(connection, sweep)
        )
    ).one()
    if held.lease_token is None:
        return "none"
    silent = now - held.lease_heartbeat > timedelta(seconds=stale_after_s)
    return "gone" if silent or _gone(held.lease_token, held.lease_pid) else "alive"


def renew(connection: Connection, lease: Lease, now: datetime) -> None:
    """Set the heartbeat; LeaseLostError if the sweep is another driver's by now."""
    renewed = connection.execute(
        update(SWEEP)
        .where(SWEEP.c.name == lease.sweep, SWEEP.c.lease_token == lease.token)
        .values(lease_heartbeat=now)
    )
    if renewed.rowcount == 1:
        return
    held = connection.execute(
        select(SWEEP.c.lease_host, SWEEP.c.lease_pid).where(SWEEP.c.name == lease.sweep)
    ).one_or_none()
    if held is None or held.lease_host is None:
        who = "nobody holds it now"
    else:
        who = f"process {held.lease_pid} on host {held.lease_host!r} runs it now"
    raise LeaseLostError(
        f"sweep {lease.sweep!r} is no longer this driver's: {who}",
        "This driver was silent for too long. What it had written is safe; let the other one go on.",
    )


def release(connection: Connection, lease: Lease) -> None:
    """Give the lease up; nothing happens if it is another driver's by now."""
    connection.execute(
        update(SWEEP)
        .where(SWEEP.c.name == lease.sweep, SWEEP.c.lease_token == lease.token)
        .values(lease_host=None, lease_pid=None, lease_token=None, lease_heartbeat=None)
    )


def _process_namespace() -> str:
    """Return a name of the world in which a process number means one process: this boot and container.

    "" where the system does not tell; then only the heartbeat's age counts.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _gone(token: str, pid: int) -> bool:
    """Say whether a lease's process certainly runs no more."""
    namespace = token.rpartition("/")[0]
    if not namespace or namespace != _process_namespace():
        return False
    try:
        os.kill(pid, 0)  # signal 0: only asks
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
