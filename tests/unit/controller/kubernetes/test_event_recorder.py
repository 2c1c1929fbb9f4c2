"""Kubernetes Events of the controller, told on the side."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.launcher import Phase, Seen
from services.controller.kubernetes.event_recorder import PAUSE_SECONDS, Teller

SEEN = Seen("analysis-one-1", "u-1", Phase.PENDING, {}, datetime.now(UTC), ACCELERATOR_CPU, "")


class Board:
    """An API server that takes Events."""

    now = datetime(2026, 11, 21, tzinfo=UTC)

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def post(self, path: str, body: dict[str, Any]) -> None:
        assert path == "/api/v1/namespaces/nets/events"
        self.told.append(body)


async def test_some_is_told_also_where_more_comes_without_end() -> None:
    """The oldest first, with the time at which it happened."""
    board = Board()
    teller = Teller(board, "nets", "c-1")  # type: ignore[arg-type]
    telling = asyncio.create_task(teller.run())
    count = 0
    async with asyncio.timeout(30):
        while len(board.told) < 2:
            teller.tell(SEEN, "Created", f"number {count}")
            count += 1
            await asyncio.sleep(PAUSE_SECONDS / 10)
    telling.cancel()
    assert [event["message"] for event in board.told] == ["number 0", "number 1"]
    assert board.told[0]["firstTimestamp"] == "2026-11-21T00:00:00Z"
