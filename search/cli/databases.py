"""Opening the trial database for the commands that only read it."""

from __future__ import annotations

from kdsearch.search.cli.common import messages
from kdsearch.search.masking import masked
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.errors import DatabaseOlderError, DatabaseReadOnlyError


def open_to_read(db: str) -> TrialDatabase:
    """Open a database that is there for reading; one of an earlier version is first brought up to date, and told so.

    Raises what `TrialDatabase.open` raises; DatabaseOlderError where the database may not be written.
    """
    try:
        return TrialDatabase.open(db, create=False, read_only=True)
    except DatabaseOlderError as error:
        try:
            TrialDatabase.open(db, create=False).close()
        except DatabaseReadOnlyError:
            raise error from None
        told = f"{masked(db)} was written by an earlier kdsearch; it was brought up to date."
        messages().print(told, style="dim")
        return TrialDatabase.open(db, create=False, read_only=True)
