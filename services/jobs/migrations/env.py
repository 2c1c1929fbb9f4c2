"""Runs each migration in a transaction of its own: a new enum label can be used only after its commit.

What cannot be in a transaction is a migration by itself, which may be cut off anywhere and run again.
"""

import time

import sqlalchemy as sa
from alembic import context

# Two migrations at once wait for each other here; the number is any that nobody else uses.
LOCK = 0x637265617365
ASK_AGAIN_SECONDS = 0.1
# For a table. Whoever comes after would wait behind a migration that waits, so it gives up, and is tried again.
LOCK_TIMEOUT = "2s"

connection = context.config.attributes["connection"]
# Asked for again and again: one who waits in a statement holds a snapshot, for whose end an index waits to be built.
while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})").scalar():
    connection.commit()
    time.sleep(ASK_AGAIN_SECONDS)
connection.commit()


def limit(begun: sa.Connection) -> None:
    # An index is built outside of any transaction, where this is in force for nothing: nobody waits behind it.
    begun.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


sa.event.listen(connection, "begin", limit)
try:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
finally:
    sa.event.remove(connection, "begin", limit)
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
    connection.commit()
