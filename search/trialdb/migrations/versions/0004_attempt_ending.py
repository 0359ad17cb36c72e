"""How an attempt ended that came to no result: a failure that counts against its trial, or none of its own.

Revision: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add attempt.ending; of attempts of earlier versions it is not known."""
    op.add_column("attempt", sa.Column("ending", sa.String(length=16), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("attempt", "ending")
