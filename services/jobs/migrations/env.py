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

connection = context.config.attributes["connection"]
# Polled, because a statement that waits holds a snapshot, and building an index waits for the end of every snapshot.
while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})").scalar():
    connection.commit()
    time.sleep(POLL_SECONDS)
connection.commit()


def limit_lock_wait(begun: sa.Connection) -> None:
    # SET LOCAL has no effect on indexes, which are built outside a transaction; their builds block no other call.
    begun.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


sa.event.listen(connection, "begin", limit_lock_wait)
try:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
finally:
    sa.event.remove(connection, "begin", limit_lock_wait)
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
    connection.commit()
