"""Values of epochs without foreign keys on PostgreSQL, where checking them row by row took three quarters of the time.

That trials and metrics are there is asked once for a batch (`metric_writes`); nothing of kdsearch deletes either.

Revision: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Drop the foreign keys of metric_value on PostgreSQL; SQLite keeps them."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("fk_metric_value_metric", "metric_value", type_="foreignkey")
        op.drop_constraint("fk_metric_value_trial", "metric_value", type_="foreignkey")


def downgrade() -> None:
    """Make them again."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_foreign_key("fk_metric_value_metric", "metric_value", "metric", ["metric_id"], ["id"])
        op.create_foreign_key(
            "fk_metric_value_trial",
            "metric_value",
            "trial",
            ["sweep_id", "number"],
            ["sweep_id", "number"],
        )
