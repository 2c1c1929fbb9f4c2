"""The one way to PostgreSQL: a bounded pool, short transactions in few round trips, what its errors mean to callers.

    transaction() ─▶ BEGIN and its limits travel with the first statement ─▶ … ─▶ COMMIT travels with the last one,
                     where the caller knows that it is the last

A statement is SQL with `%(name)s`, or SQLAlchemy's where it is put together at run time. Building and caching those
took more than half of a call's CPU time, so whatever can be written out is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.rows import DictRow, RowMaker
from psycopg.types.json import JsonbDumper
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from services import errors, logs

Row = Mapping[str, Any]
Statement = str | sa.Executable
STATEMENT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 5
# How long a call waits for one of the pool's connections.
POOL_TIMEOUT_SECONDS = 5
# The limits are set in each transaction by itself: PgBouncer refuses startup parameters, and lends each transaction
# another connection. For the same reason nothing is prepared.
_BEGIN = (
    f"BEGIN; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s';"
    f" SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; "
)
_DIALECT: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]
Session = psycopg.AsyncConnection[DictRow]


def url(database_url: str) -> sa.URL:
    """SQLAlchemy's URL for psycopg, from the usual `postgresql://…`. Raises ValueError for any other database."""
    parsed = sa.make_url(database_url)
    if parsed.get_backend_name() != "postgresql":
        raise ValueError("PostgreSQL is the only database")
    return parsed.set(drivername="postgresql+psycopg")


async def connect(database_url: str, **how: Any) -> Session:
    """A session in which each statement stands by itself. Values are put into the SQL on this side: only so may several
    statements share a round trip."""
    session = await psycopg.AsyncConnection.connect(
        database_url,
        autocommit=True,
        row_factory=_named,
        cursor_factory=psycopg.AsyncClientCursor,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **how,
    )
    session.adapters.register_dumper(dict, JsonbDumper)
    return session


def _named(cursor: psycopg.AsyncCursor[Any]) -> RowMaker[DictRow]:
    """As psycopg's `dict_row`, which besides makes a description of each column, anew for each result."""
    result = cursor.pgresult
    names = [(result.fname(n) or b"").decode() for n in range(result.nfields)] if result else []
    return lambda values: dict(zip(names, values, strict=True))


class Connection:
    """Statements of one session, in one transaction or each by itself."""

    def __init__(self, session: Session, begin: str = "") -> None:
        self._session = session
        self._unsent = begin
        self._afterwards: list[Callable[[], None]] = []
        self.is_over = False

    async def rows(self, statement: Statement, *, last: bool = False, **values: Any) -> list[DictRow]:
        """What a statement returns. `last`: the transaction is committed with it, in the same round trip."""
        cursor = await self._send(statement, values, last=last)
        return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    async def row(self, statement: Statement, *, last: bool = False, **values: Any) -> DictRow | None:
        """The first row that a statement returns, if any."""
        return next(iter(await self.rows(statement, last=last, **values)), None)

    async def value(self, statement: Statement, **values: Any) -> Any:
        """The first column of the first row; None where there is none."""
        row = await self.row(statement, **values)
        return next(iter(row.values())) if row else None

    async def run(self, statement: Statement, *, last: bool = False, **values: Any) -> int:
        """How many rows a statement wrote."""
        return (await self._send(statement, values, last=last)).rowcount

    def later(self, statement: str, **values: Any) -> None:
        """Sends a statement together with the next one. Nobody hears what it did, so rows must be held that make it
        certain."""
        self._unsent += psycopg.AsyncClientCursor(self._session).mogrify(statement, values) + "; "

    def afterwards(self, note: Callable[[], None]) -> None:
        """Has something noted once it is committed, and not where it is not."""
        self._afterwards.append(note)

    async def commit(self) -> None:
        """Makes an end, unless the last statement did."""
        if not self.is_over:
            started = time.monotonic()
            await self._session.execute(self._unsent + "COMMIT")
            logs.add_duration("db_ms", time.monotonic() - started)
            self.is_over = True
        for note in self._afterwards:
            note()

    async def _send(
        self, statement: Statement, values: Mapping[str, Any], *, last: bool
    ) -> psycopg.AsyncCursor[DictRow]:
        cursor: psycopg.AsyncClientCursor[DictRow] = self._session.cursor()  # type: ignore[assignment]
        if not isinstance(statement, str):
            statement, values = _written_out(statement)
        text = self._unsent + cursor.mogrify(statement, values) + ("; COMMIT" if last else "")
        self._unsent, self.is_over = "", last
        started = time.monotonic()
        try:
            await cursor.execute(text)
        finally:
            logs.add_duration("db_ms", time.monotonic() - started)
        return await cursor.set_result(-2 if last else -1)


def begin(session: Session) -> Connection:
    """A transaction, which its owner commits."""
    return Connection(session, _BEGIN)


def _written_out(statement: sa.Executable) -> tuple[str, Mapping[str, Any]]:
    compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return str(compiled), compiled.params


class Database:
    """Gives out transactions, on at most `pool_size` sessions.

    A session that PostgreSQL closed costs the call that finds out; then all are made anew.
    """

    def __init__(self, database_url: str, pool_size: int) -> None:
        self._url = database_url
        self._idle: list[Session] = []
        self._room = asyncio.Semaphore(pool_size)
        self._waiting = self._busy = 0

    def sessions(self) -> dict[str, int]:
        """How many are at work, how many rest, and how many calls wait for one."""
        return {"busy": self._busy, "idle": len(self._idle), "waited_for": self._waiting}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commits at the end of the block; rolls back where it raises."""
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
                # Cancelled: there is no time to ask what became of it.
                await session.close()
                raise
            finally:
                if not session.closed:
                    self._idle.append(session)
        finally:
            self._busy -= 1
            self._room.release()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(POOL_TIMEOUT_SECONDS):
                await self._room.acquire()
        finally:
            self._waiting -= 1
        self._busy += 1

    async def _roll_back(self, session: Session) -> None:
        try:
            await session.rollback()
        except psycopg.OperationalError:
            await session.close()
        if session.closed:
            await self.close()

    async def close(self) -> None:
        """Closes the sessions that nobody uses."""
        idle, self._idle = self._idle, []
        for session in idle:
            await session.close()


def translate(error: Exception) -> errors.ServiceError | None:
    """What a database error means to a caller; None for what is our own fault."""
    match error:
        case psycopg.DataError():
            return errors.InvalidArgument("request", "holds a value that cannot be stored")
        case psycopg.OperationalError() | psycopg.InterfaceError() | TimeoutError():
            return errors.Unavailable("The database is away", reason="DATABASE_AWAY")
        case _:
            return None


@dataclass(frozen=True)
class Now:
    """A value to write: the database's clock, some seconds on."""

    seconds: float = 0.0


def assignments(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """`column = value, …` for an UPDATE of these columns, and the values to send with it."""
    written = [f"{name} = {_NOW % name if isinstance(value, Now) else f'%({name})s'}" for name, value in values.items()]
    sent = {name: value.seconds if isinstance(value, Now) else value for name, value in values.items()}
    return ", ".join(written), sent


_NOW = "clock_timestamp() + %%(%s)s * interval '1 second'"


def parse_id(text: str) -> UUID | None:
    """The UUID that a client sent, or None: what is no UUID is the id of nothing."""
    try:
        return UUID(text)
    except ValueError:
        return None
