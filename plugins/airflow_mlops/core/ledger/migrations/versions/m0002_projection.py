"""An index of records by kind, and the projection: facts as of partitions, and the record that they include."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the index and the tables of the projection; the next reader fills them from the records."""
    op.create_index("airflow_mlops_ledger_kind", "airflow_mlops_ledger", ["model", "kind", "sequence"])
    op.create_table(
        "airflow_mlops_fact",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("fact", sa.String(60), primary_key=True),
        sa.Column("key", _by_bytes(250), primary_key=True),
        sa.Column("partition", _by_bytes(40), primary_key=True),
        sa.Column("value", sa.Text),
    )
    op.create_table(
        "airflow_mlops_projected",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    """Drop the index and the projection; nothing is lost, since it is made of the records."""
    op.drop_table("airflow_mlops_projected")
    op.drop_table("airflow_mlops_fact")
    op.drop_index("airflow_mlops_ledger_kind", "airflow_mlops_ledger")


def _by_bytes(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
