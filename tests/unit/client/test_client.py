"""The client against a gRPC server that fails as Crease's servers do: blocking and asyncio give the same answers."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from crease_client import aio, client, errors, token_file
from crease_client.channels import SERVICE_CONFIG
from crease_client.reasons import Reason
from services import errors as server_errors
from services.serving import status
from testing.fakes.rpc_error import FakeRpcError

Job = job_pb2.Job
QUEUED, DONE = Job(job_id="j", status=job_pb2.JOB_STATUS_QUEUED), Job(job_id="j", status=job_pb2.JOB_STATUS_DONE)
AWAY = server_errors.Unavailable("The database is unavailable", reason="DATABASE_AWAY", retry_seconds=2.0)
EXPIRED = server_errors.Unauthenticated("The token has expired")


@dataclass
class Server(
    job_pb2_grpc.JobServiceServicer, session_pb2_grpc.SessionServiceServicer, upload_pb2_grpc.UploadServiceServicer
):
    """`answers`: for each call in turn a reply, an error, or for a stream the list of both."""

    answers: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    endpoint: str = ""

    def _take(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.tokens.append(dict(context.invocation_metadata())["authorization"])
        return self._answer(self.answers.pop(0), context)

    def _answer(self, answer: Any, context: Any) -> Any:
        if isinstance(answer, server_errors.ServiceError):
            context.abort_with_status(rpc_status.to_status(status(answer)))
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "RST_STREAM")
        return answer

    def GetJob(self, request: Any, context: Any) -> Any:
        return self._take(request, context)

    RetryJob = CreateSession = InitiateUpload = GetJob

    def WatchJob(self, request: Any, context: Any) -> Any:
        for item in self._take(request, context):
            yield self._answer(item, context)


@pytest.fixture
def server() -> Iterator[Server]:
    fake, running = Server(), grpc.server(ThreadPoolExecutor(4))  # type: ignore[abstract]
    job_pb2_grpc.add_JobServiceServicer_to_server(fake, running)
    session_pb2_grpc.add_SessionServiceServicer_to_server(fake, running)
    upload_pb2_grpc.add_UploadServiceServicer_to_server(fake, running)
    fake.endpoint = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield fake
    running.stop(0)


async def run(
    server: Server, work: Callable[[Any], Any], *, asynchronous: bool, token: Callable[[], str] = lambda: "t"
) -> Any:
    """The result of `work` on a client; a stream becomes a list."""
    endpoints: dict[str, Any] = {"jobs": server.endpoint, "upload": server.endpoint, "token": token}
    if asynchronous:
        async with aio.connect(**endpoints) as asking:
            found = work(asking)
            return [item async for item in found] if isinstance(found, AsyncIterator) else await found

    def blocking() -> Any:
        with client.connect(**endpoints) as asking:
            found = work(asking)
            return list(found) if inspect.isgenerator(found) else found

    return await asyncio.to_thread(blocking)


both = pytest.mark.parametrize("asynchronous", [False, True])


@both
async def test_a_call_is_retried_while_its_service_is_unavailable(server: Server, asynchronous: bool) -> None:
    """With the token of the caller each time."""
    server.answers = [AWAY, AWAY, DONE]
    assert await run(server, lambda c: c.jobs.GetJob(job_pb2.GetJobRequest()), asynchronous=asynchronous) == DONE
    assert server.tokens == ["Bearer t"] * 3


@both
async def test_an_error_has_the_class_of_its_status_and_the_reason(server: Server, asynchronous: bool) -> None:
    """And the field of an invalid argument."""
    server.answers = [
        server_errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND"),
        server_errors.InvalidArgument("sample_fps", "must be 1 to 30"),
    ]
    with pytest.raises(errors.NotFound, match=r"^Analysis job not found$") as caught:
        await run(server, lambda c: c.jobs.GetJob(job_pb2.GetJobRequest()), asynchronous=asynchronous)
    assert caught.value.reason == Reason.JOB_NOT_FOUND
    with pytest.raises(errors.InvalidArgument) as invalid:
        await run(server, lambda c: c.jobs.GetJob(job_pb2.GetJobRequest()), asynchronous=asynchronous)
    assert (invalid.value.reason, invalid.value.field) == (Reason.INVALID_FIELD, "sample_fps")


@both
async def test_a_creation_that_is_retried_carries_one_request_id(server: Server, asynchronous: bool) -> None:
    """Also where the caller gave none; a given one is kept."""
    session = session_pb2.Session(session_id="s")
    server.answers = [AWAY, session, session]
    request = session_pb2.CreateSessionRequest(title="Nets")
    await run(server, lambda c: c.sessions.CreateSession(request), asynchronous=asynchronous)
    first, again = server.requests
    assert first.request_id == again.request_id != ""
    assert request.request_id == ""
    mine = session_pb2.CreateSessionRequest(request_id="mine")
    await run(server, lambda c: c.sessions.CreateSession(mine), asynchronous=asynchronous)
    assert server.requests[-1].request_id == "mine"


@both
async def test_a_call_that_cannot_be_repeated_is_not(server: Server, asynchronous: bool) -> None:
    """RetryJob: the repetition would fail with WRONG_STATE although the job was queued."""
    server.answers = [AWAY, DONE]
    with pytest.raises(errors.Unavailable) as caught:
        await run(server, lambda c: c.jobs.RetryJob(job_pb2.RetryJobRequest()), asynchronous=asynchronous)
    assert (caught.value.reason, caught.value.retry_seconds) == ("DATABASE_AWAY", 2.0)


@both
async def test_a_watch_goes_through_broken_streams(server: Server, asynchronous: bool) -> None:
    """Ends without a final job, an expired token after a message, a proxy's reset, and an unavailable service."""
    server.answers = [[QUEUED, EXPIRED], [QUEUED, grpc.StatusCode.INTERNAL], [AWAY], [QUEUED], [DONE]]
    seen = await run(server, lambda c: c.watch("j"), asynchronous=asynchronous)
    assert seen == [QUEUED, QUEUED, QUEUED, DONE]


@both
async def test_a_watch_ends_with_a_rejection(server: Server, asynchronous: bool) -> None:
    """A token that is refused at once, and a fault of the service."""
    server.answers = [[EXPIRED], [QUEUED, server_errors.Internal("Internal error", reason="INTERNAL")]]
    with pytest.raises(errors.Unauthenticated):
        await run(server, lambda c: c.watch("j"), asynchronous=asynchronous)
    with pytest.raises(errors.Internal):
        await run(server, lambda c: c.watch("j"), asynchronous=asynchronous)


@both
async def test_a_watch_ends_when_its_patience_does(server: Server, asynchronous: bool) -> None:
    """Also where every stream ends at once without an error."""
    server.answers = [[AWAY], []]
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            await run(server, lambda c: c.watch("j", patience_seconds=0), asynchronous=asynchronous)


@both
@pytest.mark.parametrize(
    ("job", "kind"),
    [
        (Job(job_id="j", status=job_pb2.JOB_STATUS_FAILED, failure_code="TOO_LONG"), errors.JobFailed),
        (Job(job_id="j", status=job_pb2.JOB_STATUS_CANCELLED), errors.JobCancelled),
    ],
)
async def test_waiting_raises_for_a_job_without_a_result(
    server: Server, asynchronous: bool, job: Job, kind: type[errors.JobError]
) -> None:
    """With the job itself; a done job is returned."""
    server.answers = [[QUEUED, job], [QUEUED, DONE]]
    with pytest.raises(kind) as caught:
        await run(server, lambda c: c.wait("j"), asynchronous=asynchronous)
    assert caught.value.job == job
    assert await run(server, lambda c: c.wait("j"), asynchronous=asynchronous) == DONE


@both
async def test_a_token_that_cannot_be_read_is_named(server: Server, asynchronous: bool, tmp_path: Path) -> None:
    """For calls and streams, before anything is sent."""
    missing = tmp_path / "token"
    for work in (lambda c: c.jobs.GetJob(job_pb2.GetJobRequest()), lambda c: c.watch("j")):
        with pytest.raises(errors.TokenError, match=str(missing)):
            await run(server, work, asynchronous=asynchronous, token=token_file(missing))
    assert server.requests == []


def test_every_call_but_a_stream_has_a_deadline() -> None:
    """The service config names each streaming RPC of people, and gives all others a timeout."""
    streams = {
        (service.full_name, method.name)
        for proto in (job_pb2, session_pb2, upload_pb2)
        for service in proto.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.server_streaming
    }
    without = {
        (name["service"], name["method"])
        for config in SERVICE_CONFIG["methodConfig"]
        for name in config["name"]
        if "timeout" not in config
    }
    assert without == streams | {("crease.events.v1.EventService", "WatchEvents")}


def test_every_status_becomes_an_error() -> None:
    """A status that Crease does not send is Internal."""
    made = {code: type(errors.from_rpc_error(FakeRpcError(code, ""))) for code in grpc.StatusCode}
    assert made[grpc.StatusCode.DEADLINE_EXCEEDED] is errors.DeadlineExceeded
    assert made[grpc.StatusCode.DATA_LOSS] is errors.Internal
    assert all(made[kind.code] is kind for kind in errors.RpcError.__subclasses__())
