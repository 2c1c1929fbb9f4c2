"""Runs each migration in its own transaction, because a new enum label can be used only after its commit.

Statements that cannot run in a transaction are a migration of their own, which can be interrupted anywhere and rerun.
"""

import time

import sqlalchemy as sa
from alembic import context

# Concurrent migrations wait for each other on this lock. An arbitrary number, unique among our advisory locks.
LOCK = 0x637265617365
POLL_SECONDS = 0.1
# Calls that need the table queue behind a waiting migration, so a migration gives up after this time and is retried.
LOCK_TIMEOUT = "2s"
# A migration whose process stops or whose machine dies keeps its table locks no longer than this.
SILENCE_TIMEOUT = "60s"

connection = context.config.attributes["connection"]
# Polled, because a statement that waits holds a snapshot, and building an index waits for the end of every snapshot.
while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})").scalar():
    connection.commit()
    time.sleep(POLL_SECONDS)
connection.commit()


def limit_waits(begun: sa.Connection) -> None:
    # Indexes are built outside a transaction, where SET LOCAL has no effect; their builds block no other call.
    if begun.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        begun.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        begun.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{SILENCE_TIMEOUT}'")


sa.event.listen(connection, "begin", limit_waits)
try:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
finally:
    sa.event.remove(connection, "begin", limit_waits)
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
    connection.commit()
