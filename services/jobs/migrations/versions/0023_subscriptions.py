"""Keeps the position of each service's subscription to events, and the events that it has not acknowledged."""

from alembic import op

revision = "0023"
down_revision = "0022b"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE subscriptions (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            service text NOT NULL,
            name text NOT NULL,
            types text[] NOT NULL,
            owner text NOT NULL,
            session_id uuid,
            xid bigint NOT NULL,
            event_id bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (service, name))
    """)
    op.execute("""
        CREATE TABLE deliveries (
            subscription_id bigint NOT NULL REFERENCES subscriptions ON DELETE CASCADE,
            xid bigint NOT NULL,
            event_id bigint NOT NULL,
            stream uuid NOT NULL,
            until timestamptz NOT NULL,
            PRIMARY KEY (subscription_id, xid, event_id))
    """)
    op.execute("CREATE INDEX deliveries_by_stream ON deliveries (stream)")
