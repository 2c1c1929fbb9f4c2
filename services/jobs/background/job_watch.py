"""Feeds all WatchJob streams of this replica from one reader, so that thousands of streams cost one query a poll.

    changed by this replica  ──(notifier, with the job's id)──▶ read it, if it is watched ────┐
    changed by another       ──(poll)──▶ read each watched job whose version has changed ─────┴─▶ its streams

A slow stream gets only the newest state of its job; older states are dropped.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from services import logs
from services.jobs.domain.records import Job
from services.jobs.notifier import Notifier
from services.jobs.store.database import Database, translate
from services.jobs.store.rows import read_job
from services.logs import Logger
from services.metrics import Loop


class Subscription:
    """The newest state of one job that one stream has not sent yet, or none."""

    def __init__(self) -> None:
        self._version = 0
        self._job: Job | None = None
        self._arrived = asyncio.Event()

    def put(self, job: Job) -> None:
        """Keeps a state if it is newer, and drops the older one."""
        if job.version > self._version:
            self._version, self._job = job.version, job
            self._arrived.set()

    async def next(self) -> Job:
        """Waits for a state that was not returned yet."""
        await self._arrived.wait()
        self._arrived.clear()
        job, self._job = self._job, None
        assert job is not None  # noqa: S101 (set before the event)
        return job


class JobWatcher:
    """Publishes the states of watched jobs to the streams of this replica."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier
        self._subscriptions: dict[UUID, set[Subscription]] = {}
        # The newest version that every stream of the job has got.
        self._versions: dict[UUID, int] = {}

    @contextmanager
    def subscribe(self, job_id: UUID) -> Iterator[Subscription]:
        """Subscribes to a job: every later state is published to the subscription."""
        subscription = Subscription()
        self._subscriptions.setdefault(job_id, set()).add(subscription)
        self._versions.setdefault(job_id, 0)
        try:
            yield subscription
        finally:
            self._subscriptions[job_id].remove(subscription)
            if not self._subscriptions[job_id]:
                del self._subscriptions[job_id]
                del self._versions[job_id]

    def publish(self, job: Job) -> None:
        """Publishes a job's state to all of its subscriptions."""
        subscriptions = self._subscriptions.get(job.id, ())
        for subscription in subscriptions:
            subscription.put(job)
        if subscriptions:
            self._versions[job.id] = max(job.version, self._versions[job.id])

    async def run(self, loop: Loop, log: Logger) -> None:
        """Reads in a loop. If the database is unavailable, it tries again at the next poll."""
        polled_at = float("-inf")
        while True:
            sequence = self._notifier.sequence
            changed = self._notifier.take_changed() & self._subscriptions.keys()
            try:
                async with loop.one_pass():
                    if time.monotonic() - polled_at >= self._notifier.poll_seconds:
                        polled_at = time.monotonic()
                        await self.publish_changes(self._subscriptions)
                    else:
                        await self.publish_changes(changed)
            except Exception as error:
                if translate(error) is None:
                    raise
                log.warning("job_watch_postponed", error=logs.error_text(error))
                await asyncio.sleep(self._notifier.poll_seconds)
            await self._notifier.wait(sequence)

    async def publish_changes(self, job_ids: Iterable[UUID]) -> None:
        """Reads and publishes the watched jobs among these whose version has changed."""
        ids = list(job_ids)
        if not ids:
            return
        versions = [self._versions[job_id] for job_id in ids]
        async with self._database.transaction() as connection:
            for job in await connection.records(read_job, _NEWER, commit=True, ids=ids, versions=versions):
                self.publish(job)


_NEWER = """
    SELECT job.* FROM unnest(%(ids)s::uuid[], %(versions)s::bigint[]) AS known (id, version)
    JOIN video_analysis_jobs AS job ON job.id = known.id AND job.version > known.version
"""
