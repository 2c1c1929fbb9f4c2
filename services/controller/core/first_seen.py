"""Since when each thing has been seen, by the monotonic clock.

A clock that is set, or leaps for a moment, would put the first sight of a thing into the future: its grace would then
last as long as the leap.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta


class FirstSeen:
    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def update(self, keys: Iterable[str], now: datetime) -> dict[str, datetime]:
        """Since when each key has been seen at every update, as a time of the clock that shows `now`."""
        at = time.monotonic()
        self._at = {key: self._at.get(key, at) for key in keys}
        return {key: now - timedelta(seconds=at - first) for key, first in self._at.items()}
