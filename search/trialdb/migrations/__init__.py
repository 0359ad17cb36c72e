"""Migrations of the trial database, run by Alembic; one file in `versions` for each change of schema."""
