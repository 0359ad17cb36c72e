"""Small arrays of trials: similarity of layers, mean attention.

Revision: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add trial_array; trials of earlier versions have none."""
    op.create_table(
        "trial_array",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "number", "name", name=op.f("pk_trial_array")),
        sa.ForeignKeyConstraint(
            ["sweep_id", "number"], ["trial.sweep_id", "trial.number"], name=op.f("fk_trial_array_trial")
        ),
    )


def downgrade() -> None:
    """Drop it, with the arrays."""
    op.drop_table("trial_array")
