"""Errors of the connection to S3 and of S3 itself: each is transient and changes no job.

Problems of the object are in test_uploading.py.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services import clients
from testing.servers.proxy import Proxy, proxy
from testing.servers.s3 import Endpoint
from tests.integration.upload.client import VIDEO, Client, Start, put

TIMEOUT_SECONDS = 1.0


@pytest.fixture(scope="module")
def line(s3: Endpoint) -> Iterator[Proxy]:
    with proxy(s3.url) as spoiling:
        yield spoiling


@pytest.fixture(scope="module")
def spoilt_client(start: Start, line: Proxy) -> Client:
    """An upload that reaches S3 through the proxy, with a time limit of one second."""
    return start(
        CREASE_S3_ENDPOINT=line.url,
        CREASE_S3_TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
        CREASE_S3_CHECK_SECONDS="0.2",
        CREASE_S3_THREADS="4",
    )


def completed(client: Client, job_id: str) -> int:
    """Completes as a client does: repeats the call while it is UNAVAILABLE."""
    while True:
        try:
            return client.complete(job_id).status
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise


@pytest.fixture
def client(spoilt_client: Client, line: Proxy) -> Iterator[Client]:
    line.fault, line.only = "none", b""
    yield spoilt_client
    line.fault, line.only = "none", b""


def uploaded(client: Client) -> str:
    begun = client.initiate()
    assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200
    return begun.job_id


# A HEAD has no body: another Content-Length is a permanent problem of the object.
LINE_FAULTS = [(b"HEAD", fault) for fault in ("throttled", "broken", "cut", "half_open")]
LINE_FAULTS += [(b"GET", fault) for fault in ("throttled", "broken", "cut", "half_open", "short")]


@pytest.mark.parametrize(("method", "fault"), LINE_FAULTS)
def test_a_connection_error_is_transient_and_changes_nothing(
    client: Client, line: Proxy, method: bytes, fault: str
) -> None:
    """The error is UNAVAILABLE with a retry delay; the same call later queues the job."""
    job_id = uploaded(client)
    line.fault, line.only = fault, method
    with pytest.raises(grpc.RpcError) as caught:
        client.complete(job_id)
    assert (caught.value.code(), clients.reason(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "S3_AWAY")
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in rpc_status.from_call(caught.value).details)
    assert client.jobs.jobs[job_id].status == job_pb2.JOB_STATUS_AWAITING_UPLOAD
    line.fault = "none"
    assert completed(client, job_id) == job_pb2.JOB_STATUS_QUEUED


def health(client: Client, name: str) -> int:
    return int(health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(service=name)).status)


def test_a_hanging_s3_does_not_block_signing(client: Client, line: Proxy) -> None:
    """While every S3 thread waits, URLs are signed at once. Health reports S3 as down and upload as up."""
    job_ids = [uploaded(client) for _ in range(6)]
    line.fault = "half_open"
    with ThreadPoolExecutor(6) as pool:
        stuck = [pool.submit(client.complete, job_id) for job_id in job_ids]
        time.sleep(0.2)
        for _ in range(5):
            assert client.initiate().presigned_url
        assert not any(one.done() for one in stuck), "signing waited for S3"
        assert [type(one.exception()).__name__ for one in stuck] == ["_InactiveRpcError"] * 6
    serving = health_pb2.HealthCheckResponse
    while health(client, "s3") != serving.NOT_SERVING:
        time.sleep(0.05)
    assert health(client, "") == serving.SERVING
    line.fault = "none"
    while health(client, "s3") != serving.SERVING:
        time.sleep(0.05)


def test_an_upload_is_aborted_while_s3_is_unavailable(client: Client, line: Proxy) -> None:
    """The job is cancelled; cleanup deletes the objects later."""
    job_id = uploaded(client)
    line.fault = "broken"
    request = upload_pb2.AbortUploadRequest(job_id=job_id)
    reply = client.stub.AbortUpload(request, metadata=client.laptop.person("coach-1"), timeout=30)
    assert reply.status == job_pb2.JOB_STATUS_CANCELLED
