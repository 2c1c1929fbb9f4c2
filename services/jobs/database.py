"""The one way to PostgreSQL: a bounded pool, short transactions, and what its errors mean to callers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services import errors

STATEMENT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 5
# One round trip begins a transaction and bounds it. Each by itself: PgBouncer refuses startup parameters, and lends
# each transaction another connection.
_BEGIN = (
    f"BEGIN; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s';"
    f" SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"
)


def url(database_url: str) -> sa.URL:
    """SQLAlchemy's URL for psycopg, from the usual `postgresql://…`. Raises ValueError for any other database."""
    parsed = sa.make_url(database_url)
    if parsed.get_backend_name() != "postgresql":
        raise ValueError("PostgreSQL is the only database")
    return parsed.set(drivername="postgresql+psycopg")


def open_engine(database_url: str, pool_size: int) -> AsyncEngine:
    """No connection is made yet. One that PostgreSQL closed costs the call that finds out; then all are made anew."""
    return create_async_engine(
        url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        # Transactions are begun and ended below.
        isolation_level="AUTOCOMMIT",
        # Prepared statements don't survive PgBouncer in transaction mode.
        connect_args={"connect_timeout": 5, "prepare_threshold": None},
    )


class Database:
    """Gives out transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits at the end of the block; where it raises, the connection's return to the pool rolls back."""
        async with self._engine.connect() as connection:
            await connection.exec_driver_sql(_BEGIN)
            yield connection
            await connection.exec_driver_sql("COMMIT")

    async def close(self) -> None:
        await self._engine.dispose()


def translate(error: Exception) -> errors.Fault | None:
    """What a database error means to a caller; None for what is our own fault."""
    match error:
        case exc.DataError():
            return errors.Invalid("request", "holds a value that cannot be stored")
        case exc.OperationalError() | exc.InterfaceError() | exc.TimeoutError():
            return errors.Away("The database is away", reason="DATABASE_AWAY")
        case _:
            return None


def parse_id(text: str) -> UUID | None:
    """The UUID that a client sent, or None: what is no UUID is the id of nothing."""
    try:
        return UUID(text)
    except ValueError:
        return None
