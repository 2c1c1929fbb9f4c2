"""EventService: the outbox as a resumable stream."""

from collections.abc import AsyncIterator

from crease.events.v1 import event_pb2, event_pb2_grpc
from services.jobs.notifier import Notifier
from services.jobs.store import outbox
from services.jobs.store.database import Database
from services.jobs.store.outbox import cloud_event
from services.serving import Context


class EventService(event_pb2_grpc.EventServiceServicer):
    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[event_pb2.Event]:
        position = outbox.parse_position(request.after) if request.after else None
        async with self._database.transaction() as connection:
            if position is None:
                position = await outbox.end_position(connection)
            await outbox.check_not_purged(connection, position)
        while True:
            sequence = self._notifier.sequence
            async with self._database.transaction() as connection:
                events = await outbox.read_events(connection, position, commit=True)
            for event in events:
                position = outbox.Position(event.xid, event.id)
                yield cloud_event(event)
            if len(events) < outbox.BATCH:
                await self._notifier.wait(sequence)
