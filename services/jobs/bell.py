"""Wakes this replica's readers when something may have changed; what other replicas change is found by polling."""

import asyncio


class Bell:
    """One `ring` ends every `wait` that is under way."""

    def __init__(self, poll_seconds: float) -> None:
        self._rung = asyncio.Event()
        self._poll_seconds = poll_seconds

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self) -> None:
        """Until the bell rings, or the poll interval is over."""
        try:
            await asyncio.wait_for(self._rung.wait(), self._poll_seconds)
        except TimeoutError:
            return
