"""EventService: the outbox as a stream that can be resumed."""

from collections.abc import AsyncIterator

from crease.events.v1 import event_pb2, event_pb2_grpc
from services.jobs.notifier import Bell
from services.jobs.rpc import mapping as messages
from services.jobs.store import outbox as events
from services.jobs.store.database import Database
from services.serving import Context


class EventService(event_pb2_grpc.EventServiceServicer):
    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[event_pb2.Event]:
        position = events.parse(request.after) if request.after else None
        async with self._database.transaction() as connection:
            if position is None:
                position = await events.now(connection)
            await events.check_kept(connection, position)
        while True:
            rings = self._bell.rings
            async with self._database.transaction() as connection:
                rows = await events.read(connection, position, last=True)
            for row in rows:
                position = events.Position(row["xid"], row["id"])
                yield messages.event(row)
            if len(rows) < events.BATCH:
                await self._bell.wait(rings)
