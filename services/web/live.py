"""The newest jobs of each visitor with an open page, kept current by WatchJob.

ListJobs, ListSessions ─▶ a WatchJob per unfinished job ─▶ recent jobs ─▶ every open page of that visitor

Pages of one visitor share one set of streams, because jobs bounds the streams of a caller. A job that another client
started appears with the next list.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field

import grpc

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_AWAITING_UPLOAD,
    JOB_STATUS_CANCELLED,
    JOB_STATUS_DONE,
    JOB_STATUS_FAILED,
    Job,
    ListJobsRequest,
    WatchJobRequest,
)
from crease.jobs.v1.session_pb2 import GetSessionRequest, ListSessionsRequest, Session
from services import clients
from services.web.calls import Calls, Stubs
from services.web.faults import PageError
from services.web.visitors import Visitor

FINAL = (JOB_STATUS_DONE, JOB_STATUS_FAILED, JOB_STATUS_CANCELLED)
MOST_RECENT = 20
# How often the newest jobs are listed while a page is open.
LIST_SECONDS = 20.0
RECONNECT_SECONDS = 1.0


@dataclass(frozen=True)
class RecentJob:
    """A job without its results, and its session."""

    job: Job
    session: Session


async def list_recent(calls: Calls) -> list[RecentJob]:
    """The newest jobs whose video has arrived, newest first. Raises PageError."""
    listed, newest = await asyncio.gather(
        calls.call(calls.stubs.jobs.ListJobs, ListJobsRequest(page_size=2 * MOST_RECENT)),
        calls.call(calls.stubs.sessions.ListSessions, ListSessionsRequest(page_size=2 * MOST_RECENT)),
    )
    sessions = {session.session_id: session for session in newest.sessions}
    jobs = [job for job in listed.jobs if _is_shown(job)][:MOST_RECENT]
    for session_id in {job.session_id for job in jobs} - sessions.keys():
        # A session may be deleted between both calls.
        with contextlib.suppress(PageError):
            request = GetSessionRequest(session_id=session_id)
            sessions[session_id] = await calls.call(calls.stubs.sessions.GetSession, request)
    return [RecentJob(job, sessions[job.session_id]) for job in jobs if job.session_id in sessions]


def _is_shown(job: Job) -> bool:
    """Whether a list shows it: its video has arrived, and it is no finished copy for readers of a link."""
    is_copy = job.anonymous and job.source_job_id and job.status == JOB_STATUS_DONE
    return job.status != JOB_STATUS_AWAITING_UPLOAD and not is_copy


@dataclass
class Recent:
    """The recent jobs of one visitor. `version` grows with each change."""

    visitor: Visitor
    jobs: list[RecentJob] = field(default_factory=list)
    version: int = 0
    pages: int = 0
    keeper: "asyncio.Task[None] | None" = None
    listing: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait(self, version: int, seconds: float) -> int:
        """The current version: at once if it is not `version`, else after the next change or `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(lambda: self.version != version)
        return self.version

    async def replace(self, jobs: list[RecentJob]) -> None:
        """Sets the jobs and wakes every open page, if anything is new."""
        if jobs != self.jobs or not self.version:
            async with self.changed:
                self.jobs = jobs
                self.version += 1
                self.changed.notify_all()


class Live:
    """The recent jobs of every visitor with an open page."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._open: dict[Hashable, Recent] = {}

    @contextlib.asynccontextmanager
    async def open(self, visitor: Visitor) -> AsyncIterator[Recent]:
        """The visitor's recent jobs, current while the block runs."""
        recent = self._open.setdefault(visitor.identity, Recent(visitor))
        if visitor.expires_at >= recent.visitor.expires_at:
            recent.visitor = visitor
        recent.pages += 1
        if recent.keeper is None:
            recent.keeper = asyncio.create_task(self._keep(recent))
        try:
            yield recent
        finally:
            recent.pages -= 1
            if not recent.pages:
                recent.keeper.cancel()
                del self._open[visitor.identity]

    def wake(self, visitor: Visitor) -> None:
        """Lists the visitor's jobs again at once, because a page has changed them."""
        if recent := self._open.get(visitor.identity):
            recent.listing.set()

    async def _keep(self, recent: Recent) -> None:
        """Lists the jobs, and watches the unfinished ones, until it is cancelled."""
        calls = Calls(self._stubs, lambda: recent.visitor.token())
        watches: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                recent.listing.clear()
                with contextlib.suppress(PageError):
                    await recent.replace(await list_recent(calls))
                unfinished = {each.job.job_id for each in recent.jobs if each.job.status not in FINAL}
                for job_id in [job_id for job_id, watch in watches.items() if watch.done()]:
                    del watches[job_id]
                for job_id in unfinished - watches.keys():
                    watches[job_id] = asyncio.create_task(self._watch(recent, calls, job_id))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LIST_SECONDS):
                        await recent.listing.wait()
        finally:
            for watch in watches.values():
                watch.cancel()

    async def _watch(self, recent: Recent, calls: Calls, job_id: str) -> None:
        """Takes over each change of a job until it is final. A stream that fails for good is left to the next list."""
        while True:
            try:
                async for job in calls.stream(calls.stubs.jobs.WatchJob, WatchJobRequest(job_id=job_id)):
                    job.ClearField("results")
                    await recent.replace(
                        [RecentJob(job, each.session) if each.job.job_id == job_id else each for each in recent.jobs]
                    )
                return
            except grpc.RpcError as error:
                if not clients.is_transient(error):
                    return
            await asyncio.sleep(RECONNECT_SECONDS)
