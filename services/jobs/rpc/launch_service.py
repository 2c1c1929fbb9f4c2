"""LaunchService: how the controller gets work, and how one pod reports it."""

import re
from datetime import timedelta
from functools import partial
from typing import Any

from google.protobuf import duration_pb2, json_format
from psycopg.types.json import Jsonb

from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
from crease.jobs.v1 import job_pb2
from services import errors
from services.auth import Lease, Pod
from services.authorization import caller_as
from services.jobs import metrics
from services.jobs.domain import retry_policy, states
from services.jobs.notifier import Bell
from services.jobs.rpc import mapping
from services.jobs.settings import JobsSettings
from services.jobs.store import fair_queue, jobs, launches, pagination, sessions
from services.jobs.store.database import Connection, Database, Now, Row, parse_id
from services.limits import MAX_RESULTS_BYTES, results_bytes
from services.naming import ARTIFACT_NAME, artifact_key
from services.serving import Context

MAX_CAPACITY = 1000
RESULT_PARTS = frozenset({"pose", "metrics", "findings", "report"})
RUNNING_STATUS = {"quick": states.QUICK_RUNNING, "deep": states.DEEP_RUNNING}


class LaunchService(launch_pb2_grpc.LaunchServiceServicer):
    def __init__(self, database: Database, settings: JobsSettings, bell: Bell) -> None:
        self._database = database
        self._settings = settings
        self._bell = bell

    async def OpenLaunches(
        self, request: launch_pb2.OpenLaunchesRequest, context: Context
    ) -> launch_pb2.OpenLaunchesResponse:
        _check_cluster(request.cluster)
        if not 1 <= request.capacity <= MAX_CAPACITY:
            raise errors.InvalidArgument("capacity", f"must be 1 to {MAX_CAPACITY}")
        rows: list[Row] = []
        more = True
        while more and (wanted := request.capacity - len(rows)):
            async with self._database.transaction() as connection:
                offered, more = await fair_queue.offer(
                    connection,
                    request.cluster,
                    wanted,
                    self._settings.confirm_seconds,
                    self._settings.limits,
                    last=True,
                )
            rows += offered
        return launch_pb2.OpenLaunchesResponse(launches=[mapping.launch(row) for row in rows])

    async def ListLaunches(
        self, request: launch_pb2.ListLaunchesRequest, context: Context
    ) -> launch_pb2.ListLaunchesResponse:
        _check_cluster(request.cluster)
        size = pagination.page_size(request.page_size)
        async with self._database.transaction() as connection:
            rows = await launches.list_open(connection, request.cluster, size + 1, _after(request.page_token))
        page = rows[:size]
        token = f"{page[-1]['job_id']}-{page[-1]['launch_no']}" if len(rows) > size else ""
        return launch_pb2.ListLaunchesResponse(launches=[mapping.launch(row) for row in page], next_page_token=token)

    async def ConfirmLaunch(self, request: launch_pb2.ConfirmLaunchRequest, context: Context) -> launch_pb2.Launch:
        if not (request.kubernetes_uid or request.placement_reason):
            raise errors.InvalidArgument(
                "kubernetes_uid", "must not be empty, unless placement_reason says why nothing runs"
            )
        placed_on = mapping.word(job_pb2.Accelerator, request.placed_on)
        async with self._database.transaction() as connection:
            row = await launches.confirm(
                connection,
                request.job_id,
                request.launch_no,
                request.kubernetes_uid,
                placed_on,
                request.placement_reason,
            )
        return mapping.launch(row)

    async def EndLaunch(self, request: launch_pb2.EndLaunchRequest, context: Context) -> launch_pb2.Launch:
        ending = _ending(request.ending, states.CANCELLED)
        async with self._database.transaction() as connection:
            job, launch = await launches.lock(connection, request.job_id, request.launch_no)
            _, launch = await launches.end(connection, job, launch, ending, request.message)
        self._bell.ring(job["id"])
        return mapping.launch(launch)

    async def StartLaunch(
        self, request: launch_pb2.StartLaunchRequest, context: Context
    ) -> launch_pb2.StartLaunchResponse:
        lease_seconds = self._settings.lease_seconds
        async with self._database.transaction() as connection:
            job, launch = await launches.lock(connection, request.job_id, request.launch_no)
            job, secret = await launches.start(connection, job, launch, caller_as(Pod), lease_seconds)
            session, shown = await sessions.shown(connection, job["session_id"], last=True)
        self._bell.ring(job["id"])
        duration = duration_pb2.Duration()
        duration.FromTimedelta(timedelta(seconds=lease_seconds))
        return launch_pb2.StartLaunchResponse(
            lease=secret,
            lease_duration=duration,
            stage=job_pb2.STAGE_DEEP if job["results_stage"] == "quick" else job_pb2.STAGE_QUICK,
            job=mapping.job(job),
            session=mapping.session(session, shown),
        )

    async def Heartbeat(self, request: launch_pb2.HeartbeatRequest, context: Context) -> launch_pb2.HeartbeatResponse:
        async with self._database.transaction() as connection:
            job, launch = await self._held(connection, request)
            if request.stage == job_pb2.STAGE_DEEP and job["status"] == states.QUICK_DONE:
                job = await jobs.move(connection, job, states.DEEP_RUNNING)
            _report_progress(connection, job, request)
            launch = await launches.renew(connection, launch, self._settings.lease_seconds)
        self._bell.ring(job["id"])
        return launch_pb2.HeartbeatResponse(lease_expires_at=mapping.timestamp(launch["lease_expires_at"]))

    async def SubmitResult(
        self, request: launch_pb2.SubmitResultRequest, context: Context
    ) -> launch_pb2.SubmitResultResponse:
        stage = mapping.word(job_pb2.Stage, request.stage)
        if stage not in RUNNING_STATUS:
            raise errors.InvalidArgument("stage", "must be STAGE_QUICK or STAGE_DEEP")
        results = _results(request)
        async with self._database.transaction() as connection:
            job, launch = await self._lock(connection, request)
            if not _is_submitted(job, launch, stage):
                self._check_held(job, launch)
                artifacts = _artifacts(request, jobs.artifact_prefix(job, request.launch_no), stage)
                job = await _publish(connection, job, launch, stage, results, artifacts)
        self._bell.ring(job["id"])
        return launch_pb2.SubmitResultResponse(job=mapping.job(job))

    async def FailLaunch(
        self, request: launch_pb2.FailLaunchRequest, context: Context
    ) -> launch_pb2.FailLaunchResponse:
        ending = _ending(request.ending)
        async with self._database.transaction() as connection:
            job, launch = await self._held(connection, request)
            job, _ = await launches.end(connection, job, launch, ending, request.error_message, request.failure_code)
        self._bell.ring(job["id"])
        return launch_pb2.FailLaunchResponse(job=mapping.job(job))

    async def _held(self, connection: Connection, request: Any) -> tuple[Row, Row]:
        """The job and launch, locked, whose living lease the caller holds, while the job is still being run."""
        job, launch = await self._lock(connection, request)
        self._check_held(job, launch)
        return job, launch

    async def _lock(self, connection: Connection, request: Any) -> tuple[Row, Row]:
        try:
            return await launches.lock(connection, request.job_id, request.launch_no)
        except errors.NotFound:
            raise launches.lease_lost() from None

    def _check_held(self, job: Row, launch: Row) -> None:
        launches.check_lease(job, launch, caller_as(Lease).secret)
        if job["status"] not in states.LAUNCHED - {states.QUEUED}:
            raise launches.lease_lost()


def _is_submitted(job: Row, launch: Row, stage: str) -> bool:
    """Whether this very lease has submitted this very stage before: a reply got lost, nothing else."""
    same_lease = launches.is_lease_of(launch, caller_as(Lease).secret) and job["cancel_requested_at"] is None
    alive = launch["ending"] in ("", "succeeded") and launch["launch_no"] == job["launch_count"]
    return same_lease and alive and job["results_stage"] == stage


def _report_progress(connection: Connection, job: Row, request: launch_pb2.HeartbeatRequest) -> None:
    if RUNNING_STATUS.get(mapping.word(job_pb2.Stage, request.stage)) != job["status"]:
        return
    reached = states.running_progress(job["status"], request.progress)
    if reached > job["progress_pct"]:
        connection.later(_PROGRESS, id=job["id"], reached=reached)


_PROGRESS = "UPDATE video_analysis_jobs SET progress_pct = %(reached)s WHERE id = %(id)s"


async def _publish(
    connection: Connection, job: Row, launch: Row, stage: str, results: Any, artifacts: list[Any]
) -> Row:
    """Moves the job by the result of a stage; the last stage ends the launch."""
    result: dict[str, Any] = {"results": results, "results_stage": stage, "artifacts": Jsonb(artifacts)}
    finished: dict[str, Any] = {"completed_at": Now(), "failure_code": "", "error_message": ""}
    if stage == "quick":
        job = await jobs.move(connection, job, states.QUICK_DONE, last=job["deep_enabled"], **result)
        if job["deep_enabled"]:
            return job
        result = {}
    elif job["status"] == states.QUICK_DONE:
        job = await jobs.move(connection, job, states.DEEP_RUNNING)
    elif job["status"] != states.DEEP_RUNNING:
        raise jobs.cannot_become(job, states.DONE)
    launches.succeed(connection, launch)
    connection.afterwards(partial(metrics.analysed, launch, results))
    return await jobs.move(connection, job, states.DONE, last=True, **result, **finished)


def _results(request: launch_pb2.SubmitResultRequest) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json_format.MessageToDict(request.results)
    except ValueError:
        raise errors.InvalidArgument("results", "must not hold NaN or Infinity, which JSON has not") from None
    if set(results) != RESULT_PARTS:
        raise errors.InvalidArgument("results", f"must have exactly the parts {', '.join(sorted(RESULT_PARTS))}")
    size = results_bytes(results)
    if size > MAX_RESULTS_BYTES:
        raise errors.InvalidArgument(
            "results", f"{size} bytes are more than {MAX_RESULTS_BYTES}; put frames in an artifact"
        )
    return results


def _artifacts(request: launch_pb2.SubmitResultRequest, prefix: str, stage: str) -> list[dict[str, Any]]:
    for artifact in request.artifacts:
        if not ARTIFACT_NAME.fullmatch(artifact.name):
            raise errors.InvalidArgument("artifacts.name", f"{artifact.name!r} is no artifact's name")
    return [
        {
            "name": artifact.name,
            "stage": job_pb2.Stage.Name(request.stage),
            "content_type": artifact.content_type,
            "content_length": artifact.content_length,
            "s3_key": artifact_key(prefix, stage, artifact.name),
        }
        for artifact in request.artifacts
    ]


def _ending(number: int, *more: str) -> str:
    ending = mapping.word(launch_pb2.Ending, number)
    if ending not in (*retry_policy.RULES, *more):
        raise errors.InvalidArgument("ending", f"must be one of {', '.join((*retry_policy.RULES, *more))}")
    return ending


def _check_cluster(cluster: str) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", cluster):
        raise errors.InvalidArgument("cluster", "must be a DNS label")


def _after(token: str) -> tuple[Any, int] | None:
    if not token:
        return None
    job_id, _, launch_no = token.rpartition("-")
    parsed = parse_id(job_id)
    if parsed is None or not launch_no.isdecimal() or len(launch_no) > 9:
        raise errors.InvalidArgument("page_token", "does not belong to this list")
    return parsed, int(launch_no)
