"""ShareService: people share reports. `read` is what a secret shares."""

from google.protobuf import empty_pb2

from crease.jobs.v1 import intake_pb2, session_pb2, share_pb2, share_pb2_grpc
from services import errors
from services.authorization import user
from services.jobs.domain import comparison, states
from services.jobs.domain.protobuf import enum_number, timestamp
from services.jobs.domain.records import Job, Session
from services.jobs.rpc import comparing, mapping, validation
from services.jobs.store import jobs, sessions
from services.jobs.store.database import Connection, Database
from services.jobs.store.library import shares
from services.rules.players import player_names
from services.serving import Context

DAY_SECONDS = 86400
MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 60, 7 * DAY_SECONDS, 90 * DAY_SECONDS


class ShareService(share_pb2_grpc.ShareServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateShare(
        self, request: share_pb2.CreateShareRequest, context: Context
    ) -> share_pb2.CreateShareResponse:
        seconds = _seconds(request)
        if len(request.job_ids) != 1:
            comparing.check_job_ids(request.job_ids)
        async with self._database.transaction() as connection:
            found = [await jobs.get_visible(connection, job_id, user()) for job_id in request.job_ids]
            of_jobs = [await sessions.get(connection, job.session_id) for job in found]
            _check_shared(found, of_jobs, with_names=request.with_names)
            ids = [str(job.id) for job in found]
            content = {"job_ids": ids, "with_names": request.with_names, "seconds": seconds}
            values = content | {"request_id": validation.request_id(request.request_id)}
            values["request_sha256"] = validation.digest(content)
            share, secret = await shares.create(connection, user(), of_jobs[0].owner, values)
        return share_pb2.CreateShareResponse(share=_share(share), secret=secret)

    async def ListShares(self, request: share_pb2.ListSharesRequest, context: Context) -> share_pb2.ListSharesResponse:
        async with self._database.transaction() as connection:
            page = await shares.list_visible(connection, user(), size=request.page_size, page_token=request.page_token)
        listed, token = page.messages(_share)
        return share_pb2.ListSharesResponse(shares=listed, next_page_token=token)

    async def RevokeShare(self, request: share_pb2.RevokeShareRequest, context: Context) -> empty_pb2.Empty:
        async with self._database.transaction() as connection:
            await shares.revoke(connection, request.share_id, user())
        return empty_pb2.Empty()


async def read(database: Database, secret: str) -> intake_pb2.AuthorizeShareResponse:
    """The jobs that a secret shares. Raises NotFound."""
    async with database.transaction() as connection:
        share = await shares.get_by_secret(connection, secret)
        shared = await _read_jobs(connection, share)
    response = intake_pb2.AuthorizeShareResponse(
        expires_at=timestamp(share.expires_at),
        jobs=[_shared_job(job, session, with_names=share.with_names) for job, session in shared],
    )
    if len(shared) > 1:
        compared = comparing.compared([comparison.analysis(job, session) for job, session in shared])
        if not share.with_names:
            compared.ClearField("player_ids")
            compared.ClearField("players")
        response.compared.CopyFrom(compared)
    return response


async def _read_jobs(connection: Connection, share: shares.Share) -> list[tuple[Job, Session]]:
    """The jobs of a share with their sessions. Raises NotFound if one is deleted, or is not done any more."""
    shared = []
    try:
        for job_id in share.job_ids:
            job = await jobs.get_readable(connection, job_id)
            shared.append((job, await sessions.get(connection, job.session_id)))
    except errors.NotFound:
        raise shares.not_found() from None
    if any(job.status != states.DONE for job, _ in shared):
        raise shares.not_found()
    return shared


def _check_shared(found: list[Job], of_jobs: list[Session], *, with_names: bool) -> None:
    for job in found:
        if job.status != states.DONE:
            raise errors.FailedPrecondition(f"Cannot share job {job.id} in status: {job.status}", reason="JOB_NOT_DONE")
        if not (job.anonymous or with_names):
            message = f"The report of job {job.id} shows the player: reanalyze it as anonymous, or share it with names"
            raise errors.FailedPrecondition(message, reason="JOB_NOT_ANONYMOUS")
    if len({session.owner for session in of_jobs}) > 1:
        raise errors.InvalidArgument("job_ids", "must be of one owner")
    if len(found) > 1:
        comparing.check_players([comparison.analysis(*pair) for pair in zip(found, of_jobs, strict=True)])


def _seconds(request: share_pb2.CreateShareRequest) -> int:
    if not request.HasField("valid_for"):
        return DEFAULT_SECONDS
    if not MIN_SECONDS <= request.valid_for.seconds <= MAX_SECONDS:
        raise errors.InvalidArgument("valid_for", f"must be {MIN_SECONDS} to {MAX_SECONDS} seconds")
    return request.valid_for.seconds


def _share(share: shares.Share) -> share_pb2.Share:
    return share_pb2.Share(
        share_id=str(share.id),
        owner_type=share.owner.type,
        owner_id=share.owner.id,
        job_ids=[str(job_id) for job_id in share.job_ids],
        with_names=share.with_names,
        created_at=timestamp(share.created_at),
        expires_at=timestamp(share.expires_at),
    )


def _shared_job(job: Job, session: Session, *, with_names: bool) -> intake_pb2.SharedJob:
    shared = intake_pb2.SharedJob(
        job=mapping.job(job),
        discipline=enum_number(session_pb2.Discipline, job.discipline or session.discipline),
        created_at=timestamp(session.created_at),
    )
    if with_names:
        shared.title = session.title
        shared.player_names.extend(player_names(session.player_ids, map(mapping.player, session.players)))
    return shared
