"""Indexes built while writers go on."""

from alembic import op


def build(table: str, indexes: dict[str, str], *, unique: bool = False) -> None:
    """Builds indexes by name, each of the columns and rows that SQL says, which may not be in a transaction.

    What a build that was cut off has left is no index, though it has the name: it is dropped and built anew.
    """
    with op.get_context().autocommit_block():
        for name, columns in indexes.items():
            found = op.get_bind().exec_driver_sql(
                f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')"
            )
            if found.scalar() is False:
                op.execute(f"DROP INDEX CONCURRENTLY {name}")
            kind = "UNIQUE INDEX" if unique else "INDEX"
            op.execute(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} ON {table} {columns}")
