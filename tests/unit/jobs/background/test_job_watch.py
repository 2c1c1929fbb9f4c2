"""Readers that wait for the notifier, and streams that wait for a new state."""

import asyncio
import uuid

import pytest

from services.jobs.background.job_watch import Subscription
from services.jobs.notifier import Notifier
from testing.data import jobs

# Longer than any wait in these tests.
LONG_SECONDS = 60.0


async def test_a_notification_during_a_read_ends_the_next_wait_at_once() -> None:
    """A commit after the read does not wait for the next poll."""
    notifier = Notifier(LONG_SECONDS)
    sequence = notifier.sequence
    notifier.notify()
    async with asyncio.timeout(LONG_SECONDS / 2):
        await notifier.wait(sequence)


async def test_a_notification_ends_every_current_wait() -> None:
    """All readers of the replica wake."""
    notifier = Notifier(LONG_SECONDS)
    waiting = [asyncio.create_task(notifier.wait(notifier.sequence)) for _ in range(3)]
    await asyncio.sleep(0)
    notifier.notify()
    async with asyncio.timeout(LONG_SECONDS / 2):
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("turns", range(4))
async def test_a_reader_that_is_cancelled_as_it_is_notified_ends(turns: int) -> None:
    """However many turns of the loop lie between: gRPC cancels the call of a client that has left only once."""
    notifier = Notifier(LONG_SECONDS)

    async def read() -> None:
        while True:
            await notifier.wait(notifier.sequence)

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    notifier.notify()
    for _ in range(turns):
        await asyncio.sleep(0)
    reader.cancel()
    done, _ = await asyncio.wait([reader], timeout=1)
    reader.cancel()
    assert done == {reader}


async def test_each_changed_job_is_returned_once() -> None:
    """By its id; a second call returns none."""
    notifier, first, second = Notifier(LONG_SECONDS), uuid.uuid4(), uuid.uuid4()
    notifier.notify(first)
    notifier.notify(second)
    notifier.notify()
    assert notifier.take_changed() == {first, second}
    assert notifier.take_changed() == set()


async def test_a_slow_stream_gets_only_the_newest_state() -> None:
    """States in between are dropped, and so is an older state that arrives late."""
    subscription = Subscription()
    for version in (1, 3, 2):
        subscription.put(jobs.job(version=version))
    assert await subscription.next() == jobs.job(version=3)
    subscription.put(jobs.job(version=3))
    arriving = asyncio.create_task(subscription.next())
    await asyncio.sleep(0)
    assert not arriving.done()
    subscription.put(jobs.job(version=4))
    assert await arriving == jobs.job(version=4)
