"""Jobs between their being handed out and their end: which trials are still in them, which have begun, and where.

The runner takes jobs a little before there is room for them, so that workers never wait for the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdsearch.search.failures import Place


class HandedOut:
    """Jobs by number, in the order of handing out."""

    def __init__(self) -> None:
        self._next = 0
        self._members: dict[int, list[int]] = {}  # trials that are still in a job
        self._staged: set[int] = set()  # jobs that have not begun
        self._places: dict[int, Place] = {}  # where jobs run, as far as that is known

    def __bool__(self) -> bool:
        """Whether any job is out."""
        return bool(self._members)

    def add(self, numbers: Sequence[int]) -> int:
        """Hand a pack of trials out; return the number of its job."""
        job, self._next = self._next, self._next + 1
        self._members[job] = list(numbers)
        self._staged.add(job)
        return job

    def begin(self, job: int, place: Place | None) -> Sequence[int]:
        """A job runs, at `place` if that is known; return the trials that begin with it: none the second time."""
        if place is not None and job in self._members:
            self._places[job] = place
        if job not in self._staged:
            return ()
        self._staged.discard(job)
        return tuple(self._members[job])

    def has_begun(self, job: int) -> bool:
        """Whether a job that is out runs."""
        return job in self._members and job not in self._staged

    def members(self, job: int) -> Sequence[int]:
        """Trials that are still in a job; none of a job that is over."""
        return self._members.get(job, ())

    def leave(self, job: int, number: int) -> None:
        """A trial leaves its job, which is over with the last one."""
        self._members[job].remove(number)
        if not self._members[job]:
            self.end(job)

    def end(self, job: int) -> tuple[Sequence[int], Place | None]:
        """A job is over; return the trials that were still in it, and where it ran."""
        self._staged.discard(job)
        return self._members.pop(job, ()), self._places.pop(job, None)

    def clear(self) -> None:
        """All jobs are over."""
        self._members.clear()
        self._staged.clear()
        self._places.clear()

    @property
    def packs(self) -> tuple[int, int]:
        """Jobs that run, and jobs that wait for room."""
        return len(self._members) - len(self._staged), len(self._staged)

    @property
    def running(self) -> int:
        """Trials that run."""
        return sum(len(members) for job, members in self._members.items() if job not in self._staged)
