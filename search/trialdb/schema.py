"""The tables of the trial database. The migrations make them; a test holds the two together.

A trial is known by (sweep, number) everywhere, so that a driver can write attempts, metrics and results
without ever asking the database for a key, and so that the rows of one sweep lie side by side.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from kdsearch.search.trialdb.column_types import StateWord, UtcDateTime
from kdsearch.search.trialdb.states import Ending, Role, SweepState, TrialState

REVISION = "0005"  # the newest file in migrations/versions
VERSION_TABLE = "kdsearch_version"  # not Alembic's default, which Optuna's databases have too

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

SWEEP = Table(
    "sweep",
    METADATA,
    Column("id", Integer, nullable=False),
    Column("name", String(200), nullable=False),
    Column("kind", String(32), nullable=False),  # refine or sweep
    Column("trainable", String(64), nullable=False),
    Column("settings", JSON, nullable=False),  # the resolved sweep file
    Column("seed", BigInteger, nullable=False),  # in [0, 2**63)
    Column("code_version", String(100), nullable=False),
    Column("environment", JSON, nullable=False),
    Column("state", StateWord(SweepState), nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("ended", UtcDateTime),
    # The driver that works on the sweep; all NULL when there is none.
    Column("lease_host", String(255)),
    Column("lease_pid", Integer),
    Column("lease_token", String(200)),
    Column("lease_heartbeat", UtcDateTime),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("name"),
    CheckConstraint("seed >= 0", name="seed"),
)

DESIGN_SPACE = Table(
    "design_space",
    METADATA,
    Column("id", Integer, nullable=False),
    Column("sweep_id", Integer, nullable=False),
    Column("name", String(200), nullable=False),
    Column("parent", String(200)),  # name in the same sweep
    Column("restriction", Text),  # readable, as added to the parent
    Column("restriction_data", JSON(none_as_null=True)),
    Column("specification", JSON, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("exhaustive", Boolean, nullable=False),
    Column("repeats", Integer, nullable=False),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("sweep_id", "name"),
    ForeignKeyConstraint(["sweep_id"], ["sweep.id"]),
    ForeignKeyConstraint(["sweep_id", "parent"], ["design_space.sweep_id", "design_space.name"]),
)

TRIAL = Table(
    "trial",
    METADATA,
    Column("sweep_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("role", StateWord(Role), nullable=False),
    Column("configuration", JSON, nullable=False),  # canonical under the space's symmetry
    Column("configuration_hash", String(64), nullable=False),
    Column("orbit_size", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),  # in [0, 2**63)
    Column("sampling_design", String(100), nullable=False),
    Column("inclusion_probability", Double),
    Column("state", StateWord(TrialState), nullable=False),
    Column("attempts", Integer, nullable=False),  # the newest attempt; 0 before the first
    Column("error", Double),  # per cent; NULL where it is not a finite number
    Column("best_error", Double),
    Column("best_epoch", Integer),
    Column("last_epoch", Integer),
    Column("seconds", Double),
    Column("device_seconds", Double),
    Column("message", Text, nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("started", UtcDateTime),  # of the first attempt
    Column("ended", UtcDateTime),
    Column("plan", JSON(none_as_null=True)),  # what its searcher told it beside the configuration
    PrimaryKeyConstraint("sweep_id", "number"),
    ForeignKeyConstraint(["sweep_id"], ["sweep.id"]),
    CheckConstraint("number >= 0", name="number"),
    CheckConstraint("seed >= 0", name="seed"),
    Index(None, "sweep_id", "configuration_hash"),
    Index(None, "sweep_id", "state"),
)

ATTEMPT = Table(
    "attempt",
    METADATA,
    Column("sweep_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("n", Integer, nullable=False),  # counts from 1
    Column("host", String(255), nullable=False),
    Column("device", String(64), nullable=False),
    Column("started", UtcDateTime, nullable=False),
    Column("ended", UtcDateTime),
    Column("reason", Text),  # why it ended
    Column("ending", StateWord(Ending)),  # what that says of the trial; NULL: nothing is known
    Column("checkpoint", Text),  # path or URL of the newest one
    Column("checkpoint_epoch", Integer),
    PrimaryKeyConstraint("sweep_id", "number", "n"),
    ForeignKeyConstraint(["sweep_id", "number"], ["trial.sweep_id", "trial.number"]),
    CheckConstraint("n >= 1", name="n"),
)

DRAW = Table(
    "draw",
    METADATA,
    Column("space_id", Integer, nullable=False),
    Column("draw", Integer, nullable=False),  # counts from 0 in each space
    Column("sweep_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),  # of the trial that answers it
    Column("fresh", Boolean, nullable=False),  # trained for this space, not reused from an ancestor
    PrimaryKeyConstraint("space_id", "draw"),
    ForeignKeyConstraint(["space_id"], ["design_space.id"]),
    ForeignKeyConstraint(["sweep_id", "number"], ["trial.sweep_id", "trial.number"]),
    sqlite_with_rowid=False,
)

METRIC = Table(
    "metric",
    METADATA,
    Column("id", Integer, nullable=False),
    Column("name", String(200), nullable=False),  # as reported; "<node>/" in front if it belongs to a node
    PrimaryKeyConstraint("id"),
    UniqueConstraint("name"),
)

METRIC_VALUE = Table(
    "metric_value",
    METADATA,
    Column("sweep_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("metric_id", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # the newest one that reported this step
    Column("value", Double),  # NULL exactly where `nonfinite` speaks: SQLite has no NaN
    Column("nonfinite", String(4)),  # nan, inf or -inf
    PrimaryKeyConstraint("sweep_id", "number", "metric_id", "step"),
    # PostgreSQL would take four times as long with them: `metric_writes` looks after it.
    ForeignKeyConstraint(["sweep_id", "number"], ["trial.sweep_id", "trial.number"]).ddl_if(dialect="sqlite"),
    ForeignKeyConstraint(["metric_id"], ["metric.id"]).ddl_if(dialect="sqlite"),
    CheckConstraint("(value IS NULL) <> (nonfinite IS NULL)", name="value"),
    sqlite_with_rowid=False,
)

TRIAL_ARRAY = Table(
    "trial_array",
    METADATA,
    Column("sweep_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("name", String(200), nullable=False),
    Column("step", Integer, nullable=False),  # the epoch that it describes
    Column("attempt", Integer, nullable=False),  # the newest one that reported it
    Column("dtype", String(16), nullable=False),
    Column("shape", JSON, nullable=False),  # list of lengths
    Column("data", LargeBinary, nullable=False),  # the values in C order, little-endian, by zlib
    PrimaryKeyConstraint("sweep_id", "number", "name"),
    ForeignKeyConstraint(["sweep_id", "number"], ["trial.sweep_id", "trial.number"]),
)

EVENT = Table(
    "event",
    METADATA,
    Column("sweep_id", Integer, nullable=False),
    Column("n", Integer, nullable=False),  # counts from 0 in each sweep, in the order of writing
    Column("key", String(32), nullable=False),  # made where the event happened: a replay adds nothing
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    PrimaryKeyConstraint("sweep_id", "n"),
    UniqueConstraint("key"),
    ForeignKeyConstraint(["sweep_id"], ["sweep.id"]),
)
