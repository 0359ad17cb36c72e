"""What a searcher tells a trial beside its configuration: its method, its run, its optimiser.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add trial.plan; trials of earlier versions have none."""
    op.add_column("trial", sa.Column("plan", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("trial", "plan")
