"""Wakes this replica's readers after a commit; they find the commits of other replicas by polling."""

import asyncio
import contextlib
from uuid import UUID


class Notifier:
    """Counts notifications, so that a reader misses none: it notes `sequence`, reads, then waits for a later one."""

    def __init__(self, poll_seconds: float) -> None:
        self.poll_seconds = poll_seconds
        self.sequence = 0
        self._notified = asyncio.Event()
        self._changed: set[UUID] = set()

    def notify(self, *job_ids: UUID) -> None:
        """Wakes all readers after a commit. `job_ids`: the jobs that changed, where the caller knows them."""
        self.sequence += 1
        self._changed.update(job_ids)
        self._notified.set()
        self._notified = asyncio.Event()

    async def wait(self, sequence: int) -> None:
        """Returns once `sequence` is outdated, at the latest after the poll interval."""
        if self.sequence != sequence:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.poll_seconds):
                await self._notified.wait()

    def take_changed(self) -> set[UUID]:
        """The jobs that were notified about since the last call."""
        changed, self._changed = self._changed, set()
        return changed
