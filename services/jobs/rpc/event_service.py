"""EventService: the outbox as a stream, from a position that the client keeps, or by a subscription that jobs keeps."""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from uuid import UUID, uuid4

from google.protobuf import empty_pb2

from crease.events.v1 import event_pb2, event_pb2_grpc
from crease_client.reconnection import EVENTS_AFTER, MAX_ACKNOWLEDGED
from services import errors, logs
from services.auth import Service
from services.authorization import caller_as
from services.jobs.domain import authorization, states
from services.jobs.domain.event_filter import EventFilter
from services.jobs.notifier import Notifier
from services.jobs.store import sessions
from services.jobs.store.database import Connection, Database, parse_id, translate
from services.jobs.store.events import outbox, subscriptions
from services.jobs.store.events.outbox import cloud_event
from services.jobs.store.events.subscriptions import Subscription
from services.logs import Logger
from services.naming import OWNER_NAME
from services.serving import Context, call

SUBSCRIPTION = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
RENEW_SECONDS = subscriptions.LEASE_SECONDS / 4


class EventService(event_pb2_grpc.EventServiceServicer):
    def __init__(self, database: Database, notifier: Notifier, log: Logger) -> None:
        self._database = database
        self._notifier = notifier
        self._log = log

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[event_pb2.Event]:
        position = outbox.parse_position("after", request.after) if request.after else None
        async with self._database.transaction() as connection:
            event_filter = await _filter(connection, request)
            subscription = await _subscription(connection, request, position) if request.subscription else None
            if position is None:
                position = await outbox.end_position(connection)
            if subscription is None:
                await outbox.check_not_purged(connection, position)
        # The client learns where the stream begins, also while there is no event.
        await context.send_initial_metadata(((EVENTS_AFTER, str(position)),))
        events = self._deliver(subscription, event_filter) if subscription else self._read(position, event_filter)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _read(self, position: outbox.Position, event_filter: EventFilter) -> AsyncGenerator[event_pb2.Event]:
        """The events after a position, without an end."""
        while True:
            sequence = self._notifier.sequence
            async with self._database.transaction() as connection:
                events = await outbox.read_events(connection, position, commit=True)
            for event in events:
                position = outbox.Position(event.xid, event.id)
                if event_filter.matches(event):
                    yield cloud_event(event)
            if len(events) < outbox.BATCH:
                await self._notifier.wait(sequence)

    async def _deliver(self, subscription: Subscription, event_filter: EventFilter) -> AsyncGenerator[event_pb2.Event]:
        """The events of a subscription that fall to this stream, without an end."""
        stream, renewed_at = uuid4(), time.monotonic()
        try:
            while True:
                sequence = self._notifier.sequence
                async with self._database.transaction() as connection:
                    events, has_more = await subscriptions.claim(connection, subscription, stream, event_filter)
                for event in events:
                    yield cloud_event(event)
                    renewed_at = await self._renewed(stream, renewed_at)
                renewed_at = await self._renewed(stream, renewed_at)
                if not has_more:
                    await self._notifier.wait(sequence)
        finally:
            await self._release(stream)

    async def _renewed(self, stream: UUID, renewed_at: float) -> float:
        """Renews the lease of a stream where it is time; returns when it was renewed last."""
        now = time.monotonic()
        if now - renewed_at < RENEW_SECONDS:
            return renewed_at
        async with self._database.transaction() as connection:
            await subscriptions.renew(connection, stream)
        return now

    async def _release(self, stream: UUID) -> None:
        """Gives the events of an ended stream to the next one, at once; else the lease ends later."""
        try:
            async with self._database.transaction() as connection:
                await subscriptions.release(connection, stream)
            self._notifier.notify()
        except Exception as error:
            if translate(error) is None:
                raise
            self._log.warning("release_postponed", error=logs.error_text(error))

    async def AcknowledgeEvents(self, request: event_pb2.AcknowledgeEventsRequest, context: Context) -> empty_pb2.Empty:
        if not 1 <= len(request.event_ids) <= MAX_ACKNOWLEDGED:
            raise errors.InvalidArgument("event_ids", f"must be 1 to {MAX_ACKNOWLEDGED}")
        events = [
            outbox.parse_position(f"event_ids[{index}]", event_id) for index, event_id in enumerate(request.event_ids)
        ]
        async with self._database.transaction() as connection:
            await subscriptions.acknowledge(connection, caller_as(Service).name, request.subscription, events)
        self._notifier.notify()
        return empty_pb2.Empty()

    async def DeleteSubscription(
        self, request: event_pb2.DeleteSubscriptionRequest, context: Context
    ) -> empty_pb2.Empty:
        async with self._database.transaction() as connection:
            await subscriptions.delete(connection, caller_as(Service).name, request.subscription)
        self._notifier.notify()
        return empty_pb2.Empty()


async def _filter(connection: Connection, request: event_pb2.WatchEventsRequest) -> EventFilter:
    """The filter of a request, within what its caller may see. Raises InvalidArgument, NotFound, PermissionDenied."""
    for index, name in enumerate(request.types):
        if name not in states.EVENT_NAMES:
            raise errors.InvalidArgument(f"types[{index}]", f"must be one of {', '.join(states.EVENT_NAMES)}")
    if request.owner and not re.fullmatch(OWNER_NAME, request.owner):
        raise errors.InvalidArgument("owner", "must be coach:ID or org:ID, with the id of a session's owner")
    caller = call.get().caller
    owners = authorization.visible_owners(caller) if isinstance(caller, Service) else None
    if request.owner:
        owner = authorization.parse_owner(request.owner)
        if owners is not None and owner not in owners:
            message = f"The service may not see events of {request.owner}"
            raise errors.PermissionDenied(message, reason="OWNER_NOT_ALLOWED")
        owners = frozenset({owner})
    if request.session_id:
        session = await sessions.get(connection, request.session_id)
        if owners is not None and session.owner not in owners:
            message = "You don't have access to this session"
            raise errors.PermissionDenied(message, reason="SESSION_ACCESS_DENIED")
    return EventFilter(frozenset(request.types), owners, parse_id(request.session_id))


async def _subscription(
    connection: Connection, request: event_pb2.WatchEventsRequest, position: outbox.Position | None
) -> Subscription:
    """The subscription of a request, made if it is new."""
    service = caller_as(Service)
    if not SUBSCRIPTION.fullmatch(request.subscription):
        raise errors.InvalidArgument("subscription", "must be 1 to 63 of a-z, 0-9, '.', '_' and '-'")
    owner = request.owner or service.on_behalf_of
    asked = Subscription(
        0, service.name, request.subscription, frozenset(request.types), owner, parse_id(request.session_id)
    )
    return await subscriptions.subscribe(connection, asked, position)
