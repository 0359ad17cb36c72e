"""Ends a worker's process that hangs or takes too much memory, and says where it stood.

A thread looks on while an epoch runs. It works as long as Python's lock is let go now and then, as torch and sleeping
do; a process that holds the lock for good is ended by `faulthandler`, whose clock needs no lock and whose traceback
goes to the worker's log. A process that is stopped altogether is the driver's to kill (`search/runner_faults.py`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 30.0  # seconds that are left to say the last words
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a pack may take; None: no limit."""

    epoch_s: float | None = None  # seconds of one epoch, the first one with its preparations
    memory_bytes: float | None = None  # of its process, what is resident

    @property
    def any(self) -> bool:
        """Whether there is anything to watch."""
        return self.epoch_s is not None or self.memory_bytes is not None


def _end() -> None:
    os._exit(70)  # EX_SOFTWARE; no clean-up: it would wait for what hangs


class Watchdog:
    """Watches the thread that it is made in."""

    def __init__(
        self,
        limits: Limits,
        tell: Callable[[str], None],
        *,
        end: Callable[[], None] = _end,
        look_every_s: float = 0.5,
        resident: Callable[[], float] | None = None,
    ) -> None:
        """tell: gets the last words before `end` is called. resident: bytes that the process takes now."""
        self._limits, self._tell, self._end, self._look_every_s = limits, tell, end, look_every_s
        self._resident = resident or resident_bytes
        self._watched = threading.get_ident()
        self._outside = 0  # calls around the watched block, which say nothing of what hangs

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch one epoch."""
        if not self._limits.any:
            yield
            return
        over = threading.Event()
        self._outside = sum(1 for _ in traceback.walk_stack(sys._getframe(2)))  # noqa: SLF001 past contextlib's own
        thread = threading.Thread(target=self._look_on, args=(over,), name="kdsearch watchdog", daemon=True)
        thread.start()
        limit = self._limits.epoch_s
        if limit is not None and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(limit + GRACE_S, exit=True, file=sys.__stderr__)
        try:
            yield
        finally:
            over.set()
            if limit is not None:
                faulthandler.cancel_dump_traceback_later()
            thread.join()

    def _look_on(self, over: threading.Event) -> None:
        begun = time.monotonic()
        while not over.wait(self._wait_s(begun)):
            trouble = self._trouble(time.monotonic() - begun)
            if trouble is not None:
                self._tell(f"{trouble}\n{self._where()}")
                self._end()
                return

    def _wait_s(self, begun: float) -> float:
        """Seconds to the next look: soon where memory is watched, else at the limit."""
        limit = self._limits.epoch_s
        left = self._look_every_s if limit is None else begun + limit - time.monotonic()
        return max(0.0, left if self._limits.memory_bytes is None else min(left, self._look_every_s))

    def _trouble(self, elapsed_s: float) -> str | None:
        limit, memory = self._limits.epoch_s, self._limits.memory_bytes
        if limit is not None and elapsed_s >= limit:
            return f"no epoch ended within {limit:g} s (run.epoch_limit_s): it is taken to hang"
        if memory is not None and (taken := self._resident()) > memory:
            return f"its process took {taken / 1e9:.2f} GB, more than {memory / 1e9:g} (run.memory_limit_gb)"
        return None

    def _where(self) -> str:
        """The stack of the thread that is watched, innermost call last."""
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 the documented way to another thread's stack
        stack = [] if frame is None else traceback.format_stack(frame)[self._outside :]
        return "It stood here (innermost call last):\n" + "".join(stack)


def resident_bytes() -> float:
    """Bytes of memory that this process takes now; 0 where the system does not tell."""
    try:
        return float(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0.0
