"""Replay on tables: a trial is answered with a learning curve that was recorded before, and nothing is trained."""

from kdsearch.trainables.table.kind import TableKind

KIND = TableKind()

__all__ = ["KIND", "TableKind"]
