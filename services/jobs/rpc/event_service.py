"""EventService: the outbox as a stream that can be resumed."""

from collections.abc import AsyncIterator

from crease.events.v1 import event_pb2, event_pb2_grpc
from services.jobs.notifier import Bell
from services.jobs.rpc import mapping
from services.jobs.store import outbox
from services.jobs.store.database import Database
from services.serving import Context


class EventService(event_pb2_grpc.EventServiceServicer):
    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[event_pb2.Event]:
        position = outbox.parse_position(request.after) if request.after else None
        async with self._database.transaction() as connection:
            if position is None:
                position = await outbox.end_position(connection)
            await outbox.check_not_purged(connection, position)
        while True:
            rings = self._bell.rings
            async with self._database.transaction() as connection:
                rows = await outbox.read_events(connection, position, last=True)
            for row in rows:
                position = outbox.Position(row["xid"], row["id"])
                yield mapping.event(row)
            if len(rows) < outbox.BATCH:
                await self._bell.wait(rings)
