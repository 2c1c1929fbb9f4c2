"""The client against a gRPC server that fails as Crease's servers do: blocking and asyncio give the same answers."""

import asyncio
import contextlib
import inspect
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_status import rpc_status

from crease.events.v1 import event_pb2, event_pb2_grpc
from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from crease_client import aio, client, errors, token_file
from crease_client.channels import SERVICE_CONFIG, open_aio_client_channel
from crease_client.reasons import Reason
from crease_client.reconnection import EventReconnection
from services import errors as server_errors
from services.serving import status
from testing.fakes.controller import until
from testing.fakes.rpc_error import FakeRpcError

Job = job_pb2.Job
QUEUED, DONE = Job(job_id="j", status=job_pb2.JOB_STATUS_QUEUED), Job(job_id="j", status=job_pb2.JOB_STATUS_DONE)
AWAY = server_errors.Unavailable("The database is unavailable", reason="DATABASE_AWAY", retry_seconds=2.0)
EVENTS = [event_pb2.Event(id=f"1-{number}") for number in range(4)]
END = event_pb2.Event(id="end")
REQUEST = upload_pb2.InitiateUploadRequest(session_id="s", content_type="video/mp4")
EXPIRED = server_errors.Unauthenticated("The token has expired")


@dataclass
class Server(
    job_pb2_grpc.JobServiceServicer,
    session_pb2_grpc.SessionServiceServicer,
    upload_pb2_grpc.UploadServiceServicer,
    event_pb2_grpc.EventServiceServicer,
):
    """`answers`: for each call in turn a reply, an error, or for a stream the list of both. A text begins a stream."""

    answers: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    owners: list[str | None] = field(default_factory=list)
    endpoint: str = ""
    # gRPC may lose the initial metadata of a stream that ends at once: the stream goes on when the client has them.
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def _take(self, request: Any, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        self.requests.append(request)
        self.tokens.append(metadata["authorization"])
        self.owners.append(metadata.get("crease-on-behalf-of"))
        return self._answer(self.answers.pop(0), context)

    def _answer(self, answer: Any, context: Any) -> Any:
        if isinstance(answer, server_errors.ServiceError):
            context.abort_with_status(rpc_status.to_status(status(answer)))
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "RST_STREAM")
        return answer

    def GetJob(self, request: Any, context: Any) -> Any:
        return self._take(request, context)

    RetryJob = CreateSession = InitiateUpload = SignDownload = AcknowledgeEvents = GetJob

    def WatchJob(self, request: Any, context: Any) -> Any:
        for item in self._take(request, context):
            if isinstance(item, str):
                context.send_initial_metadata((("crease-events-after", item),))
                assert self.begun.acquire(timeout=60)
            else:
                yield self._answer(item, context)

    WatchEvents = WatchJob


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    fake, running = Server(), grpc.server(ThreadPoolExecutor(4))  # type: ignore[abstract]
    begun = EventReconnection.begun

    def release(self: EventReconnection, metadata: Any) -> None:
        begun(self, metadata)
        if "crease-events-after" in dict(metadata):
            fake.begun.release()

    monkeypatch.setattr(EventReconnection, "begun", release)
    job_pb2_grpc.add_JobServiceServicer_to_server(fake, running)
    session_pb2_grpc.add_SessionServiceServicer_to_server(fake, running)
    upload_pb2_grpc.add_UploadServiceServicer_to_server(fake, running)
    event_pb2_grpc.add_EventServiceServicer_to_server(fake, running)
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


async def read_events(server: Server, asynchronous: bool, **request: Any) -> list[event_pb2.Event]:
    """The events that the client yields before END."""
    read: list[event_pb2.Event] = []

    def work(connected: Any) -> Any:
        stream = connected.watch_events(event_pb2.WatchEventsRequest(**request))
        if not asynchronous:
            read.extend(itertools.takewhile(lambda event: event != END, stream))
            return None

        async def collect() -> None:
            async for event in stream:
                if event == END:
                    return
                read.append(event)

        return collect()

    await run(server, work, asynchronous=asynchronous)
    return read


@both
async def test_events_continue_after_the_last_one_where_a_stream_breaks(server: Server, asynchronous: bool) -> None:
    """From the position at which the first stream began, also where it sent no event; the request stays as it was."""
    server.answers = [["1-0"], ["1-0", EVENTS[1], EVENTS[2], grpc.StatusCode.INTERNAL], [AWAY], [EVENTS[3], END]]
    assert await read_events(server, asynchronous, types=["JobDone"]) == EVENTS[1:]
    assert [(request.after, *request.types) for request in server.requests] == [
        (after, "JobDone") for after in ("", "1-0", "1-2", "1-2")
    ]


@both
async def test_a_subscription_is_opened_again_as_it_was(server: Server, asynchronous: bool) -> None:
    """`jobs` keeps its position. An idle stream whose token expires, or that a proxy resets, is opened again."""
    server.answers = [["1-0", EXPIRED], ["1-0", grpc.StatusCode.CANCELLED], ["1-0", EVENTS[0]], [EVENTS[0], END]]
    assert await read_events(server, asynchronous, subscription="reports", after="1-0") == [EVENTS[0], EVENTS[0]]
    assert {(request.subscription, request.after) for request in server.requests} == {("reports", "1-0")}


@both
async def test_a_reader_of_events_that_fell_behind_learns_where_to_begin(server: Server, asynchronous: bool) -> None:
    """By an error of its own, which is no broken stream. A token that is refused at once is none, either."""
    behind = server_errors.OutOfRange("The subscription fell behind", reason="EVENTS_PURGED", after="7-1")
    server.answers = [["1-0", EVENTS[0], behind], [EXPIRED]]
    with pytest.raises(errors.OutOfRange, match="fell behind") as caught:
        await read_events(server, asynchronous, subscription="reports")
    assert (caught.value.reason, caught.value.after) == (Reason.EVENTS_PURGED, "7-1")
    with pytest.raises(errors.Unauthenticated):
        await read_events(server, asynchronous, subscription="reports")


@both
async def test_many_events_are_acknowledged_in_calls_that_jobs_takes(server: Server, asynchronous: bool) -> None:
    """1,000 in each; none for no event."""
    events = [event_pb2.Event(id=f"1-{number}") for number in range(2001)]
    server.answers = [empty_pb2.Empty()] * 3
    await run(server, lambda c: c.acknowledge("reports", []), asynchronous=asynchronous)
    await run(server, lambda c: c.acknowledge("reports", iter(events)), asynchronous=asynchronous)
    assert [len(request.event_ids) for request in server.requests] == [1000, 1000, 1]
    assert [name for request in server.requests for name in request.event_ids] == [event.id for event in events]
    assert {request.subscription for request in server.requests} == {"reports"}


@both
async def test_a_service_names_the_owner_for_whom_it_calls(server: Server, asynchronous: bool, tmp_path: Path) -> None:
    """In every call and stream of that client, to both servers; the client that it came from names none."""
    video = tmp_path / "video.mp4"
    video.write_bytes(b"v")
    server.answers = [DONE, upload_pb2.InitiateUploadResponse(), [DONE]]

    def owned(connected: Any) -> Any:
        return connected.on_behalf_of("coach:1")

    for work in (
        lambda c: owned(c).jobs.GetJob(job_pb2.GetJobRequest()),
        lambda c: owned(c).uploads.InitiateUpload(upload_pb2.InitiateUploadRequest()),
        lambda c: owned(c).watch("j"),
    ):
        await run(server, work, asynchronous=asynchronous)
    server.answers = [server_errors.NotFound("Video session not found", reason="SESSION_NOT_FOUND"), DONE]
    with pytest.raises(errors.NotFound):
        await run(server, lambda c: owned(c).upload(video, REQUEST), asynchronous=asynchronous)
    await run(server, lambda c: (owned(c), c)[1].jobs.GetJob(job_pb2.GetJobRequest()), asynchronous=asynchronous)
    assert server.owners == ["coach:1"] * 4 + [None]
    assert server.tokens == ["Bearer t"] * 5


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


async def test_no_call_fails_while_one_of_two_servers_stops() -> None:
    """gRPC answers CANCELLED to a call that reaches a server which stops. The client repeats it at the other."""

    async def reply(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.002)
        return request

    methods: dict[str, Any] = {"Get": grpc.unary_unary_rpc_method_handler(reply)}
    called, is_over = 0, False
    async with contextlib.AsyncExitStack() as stack:
        servers = [grpc.aio.server() for _ in range(2)]
        ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
        for server in servers:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", methods),))
            await server.start()
            stack.push_async_callback(server.stop, 0)
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        channel = await stack.enter_async_context(open_aio_client_channel(target))

        get: Any = channel.unary_unary("/test.Service/Get")

        async def call() -> None:
            nonlocal called
            while not is_over:
                await get(b"")
                called += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(call())
            await until(lambda: called > 500)
            await servers[0].stop(60)
            done = called
            await until(lambda: called > done + 500)
            is_over = True


def test_every_status_becomes_an_error() -> None:
    """A status that Crease does not send is Internal."""
    made = {code: type(errors.from_rpc_error(FakeRpcError(code, ""))) for code in grpc.StatusCode}
    assert made[grpc.StatusCode.DEADLINE_EXCEEDED] is errors.DeadlineExceeded
    assert made[grpc.StatusCode.DATA_LOSS] is errors.Internal
    assert all(made[kind.code] is kind for kind in errors.RpcError.__subclasses__())
