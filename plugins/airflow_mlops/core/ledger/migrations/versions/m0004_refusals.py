"""A projection that also holds the refused candidates: it is emptied, and filled again from the records."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Empty the projection; the next reader fills it from the records."""
    op.execute("DELETE FROM airflow_mlops_projected")
    op.execute("DELETE FROM airflow_mlops_fact")


def downgrade() -> None:
    """Keep the projection: the code of before does not ask for what it holds in addition."""
