"""The outbox, read so that no event is missed, and emptied of what is old.

A serial number is given before its transaction commits, so a reader that goes by it steps over one that commits late.
Events are therefore ordered by the transaction that wrote them, and only those are read whose transaction, like every
older one, is over: below `pg_snapshot_xmin` of the reader's snapshot. Within one job an event never stands before the
one that it follows: where its transaction is the older one, it takes the other's place (migration 0009).
"""

from dataclasses import dataclass

from psycopg.rows import DictRow

from services import errors
from services.jobs.store.database import Connection

BATCH = 500
PURGE_BATCH = 1000
PURGED = "purged"
# Where the relay to SQS stands.
RELAY = "sqs"
SETTLED = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
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
    """The position that an event's id names. Raises InvalidArgument."""
    xid, _, number = text.partition("-")
    if not (xid.isascii() and xid.isdecimal() and number.isascii() and number.isdecimal() and len(text) <= 40):
        raise errors.InvalidArgument("after", "is not the id of an event")
    return Position(min(int(xid), 2**63 - 1), min(int(number), 2**63 - 1))


async def now(connection: Connection) -> Position:
    """The position after which only later events come."""
    return Position(await connection.value(f"SELECT {SETTLED}"), 0)


async def read(connection: Connection, after: Position, *, commit: bool = False) -> list[DictRow]:
    """The next events after a position, oldest first, at most BATCH. Raises OutOfRange where some are purged."""
    rows = await connection.rows(_READ, commit=commit, xid=after.xid, id=after.id)
    if rows and after < (purged := Position(rows[0]["purged_xid"], rows[0]["purged_id"])):
        raise _purged(after, purged)
    return rows


_READ = f"""
    SELECT events.*, purged.xid AS purged_xid, purged.id AS purged_id
    FROM events JOIN event_positions AS purged ON purged.name = '{PURGED}'
    WHERE (events.xid, events.id) > (%(xid)s, %(id)s) AND events.xid < {SETTLED}
    ORDER BY events.xid, events.id LIMIT {BATCH}
"""


def _purged(after: Position, purged: Position) -> errors.OutOfRange:
    message = f"Events after {after} are no longer kept; those after {purged} are"
    return errors.OutOfRange(message, reason="EVENTS_PURGED")


async def check_kept(connection: Connection, after: Position) -> None:
    """Raises OutOfRange where events after a position are purged."""
    purged = await position(connection, PURGED)
    if purged and after < purged:
        raise _purged(after, purged)


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
        SELECT xid, id, created_at FROM events WHERE xid < {SETTLED} AND NOT EXISTS (
            SELECT 1 FROM event_positions AS who
            WHERE who.name <> '{PURGED}' AND (who.xid, who.id) < (events.xid, events.id))
        ORDER BY xid, id LIMIT {PURGE_BATCH})
    SELECT xid, id FROM first WHERE created_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
    ORDER BY xid DESC, id DESC LIMIT 1
"""


async def behind_seconds(connection: Connection, name: str) -> float:
    """For how long the first event that the one of that name has not passed has waited; 0 where there is none, or never
    was one of that name."""
    return float(await connection.value(_BEHIND, name=name) or 0)


_BEHIND = f"""
    SELECT extract(epoch FROM clock_timestamp() - first.created_at) FROM event_positions AS who, LATERAL (
        SELECT created_at FROM events WHERE (xid, id) > (who.xid, who.id) AND xid < {SETTLED}
        ORDER BY xid, id LIMIT 1) AS first
    WHERE who.name = %(name)s
"""
