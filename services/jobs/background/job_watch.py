"""Who watches which job: one reader for all streams, so that thousands of them cost one query a poll.

    changed here ──(bell, with the job's id)──▶ read it, if it is watched ──────────┐
    changed elsewhere ──(poll)──▶ read what is watched and has another version ─────┴─▶ its newest state, to each stream

A stream that is slow to send finds only the newest state when it comes back: what it missed it need not know.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from services import logs
from services.jobs.notifier import Bell
from services.jobs.store.database import Database, Row, translate
from services.logs import Logger


class News:
    """What one stream has yet to send: the newest state of its job, or nothing."""

    def __init__(self) -> None:
        self._version = 0
        self._row: Row | None = None
        self._came = asyncio.Event()

    def put(self, row: Row) -> None:
        """Forgets what is older."""
        if row["version"] > self._version:
            self._version, self._row = row["version"], row
            self._came.set()

    async def next(self) -> Row:
        """Waits for a state that was not given yet."""
        await self._came.wait()
        self._came.clear()
        row, self._row = self._row, None
        assert row is not None  # noqa: S101 (it came)
        return row


class Watchers:
    """The streams of this replica."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell
        self._news: dict[UUID, set[News]] = {}
        # What every stream of the job was given.
        self._versions: dict[UUID, int] = {}

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[News]:
        """From here on nothing that is new of a job is missed."""
        news = News()
        self._news.setdefault(job_id, set()).add(news)
        self._versions.setdefault(job_id, 0)
        try:
            yield news
        finally:
            self._news[job_id].remove(news)
            if not self._news[job_id]:
                del self._news[job_id]
                del self._versions[job_id]

    def give(self, row: Row) -> None:
        """Gives a job's state to all who watch it."""
        streams = self._news.get(row["id"], ())
        for news in streams:
            news.put(row)
        if streams:
            self._versions[row["id"]] = max(row["version"], self._versions[row["id"]])

    async def run(self, log: Logger) -> None:
        """Reads for ever. A database that is away is asked again at the next poll."""
        polled_at = float("-inf")
        while True:
            rings = self._bell.rings
            changed = self._bell.take_changed() & self._news.keys()
            try:
                if time.monotonic() - polled_at >= self._bell.poll_seconds:
                    polled_at = time.monotonic()
                    await self.read(self._news)
                else:
                    await self.read(changed)
            except Exception as error:
                if translate(error) is None:
                    raise
                log.warning("watching put off", error=logs.error_text(error))
                await asyncio.sleep(self._bell.poll_seconds)
            await self._bell.wait(rings)

    async def read(self, job_ids: Iterable[UUID]) -> None:
        """Gives what is new of these jobs, which are watched."""
        ids = list(job_ids)
        if not ids:
            return
        versions = [self._versions[job_id] for job_id in ids]
        async with self._database.transaction() as connection:
            for row in await connection.rows(_NEWER, last=True, ids=ids, versions=versions):
                self.give(row)


_NEWER = """
    SELECT job.* FROM unnest(%(ids)s::uuid[], %(versions)s::bigint[]) AS known (id, version)
    JOIN video_analysis_jobs AS job ON job.id = known.id AND job.version > known.version
"""
