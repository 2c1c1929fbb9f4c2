"""Adds shares: the right of whoever holds a secret to read reports."""

from alembic import op

revision = "0027"
down_revision = "0026b"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE shares (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            owner_type text NOT NULL CHECK (owner_type IN ('coach', 'org')),
            owner_id text NOT NULL,
            created_by text NOT NULL,
            secret_hash bytea NOT NULL,
            job_ids uuid[] NOT NULL,
            with_names boolean NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            request_id uuid,
            request_sha256 text NOT NULL DEFAULT '')
    """)
    op.execute("CREATE UNIQUE INDEX shares_by_secret ON shares (secret_hash)")
    op.execute("CREATE INDEX shares_by_owner ON shares (owner_type, owner_id, created_at DESC, id DESC)")
    op.execute("CREATE INDEX shares_by_age ON shares (created_at DESC, id DESC)")
    op.execute("CREATE INDEX shares_by_end ON shares (expires_at)")
    op.execute("CREATE UNIQUE INDEX shares_by_request ON shares (created_by, request_id) WHERE request_id IS NOT NULL")
