"""Builds indexes without blocking writers."""

from alembic import op


def build(table: str, indexes: dict[str, str], *, unique: bool = False) -> None:
    """Builds indexes outside a transaction. `indexes` maps each name to the columns and the WHERE clause in SQL.

    An interrupted build leaves an invalid index under the name; it is dropped and built again.
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
