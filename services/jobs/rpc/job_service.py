"""JobService: people and services read their jobs, watch, cancel, retry, reanalyze, delete and compare them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

from google.protobuf import empty_pb2
from psycopg.types.json import Jsonb

from crease.jobs.v1 import job_pb2, job_pb2_grpc
from services import errors
from services.authorization import user
from services.jobs.background.job_watch import JobWatcher
from services.jobs.domain import authorization, comparison, states
from services.jobs.domain.explanation import explain
from services.jobs.domain.limits import LaunchLimits, Quotas
from services.jobs.domain.protobuf import enum_text
from services.jobs.domain.records import Job, Session
from services.jobs.notifier import Notifier
from services.jobs.rpc import comparing, mapping, validation
from services.jobs.store import cancellation, fair_queue, jobs, launches, object_cleanup, quotas, sessions
from services.jobs.store.database import Connection, Database, parse_id
from services.jobs.store.library import undo
from services.serving import Context

# The id of no job.
NO_JOB = UUID(int=0)


class JobService(job_pb2_grpc.JobServiceServicer):
    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        job_watcher: JobWatcher,
        limits: LaunchLimits,
        quotas: Quotas,
        *,
        deep_enabled: bool,
        cluster_silence_seconds: float,
        heartbeat_seconds: float,
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._job_watcher = job_watcher
        self._limits = limits
        self._quotas = quotas
        self._deep_enabled = deep_enabled
        self._cluster_silence_seconds = cluster_silence_seconds
        self._heartbeat_seconds = heartbeat_seconds

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        return mapping.job_with_upload_id(await self._get(request.job_id))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Context) -> job_pb2.ListJobsResponse:
        async with self._database.transaction() as connection:
            if request.session_id:
                await sessions.get_visible(connection, request.session_id, user())
            page = await jobs.list_visible(
                connection,
                user(),
                session_id=request.session_id,
                status=enum_text(job_pb2.JobStatus, request.status),
                size=request.page_size,
                page_token=request.page_token,
            )
        listed, token = page.messages(mapping.job)
        return job_pb2.ListJobsResponse(jobs=listed, next_page_token=token)

    async def WatchJob(self, request: job_pb2.WatchJobRequest, context: Context) -> AsyncIterator[job_pb2.Job]:
        with self._job_watcher.subscribe(parse_id(request.job_id) or NO_JOB) as subscription:
            job = await self._get(request.job_id)
            self._job_watcher.publish(job)
            while True:
                # Without a change the newest state is sent again, so that no proxy ends the stream as idle.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._heartbeat_seconds):
                        job = await subscription.next()
                yield mapping.job(job)
                if job.status in states.SETTLED:
                    return

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job = await jobs.get_visible_for_update(connection, request.job_id, user())
            job = await cancellation.cancel(connection, job, authorization.actor(user()))
        self._notifier.notify(job.id)
        return mapping.job(job)

    async def ForgetCluster(self, request: job_pb2.ForgetClusterRequest, context: Context) -> empty_pb2.Empty:
        authorization.check_superuser(user())
        async with self._database.transaction() as connection:
            await cancellation.forget_cluster(connection, request.cluster, self._cluster_silence_seconds)
        return empty_pb2.Empty()

    async def RetryJob(self, request: job_pb2.RetryJobRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job = await jobs.get_visible_for_update(connection, request.job_id, user())
            if job.status != states.FAILED:
                raise errors.FailedPrecondition(f"Cannot retry a job in status: {job.status}", reason="WRONG_STATE")
            jobs.check_verified(job)
            values = jobs.retry_values(job) | {"acted_by": authorization.actor(user())}
            job = await jobs.move(connection, job, states.QUEUED, commit=not self._quotas.is_limited, **values)
            await quotas.check(connection, job, self._quotas)
        self._notifier.notify(job.id)
        return mapping.job(job)

    async def ReanalyzeJob(self, request: job_pb2.ReanalyzeJobRequest, context: Context) -> job_pb2.Job:
        authorization.check_uploader(user())
        values = _changed_settings(request) | {"created_by": authorization.actor(user())}
        values["deep_enabled"] = self._deep_enabled
        async with self._database.transaction() as connection:
            source = await jobs.get_visible_for_update(connection, request.job_id, user())
            jobs.check_verified(source)
            session = await sessions.get(connection, source.session_id)
            values["events"] = _events(request, source, session, values.get("discipline", source.discipline))
            commit = not self._quotas.is_limited
            job = await jobs.create_reanalysis(connection, session, source, values, commit=commit)
            await quotas.check(connection, job, self._quotas)
        self._notifier.notify(job.id)
        return mapping.job(job)

    async def DeleteJob(self, request: job_pb2.DeleteJobRequest, context: Context) -> empty_pb2.Empty:
        async with self._database.transaction() as connection:
            job = await jobs.get_visible_for_update(connection, request.job_id, user())
            await object_cleanup.delete(connection, job, authorization.actor(user()), undoable=request.undoable)
        self._notifier.notify(job.id)
        return empty_pb2.Empty()

    async def UndeleteJob(self, request: job_pb2.UndeleteJobRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            await undo.undelete_job(connection, request.job_id, user(), self._quotas)
            return mapping.job(await jobs.get_visible(connection, request.job_id, user()))

    async def CompareJobs(self, request: job_pb2.CompareJobsRequest, context: Context) -> job_pb2.CompareJobsResponse:
        comparing.check_job_ids(request.job_ids)
        async with self._database.transaction() as connection:
            analyses = [await self._done_analysis(connection, job_id) for job_id in request.job_ids]
        comparing.check_players(analyses)
        return comparing.compared(analyses)

    async def _done_analysis(self, connection: Connection, job_id: str) -> comparison.Analysis:
        job = await jobs.get_visible(connection, job_id, user())
        if job.status != states.DONE:
            raise errors.FailedPrecondition(
                f"Cannot compare job {job.id} in status: {job.status}", reason="JOB_NOT_DONE"
            )
        return comparison.analysis(job, await sessions.get(connection, job.session_id))

    async def ExplainJob(self, request: job_pb2.ExplainJobRequest, context: Context) -> job_pb2.ExplainJobResponse:
        async with self._database.transaction() as connection:
            job = await jobs.get_visible(connection, request.job_id, user())
            past = await launches.list_of_job(connection, job.id)
            opened = await fair_queue.count_open(connection, job.owner)
            now = await connection.value("SELECT clock_timestamp()")
        return mapping.explanation(job, explain(job, past, now, opened, self._limits), past)

    async def _get(self, job_id: str) -> Job:
        async with self._database.transaction() as connection:
            return await jobs.get_visible(connection, job_id, user())


def _changed_settings(request: job_pb2.ReanalyzeJobRequest) -> dict[str, Any]:
    """The columns that the request sets for the new job; the others are copied from the source job."""
    values: dict[str, Any] = {"id": uuid4(), "request_id": validation.request_id(request.request_id)}
    if request.HasField("sample_fps"):
        values["sample_fps"] = validation.sample_fps(request.sample_fps)
    if request.HasField("include_frames"):
        values["include_frames"] = request.include_frames
    if request.HasField("anonymous"):
        values["anonymous"] = request.anonymous
    if request.HasField("accelerator"):
        values["accelerator"] = validation.accelerator(request.accelerator)
    if request.HasField("athlete_box"):
        values["athlete_box"] = validation.athlete_box(request.athlete_box)
    if request.HasField("capture_fps"):
        values["capture_fps"] = validation.capture_fps(request.capture_fps)
    if request.HasField("discipline"):
        values["discipline"] = validation.discipline(request.discipline)
    return values


def _events(request: job_pb2.ReanalyzeJobRequest, source: Job, session: Session, discipline: str) -> Jsonb:
    """The column `events` of the new job. discipline: the new job's own, empty for the session's."""
    before, after = (given or session.discipline for given in (source.discipline, discipline))
    if request.events or before != after:
        return jobs.given_events_json(validation.given_events(request.events, after))
    return jobs.given_events_json(source.events)
