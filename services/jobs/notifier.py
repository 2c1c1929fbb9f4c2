"""Wakes this replica's readers when something may have changed; what other replicas change is found by polling."""

import asyncio
from uuid import UUID


class Bell:
    """Readers note `rings` before they read, and then wait for another: none rings unheard in between."""

    def __init__(self, poll_seconds: float) -> None:
        self.poll_seconds = poll_seconds
        self.rings = 0
        self._rung = asyncio.Event()
        self._changed: set[UUID] = set()

    def ring(self, *job_ids: UUID) -> None:
        """Something was committed; of these jobs, where they are known."""
        self.rings += 1
        self._changed.update(job_ids)
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, rings: int) -> None:
        """Until it has rung more often than that, or the poll interval is over."""
        if self.rings != rings:
            return
        try:
            await asyncio.wait_for(self._rung.wait(), self.poll_seconds)
        except TimeoutError:
            return

    def take_changed(self) -> set[UUID]:
        """The jobs that it rang for since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed
