"""Access rights as a full product: every RPC of `jobs`, every caller, a coach's job and an organisation's."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, player_pb2, session_pb2
from crease_client.calls import ON_BEHALF_OF
from services import dev_issuer
from services.auth import Person, Service, User
from services.jobs.domain import authorization
from services.jobs.domain.records import Owner, OwnerType
from services.jobs.store import jobs, sessions
from services.jobs.store.database import Database
from testing.servers.programs import Laptop, Program, lease
from tests.integration.jobs import filled
from tests.integration.jobs.test_lifecycle import RESULTS, Road

# These get UNAUTHENTICATED everywhere; every other caller gets PERMISSION_DENIED unless ALLOWED names it.
UNAUTHENTICATED = {"anonymous", "expired"}
PEOPLE = {"coach", "other coach", "org_pro", "other org_pro", "superuser"}
# `upload` must forward a person's token wherever the person's rights decide.
UPLOADS = {
    "upload",
    "upload for the owner",
    "upload for another",
    "upload for a superuser",
    "upload for a service for the owner",
    "upload for a service for another",
    "upload for a service that reads",
    "upload for a service of another",
}
# Services that may do everything: for every owner (all of them, or the one that the call names), or for one owner.
WRITERS = {"service", "service for the owner", "service for another", "service of the owner", "service of another"}
SERVICES = WRITERS | {"service that reads", "service that hears", "service beyond its owners", "coach for another"}
PROGRAMS = {"controller", "pod", "other pod", "lease", "other lease"}
CALLERS = sorted(UNAUTHENTICATED | PEOPLE | UPLOADS | SERVICES | PROGRAMS)

# The owner stands for `coach` where a coach owns the session, for `org_pro` where an organisation does.
WHOSE = {"a coach's": {"owner": "coach"}, "an organisation's": {"owner": "org_pro"}}
READS_ANY = frozenset(PEOPLE | WRITERS | {"service that reads"})
WRITES_ANY = frozenset(PEOPLE | WRITERS)
OWNERS_SERVICES = frozenset({"service", "service for the owner", "service of the owner"})
WRITES = OWNERS_SERVICES | {"owner", "superuser"}
READS = WRITES | {"service that reads"}
BEHIND = frozenset({"upload for the owner", "upload for a superuser", "upload for a service for the owner"})
HEARS = frozenset(WRITERS | {"service that hears"})
CONTROLLER = frozenset({"controller"})
LEASE = frozenset({"lease"})

ALLOWED: dict[str, frozenset[str]] = {
    "SessionService/CreateSession": WRITES_ANY,
    "SessionService/GetSession": READS,
    "SessionService/ListSessions": READS_ANY,
    "SessionService/UpdateSession": WRITES,
    "SessionService/DeleteSession": WRITES,
    "SessionService/UndeleteSession": WRITES,
    "PlayerService/CreatePlayer": WRITES_ANY,
    "PlayerService/GetPlayer": READS,
    "PlayerService/ListPlayers": READS_ANY,
    "PlayerService/UpdatePlayer": WRITES,
    "PlayerService/DeletePlayer": WRITES,
    "PlayerService/UndeletePlayer": WRITES,
    "LibraryService/SearchSessions": READS_ANY,
    "LibraryService/SearchJobs": READS_ANY,
    "LibraryService/GetTrends": READS,
    "ShareService/CreateShare": WRITES,
    "ShareService/ListShares": READS_ANY,
    "ShareService/RevokeShare": WRITES,
    "JobService/GetJob": READS,
    # Of one session, as the request of this test; without a session any user may list.
    "JobService/ListJobs": READS,
    "JobService/WatchJob": READS,
    "JobService/CancelJob": WRITES,
    "JobService/ExplainJob": READS,
    "JobService/RetryJob": WRITES,
    "JobService/ReanalyzeJob": WRITES,
    "JobService/DeleteJob": WRITES,
    "JobService/UndeleteJob": WRITES,
    "JobService/CompareJobs": READS,
    "JobService/ForgetCluster": frozenset({"superuser"}),
    "IntakeService/CreateJob": BEHIND,
    "IntakeService/ConfirmUpload": BEHIND,
    "IntakeService/FailUpload": BEHIND,
    "IntakeService/GetUpload": BEHIND,
    "IntakeService/RecordMultipart": BEHIND,
    "IntakeService/AbandonUpload": BEHIND,
    "CleanupService/ClaimCleanup": frozenset(UPLOADS),
    "CleanupService/CompleteCleanup": frozenset(UPLOADS),
    "CleanupService/ListVideos": frozenset({"upload for a superuser"}),
    "SweepService/TakeRubbish": frozenset(UPLOADS),
    "SweepService/SettleRubbish": frozenset(UPLOADS),
    "SweepService/ListVideos": frozenset({"upload for a superuser"}),
    # The lease or the secret in the request decides.
    "IntakeService/AuthorizeLaunch": frozenset(UPLOADS),
    "IntakeService/AuthorizeShare": frozenset(UPLOADS),
    "LaunchService/OpenLaunches": CONTROLLER,
    "LaunchService/ListLaunches": CONTROLLER,
    "LaunchService/ConfirmLaunch": CONTROLLER,
    "LaunchService/EndLaunch": CONTROLLER,
    "LaunchService/StartLaunch": frozenset({"pod"}),
    "LaunchService/Heartbeat": LEASE,
    "LaunchService/SubmitResult": LEASE,
    "LaunchService/FailLaunch": LEASE,
    # Of one session, as for ListJobs.
    "EventService/WatchEvents": CONTROLLER | OWNERS_SERVICES | {"service that hears"},
    "EventService/AcknowledgeEvents": HEARS,
    "EventService/DeleteSubscription": HEARS,
}
# An allowed caller gets none of these; the last three would be faults of jobs.
NOT_ALLOWED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED"}
# `upload` is refused as unauthenticated here if it forwards no person's token.
NEEDS_A_PERSON = {rpc for rpc, allowed in ALLOWED.items() if allowed <= BEHIND}


@dataclass(frozen=True)
class Scene:
    """A running job, the values of requests about it, and the credentials of every caller."""

    values: dict[str, Any]
    callers: dict[str, Any]


class Stage:
    """Makes scenes."""

    def __init__(self, road: Road, laptop: Laptop, database_url: str) -> None:
        self._road = road
        self._database_url = database_url
        self._folder = laptop.folder
        self._laptop = laptop

    def _token(self, subject: str, role: str = "coach_pro_plus", organisation: str = "", **more: Any) -> str:
        return dev_issuer.person(self._folder, subject, role=role, organisation_id=organisation, **more)

    def _upload(self, behind: str) -> Any:
        return (*self._laptop.program("upload"), ("crease-user", behind))

    def scene(self, whose: str) -> Scene:
        coach, boss = self._token("coach-1"), self._token("boss", "org_pro", "o-1")
        owner = coach if whose == "a coach's" else boss
        job, launch, secret = self._running(owner)
        second = self._created(owner, job.session_id)
        _, other, other_secret = self._running(self._token("coach-2"))
        pod = f"analysis-{job.job_id}-{launch.launch_no}-aaaaa"
        other_pod = f"analysis-{other.job_id}-{other.launch_no}-aaaaa"
        callers = {
            "anonymous": (),
            "expired": _bearer(self._token("coach-1", seconds=-3600)),
            "coach": _bearer(coach),
            "other coach": _bearer(self._token("coach-2")),
            "org_pro": _bearer(boss),
            "other org_pro": _bearer(self._token("rival", "org_pro", "o-2")),
            "superuser": _bearer(self._token("root", "superuser")),
            "upload": self._laptop.program("upload"),
            "upload for the owner": self._upload(owner),
            "upload for a superuser": self._upload(self._token("root", "superuser")),
            "upload for another": self._upload(self._token("rival", "org_pro", "o-2")),
            **self._services(whose),
            "controller": self._laptop.program("controller"),
            "pod": self._laptop.pod(pod, "pod-1"),
            "other pod": self._laptop.pod(other_pod, "pod-1"),
            "lease": lease(secret),
            "other lease": lease(other_secret),
        }
        values = {
            "job_id": job.job_id,
            "job_ids": [job.job_id, second.job_id],
            "session_id": job.session_id,
            "player_id": self._player(owner),
            "share_id": self._share(job),
            "name": "Ann",
            "launch_no": launch.launch_no,
            "lease": secret,
            "cluster": "c1",
            "capacity": 1,
            "kubernetes_uid": launch.kubernetes_uid,
            "ending": launch_pb2.ENDING_DISRUPTION,
            "stage": job_pb2.STAGE_QUICK,
            "results": RESULTS,
            "s3_bucket": "videos",
            "content_type": "video/mp4",
            "content_length": 10,
            "etag": "abc",
            "failure_code": "EMPTY",
            "after": "0-0",
            "sample_fps": 5,
        }
        return Scene(values, callers)

    def _services(self, whose: str) -> dict[str, Any]:
        """The services, each by itself and behind `upload`."""
        coach, club = ("tutor", "coach:coach-1"), ("club", "org:o-1")
        (mine, owner), (others, another) = (coach, club) if whose == "a coach's" else (club, coach)
        service = self._laptop.service

        def behind(metadata: Any) -> Any:
            (_, token), *on_behalf = metadata
            return (*self._upload(token.removeprefix("Bearer ")), *on_behalf)

        return {
            "service": service(),
            "service for the owner": service(on_behalf_of=owner),
            "service for another": service(on_behalf_of=another),
            "service of the owner": service(mine),
            "service of another": service(others),
            "service that reads": service("reader"),
            "service that hears": service("listener"),
            "service beyond its owners": service(others, on_behalf_of=owner),
            "coach for another": (*_bearer(self._token("coach-2")), (ON_BEHALF_OF, owner)),
            "upload for a service for the owner": behind(service(on_behalf_of=owner)),
            "upload for a service for another": behind(service(on_behalf_of=another)),
            "upload for a service that reads": behind(service("reader")),
            "upload for a service of another": behind(service(others)),
        }

    def _player(self, owner: str) -> str:
        request = player_pb2.CreatePlayerRequest(name="Ann")
        return self._road.players.CreatePlayer(request, metadata=_bearer(owner)).player_id

    def _share(self, job: job_pb2.Job) -> str:
        """A share of the owner of a job, which is not done yet: hence not by CreateShare."""
        insert = """
            INSERT INTO shares (owner_type, owner_id, created_by, secret_hash, job_ids, with_names, expires_at)
            SELECT owner_type, owner_id, created_by, %s, ARRAY[%s]::uuid[], true, now() + interval '1 day'
            FROM video_sessions WHERE id = %s RETURNING id
        """
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            [(key,)] = connection.execute(insert, [uuid.uuid4().bytes, job.job_id, job.session_id]).fetchall()
        return str(key)

    def _created(self, owner: str, session_id: str) -> job_pb2.Job:
        create = intake_pb2.CreateJobRequest(session_id=session_id, s3_bucket="videos", content_length=10)
        return self._road.intake.CreateJob(create, metadata=self._upload(owner))

    def _running(self, owner: str) -> tuple[job_pb2.Job, launch_pb2.Launch, str]:
        road, upload = self._road, self._upload(owner)
        session = road.sessions.CreateSession(session_pb2.CreateSessionRequest(), metadata=_bearer(owner))
        job = self._created(owner, session.session_id)
        road.intake.ConfirmUpload(intake_pb2.ConfirmUploadRequest(job_id=job.job_id, etag="abc"), metadata=upload)
        launch = next(launch for launch in road.open() if launch.job_id == job.job_id)
        return job, road.confirm(launch, f"uid-{uuid.uuid4()}"), road.start(launch).lease


def _bearer(token: str) -> Any:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


@pytest.fixture
def stage(road: Road, laptop: Laptop, empty: str) -> Stage:
    return Stage(road, laptop, empty)


@pytest.fixture
def channel(shared_jobs: Program) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(shared_jobs.endpoint) as opened:
        yield opened


def expected(rpc: str, whose: str, caller: str) -> str:
    """`allowed`, or the code of the refusal."""
    allowed = {WHOSE[whose].get(name, name) for name in ALLOWED[rpc]}
    if caller in allowed:
        return "allowed"
    unproven = caller in UNAUTHENTICATED or (caller == "upload" and rpc in NEEDS_A_PERSON)
    return "UNAUTHENTICATED" if unproven else "PERMISSION_DENIED"


def fingerprint(database_url: str) -> str:
    """A digest of all rows."""
    digest = hashlib.sha256()
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in ("video_sessions", "players", "shares", "video_analysis_jobs", "launches", "events"):
            for (row,) in connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1"):  # noqa: S608
                digest.update(row.encode())
    return digest.hexdigest()


def test_every_rpc_has_its_callers_written_down() -> None:
    """A new RPC needs its row in ALLOWED."""
    assert filled.RPCS.keys() <= ALLOWED.keys()


@pytest.mark.parametrize("whose", ["a coach's", pytest.param("an organisation's", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rpc", filled.RPCS)
def test_each_caller_is_allowed_or_refused_as_the_table_says(
    rpc: str, whose: str, stage: Stage, channel: grpc.Channel, empty: str
) -> None:
    """A refused call returns its code and changes no row; an allowed call may fail for other reasons."""
    scene = stage.scene(whose)
    refused = [caller for caller in CALLERS if expected(rpc, whose, caller) != "allowed"]
    before = fingerprint(empty)
    seen = {
        caller: filled.send(channel, rpc, filled.request(rpc, scene.values), scene.callers[caller])
        for caller in refused
    }
    assert fingerprint(empty) == before
    for caller in sorted(set(CALLERS) - set(refused)):
        # A call that changes no row leaves its scene to the next caller.
        if fingerprint(empty) != before:
            scene = stage.scene(whose)
            before = fingerprint(empty)
        code = filled.send(channel, rpc, filled.request(rpc, scene.values), scene.callers[caller])
        seen[caller] = code if code in NOT_ALLOWED else "allowed"
    assert seen == {caller: expected(rpc, whose, caller) for caller in CALLERS}


@pytest.mark.parametrize("whose", WHOSE)
def test_a_list_holds_exactly_the_jobs_that_its_reader_may_see(whose: str, stage: Stage, road: Road) -> None:
    """ListJobs and GetJob apply the same rule; listing another's session is refused like getting it."""
    scene = stage.scene(whose)
    theirs = set(scene.values["job_ids"])
    for caller in sorted(PEOPLE | WRITERS | {"service that reads"}):
        sees = expected("JobService/GetJob", whose, caller) == "allowed"
        everything = road.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=scene.callers[caller])
        assert theirs & {job.job_id for job in everything.jobs} == (theirs if sees else set()), caller
        request = job_pb2.ListJobsRequest(session_id=scene.values["session_id"])
        if sees:
            of_session = road.jobs.ListJobs(request, metadata=scene.callers[caller]).jobs
            assert {job.job_id for job in of_session} == theirs, caller
        else:
            with pytest.raises(grpc.RpcError, match="You don't have access to this session"):
                road.jobs.ListJobs(request, metadata=scene.callers[caller])


@pytest.mark.parametrize(
    "user",
    [
        Person("coach-1", "coach_pro_plus"),
        Person("coach-1", "coach_pro_plus", organisation_id="o-1"),
        Person("boss", "org_pro", organisation_id="o-1"),
        Person("boss", "org_pro"),
        Person("o-1", "org_pro", organisation_id="coach-1"),
        Person("root", "superuser"),
        Person("", "no_role"),
        Service("everything", frozenset({"read"})),
        Service("everything", frozenset({"read"}), on_behalf_of="org:o-1"),
        Service("several", frozenset({"read"}), frozenset({"coach:coach-1", "org:coach-1", "org:o-1"})),
        Service("several", frozenset({"read"}), frozenset({"coach:coach-1", "org:o-1"}), on_behalf_of="org:o-1"),
    ],
)
async def test_the_rule_of_ownership_is_the_same_in_sql_and_in_python(user: User, empty: str) -> None:
    """Lists hold sessions and jobs of exactly the owners that `may_see` allows, also for equal ids of both kinds."""
    owners = [Owner(kind, key) for kind in OwnerType for key in ("coach-1", "coach-2", "boss", "o-1", "")]
    insert = "INSERT INTO video_sessions (owner_type, owner_id, created_by) VALUES (%s, %s, '')"
    with psycopg.connect(empty, autocommit=True) as connection:
        for owner in owners:
            connection.execute(insert, [owner.type.value, owner.id])
        connection.execute(
            "INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)"
            " SELECT id, 'failed', 'videos', 'k' FROM video_sessions"
        )
    database = Database(empty, 1)
    try:
        async with database.transaction() as transaction:
            page = await sessions.list_visible(transaction, user, size=50, page_token="")
            of_jobs = await jobs.list_visible(transaction, user, session_id="", status="", size=50, page_token="")
    finally:
        await database.close()
    listed = {session.owner for session in page.records}
    assert listed == {owner for owner in owners if authorization.may_see(user, owner)}
    assert {job.session_id for job in of_jobs.records} == {session.id for session in page.records}
