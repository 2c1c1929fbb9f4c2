"""Runs each migration in a transaction of its own: a new enum label can be used only after its commit."""

from alembic import context

# Two migrations at once wait for each other here; the number is any that nobody else uses.
LOCK = 0x637265617365

connection = context.config.attributes["connection"]
connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK})")
connection.commit()
try:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
finally:
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
    connection.commit()
