"""Access to PostgreSQL: a bounded pool, transactions of few round trips, and the gRPC errors of database errors.

    transaction() ─▶ BEGIN and its time limits travel with the first statement ─▶ …
                  ─▶ COMMIT travels with the last statement, where the caller marks it by `commit=True`

A statement is SQL with `%(name)s`, or SQLAlchemy's where it is put together at run time. Most are written out, because
building and caching SQLAlchemy's took more than half of a call's CPU time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.rows import DictRow, RowMaker
from psycopg.types.json import JsonbDumper
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from services import errors, logs

# Values by their column's name. `rows.py` makes records of those of jobs, launches, sessions and events.
Row = DictRow
Record = TypeVar("Record")
Statement = str | sa.Executable
STATEMENT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 5
# The longest wait of a call for a session of the pool.
POOL_TIMEOUT_SECONDS = 5
# Each transaction sets its limits, and no statement is prepared: PgBouncer refuses startup parameters, and each
# transaction may run on another of its connections.
_BEGIN = (
    f"BEGIN; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s';"
    f" SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; "
)
_DIALECT: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]
PostgresSession = psycopg.AsyncConnection[Row]


def url(database_url: str) -> sa.URL:
    """SQLAlchemy's URL for psycopg, from the usual `postgresql://…`. Raises ValueError for any other database."""
    parsed = sa.make_url(database_url)
    if parsed.get_backend_name() != "postgresql":
        raise ValueError("PostgreSQL is the only database")
    return parsed.set(drivername="postgresql+psycopg")


async def connect(database_url: str, **options: Any) -> PostgresSession:
    """A session in autocommit mode. The client puts values into the SQL: several statements then share a round trip.

    options: libpq's connection parameters.
    """
    session = await psycopg.AsyncConnection.connect(
        database_url,
        autocommit=True,
        row_factory=_named,
        cursor_factory=psycopg.AsyncClientCursor,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **options,
    )
    session.adapters.register_dumper(dict, JsonbDumper)
    return session


def _named(cursor: psycopg.AsyncCursor[Any]) -> RowMaker[Row]:
    """A cheaper `psycopg.rows.dict_row`: that one also builds a description of every column of every result."""
    result = cursor.pgresult
    names = [(result.fname(n) or b"").decode() for n in range(result.nfields)] if result else []
    return lambda values: dict(zip(names, values, strict=True))


class Connection:
    """Statements of one session: in one transaction, or each by itself.

    `commit=True` commits the transaction with the statement, in the same round trip.
    """

    def __init__(self, session: PostgresSession, begin: str = "") -> None:
        self._session = session
        self._unsent = begin
        self._on_commit: list[Callable[[], None]] = []
        self.is_committed = False

    async def rows(self, statement: Statement, *, commit: bool = False, **values: Any) -> list[Row]:
        """The rows that a statement returns."""
        cursor = await self._send(statement, values, commit=commit)
        return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    async def row(self, statement: Statement, *, commit: bool = False, **values: Any) -> Row | None:
        """The first row that a statement returns, if any."""
        return next(iter(await self.rows(statement, commit=commit, **values)), None)

    async def records(
        self, read: Callable[[Row], Record], statement: Statement, *, commit: bool = False, **values: Any
    ) -> list[Record]:
        """The rows that a statement returns, as records."""
        return [read(row) for row in await self.rows(statement, commit=commit, **values)]

    async def record(
        self, read: Callable[[Row], Record], statement: Statement, *, commit: bool = False, **values: Any
    ) -> Record | None:
        """The first row that a statement returns, if any, as a record."""
        row = await self.row(statement, commit=commit, **values)
        return None if row is None else read(row)

    async def value(self, statement: Statement, **values: Any) -> Any:
        """The first column of the first row; None without a row."""
        row = await self.row(statement, **values)
        return next(iter(row.values())) if row else None

    async def run(self, statement: Statement, *, commit: bool = False, **values: Any) -> int:
        """Runs a statement and returns the number of rows that it wrote."""
        return (await self._send(statement, values, commit=commit)).rowcount

    def pipeline(self, statement: str, **values: Any) -> None:
        """Sends a statement together with the next one.

        Its result is discarded, so the caller must hold the rows that make its effect certain.
        """
        self._unsent += psycopg.AsyncClientCursor(self._session).mogrify(statement, values) + "; "

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Calls `callback` after the transaction is committed; a transaction that is rolled back never calls it."""
        self._on_commit.append(callback)

    async def commit(self) -> None:
        """Commits, unless a statement did so already."""
        if not self.is_committed:
            started = time.monotonic()
            await self._session.execute(self._unsent + "COMMIT")
            logs.add_duration("db_ms", time.monotonic() - started)
            self.is_committed = True
        for callback in self._on_commit:
            callback()

    async def _send(self, statement: Statement, values: Mapping[str, Any], *, commit: bool) -> psycopg.AsyncCursor[Row]:
        cursor: psycopg.AsyncClientCursor[Row] = self._session.cursor()  # type: ignore[assignment] # see connect()
        if not isinstance(statement, str):
            statement, values = _written_out(statement)
        text = self._unsent + cursor.mogrify(statement, values) + ("; COMMIT" if commit else "")
        self._unsent, self.is_committed = "", commit
        started = time.monotonic()
        try:
            await cursor.execute(text)
        finally:
            logs.add_duration("db_ms", time.monotonic() - started)
        return await cursor.set_result(-2 if commit else -1)


def begin(session: PostgresSession) -> Connection:
    """A transaction; the caller commits it."""
    return Connection(session, _BEGIN)


def _written_out(statement: sa.Executable) -> tuple[str, Mapping[str, Any]]:
    compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return str(compiled), compiled.params


class Database:
    """A pool of at most `pool_size` sessions.

    If PostgreSQL has closed a session, the call that uses it fails, and the pool opens all sessions anew.
    """

    def __init__(self, database_url: str, pool_size: int) -> None:
        self._url = database_url
        self._idle: list[PostgresSession] = []
        self._available = asyncio.Semaphore(pool_size)
        self._waiting = self._busy = 0

    def sessions(self) -> dict[str, int]:
        """Numbers of busy sessions, of idle sessions, and of calls that wait for a session."""
        return {"busy": self._busy, "idle": len(self._idle), "waited_for": self._waiting}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commits at the end of the block; rolls back if the block raises."""
        await self._wait()
        try:
            session = self._idle.pop() if self._idle else await connect(self._url)
            try:
                connection = begin(session)
                yield connection
                await connection.commit()
            except Exception:
                await self._roll_back(session)
                raise
            except BaseException:
                # The call was cancelled: there is no time for a rollback.
                await session.close()
                raise
            finally:
                if not session.closed:
                    self._idle.append(session)
        finally:
            self._busy -= 1
            self._available.release()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(POOL_TIMEOUT_SECONDS):
                await self._available.acquire()
        finally:
            self._waiting -= 1
        self._busy += 1

    async def _roll_back(self, session: PostgresSession) -> None:
        try:
            await session.rollback()
        except psycopg.OperationalError:
            await session.close()
        if session.closed:
            await self.close()

    async def close(self) -> None:
        """Closes the idle sessions."""
        idle, self._idle = self._idle, []
        for session in idle:
            await session.close()


def translate(error: Exception) -> errors.ServiceError | None:
    """The error that a caller gets for a database error; None for a fault of this program."""
    match error:
        case psycopg.DataError():
            return errors.InvalidArgument("request", "holds a value that cannot be stored")
        case psycopg.OperationalError() | psycopg.InterfaceError() | TimeoutError():
            return errors.Unavailable("The database is unavailable", reason="DATABASE_AWAY")
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Now:
    """A value to write: the database's clock plus some seconds."""

    seconds: float = 0.0


def assignments(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """`column = value, …` for an UPDATE of these columns, and the values to send with it."""
    columns = [f"{name} = {_NOW % name if isinstance(value, Now) else f'%({name})s'}" for name, value in values.items()]
    sent = {name: value.seconds if isinstance(value, Now) else value for name, value in values.items()}
    return ", ".join(columns), sent


_NOW = "clock_timestamp() + %%(%s)s * interval '1 second'"


def parse_id(text: str) -> UUID | None:
    """The UUID that a client sent; None for any other text, which is the id of no row."""
    try:
        return UUID(text)
    except ValueError:
        return None
