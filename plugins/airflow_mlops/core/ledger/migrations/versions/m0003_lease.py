"""The table of leases: who alone may send messages right now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of leases."""
    op.create_table(
        "airflow_mlops_lease",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(150), primary_key=True),
        sa.Column("holder", sa.String(60), nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop the table of leases; whoever holds one may meet another holder."""
    op.drop_table("airflow_mlops_lease")
