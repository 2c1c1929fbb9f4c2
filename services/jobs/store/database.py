"""Access to PostgreSQL: a bounded pool, transactions of few round trips, and the gRPC errors of database errors.

    transaction() ─▶ BEGIN and its time limits travel with the first statement ─▶ …
                  ─▶ COMMIT travels with the last statement, where the caller marks it by `commit=True`

A statement is SQL with `%(name)s`, or SQLAlchemy's where it is put together at run time. Most are written out, because
building and caching SQLAlchemy's took more than half of a call's CPU time.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
# A process that stops, or whose machine or network dies, holds its row locks no longer than this.
SILENCE_TIMEOUT_SECONDS = 7
# The longest wait for an answer of PostgreSQL, which itself ends each statement earlier.
ANSWER_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 2
# The longest wait of a call for a session of the pool.
POOL_TIMEOUT_SECONDS = 5
# Between two failed attempts to connect; the pause doubles up to the second.
MIN_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS = 0.1, 1.0
# Each transaction sets its limits, and no statement is prepared: PgBouncer refuses startup parameters, and each
# transaction may run on another of its connections.
_BEGIN = (
    f"BEGIN; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s';"
    f" SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s';"
    f" SET LOCAL idle_in_transaction_session_timeout = '{SILENCE_TIMEOUT_SECONDS}s';"
    f" SET LOCAL tcp_user_timeout = '{SILENCE_TIMEOUT_SECONDS}s'; "
)
# Of this side's socket. They notice a dead machine; ANSWER_TIMEOUT_SECONDS also notices a peer that accepts and is
# silent.
_SOCKET_OPTIONS: dict[str, Any] = {
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": SILENCE_TIMEOUT_SECONDS * 1000,
}
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
        **_SOCKET_OPTIONS,
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

    `commit=True` commits the transaction with the statement, in the same round trip. A later statement begins another.
    """

    def __init__(self, session: PostgresSession, begin: str = "") -> None:
        self._session = session
        self._begin = self._unsent = begin
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
        self.is_committed = False

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Calls `callback` after the transaction is committed; a transaction that is rolled back never calls it."""
        self._on_commit.append(callback)

    async def commit(self) -> None:
        """Commits, unless a statement did so already."""
        if not self.is_committed:
            await answered(self._session, self._session.execute(self._unsent + "COMMIT"))
            self.is_committed = True
        for callback in self._on_commit:
            callback()

    async def _send(self, statement: Statement, values: Mapping[str, Any], *, commit: bool) -> psycopg.AsyncCursor[Row]:
        cursor: psycopg.AsyncClientCursor[Row] = self._session.cursor()  # type: ignore[assignment] # see connect()
        if not isinstance(statement, str):
            statement, values = _written_out(statement)
        text = self._unsent + cursor.mogrify(statement, values) + ("; COMMIT" if commit else "")
        self._unsent, self.is_committed = self._begin if commit else "", commit
        await answered(self._session, cursor.execute(text))
        return await cursor.set_result(-2 if commit else -1)


def begin(session: PostgresSession) -> Connection:
    """A transaction; the caller commits it."""
    return Connection(session, _BEGIN)


async def answered(session: PostgresSession, round_trip: Awaitable[object]) -> None:
    """Waits for PostgreSQL's answer, and cuts the connection if it takes too long. Raises psycopg's errors.

    A peer that is silent raises no error. A cancelled statement too waits for an answer until the connection is cut.
    """
    started = time.monotonic()
    timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_SECONDS, _cut, session)
    try:
        await round_trip
    except psycopg.OperationalError as error:
        if timer.when() <= asyncio.get_running_loop().time():
            message = f"PostgreSQL did not answer within {ANSWER_TIMEOUT_SECONDS} s; the connection was cut"
            raise psycopg.OperationalError(message) from error
        raise
    finally:
        timer.cancel()
        logs.add_duration("db_ms", time.monotonic() - started)


def _cut(session: PostgresSession) -> None:
    """Shuts the socket down, as if the peer had closed it: whatever waits for an answer ends."""
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),
        socket.fromfd(session.pgconn.socket, socket.AF_UNSPEC, socket.SOCK_STREAM) as peer,
    ):
        peer.shutdown(socket.SHUT_RDWR)


def _written_out(statement: sa.Executable) -> tuple[str, Mapping[str, Any]]:
    compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return str(compiled), compiled.params


class Database:
    """A pool of at most `pool_size` sessions.

    If a session is lost, the call that uses it fails, and the pool opens all sessions anew. While PostgreSQL refuses
    connections, the pool attempts one at a time, with a pause; other calls fail at once.
    """

    def __init__(self, database_url: str, pool_size: int) -> None:
        self._url = database_url
        self._idle: list[PostgresSession] = []
        self._available = asyncio.Semaphore(pool_size)
        self._waiting = self._busy = 0
        # After a failed attempt to connect: its error, the pause after it, and when the next attempt may begin.
        self._refusal = ""
        self._pause = 0.0
        self._connect_at = float("-inf")

    def sessions(self) -> dict[str, int]:
        """Numbers of busy sessions, of idle sessions, and of calls that wait for a session."""
        return {"busy": self._busy, "idle": len(self._idle), "waited_for": self._waiting}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commits at the end of the block; rolls back if the block raises."""
        await self._wait()
        try:
            session = self._idle.pop() if self._idle else await self._connect()
            try:
                connection = begin(session)
                yield connection
                await connection.commit()
            except Exception:
                await self._roll_back(session)
                raise
            except BaseException:
                # The call was cancelled: there is no time for a rollback.
                if session.closed:
                    await self.close()
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

    async def _connect(self) -> PostgresSession:
        """A new session. Raises OperationalError, at once if the last attempt failed just now."""
        now = time.monotonic()
        if now < self._connect_at:
            raise psycopg.OperationalError(self._refusal)
        if self._pause:
            # Other calls do not attempt it while this one does.
            self._connect_at = now + CONNECT_TIMEOUT_SECONDS
        try:
            session = await connect(self._url)
        except psycopg.OperationalError as error:
            self._pause = min(max(2 * self._pause, MIN_RECONNECT_SECONDS), MAX_RECONNECT_SECONDS)
            self._refusal, self._connect_at = str(error), time.monotonic() + self._pause
            raise
        except BaseException:
            self._connect_at = float("-inf")
            raise
        self._pause, self._connect_at = 0.0, float("-inf")
        return session

    async def _roll_back(self, session: PostgresSession) -> None:
        try:
            await answered(session, session.rollback())
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
