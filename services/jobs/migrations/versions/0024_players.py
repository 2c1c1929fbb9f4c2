"""Adds players, whom sessions name by their ids in `player_ids`."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE players (
            id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
            owner_type text NOT NULL CHECK (owner_type IN ('coach', 'org')),
            owner_id text NOT NULL,
            created_by text NOT NULL,
            name text NOT NULL,
            name_key text NOT NULL COLLATE "C",
            height_cm integer NOT NULL DEFAULT 0,
            birth_year integer NOT NULL DEFAULT 0,
            hand text NOT NULL DEFAULT '',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            request_id uuid,
            request_sha256 text NOT NULL DEFAULT '')
    """)
    op.execute("CREATE INDEX players_by_owner ON players (owner_type, owner_id, name_key, id)")
    op.execute("CREATE INDEX players_by_name ON players (name_key, id)")
    op.execute("""
        CREATE UNIQUE INDEX players_by_request ON players (created_by, request_id) WHERE request_id IS NOT NULL
    """)
