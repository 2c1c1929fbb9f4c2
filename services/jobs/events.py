"""The outbox, read so that no event is missed, and emptied of what is old.

A serial number is given before its transaction commits, so a reader that goes by it steps over one that commits late.
Events are therefore ordered by the transaction that wrote them, and only those are read whose transaction, like every
older one, is over: below `pg_snapshot_xmin` of the reader's snapshot. Within one job an event never stands before the
one that it follows: where its transaction is the older one, it takes the other's place (migration 0009).
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.jobs.schema import event_positions, events

Row = sa.RowMapping
BATCH = 500
PURGE_BATCH = 1000
PURGED = "purged"
_settled: sa.ColumnElement[int] = sa.literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_place = sa.tuple_(events.c.xid, events.c.id)
# Who holds this row may purge.
_purging = sa.select(event_positions.c.name).where(event_positions.c.name == PURGED)


@dataclass(frozen=True, order=True)
class Position:
    """Where a reader stands: after the event `id` of the transaction `xid`."""

    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"


def parse(text: str) -> Position:
    """The position that an event's id names. Raises Invalid."""
    xid, _, number = text.partition("-")
    if not (xid.isascii() and xid.isdecimal() and number.isascii() and number.isdecimal() and len(text) <= 40):
        raise errors.Invalid("after", "is not the id of an event")
    return Position(min(int(xid), 2**63 - 1), min(int(number), 2**63 - 1))


async def now(connection: AsyncConnection) -> Position:
    """The position after which only later events come."""
    return Position(int(await connection.scalar(sa.select(_settled)) or 0), 0)


async def read(connection: AsyncConnection, after: Position) -> list[Row]:
    """The next events after a position, oldest first, at most BATCH. Raises OutOfRange where some are purged."""
    statement = (
        sa.select(events)
        .where(_place > sa.tuple_(after.xid, after.id), events.c.xid < _settled)
        .order_by(events.c.xid, events.c.id)
        .limit(BATCH)
    )
    rows = list((await connection.execute(statement)).mappings())
    if rows:
        # After reading: what was purged in between is missing from the rows.
        await check_kept(connection, after)
    return rows


async def check_kept(connection: AsyncConnection, after: Position) -> None:
    """Raises OutOfRange where events after a position are purged."""
    purged = await position(connection, PURGED)
    if purged and after < purged:
        message = f"Events after {after} are no longer kept; those after {purged} are"
        raise errors.OutOfRange(message, reason="EVENTS_PURGED")


async def position(connection: AsyncConnection, name: str) -> Position | None:
    """Where the one of that name stands, or None."""
    columns = sa.select(event_positions.c.xid, event_positions.c.id).where(event_positions.c.name == name)
    row = (await connection.execute(columns)).one_or_none()
    return Position(*row) if row else None


async def move(connection: AsyncConnection, name: str, to: Position) -> None:
    """Records where the one of that name stands."""
    moved = {"xid": to.xid, "id": to.id, "moved_at": sa.func.clock_timestamp()}
    statement = insert(event_positions).values(name=name, **moved)
    await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=moved))


async def hold(connection: AsyncConnection, name: str) -> Position:
    """Puts a new one before the first event that is kept: from now on none is purged that it has not passed."""
    await connection.execute(_purging.with_for_update())
    kept = await position(connection, PURGED) or Position(0, 0)
    await move(connection, name, kept)
    return kept


async def purge(connection: AsyncConnection, ttl_seconds: float) -> int:
    """Deletes old events, at most PURGE_BATCH, none that somebody who must send them has not. Returns how many.

    One replica at a time purges; the others have nothing to do meanwhile.
    """
    if await connection.scalar(_purging.with_for_update(skip_locked=True)) is None:
        return 0
    upto = await _purgeable(connection, ttl_seconds)
    if upto is None:
        return 0
    await move(connection, PURGED, upto)
    return (await connection.execute(sa.delete(events).where(_place <= sa.tuple_(upto.xid, upto.id)))).rowcount


async def _purgeable(connection: AsyncConnection, ttl_seconds: float) -> Position | None:
    """The last old event among the first ones. One that it overtook may be younger by what its transaction took."""
    unsent = sa.exists().where(
        event_positions.c.name != PURGED, sa.tuple_(event_positions.c.xid, event_positions.c.id) < _place
    )
    first = (
        sa.select(events.c.xid, events.c.id, events.c.created_at)
        .where(events.c.xid < _settled, ~unsent)
        .order_by(events.c.xid, events.c.id)
        .limit(PURGE_BATCH)
        .cte("first")
    )
    old = first.c.created_at < sa.func.clock_timestamp() - timedelta(seconds=ttl_seconds)
    last = sa.select(first.c.xid, first.c.id).where(old).order_by(first.c.xid.desc(), first.c.id.desc()).limit(1)
    row = (await connection.execute(last)).one_or_none()
    return Position(*row) if row else None
