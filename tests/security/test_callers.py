"""Attacks by one caller: many calls, streams and connections, streams beyond the token, requests with odd enums."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.events.v1 import event_pb2
from crease.jobs.v1 import job_pb2, job_pb2_grpc
from services import dev_issuer
from services.jobs.__main__ import SERVICES
from services.rules.enums import unknown_enum
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs import filled
from tests.integration.jobs.test_lifecycle import Road, code_of
from tests.integration.jobs.test_outbox import wait_until
from tests.integration.jobs.test_races import waiting_sessions

BOUND = 2
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def program(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Two calls, streams and connections for each caller. The sweep is off, so that calls alone wait for a lock."""
    bounds = {f"CREASE_CALLER_{name}": str(BOUND) for name in ("CALLS", "STREAMS", "CONNECTIONS")}
    env = shared_jobs_env | bounds | {"CREASE_WATCH_HEARTBEAT_SECONDS": "0.2", "CREASE_SWEEP_SECONDS": "3600"}
    with running(Program("jobs", env, Path(tmp_path_factory.mktemp("callers"), "log"))) as started:
        yield started


@pytest.fixture
def road(program: Program, laptop: Laptop, empty: str) -> Road:
    return Road(program.endpoint, laptop)


def watch(road: Road, job_id: str, metadata: Any) -> Any:
    """A stream that has sent its first message."""
    stream = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=metadata)
    next(stream)
    return stream


def test_streams_of_one_caller_are_bounded_also_over_several_tokens(road: Road, laptop: Laptop) -> None:
    """The refusal says what to do; other callers still watch, and an ended stream makes room."""
    job_id = road.created()
    streams = [watch(road, job_id, laptop.person("coach-1", seconds=1000 + number)) for number in range(BOUND)]
    with pytest.raises(grpc.RpcError, match="has 2 open streams") as caught:
        watch(road, job_id, road.coach)
    assert caught.value.code() == EXHAUSTED
    road.job(job_id)
    streams.append(watch(road, job_id, laptop.person("root", role="superuser")))
    streams.pop(0).cancel()

    def has_room() -> bool:
        with contextlib.suppress(grpc.RpcError):
            streams.append(watch(road, job_id, road.coach))
            return True
        return False

    wait_until(has_room)
    for stream in streams:
        stream.cancel()


def test_calls_of_one_caller_are_bounded(road: Road, laptop: Laptop, empty: str) -> None:
    """While a table is locked: the third call is refused at once, and the other two are answered afterwards.

    An invented lease that is spelled like the caller uses nothing of the caller's bound.
    """
    job_id = road.created()
    request = job_pb2.GetJobRequest(job_id=job_id)
    beat, lease = launch_pb2.HeartbeatRequest(job_id=job_id), (("authorization", "Lease person:coach-1"),)

    def third_is_refused() -> bool:
        """False where a call waited too long for the lock, as on a busy machine."""
        with psycopg.connect(empty) as locking, psycopg.connect(empty, autocommit=True) as looking:
            locking.execute("LOCK TABLE video_analysis_jobs")
            beats = [road.launches.Heartbeat.future(beat, metadata=lease) for _ in range(BOUND)]
            calls = [road.jobs.GetJob.future(request, metadata=road.coach) for _ in range(BOUND)]
            sent: list[Any] = [*beats, *calls]
            while waiting_sessions(looking) != 2 * BOUND:
                if any(call.done() for call in sent):
                    return False
            with pytest.raises(grpc.RpcError) as caught:
                road.job(job_id)
            locking.rollback()
        if UNAVAILABLE in {caught.value.code(), *(call.code() for call in sent)}:
            return False
        assert caught.value.code() == EXHAUSTED
        assert "has 2 calls in flight" in str(caught.value)
        assert [call.result().job_id for call in calls] == [job_id] * BOUND
        assert {beat.code() for beat in beats} == {grpc.StatusCode.PERMISSION_DENIED}
        return True

    wait_until(third_is_refused)
    assert road.job(job_id).job_id == job_id


def test_connections_of_one_caller_are_bounded(road: Road, program: Program) -> None:
    """Connections without a call in flight do not count: they have no caller."""
    job_id = road.created()
    with contextlib.ExitStack() as stack:
        stubs = []
        for number in range(BOUND + 1):
            # Channels with equal options share one connection.
            channel = grpc.insecure_channel(program.endpoint, [("crease.number", number)])
            stubs.append(job_pb2_grpc.JobServiceStub(stack.enter_context(channel)))
        streams = [stub.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=road.coach) for stub in stubs[:BOUND]]
        for stream in streams:
            next(stream)
        with pytest.raises(grpc.RpcError, match="has 2 connections") as caught:
            stubs[BOUND].GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=road.coach)
        assert caught.value.code() == EXHAUSTED
        for stream in streams:
            stream.cancel()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", PREFACE[:3], PREFACE, PREFACE + SETTINGS])
def test_a_connection_that_is_no_clients_ends(program: Program, sent: bytes) -> None:
    """Also one that begins HTTP/2 and does not go on. gRPC itself waits a minute."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=40) as connection:
        connection.sendall(sent)
        while connection.recv(1000):
            pass


def test_a_stream_ends_with_its_token(road: Road, laptop: Laptop) -> None:
    """With UNAUTHENTICATED, not before, and also where nothing happens: of a person and of a program."""
    job_id = road.created()
    began = time.time()
    token = dev_issuer.program(laptop.folder, "controller", seconds=3)
    streams: list[Any] = [
        road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=laptop.person("coach-1", seconds=3)),
        road.events.WatchEvents(
            event_pb2.WatchEventsRequest(after="0-0"), metadata=(("authorization", f"Bearer {token}"),)
        ),
    ]
    for stream in streams:
        with pytest.raises(grpc.RpcError, match="token has expired") as caught:
            for _ in stream:
                pass
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        # The token's times are whole seconds.
        assert time.time() - began > 1.9
    assert road.job(job_id).job_id == job_id


def test_an_idle_watch_repeats_the_job(road: Road) -> None:
    """So that a proxy keeps the stream; a change still comes at once."""
    job_id = road.created()
    stream = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=road.coach, timeout=60)
    first = next(stream)
    assert [next(stream) for _ in range(3)] == [first] * 3
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=road.coach)
    assert [job.status for job in stream][-1] == job_pb2.JOB_STATUS_CANCELLED


def enum_paths(rpc: str) -> list[str]:
    """The fields of a request that hold an enum, at every depth of our own messages."""

    def walk(descriptor: Any, prefix: str = "") -> Iterator[str]:
        for field in descriptor.fields:
            if field.enum_type is not None and field.enum_type.file.package.startswith("crease"):
                yield prefix + field.name
            elif field.message_type is not None and field.message_type.full_name.startswith("crease."):
                yield from walk(field.message_type, f"{prefix}{field.name}.")

    return list(walk(filled.RPCS[rpc].input_type))


ENUMS = [(rpc, path) for rpc in filled.RPCS for path in enum_paths(rpc)]


def test_requests_with_enums_are_found() -> None:
    """The table below is not empty by mistake."""
    assert {("JobService/ListJobs", "status"), ("SessionService/UpdateSession", "session.discipline")} <= set(ENUMS)
    assert len(SERVICES) > 3


@pytest.mark.parametrize(("rpc", "path"), ENUMS)
def test_an_undefined_number_of_an_enum_is_refused_in_every_request(
    rpc: str, path: str, road: Road, program: Program, laptop: Laptop
) -> None:
    """INVALID_ARGUMENT, naming the field, whoever may call it."""
    message = filled.request(rpc, {})
    *outer, name = path.split(".")
    inner: Any = message
    for step in outer:
        inner = getattr(inner, step)
        inner = inner.add() if hasattr(inner, "add") else inner
    if inner.DESCRIPTOR.fields_by_name[name].is_repeated:
        getattr(inner, name).append(99)
    else:
        setattr(inner, name, 99)
    found = unknown_enum(message)
    assert found is not None
    service, _, method = rpc.partition("/")
    callers = {
        "LaunchService": road.controller,
        "IntakeService": road.upload,
        "CleanupService": road.upload,
        "SweepService": road.upload,
    }
    lease = (("authorization", "Lease x"),)
    metadata = lease if method in ("Heartbeat", "SubmitResult", "FailLaunch") else callers.get(service, road.coach)
    with grpc.insecure_channel(program.endpoint) as channel:
        call: Any = channel.unary_unary(
            f"/{filled.RPCS[rpc].containing_service.full_name}/{method}", request_serializer=lambda body: body
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(message.SerializeToString(), metadata=metadata, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{found[0]}: must be one of ")


def test_a_controller_and_its_pods_act_for_their_own_cluster_alone(
    jobs_env: dict[str, str], laptop: Laptop, tmp_path: Path
) -> None:
    """The issuer of their tokens names the cluster; launches of another cluster are out of their reach."""
    issuers = dev_issuer.issuers(laptop.folder)
    named = [entry | ({"cluster": "c2"} if entry["kind"] == "cluster" else {}) for entry in issuers]
    every = Program("jobs", jobs_env, tmp_path / "every")
    bound = Program("jobs", jobs_env | {"CREASE_ISSUERS": json.dumps(named)}, tmp_path / "bound")
    with running(every), running(bound):
        here, there = Road(every.endpoint, laptop), Road(bound.endpoint, laptop)
        here.queued()
        [launch] = here.open()
        attacks: list[Callable[[], object]] = [
            there.open,
            lambda: there.confirm(launch),
            lambda: there.start(launch),
            lambda: there.end(launch, launch_pb2.ENDING_BAD_INPUT),
        ]
        for attack in attacks:
            with pytest.raises(grpc.RpcError, match="cluster c2 may not act for the cluster c1") as caught:
                attack()
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        here.confirm(launch)
        here.start(launch)


@pytest.mark.parametrize("key", ["authorization", "crease-on-behalf-of"])
def test_a_call_with_two_identities_is_refused(road: Road, laptop: Laptop, key: str) -> None:
    """Else a proxy in front could check one value, and jobs read the other."""
    job_id = road.created()
    first, second = (laptop.service(on_behalf_of=f"coach:coach-{number}") for number in (1, 2))
    metadata = (*first, *(pair for pair in second if pair[0] == key))
    with pytest.raises(grpc.RpcError, match=f"The metadata {key} has 2 values") as refused:
        road.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=metadata)
    assert code_of(refused) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@pytest.mark.parametrize("character", ["a", "é"])
def test_an_error_that_names_a_long_text_keeps_its_reason(road: Road, laptop: Laptop, character: str) -> None:
    """gRPC drops an error with a large trailer; the message is shortened instead."""
    request = event_pb2.DeleteSubscriptionRequest(subscription=character * 100_000)
    with pytest.raises(grpc.RpcError) as refused:
        road.events.DeleteSubscription(request, metadata=laptop.service())
    assert code_of(refused) == ("NOT_FOUND", "SUBSCRIPTION_NOT_FOUND")
