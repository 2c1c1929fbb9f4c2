"""The outbox of events: readers miss none, and old events are purged.

A serial number is assigned before its transaction commits, so a reader that follows it skips late commits. Events are
therefore ordered by the transaction that wrote them. A reader sees an event once its transaction and every older one
have ended: below `pg_snapshot_xmin` of the reader's snapshot. Events of one job stay in the order of its transitions:
an event of an older transaction takes the position of the event that it follows (migration 0009).
"""

from dataclasses import dataclass

from crease.events.v1 import event_pb2
from crease.jobs.v1 import job_pb2
from services import errors
from services.jobs.domain.protobuf import enum_number, timestamp
from services.jobs.domain.records import Event
from services.jobs.store.database import Connection
from services.jobs.store.rows import read_event

BATCH = 500
PURGE_BATCH = 1000
# Names of event_positions: up to where events are purged, and up to where the relay has sent them to each SQS queue.
PURGED = "purged"
RELAY = "sqs"
RELAY_OF_ALL = "sqs-events"
RELAYS = f"('{RELAY}', '{RELAY_OF_ALL}')"
OLDEST_RUNNING = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
# The lock on this row permits purging.
_LOCK_PURGE = f"SELECT name FROM event_positions WHERE name = '{PURGED}'"


@dataclass(frozen=True, order=True)
class Position:
    """A reader's position: after the event `id` of the transaction `xid`."""

    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"


def parse_position(field: str, text: str) -> Position:
    """The position of an event's id, which a field of a request holds. Raises InvalidArgument."""
    xid, _, number = text.partition("-")
    if not (xid.isascii() and xid.isdecimal() and number.isascii() and number.isdecimal() and len(text) <= 40):
        raise errors.InvalidArgument(field, "must be the id of an event")
    return Position(min(int(xid), 2**63 - 1), min(int(number), 2**63 - 1))


def cloud_event(event: Event) -> event_pb2.Event:
    """A transition as a CloudEvents 1.0 message, whose id is the event's position."""
    return event_pb2.Event(
        id=str(Position(event.xid, event.id)),
        source="/crease/jobs",
        specversion="1.0",
        type=event.type,
        subject=str(event.job_id),
        time=timestamp(event.created_at),
        data=event_pb2.JobTransition(
            job_id=str(event.job_id),
            session_id=str(event.session_id),
            from_status=enum_number(job_pb2.JobStatus, event.from_status),
            to_status=enum_number(job_pb2.JobStatus, event.to_status),
            failure_code=event.failure_code,
            sample_fps=event.sample_fps,
            include_frames=event.include_frames,
        ),
    )


async def end_position(connection: Connection) -> Position:
    """The position between the events that can be read now and all later events."""
    return Position(await connection.value(f"SELECT {OLDEST_RUNNING}"), 0)


async def read_events(connection: Connection, after: Position, *, commit: bool = False) -> list[Event]:
    """The next events after a position, oldest first, at most BATCH. Raises OutOfRange if any of them are purged."""
    rows = await connection.rows(_READ, commit=commit, xid=after.xid, id=after.id)
    if rows and after < (purged := Position(rows[0]["purged_xid"], rows[0]["purged_id"])):
        raise _events_purged(after, purged)
    return [read_event(row) for row in rows]


_READ = f"""
    SELECT events.*, session.owner_type, session.owner_id, purged.xid AS purged_xid, purged.id AS purged_id
    FROM events JOIN event_positions AS purged ON purged.name = '{PURGED}'
    LEFT JOIN video_sessions AS session ON session.id = events.session_id
    WHERE (events.xid, events.id) > (%(xid)s, %(id)s) AND events.xid < {OLDEST_RUNNING}
    ORDER BY events.xid, events.id LIMIT {BATCH}
"""


def _events_purged(after: Position, purged: Position) -> errors.OutOfRange:
    message = f"Events after {after} are no longer kept; those after {purged} are"
    return errors.OutOfRange(message, reason="EVENTS_PURGED", after=str(purged))


async def check_not_purged(connection: Connection, after: Position) -> None:
    """Raises OutOfRange if events after a position are purged."""
    purged = await get_position(connection, PURGED)
    if purged and after < purged:
        raise _events_purged(after, purged)


async def get_position(connection: Connection, name: str) -> Position | None:
    """The saved position of a reader; None if it has none."""
    row = await connection.row("SELECT xid, id FROM event_positions WHERE name = %(name)s", name=name)
    return Position(row["xid"], row["id"]) if row else None


async def save_position(connection: Connection, name: str, position: Position) -> None:
    """Saves the position of a reader."""
    await connection.run(_SAVE_POSITION, name=name, xid=position.xid, id=position.id)


_SAVE_POSITION = """
    INSERT INTO event_positions (name, xid, id, moved_at) VALUES (%(name)s, %(xid)s, %(id)s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET xid = excluded.xid, id = excluded.id, moved_at = excluded.moved_at
"""


async def add_reader(connection: Connection, name: str) -> Position:
    """Saves the position of a new reader before the first kept event. From then on, purging waits for the reader."""
    await connection.run(f"{_LOCK_PURGE} FOR UPDATE")
    start = await get_position(connection, PURGED) or Position(0, 0)
    await save_position(connection, name, start)
    return start


async def purge(connection: Connection, ttl_seconds: float) -> int:
    """Deletes at most PURGE_BATCH events that are old and that every reader has passed. Returns how many.

    One replica purges at a time; meanwhile, the others return 0.
    """
    if await connection.value(f"{_LOCK_PURGE} FOR UPDATE SKIP LOCKED") is None:
        return 0
    row = await connection.row(_PURGEABLE, ttl_seconds=ttl_seconds)
    if row is None:
        return 0
    await save_position(connection, PURGED, Position(row["xid"], row["id"]))
    return await connection.run(_PURGE, **row)


# By place: PostgreSQL estimates a range by its first column alone, and may read the whole table for one batch. No event
# changes, so each keeps its place.
_PURGE = f"""
    DELETE FROM events WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM events WHERE (xid, id) <= (%(xid)s, %(id)s) ORDER BY xid, id LIMIT {PURGE_BATCH}))
"""


# The last old event of the first PURGE_BATCH. An event before it may be younger, by the duration of its transaction.
_PURGEABLE = f"""
    WITH first AS (
        SELECT xid, id, created_at FROM events WHERE xid < {OLDEST_RUNNING} AND NOT EXISTS (
            SELECT 1 FROM event_positions AS reader
            WHERE reader.name <> '{PURGED}' AND (reader.xid, reader.id) < (events.xid, events.id))
        ORDER BY xid, id LIMIT {PURGE_BATCH})
    SELECT xid, id FROM first WHERE created_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
    ORDER BY xid DESC, id DESC LIMIT 1
"""


async def relay_lag_seconds(connection: Connection) -> float:
    """The age of the oldest event that a relay has not sent; 0 without such an event or a relay."""
    return float(await connection.value(_LAG) or 0)


_LAG = f"""
    SELECT extract(epoch FROM clock_timestamp() - min(first.created_at)) FROM event_positions AS reader, LATERAL (
        SELECT created_at FROM events WHERE (xid, id) > (reader.xid, reader.id) AND xid < {OLDEST_RUNNING}
        ORDER BY xid, id LIMIT 1) AS first
    WHERE reader.name IN {RELAYS}
"""
