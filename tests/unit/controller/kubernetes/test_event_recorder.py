"""The controller's Kubernetes Events, sent in the background."""

import asyncio
from datetime import UTC, datetime

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.launcher import Observed, Phase
from services.controller.kubernetes.api_client import Object
from services.controller.kubernetes.event_recorder import PAUSE_SECONDS, EventRecorder
from testing.fakes.api_server import ApiServer, Client

OBSERVED = Observed("analysis-one-1", "u-1", Phase.PENDING, {}, datetime.now(UTC), ACCELERATOR_CPU, "")


class EventSink(Client):
    """An API server that records the Events it gets."""

    def __init__(self) -> None:
        super().__init__(ApiServer())
        self.events: list[Object] = []

    @property
    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC)

    async def post(self, path: str, body: Object) -> Object:
        assert path == "/api/v1/namespaces/nets/events"
        self.events.append(body)
        return body


async def test_events_are_sent_even_while_new_ones_keep_arriving() -> None:
    """The oldest first, with the time of the action."""
    sink = EventSink()
    recorder = EventRecorder(sink, "nets", "c-1")
    sending = asyncio.create_task(recorder.run())
    count = 0
    async with asyncio.timeout(30):
        while len(sink.events) < 2:
            recorder.record(OBSERVED, "Created", f"number {count}")
            count += 1
            await asyncio.sleep(PAUSE_SECONDS / 10)
    sending.cancel()
    assert [event["message"] for event in sink.events] == ["number 0", "number 1"]
    assert sink.events[0]["firstTimestamp"] == "2026-11-21T00:00:00Z"
