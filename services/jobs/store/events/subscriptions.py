"""Subscriptions of services: jobs keeps the position of each, and its streams share the events.

    new ──(claimed by a stream)──▶ delivered ──(acknowledged)──▶ finished
                 ▲                     │
                 └─(its stream ended)──┘

The position of a subscription is after the last event that was claimed or does not match. A row of `deliveries` is an
event that was claimed and is not acknowledged. Its stream renews the lease; after the stream's end, or its replica's,
another stream claims the event again. A subscription delays no purge: one that fell behind is told so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from services import errors
from services.jobs.domain.event_filter import EventFilter
from services.jobs.domain.records import Event
from services.jobs.store.database import Connection
from services.jobs.store.events import outbox
from services.jobs.store.events.outbox import Position
from services.jobs.store.rows import read_event

# The most subscriptions of one service, and the most events that one stream has without an acknowledgement.
MAX_SUBSCRIPTIONS = 100
MAX_UNACKNOWLEDGED = 1000
# Longer than a stream may wait for its reader (CREASE_WRITE_SECONDS): a lease ends only after its stream.
LEASE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription: the service and its name, and what it asked for. `owner`: `coach:ID` or `org:ID`, or empty."""

    id: int
    service: str
    name: str
    types: frozenset[str]
    owner: str
    session_id: UUID | None


async def subscribe(connection: Connection, subscription: Subscription, after: Position | None) -> Subscription:
    """The subscription of this service and name, with its id: the existing one, or a new one from a position on.

    after: None means from now on. Raises FailedPrecondition if the existing one asked for something else, OutOfRange
    for a position before the first kept event, ResourceExhausted if the service has too many.
    """
    values: dict[str, Any] = {
        "service": subscription.service,
        "name": subscription.name,
        "types": sorted(subscription.types),
        "owner": subscription.owner,
        "session_id": subscription.session_id,
    }
    row = await connection.row(_GET, **values)
    if row is None:
        start = after or await outbox.end_position(connection)
        await outbox.check_not_purged(connection, start)
        if await connection.value(_COUNT, **values) >= MAX_SUBSCRIPTIONS:
            message = f"The service has {MAX_SUBSCRIPTIONS} subscriptions, the upper bound: delete one"
            raise errors.ResourceExhausted(message, reason="TOO_MANY_SUBSCRIPTIONS")
        await connection.run(_CREATE, **values, xid=start.xid, event_id=start.id)
        # Made just now, here or by another call.
        [row] = await connection.rows(_GET, **values)
    if any(row[name] != value for name, value in values.items()):
        message = f"The subscription {subscription.name} has another filter: use another name, or DeleteSubscription"
        raise errors.FailedPrecondition(message, reason="SUBSCRIPTION_DIFFERS")
    return replace(subscription, id=row["id"])


_GET = "SELECT * FROM subscriptions WHERE service = %(service)s AND name = %(name)s"
_COUNT = "SELECT count(*) FROM subscriptions WHERE service = %(service)s"
_CREATE = """
    INSERT INTO subscriptions (service, name, types, owner, session_id, xid, event_id)
    VALUES (%(service)s, %(name)s, %(types)s, %(owner)s, %(session_id)s, %(xid)s, %(event_id)s)
    ON CONFLICT (service, name) DO NOTHING
"""


async def delete(connection: Connection, service: str, name: str) -> None:
    """Deletes a subscription; its streams end with NotFound. Raises NotFound."""
    deleted = "DELETE FROM subscriptions WHERE service = %(service)s AND name = %(name)s"
    if not await connection.run(deleted, service=service, name=name):
        raise _not_found(name)


def _not_found(name: str) -> errors.NotFound:
    return errors.NotFound(f"No subscription {name} exists: WatchEvents makes one", reason="SUBSCRIPTION_NOT_FOUND")


async def acknowledge(connection: Connection, service: str, name: str, events: Sequence[Position]) -> None:
    """Finishes delivered events; ignores those that are finished already. Raises NotFound."""
    xids, ids = [event.xid for event in events], [event.id for event in events]
    if not await connection.rows(_ACKNOWLEDGE, commit=True, service=service, name=name, xids=xids, ids=ids):
        raise _not_found(name)


_ACKNOWLEDGE = """
    WITH subscription AS (SELECT id FROM subscriptions WHERE service = %(service)s AND name = %(name)s),
    finished AS (
        SELECT delivery.* FROM deliveries AS delivery
        JOIN subscription ON subscription.id = delivery.subscription_id
        JOIN unnest(%(xids)s::bigint[], %(ids)s::bigint[]) AS event (xid, id)
            ON (event.xid, event.id) = (delivery.xid, delivery.event_id)
        ORDER BY delivery.xid, delivery.event_id FOR UPDATE OF delivery),
    deleted AS (
        DELETE FROM deliveries USING finished
        WHERE (deliveries.subscription_id, deliveries.xid, deliveries.event_id)
            = (finished.subscription_id, finished.xid, finished.event_id))
    SELECT id FROM subscription
"""


async def claim(
    connection: Connection, subscription: Subscription, stream: UUID, event_filter: EventFilter
) -> tuple[list[Event], bool]:
    """Claims the next events for a stream, oldest first; and whether there may be more for it at once.

    Raises NotFound if the subscription was deleted, OutOfRange if it fell behind what is kept.
    """
    of_stream: dict[str, Any] = {"id": subscription.id, "stream": stream}
    row = await connection.row(_LOOK, commit=True, **of_stream)
    if row is None:
        raise _not_found(subscription.name)
    room = MAX_UNACKNOWLEDGED - row["held"]
    if room <= 0 or not (row["has_new"] or row["has_released"]):
        return [], False
    row = await connection.row(
        "SELECT xid, event_id FROM subscriptions WHERE id = %(id)s FOR NO KEY UPDATE", **of_stream
    )
    if row is None:
        raise _not_found(subscription.name)
    position = Position(row["xid"], row["event_id"])
    released = await _claim_released(connection, subscription, stream, room)
    try:
        read = await outbox.read_events(connection, position)
    except errors.OutOfRange:
        raise await _fell_behind(connection, subscription) from None
    claimed: list[Event] = []
    last = position
    for event in read:
        if event_filter.matches(event):
            if len(released) + len(claimed) == room:
                break
            claimed.append(event)
        last = Position(event.xid, event.id)
    of_stream |= {"xids": [event.xid for event in claimed], "ids": [event.id for event in claimed]}
    await connection.run(_DELIVER, commit=True, xid=last.xid, event_id=last.id, **of_stream)
    return [*released, *claimed], len(read) == outbox.BATCH


# Without a lock: a stream polls, and most polls find nothing.
_LOOK = f"""
    SELECT
        (SELECT count(*) FROM deliveries WHERE subscription_id = sub.id AND stream = %(stream)s) AS held,
        EXISTS (SELECT FROM events WHERE (events.xid, events.id) > (sub.xid, sub.event_id)
                AND events.xid < {outbox.OLDEST_RUNNING}) AS has_new,
        EXISTS (SELECT FROM deliveries WHERE subscription_id = sub.id AND until < clock_timestamp()) AS has_released
    FROM subscriptions AS sub WHERE id = %(id)s
"""
_DELIVER = f"""
    WITH moved AS (UPDATE subscriptions SET xid = %(xid)s, event_id = %(event_id)s WHERE id = %(id)s)
    INSERT INTO deliveries (subscription_id, xid, event_id, stream, until)
    SELECT %(id)s, event.xid, event.id, %(stream)s, clock_timestamp() + interval '{LEASE_SECONDS} seconds'
    FROM unnest(%(xids)s::bigint[], %(ids)s::bigint[]) AS event (xid, id)
"""


async def _claim_released(connection: Connection, subscription: Subscription, stream: UUID, room: int) -> list[Event]:
    """Events whose stream has ended before they were acknowledged."""
    rows = await connection.rows(_CLAIM_RELEASED, id=subscription.id, stream=stream, room=room)
    if any(row["to_status"] is None for row in rows):
        raise await _fell_behind(connection, subscription)
    return [read_event(row) for row in rows]


_CLAIM_RELEASED = f"""
    WITH claimed AS (
        UPDATE deliveries SET stream = %(stream)s, until = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
        WHERE (subscription_id, xid, event_id) IN (
            SELECT subscription_id, xid, event_id FROM deliveries
            WHERE subscription_id = %(id)s AND until < clock_timestamp()
            ORDER BY xid, event_id LIMIT %(room)s FOR UPDATE)
        RETURNING xid, event_id)
    SELECT events.*, session.owner_type, session.owner_id
    FROM claimed LEFT JOIN events ON (events.xid, events.id) = (claimed.xid, claimed.event_id)
    LEFT JOIN video_sessions AS session ON session.id = events.session_id
    ORDER BY claimed.xid, claimed.event_id
"""


async def _fell_behind(connection: Connection, subscription: Subscription) -> errors.OutOfRange:
    purged = await outbox.get_position(connection, outbox.PURGED)
    message = (
        f"The subscription {subscription.name} fell behind: events that it has not delivered are no longer kept. "
        f"Those after {purged} are: call DeleteSubscription, then WatchEvents with this position as `after`"
    )
    return errors.OutOfRange(message, reason="EVENTS_PURGED", after=str(purged))


# The age of the oldest event that any subscription has not claimed or its service has not acknowledged; for a SELECT.
LAG_SECONDS = f"""
    SELECT extract(epoch FROM clock_timestamp() - min(event.created_at)) FROM subscriptions AS sub, LATERAL (
        (SELECT created_at FROM events
         WHERE (events.xid, events.id) > (sub.xid, sub.event_id) AND events.xid < {outbox.OLDEST_RUNNING}
         ORDER BY events.xid, events.id LIMIT 1)
        UNION ALL
        (SELECT created_at FROM deliveries AS delivery
         JOIN events ON (events.xid, events.id) = (delivery.xid, delivery.event_id)
         WHERE delivery.subscription_id = sub.id ORDER BY delivery.xid, delivery.event_id LIMIT 1)) AS event
"""


async def renew(connection: Connection, stream: UUID) -> None:
    """Renews the lease of all events that a stream has."""
    await connection.run(_RENEW, commit=True, stream=stream)


async def release(connection: Connection, stream: UUID) -> None:
    """Gives the events of an ended stream to the next one."""
    await connection.run(_RELEASE, commit=True, stream=stream)


# Rows are locked in one order, so that acknowledgements meanwhile cause no deadlock.
_OF_STREAM = """
    WHERE (subscription_id, xid, event_id) IN (
        SELECT subscription_id, xid, event_id FROM deliveries WHERE stream = %(stream)s
        ORDER BY subscription_id, xid, event_id FOR UPDATE)
"""
_RENEW = f"UPDATE deliveries SET until = clock_timestamp() + interval '{LEASE_SECONDS} seconds' {_OF_STREAM}"
_RELEASE = f"UPDATE deliveries SET until = '-infinity' {_OF_STREAM}"
