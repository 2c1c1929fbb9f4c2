"""Readers that wait for a ring, and streams that wait for news."""

import asyncio
import uuid

from services.jobs.background.job_watch import News
from services.jobs.notifier import Notifier

# Nobody waits for as long in these tests.
LONG_SECONDS = 60.0


async def test_a_ring_while_a_reader_reads_ends_its_next_wait_at_once() -> None:
    """What was committed after it read is not left to the next poll."""
    notifier = Notifier(LONG_SECONDS)
    sequence = notifier.sequence
    notifier.notify()
    async with asyncio.timeout(LONG_SECONDS / 2):
        await notifier.wait(sequence)


async def test_a_ring_ends_every_wait_that_is_under_way() -> None:
    """All readers of the replica wake."""
    notifier = Notifier(LONG_SECONDS)
    waiting = [asyncio.create_task(notifier.wait(notifier.sequence)) for _ in range(3)]
    await asyncio.sleep(0)
    notifier.notify()
    async with asyncio.timeout(LONG_SECONDS / 2):
        await asyncio.gather(*waiting)


async def test_the_jobs_that_were_rung_for_are_told_once() -> None:
    """Each by its id, until somebody takes them."""
    notifier, first, second = Notifier(LONG_SECONDS), uuid.uuid4(), uuid.uuid4()
    notifier.notify(first)
    notifier.notify(second)
    notifier.notify()
    assert notifier.take_changed() == {first, second}
    assert notifier.take_changed() == set()


async def test_a_slow_stream_finds_only_the_newest_state() -> None:
    """What came between is forgotten, and an older state that comes late too."""
    news = News()
    for version in (1, 3, 2):
        news.put({"version": version})
    assert await news.next() == {"version": 3}
    news.put({"version": 3})
    coming = asyncio.create_task(news.next())
    await asyncio.sleep(0)
    assert not coming.done()
    news.put({"version": 4})
    assert await coming == {"version": 4}
