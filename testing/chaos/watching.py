"""Watches meanwhile: the stream of events, the progress of each part, the processes, the machine's own stalls.

Progress is read by the harness's own SQL and timed by its own clock, which no fault reaches.
"""

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc.aio
import psutil
import psycopg

from crease.events.v1.event_pb2 import Event, WatchEventsRequest
from crease.events.v1.event_pb2_grpc import EventServiceStub
from testing.chaos.calls import Metadata

SAMPLE_SECONDS = 0.5
# A pause of the harness's own thread beyond this is the machine's.
STALL_SECONDS = 0.5


@dataclass
class Reader:
    """Follows all events, leaves now and then, and comes back with the last position."""

    channel: grpc.aio.Channel
    metadata: Metadata
    dice: random.Random
    events: list[Event] = field(default_factory=list)
    connects: int = 0

    async def run(self) -> None:
        stub, after = EventServiceStub(self.channel), ""
        while True:
            self.connects += 1
            stream = stub.WatchEvents(WatchEventsRequest(after=after), metadata=self.metadata)
            with contextlib.suppress(grpc.aio.AioRpcError, TimeoutError):
                async with asyncio.timeout(self.dice.uniform(5, 20)):
                    async for event in stream:
                        self.events.append(event)
                        after = event.id
            stream.cancel()
            await asyncio.sleep(0.2)


@dataclass
class Progress:
    """When each part last did anything: launches of each cluster, uploads, all events."""

    url: str
    seen: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                async with await psycopg.AsyncConnection.connect(
                    self.url, autocommit=True, connect_timeout=5
                ) as session:
                    while True:
                        await self._sample(session)
                        await asyncio.sleep(SAMPLE_SECONDS)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _sample(self, session: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
        rows = await (await session.execute(_PROGRESS)).fetchall()
        now = time.monotonic()
        for part, count in rows:
            history = self.seen.setdefault(str(part), [])
            if not history or history[-1][1] != count:
                history.append((now, int(str(count))))

    def longest_gap(self, part: str, since: float, until: float) -> float:
        """The longest time without progress of a part within a window."""
        moments = [at for at, _ in self.seen.get(part, []) if since < at < until]
        edges = [since, *moments, until]
        return max(later - earlier for earlier, later in itertools.pairwise(edges))


_PROGRESS = """
    SELECT 'cluster ' || cluster, count(started_at) + count(ended_at) FROM launches GROUP BY cluster
    UNION ALL SELECT 'uploads', count(*) FROM events WHERE from_status = 'awaiting_upload'
    UNION ALL SELECT 'results', count(*) FROM events WHERE to_status IN ('quick_done', 'done')
"""


class Stalls:
    """Pauses of this machine: a thread that only sleeps notices them."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Stalls":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def longest(self) -> float:
        return max(self.found, default=0.0)

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(0.05):
            now = time.monotonic()
            if now - before > STALL_SECONDS:
                self.found.append(now - before)
            before = now


@dataclass(frozen=True)
class Size:
    """A process's memory and descriptors."""

    rss_mib: float
    descriptors: int


def sizes(pids: Mapping[str, int]) -> dict[str, Size]:
    found = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found[name] = Size(process.memory_info().rss / 2**20, process.num_fds())
    return found


async def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition, which may block; whether it held in time."""
    give_up = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(0.5)
    return True


def per_job(events: Sequence[Event]) -> dict[str, list[str]]:
    """The event ids of each job, in the order in which a reader got them."""
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event.subject, []).append(event.id)
    return found
