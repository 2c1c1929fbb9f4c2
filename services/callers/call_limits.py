"""Bounds what one caller has in flight in this process: calls, streams, and the connections that carry them.

`upload` and the controller call for everybody, so their single calls are not bounded here: each person's are, where the
person calls.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.errors import ResourceExhausted
from services.rules.limits import CallerLimits


@dataclass
class _InFlight:
    calls: int = 0
    streams: int = 0
    # The calls and streams of each connection.
    connections: Counter[str] = field(default_factory=Counter)


class CallLimits:
    """Counts what each caller has in flight."""

    def __init__(self, limits: CallerLimits) -> None:
        self._limits = limits
        self._callers: dict[str, _InFlight] = {}

    @contextmanager
    def counted(self, caller: str, connection: str, *, is_stream: bool, is_program: bool) -> Iterator[None]:
        """Counts a call until the block ends. Raises ResourceExhausted if the caller exceeds a bound by it.

        caller: the same text for all tokens of one caller.
        """
        mine = self._callers.setdefault(caller, _InFlight())
        mine.connections[connection] += 1
        mine.streams += is_stream
        mine.calls += not is_stream
        try:
            self._check(mine, is_stream=is_stream, is_program=is_program)
            yield
        finally:
            mine.streams -= is_stream
            mine.calls -= not is_stream
            mine.connections[connection] -= 1
            if not mine.connections[connection]:
                del mine.connections[connection]
            if not mine.connections:
                del self._callers[caller]

    def _check(self, mine: _InFlight, *, is_stream: bool, is_program: bool) -> None:
        limits = self._limits
        if limits.connections and len(mine.connections) > limits.connections:
            raise _exhausted("connections with calls", limits.connections)
        if is_stream and limits.streams and mine.streams > limits.streams:
            raise _exhausted("open streams", limits.streams)
        if not (is_stream or is_program) and limits.calls and mine.calls > limits.calls:
            raise _exhausted("calls in flight", limits.calls)


def _exhausted(what: str, limit: int) -> ResourceExhausted:
    message = f"This caller has {limit} {what}, the upper bound: wait until one ends"
    return ResourceExhausted(message, reason="TOO_MANY_CALLS")
