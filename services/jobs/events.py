"""The outbox, read so that no event is missed, and emptied of what is old.

A serial number is given before its transaction commits, so a reader that goes by it steps over one that commits late.
Events are therefore ordered by the transaction that wrote them, and only those are read whose transaction, like every
older one, is over: below `pg_snapshot_xmin` of the reader's snapshot. Within one job an event never stands before the
one that it follows: where its transaction is the older one, it takes the other's place (migration 0009).
"""

from dataclasses import dataclass

from psycopg.rows import DictRow

from services import errors
from services.jobs.database import Connection

BATCH = 500
PURGE_BATCH = 1000
PURGED = "purged"
_SETTLED = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
# Who holds this row may purge.
_PURGING = f"SELECT name FROM event_positions WHERE name = '{PURGED}'"


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


async def now(connection: Connection) -> Position:
    """The position after which only later events come."""
    return Position(await connection.value(f"SELECT {_SETTLED}"), 0)


async def read(connection: Connection, after: Position) -> list[DictRow]:
    """The next events after a position, oldest first, at most BATCH. Raises OutOfRange where some are purged."""
    rows = await connection.rows(_READ, xid=after.xid, id=after.id)
    if rows:
        # After reading: what was purged in between is missing from the rows.
        await check_kept(connection, after)
    return rows


_READ = f"""
    SELECT * FROM events WHERE (xid, id) > (%(xid)s, %(id)s) AND xid < {_SETTLED} ORDER BY xid, id LIMIT {BATCH}
"""


async def check_kept(connection: Connection, after: Position) -> None:
    """Raises OutOfRange where events after a position are purged."""
    purged = await position(connection, PURGED)
    if purged and after < purged:
        message = f"Events after {after} are no longer kept; those after {purged} are"
        raise errors.OutOfRange(message, reason="EVENTS_PURGED")


async def position(connection: Connection, name: str) -> Position | None:
    """Where the one of that name stands, or None."""
    row = await connection.row("SELECT xid, id FROM event_positions WHERE name = %(name)s", name=name)
    return Position(row["xid"], row["id"]) if row else None


async def move(connection: Connection, name: str, to: Position) -> None:
    """Records where the one of that name stands."""
    await connection.run(_STAND, name=name, xid=to.xid, id=to.id)


_STAND = """
    INSERT INTO event_positions (name, xid, id, moved_at) VALUES (%(name)s, %(xid)s, %(id)s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET xid = excluded.xid, id = excluded.id, moved_at = excluded.moved_at
"""


async def hold(connection: Connection, name: str) -> Position:
    """Puts a new one before the first event that is kept: from now on none is purged that it has not passed."""
    await connection.run(f"{_PURGING} FOR UPDATE")
    kept = await position(connection, PURGED) or Position(0, 0)
    await move(connection, name, kept)
    return kept


async def purge(connection: Connection, ttl_seconds: float) -> int:
    """Deletes old events, at most PURGE_BATCH, none that somebody who must send them has not. Returns how many.

    One replica at a time purges; the others have nothing to do meanwhile.
    """
    if await connection.value(f"{_PURGING} FOR UPDATE SKIP LOCKED") is None:
        return 0
    row = await connection.row(_PURGEABLE, ttl_seconds=ttl_seconds)
    if row is None:
        return 0
    await move(connection, PURGED, Position(row["xid"], row["id"]))
    return await connection.run("DELETE FROM events WHERE (xid, id) <= (%(xid)s, %(id)s)", **row)


# The last old event among the first ones. One that it overtook may be younger by what its transaction took.
_PURGEABLE = f"""
    WITH first AS (
        SELECT xid, id, created_at FROM events WHERE xid < {_SETTLED} AND NOT EXISTS (
            SELECT 1 FROM event_positions AS who
            WHERE who.name <> '{PURGED}' AND (who.xid, who.id) < (events.xid, events.id))
        ORDER BY xid, id LIMIT {PURGE_BATCH})
    SELECT xid, id FROM first WHERE created_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
    ORDER BY xid DESC, id DESC LIMIT 1
"""
