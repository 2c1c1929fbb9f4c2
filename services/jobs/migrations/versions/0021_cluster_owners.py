"""Records the owner of each cluster's name, so that two controllers never share one."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("ALTER TABLE clusters ADD COLUMN owner text NOT NULL DEFAULT ''")
