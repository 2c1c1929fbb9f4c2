"""CreateSession with a request_id, UpdateSession with an etag, and lists of a session that is not there."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from crease.jobs.v1 import job_pb2, session_pb2
from tests.integration.jobs.test_lifecycle import Road, code_of, database_url, road  # noqa: F401 (fixtures)


def create(to: Road, request_id: str, subject: str = "coach-1", notes: str = "") -> session_pb2.Session:
    request = session_pb2.CreateSessionRequest(title="Nets", notes=notes, request_id=request_id)
    return to.sessions.CreateSession(request, metadata=to.laptop.person(subject))


def update(to: Road, session_id: str, title: str, etag: str = "") -> session_pb2.Session:
    session = session_pb2.Session(session_id=session_id, title=title, etag=etag)
    return to.sessions.UpdateSession(session_pb2.UpdateSessionRequest(session=session), metadata=to.coach)


def test_a_repeated_request_id_makes_one_session(road: Road) -> None:  # noqa: F811
    """Also by ten calls at once, and after an update; of another person it is another session."""
    same = str(uuid.uuid4())
    with ThreadPoolExecutor(10) as pool:
        made = {session.session_id for session in pool.map(lambda _: create(road, same), range(10))}
    [session_id] = made
    update(road, session_id, "Later")
    again = create(road, same)
    assert (again.session_id, again.title) == (session_id, "Later")
    assert create(road, same, "coach-2").session_id != session_id
    assert create(road, "").session_id != create(road, "").session_id


def test_a_request_id_with_other_content_is_refused(road: Road) -> None:  # noqa: F811
    """AIP-155; an odd one is INVALID_ARGUMENT, and that of a deleted session FAILED_PRECONDITION."""
    same = str(uuid.uuid4())
    session = create(road, same)
    with pytest.raises(grpc.RpcError) as caught:
        create(road, same, notes="other")
    assert code_of(caught) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    road.sessions.DeleteSession(session_pb2.DeleteSessionRequest(session_id=session.session_id), metadata=road.coach)
    with pytest.raises(grpc.RpcError) as caught:
        create(road, same)
    assert code_of(caught) == ("FAILED_PRECONDITION", "SESSION_DELETED")
    with pytest.raises(grpc.RpcError, match="request_id: must be a UUID"):
        create(road, "again")


def test_an_etag_protects_the_change_of_another_caller(road: Road) -> None:  # noqa: F811
    """AIP-154: of ten updates with one etag one succeeds, the others are ABORTED; without an etag the last wins."""
    session = create(road, "")
    assert session.etag

    def one(number: int) -> str:
        try:
            update(road, session.session_id, f"title {number}", session.etag)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(one, range(10))) == ["ABORTED"] * 9 + ["OK"]
    read = road.sessions.GetSession(session_pb2.GetSessionRequest(session_id=session.session_id), metadata=road.coach)
    listed = road.sessions.ListSessions(session_pb2.ListSessionsRequest(), metadata=road.coach).sessions
    assert read.etag != session.etag
    assert listed[0].etag == read.etag
    assert update(road, session.session_id, "with etag", read.etag).title == "with etag"
    assert update(road, session.session_id, "without").title == "without"


@pytest.mark.parametrize("session_id", [str(uuid.UUID(int=7)), "no-uuid"])
def test_the_jobs_of_an_unknown_session_are_not_found(session_id: str, road: Road) -> None:  # noqa: F811
    """As the session itself."""
    with pytest.raises(grpc.RpcError) as caught:
        road.jobs.ListJobs(job_pb2.ListJobsRequest(session_id=session_id), metadata=road.coach)
    assert code_of(caught) == ("NOT_FOUND", "SESSION_NOT_FOUND")
