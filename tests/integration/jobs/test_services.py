"""What internal services do for owners, through a real `jobs`; test_rights.py has which of them may."""

import json
import uuid
from typing import Any

import grpc
import psycopg
import pytest

from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2
from crease_client.calls import ON_BEHALF_OF
from testing.servers.programs import Laptop, Program
from tests.integration.jobs.test_lifecycle import Road, code_of

FOR_COACH = "service:everything for coach:coach-1"


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


@pytest.fixture
def service(laptop: Laptop) -> Any:
    """The credentials of a service that acts for coach-1."""
    return laptop.service(on_behalf_of="coach:coach-1")


def behind_upload(laptop: Laptop, service: Any) -> Any:
    """The credentials of `upload` where that service calls it."""
    (_, token), *on_behalf = service
    return (*laptop.program("upload"), ("crease-user", token.removeprefix("Bearer ")), *on_behalf)


def created(road: Road, service: Any) -> tuple[str, str]:
    """The ids of a session and a job that a service made."""
    session = road.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=service)
    request = intake_pb2.CreateJobRequest(session_id=session.session_id, s3_bucket="videos", content_length=10)
    job = road.intake.CreateJob(request, metadata=behind_upload(road.laptop, service))
    return session.session_id, job.job_id


def actors(database_url: str, table: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(f"SELECT created_by, acted_by FROM {table}").fetchall()  # noqa: S608


def explained(road: Road, job_id: str) -> str:
    return road.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=road.coach).sentence


def test_a_session_that_a_service_makes_belongs_to_the_owner_that_it_names(road: Road, laptop: Laptop) -> None:
    """A coach's or an organisation's: its people read it like one of their own, and others do not."""
    boss = laptop.person("boss", role="org_pro", organisation_id="o-1")
    for owner, theirs, others in (("coach:coach-1", road.coach, boss), ("org:o-1", boss, road.coach)):
        metadata = laptop.service(on_behalf_of=owner)
        made = road.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=metadata)
        assert f"{made.owner_type}:{made.owner_id}" == owner
        request = session_pb2.GetSessionRequest(session_id=made.session_id)
        assert road.sessions.GetSession(request, metadata=theirs) == made
        with pytest.raises(grpc.RpcError) as refused:
            road.sessions.GetSession(request, metadata=others)
        assert code_of(refused) == ("PERMISSION_DENIED", "SESSION_ACCESS_DENIED")


@pytest.mark.parametrize("named", ["", "coach-1", "coach:", "team:t-1"])
def test_a_new_session_needs_an_owner(road: Road, laptop: Laptop, named: str) -> None:
    """The refusal names the metadata, whether it is missing or odd."""
    with pytest.raises(grpc.RpcError) as refused:
        created(road, laptop.service(on_behalf_of=named))
    assert code_of(refused) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert str(refused.value.details()).startswith(f"{ON_BEHALF_OF}: must ")


def test_rows_keep_who_acted_and_for_whom(road: Road, service: Any, empty: str) -> None:
    """Who made a row stays; who acted last is the service or the person of the last request."""
    session_id, job_id = created(road, service)
    assert actors(empty, "video_sessions") == [(FOR_COACH, FOR_COACH)]
    assert actors(empty, "video_analysis_jobs") == [(FOR_COACH, FOR_COACH)]
    update = session_pb2.UpdateSessionRequest(session=session_pb2.Session(session_id=session_id, title="Match"))
    road.sessions.UpdateSession(update, metadata=road.coach)
    assert actors(empty, "video_sessions") == [(FOR_COACH, "coach-1")]
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=road.coach)
    assert actors(empty, "video_analysis_jobs") == [(FOR_COACH, "coach-1")]
    road.sessions.DeleteSession(
        session_pb2.DeleteSessionRequest(session_id=session_id), metadata=road.laptop.service("tutor")
    )
    assert actors(empty, "video_sessions") == [(FOR_COACH, "service:tutor")]
    assert actors(empty, "video_analysis_jobs") == [(FOR_COACH, "service:tutor")]


def test_an_explanation_names_the_service_and_its_owner(road: Road, service: Any, laptop: Laptop) -> None:
    """The service of the last request; after a person's request, none."""
    _, job_id = created(road, service)
    assert explained(road, job_id).endswith("from the service everything, on behalf of coach:coach-1")
    request = intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc", content_length=10)
    road.intake.ConfirmUpload(request, metadata=road.upload)
    assert "service" not in explained(road, job_id)
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=laptop.service("tutor"))
    assert explained(road, job_id).endswith("The last request came from the service tutor")


def test_a_log_line_names_the_service_and_its_owner(road: Road, service: Any, shared_jobs: Program) -> None:
    """Of its own call as the caller, of upload's call as the user; also of a refused one."""
    session_id, job_id = created(road, service)
    both = {"on_behalf_of": "coach:coach-1"}
    with pytest.raises(grpc.RpcError):
        road.jobs.GetJob(job_pb2.GetJobRequest(job_id=str(uuid.uuid4())), metadata=service)
    lines = [json.loads(line) for line in shared_jobs.log.read_text().splitlines() if '"event": "rpc"' in line][-3:]
    calls = [{name: line.get(name) for name in ("method", "caller", "user", "on_behalf_of")} for line in lines]
    assert session_id
    assert job_id
    mine = {"caller": "service:everything", "user": None} | both
    assert calls == [
        {"method": "/crease.jobs.v1.SessionService/CreateSession"} | mine,
        {"method": "/crease.jobs.v1.IntakeService/CreateJob", "caller": "program:upload"}
        | {"user": "service:everything"}
        | both,
        {"method": "/crease.jobs.v1.JobService/GetJob"} | mine,
    ]


def test_a_request_id_is_the_service_s_own(road: Road, service: Any, laptop: Laptop) -> None:
    """The same one again makes nothing new; another service, and the coach, may use it for theirs."""
    request = session_pb2.CreateSessionRequest(title="Nets", request_id=str(uuid.uuid4()))
    callers = [service, laptop.service("tutor", "coach:coach-1"), road.coach]
    first = [road.sessions.CreateSession(request, metadata=caller).session_id for caller in callers]
    assert len(set(first)) == 3
    assert [road.sessions.CreateSession(request, metadata=caller).session_id for caller in callers] == first


def test_a_forwarded_token_of_a_person_is_that_person(road: Road, empty: str) -> None:
    """A service that forwards a person's token calls as that person: nothing names the service."""
    road.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=road.coach)
    assert actors(empty, "video_sessions") == [("coach-1", "coach-1")]
