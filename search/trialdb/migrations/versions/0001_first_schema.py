"""The first schema.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make every table, the referred ones first."""
    _sweep()
    _design_space()
    _trial()
    _attempt()
    _draw()
    _metric()
    _metric_value()
    _event()


def downgrade() -> None:
    """Drop every table."""
    for table in ("event", "metric_value", "metric", "draw", "attempt", "trial", "design_space", "sweep"):
        op.drop_table(table)


def _sweep() -> None:
    op.create_table(
        "sweep",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("trainable", sa.String(length=64), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.String(length=100), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_host", sa.String(length=255), nullable=True),
        sa.Column("lease_pid", sa.Integer(), nullable=True),
        sa.Column("lease_token", sa.String(length=200), nullable=True),
        sa.Column("lease_heartbeat", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("seed >= 0", name=op.f("ck_sweep_seed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep")),
        sa.UniqueConstraint("name", name=op.f("uq_sweep_name")),
    )


def _design_space() -> None:
    op.create_table(
        "design_space",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("parent", sa.String(length=200), nullable=True),
        sa.Column("restriction", sa.Text(), nullable=True),
        sa.Column("restriction_data", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("specification", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("exhaustive", sa.Boolean(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sweep_id", "parent"],
            ["design_space.sweep_id", "design_space.name"],
            name=op.f("fk_design_space_design_space"),
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("fk_design_space_sweep")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_design_space")),
        sa.UniqueConstraint("sweep_id", "name", name=op.f("uq_design_space_sweep_id_name")),
    )


def _trial() -> None:
    op.create_table(
        "trial",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("configuration", sa.JSON(), nullable=False),
        sa.Column("configuration_hash", sa.String(length=64), nullable=False),
        sa.Column("orbit_size", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("sampling_design", sa.String(length=100), nullable=False),
        sa.Column("inclusion_probability", sa.Double(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Double(), nullable=True),
        sa.Column("best_error", sa.Double(), nullable=True),
        sa.Column("best_epoch", sa.Integer(), nullable=True),
        sa.Column("last_epoch", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("device_seconds", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("number >= 0", name=op.f("ck_trial_number")),
        sa.CheckConstraint("seed >= 0", name=op.f("ck_trial_seed")),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("fk_trial_sweep")),
        sa.PrimaryKeyConstraint("sweep_id", "number", name=op.f("pk_trial")),
    )
    op.create_index(
        op.f("ix_trial_sweep_id_configuration_hash"),
        "trial",
        ["sweep_id", "configuration_hash"],
        unique=False,
    )
    op.create_index(op.f("ix_trial_sweep_id_state"), "trial", ["sweep_id", "state"], unique=False)


def _attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("checkpoint_epoch", sa.Integer(), nullable=True),
        sa.CheckConstraint("n >= 1", name=op.f("ck_attempt_n")),
        sa.ForeignKeyConstraint(
            ["sweep_id", "number"], ["trial.sweep_id", "trial.number"], name=op.f("fk_attempt_trial")
        ),
        sa.PrimaryKeyConstraint("sweep_id", "number", "n", name=op.f("pk_attempt")),
    )


def _draw() -> None:
    op.create_table(
        "draw",
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("draw", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["design_space.id"], name=op.f("fk_draw_design_space")),
        sa.ForeignKeyConstraint(
            ["sweep_id", "number"], ["trial.sweep_id", "trial.number"], name=op.f("fk_draw_trial")
        ),
        sa.PrimaryKeyConstraint("space_id", "draw", name=op.f("pk_draw")),
        sqlite_with_rowid=False,
    )


def _metric() -> None:
    op.create_table(
        "metric",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric")),
        sa.UniqueConstraint("name", name=op.f("uq_metric_name")),
    )


def _metric_value() -> None:
    op.create_table(
        "metric_value",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("metric_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("nonfinite", sa.String(length=4), nullable=True),
        sa.CheckConstraint("(value IS NULL) <> (nonfinite IS NULL)", name=op.f("ck_metric_value_value")),
        sa.ForeignKeyConstraint(["metric_id"], ["metric.id"], name=op.f("fk_metric_value_metric")),
        sa.ForeignKeyConstraint(
            ["sweep_id", "number"], ["trial.sweep_id", "trial.number"], name=op.f("fk_metric_value_trial")
        ),
        sa.PrimaryKeyConstraint("sweep_id", "number", "metric_id", "step", name=op.f("pk_metric_value")),
        sqlite_with_rowid=False,
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("fk_event_sweep")),
        sa.PrimaryKeyConstraint("sweep_id", "n", name=op.f("pk_event")),
        sa.UniqueConstraint("key", name=op.f("uq_event_key")),
    )
