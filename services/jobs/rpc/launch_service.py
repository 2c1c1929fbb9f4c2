"""LaunchService: the controller claims launches, and the pod of each launch reports progress and results."""

import re
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from google.protobuf import duration_pb2, json_format
from psycopg.types.json import Jsonb

from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
from crease.jobs.v1 import job_pb2
from services import errors
from services.auth import Lease, Pod, Program
from services.authorization import caller_as
from services.jobs import metrics
from services.jobs.domain import retry_policy, states
from services.jobs.domain.levels import level_of
from services.jobs.domain.protobuf import enum_text, timestamp
from services.jobs.domain.records import Artifact, AssignedLaunch, Ending, Job
from services.jobs.domain.states import ResultStage
from services.jobs.notifier import Notifier
from services.jobs.rpc import mapping, validation
from services.jobs.settings import JobsSettings
from services.jobs.store import fair_queue, jobs, launches, pagination, sessions
from services.jobs.store.database import Connection, Database, Now, parse_id
from services.jobs.store.rows import artifact_json
from services.naming import artifact_key
from services.rules.limits import MAX_RESULTS_BYTES, results_bytes
from services.serving import Context

MAX_CAPACITY = 1000
RESULT_PARTS = frozenset({"pose", "metrics", "findings", "report"})
RUNNING_STATUS = {ResultStage.QUICK: states.QUICK_RUNNING, ResultStage.DEEP: states.DEEP_RUNNING}
# The requests of a pod that holds a lease.
LeaseRequest = launch_pb2.HeartbeatRequest | launch_pb2.SubmitResultRequest | launch_pb2.FailLaunchRequest
_STAGES = {job_pb2.STAGE_QUICK: ResultStage.QUICK, job_pb2.STAGE_DEEP: ResultStage.DEEP}


class LaunchService(launch_pb2_grpc.LaunchServiceServicer):
    def __init__(self, database: Database, settings: JobsSettings, notifier: Notifier) -> None:
        self._database = database
        self._settings = settings
        self._notifier = notifier

    async def OpenLaunches(
        self, request: launch_pb2.OpenLaunchesRequest, context: Context
    ) -> launch_pb2.OpenLaunchesResponse:
        _check_cluster(request.cluster)
        if not 1 <= request.capacity <= MAX_CAPACITY:
            raise errors.InvalidArgument("capacity", f"must be 1 to {MAX_CAPACITY}")
        claimed: list[AssignedLaunch] = []
        more = True
        while more and (wanted := request.capacity - len(claimed)):
            async with self._database.transaction() as connection:
                await launches.record_call(connection, request.cluster, request.owner)
                claim = await fair_queue.claim(
                    connection,
                    request.cluster,
                    wanted,
                    self._settings.confirm_seconds,
                    self._settings.launch_limits,
                    commit=True,
                )
            claimed += claim.launches
            more = claim.more
        return launch_pb2.OpenLaunchesResponse(launches=[mapping.launch(launch) for launch in claimed])

    async def ListLaunches(
        self, request: launch_pb2.ListLaunchesRequest, context: Context
    ) -> launch_pb2.ListLaunchesResponse:
        _check_cluster(request.cluster)
        size = pagination.page_size(request.page_size)
        async with self._database.transaction() as connection:
            await launches.record_call(connection, request.cluster, request.owner)
            found = await launches.list_open(connection, request.cluster, size + 1, _parse_token(request.page_token))
        page = found[:size]
        token = f"{page[-1].job_id}-{page[-1].launch_no}" if len(found) > size else ""
        return launch_pb2.ListLaunchesResponse(
            launches=[mapping.launch(launch) for launch in page], next_page_token=token
        )

    async def ConfirmLaunch(self, request: launch_pb2.ConfirmLaunchRequest, context: Context) -> launch_pb2.Launch:
        if not (request.kubernetes_uid or request.placement_reason):
            raise errors.InvalidArgument(
                "kubernetes_uid", "must not be empty, unless placement_reason says why there is no Kubernetes Job"
            )
        placed_on = enum_text(job_pb2.Accelerator, request.placed_on)
        async with self._database.transaction() as connection:
            launch = await launches.confirm(
                connection,
                caller_as(Program).cluster,
                request.job_id,
                request.launch_no,
                validation.kubernetes_uid(request.kubernetes_uid),
                placed_on,
                request.placement_reason,
            )
        return mapping.launch(launch)

    async def EndLaunch(self, request: launch_pb2.EndLaunchRequest, context: Context) -> launch_pb2.Launch:
        ending = _ending(request.ending, Ending.CANCELLED)
        async with self._database.transaction() as connection:
            job, launch = await launches.get_for_update(connection, request.job_id, request.launch_no)
            launches.check_cluster(caller_as(Program).cluster, launch.cluster)
            _, launch = await launches.end(connection, job, launch, ending, request.message)
        self._notifier.notify(job.id)
        return mapping.launch(launch)

    async def StartLaunch(
        self, request: launch_pb2.StartLaunchRequest, context: Context
    ) -> launch_pb2.StartLaunchResponse:
        lease_seconds = self._settings.lease_seconds
        async with self._database.transaction() as connection:
            job, launch = await launches.get_for_update(connection, request.job_id, request.launch_no)
            job, secret = await launches.start(connection, job, launch, caller_as(Pod), lease_seconds)
            session, session_status = await sessions.get_with_status(connection, job.session_id, commit=True)
        self._notifier.notify(job.id)
        duration = duration_pb2.Duration()
        duration.FromTimedelta(timedelta(seconds=lease_seconds))
        return launch_pb2.StartLaunchResponse(
            lease=secret,
            lease_duration=duration,
            stage=job_pb2.STAGE_DEEP if job.results_stage else job_pb2.STAGE_QUICK,
            job=mapping.job(job),
            session=mapping.session(session, session_status),
        )

    async def Heartbeat(self, request: launch_pb2.HeartbeatRequest, context: Context) -> launch_pb2.HeartbeatResponse:
        async with self._database.transaction() as connection:
            job, launch = await self._leased(connection, request)
            if request.stage == job_pb2.STAGE_DEEP and job.status == states.QUICK_DONE:
                job = await jobs.move(connection, job, states.DEEP_RUNNING)
            _report_progress(connection, job, request)
            launch = await launches.renew(connection, launch, self._settings.lease_seconds)
        self._notifier.notify(job.id)
        return launch_pb2.HeartbeatResponse(lease_expires_at=timestamp(launch.lease_expires_at))

    async def SubmitResult(
        self, request: launch_pb2.SubmitResultRequest, context: Context
    ) -> launch_pb2.SubmitResultResponse:
        stage = _STAGES.get(request.stage)
        if stage is None:
            raise errors.InvalidArgument("stage", "must be STAGE_QUICK or STAGE_DEEP")
        if request.more_files and stage != ResultStage.DEEP:
            raise errors.InvalidArgument("more_files", "must be false unless the stage is STAGE_DEEP")
        results = _results(request)
        async with self._database.transaction() as connection:
            job, launch = await self._lock(connection, request)
            if not _is_submitted(job, launch, stage):
                self._check_leased(job, launch)
                artifacts = _artifacts(request, jobs.artifact_prefix(job, request.launch_no), stage)
                publish = _publish_early if request.more_files else _publish
                job = await publish(connection, job, launch, stage, results, artifacts)
        self._notifier.notify(job.id)
        return launch_pb2.SubmitResultResponse(job=mapping.job(job))

    async def FailLaunch(
        self, request: launch_pb2.FailLaunchRequest, context: Context
    ) -> launch_pb2.FailLaunchResponse:
        ending, failure_code = _ending(request.ending), validation.failure_code(request.failure_code)
        async with self._database.transaction() as connection:
            job, launch = await self._leased(connection, request)
            job, _ = await launches.end(connection, job, launch, ending, request.error_message, failure_code)
        self._notifier.notify(job.id)
        return launch_pb2.FailLaunchResponse(job=mapping.job(job))

    async def _leased(self, connection: Connection, request: LeaseRequest) -> tuple[Job, AssignedLaunch]:
        """The job and the launch, both locked, if the caller has the valid lease and the job is running."""
        job, launch = await self._lock(connection, request)
        self._check_leased(job, launch)
        return job, launch

    async def _lock(self, connection: Connection, request: LeaseRequest) -> tuple[Job, AssignedLaunch]:
        try:
            return await launches.get_for_update(connection, request.job_id, request.launch_no)
        except errors.NotFound:
            raise launches.lease_lost() from None

    def _check_leased(self, job: Job, launch: AssignedLaunch) -> None:
        launches.check_lease(job, launch, caller_as(Lease).secret)
        if job.status not in states.LAUNCHED - {states.QUEUED}:
            raise launches.lease_lost()


def _is_submitted(job: Job, launch: AssignedLaunch, stage: ResultStage) -> bool:
    """Whether the same lease has submitted the same stage before: the pod repeats a call whose reply was lost."""
    same_lease = launches.is_lease_of(launch, caller_as(Lease).secret) and job.cancel_requested_at is None
    is_newest = launch.ending in (None, Ending.SUCCEEDED) and launch.launch_no == job.launch_count
    is_complete = stage == ResultStage.QUICK or job.status == states.DONE
    return same_lease and is_newest and job.results_stage == stage and is_complete


def _report_progress(connection: Connection, job: Job, request: launch_pb2.HeartbeatRequest) -> None:
    stage = _STAGES.get(request.stage)
    if stage is not None and RUNNING_STATUS[stage] == job.status:
        jobs.report_progress(connection, job, states.running_progress(job.status, request.progress))


async def _publish(
    connection: Connection,
    job: Job,
    launch: AssignedLaunch,
    stage: ResultStage,
    results: dict[str, Any],
    artifacts: list[Artifact],
) -> Job:
    """Stores the result of a stage and moves the job; the last stage ends the launch."""
    result = _columns(stage, results, artifacts)
    finished: dict[str, Any] = {"completed_at": Now(), "failure_code": "", "error_message": ""}
    if stage == ResultStage.QUICK:
        job = await jobs.move(connection, job, states.QUICK_DONE, commit=job.deep_enabled, **result)
        if job.deep_enabled:
            return job
        result = {}
    else:
        job = await _to_deep_running(connection, job)
    launches.succeed(connection, launch)
    connection.on_commit(partial(metrics.analysed, launch, results))
    return await jobs.move(connection, job, states.DONE, commit=True, **result, **finished)


async def _publish_early(
    connection: Connection,
    job: Job,
    launch: AssignedLaunch,
    stage: ResultStage,
    results: dict[str, Any],
    artifacts: list[Artifact],
) -> Job:
    """Stores a result whose last files follow; the job and the launch go on."""
    job = await _to_deep_running(connection, job)
    return await jobs.write(connection, job, **_columns(stage, results, artifacts))


async def _to_deep_running(connection: Connection, job: Job) -> Job:
    if job.status == states.QUICK_DONE:
        return await jobs.move(connection, job, states.DEEP_RUNNING)
    if job.status != states.DEEP_RUNNING:
        raise jobs.wrong_transition(job, states.DONE)
    return job


def _columns(stage: ResultStage, results: dict[str, Any], artifacts: list[Artifact]) -> dict[str, Any]:
    stored = Jsonb([artifact_json(artifact) for artifact in artifacts])
    return {"results": results, "results_stage": stage, "artifacts": stored, "level": level_of(results)}


def _results(request: launch_pb2.SubmitResultRequest) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json_format.MessageToDict(request.results)
    except ValueError:
        raise errors.InvalidArgument("results", "must not hold NaN or Infinity: JSON has no such numbers") from None
    if set(results) != RESULT_PARTS:
        raise errors.InvalidArgument("results", f"must have exactly the parts {', '.join(sorted(RESULT_PARTS))}")
    size = results_bytes(results)
    if size > MAX_RESULTS_BYTES:
        raise errors.InvalidArgument(
            "results", f"{size} bytes are more than {MAX_RESULTS_BYTES}; put frames in an artifact"
        )
    return results


def _artifacts(request: launch_pb2.SubmitResultRequest, prefix: str, stage: ResultStage) -> list[Artifact]:
    return [
        Artifact(
            name=artifact.name,
            stage=stage,
            content_type=artifact.content_type,
            content_length=artifact.content_length,
            s3_key=artifact_key(prefix, stage, artifact.name),
        )
        for artifact in validation.artifacts(request.artifacts)
    ]


def _ending(number: int, *more: Ending) -> Ending:
    """The ending that a caller reports: one with a rule in `retry_policy.py`, or one of `more`."""
    text = enum_text(launch_pb2.Ending, number)
    allowed = (*retry_policy.RULES, *more)
    if text not in allowed:
        raise errors.InvalidArgument("ending", f"must be one of {', '.join(allowed)}")
    return Ending(text)


def _check_cluster(cluster: str) -> None:
    """Raises InvalidArgument for an odd name, PermissionDenied for another cluster than the caller's own."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", cluster):
        raise errors.InvalidArgument("cluster", "must be a DNS label")
    launches.check_cluster(caller_as(Program).cluster, cluster)


def _parse_token(token: str) -> tuple[UUID, int] | None:
    if not token:
        return None
    job_id, _, launch_no = token.rpartition("-")
    parsed = parse_id(job_id)
    if parsed is None or not launch_no.isdecimal() or len(launch_no) > 9:
        raise errors.InvalidArgument("page_token", "does not belong to this list")
    return parsed, int(launch_no)
