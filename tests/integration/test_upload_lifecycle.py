"""Uploads through the real gRPC servers, on a real PostgreSQL and a real S3 server that checks signatures."""

import uuid
from collections.abc import Iterator

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services import clients
from testing.servers.product import Product, product, put
from testing.servers.programs import Laptop, lease
from testing.servers.s3 import Endpoint

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(1000)


@pytest.fixture(scope="module")
def shared_road(
    shared_jobs_env: dict[str, str], laptop: Laptop, s3_server: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    with product(tmp_path_factory.mktemp("road"), shared_jobs_env, laptop, s3_server, controlled=False) as made:
        yield made


@pytest.fixture
def road(shared_road: Product, empty: str) -> Product:
    return shared_road


def refusal(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[str, str]:
    return error.value.code().name, error.value.details() or ""


def test_upload_lifecycle_prevents_premature_claiming(road: Product) -> None:
    """No launch is opened before the video is in S3 and verified; afterwards exactly one is."""
    begun = road.initiate(len(VIDEO))
    assert road.status(begun.job_id) == "awaiting_upload"
    assert road.open_launches() == []
    put(begun, VIDEO)
    assert road.open_launches() == []
    done = road.complete(begun.job_id)
    assert (done.status, done.message) == (job_pb2.JOB_STATUS_QUEUED, "Video uploaded and queued for analysis")
    assert [launch.job_id for launch in road.open_launches()] == [begun.job_id]
    assert road.open_launches() == []
    pinned = road.job(begun.job_id).video
    assert (pinned.content_length, pinned.etag != "") == (len(VIDEO), True)


def test_upload_complete_idempotency(road: Product) -> None:
    """Complete twice: success, nothing changes, one launch."""
    begun = road.initiate(len(VIDEO))
    put(begun, VIDEO)
    road.complete(begun.job_id)
    before = road.job(begun.job_id)
    again = road.complete(begun.job_id)
    assert (again.status, again.message) == (
        job_pb2.JOB_STATUS_QUEUED,
        "Job already processed - no action taken",
    )
    assert road.job(begun.job_id) == before
    assert len(road.open_launches()) == 1


def test_upload_complete_fails_on_missing_s3_object(road: Product) -> None:
    """Complete without an upload fails the job with a sentence; uploading and completing again repairs it."""
    begun = road.initiate(len(VIDEO))
    with pytest.raises(grpc.RpcError) as missing:
        road.complete(begun.job_id)
    code, message = refusal(missing)
    assert code == "FAILED_PRECONDITION"
    assert message.startswith("Upload verification failed: ")
    job = road.job(begun.job_id)
    assert (job.status, job.stage, job.failure_code) == (job_pb2.JOB_STATUS_FAILED, "FAILED", "VIDEO_MISSING")
    assert job.error_message == message
    assert road.open_launches() == []
    put(begun, VIDEO)
    assert road.complete(begun.job_id).status == job_pb2.JOB_STATUS_QUEUED
    assert road.job(begun.job_id).error_message == ""


@pytest.mark.parametrize("sample_fps", [-1, 31, 2**31 - 1])
def test_a_rate_out_of_range_is_refused_and_named(road: Product, sample_fps: int) -> None:
    """1 to 30, or 0 for the default."""
    with pytest.raises(grpc.RpcError) as refused:
        road.initiate(len(VIDEO), sample_fps=sample_fps)
    code, message = refusal(refused)
    assert code == "INVALID_ARGUMENT"
    assert "sample_fps" in message


def test_no_rate_means_ten(road: Product) -> None:
    """sample_fps 0 is the default."""
    assert road.job(road.initiate(len(VIDEO), sample_fps=0).job_id).sample_fps == 10


def test_an_unknown_session_and_an_unknown_job_are_not_found(road: Product) -> None:
    """The contract's sentences, through `upload` as well."""
    with pytest.raises(grpc.RpcError) as no_session:
        road.initiate(len(VIDEO), session_id=str(uuid.uuid4()))
    assert refusal(no_session) == ("NOT_FOUND", "Video session not found")
    with pytest.raises(grpc.RpcError) as no_job:
        road.complete(str(uuid.uuid4()))
    assert refusal(no_job) == ("NOT_FOUND", "Analysis job not found")


def test_nobody_uploads_to_anothers_session(road: Product) -> None:
    """Not yours reads PERMISSION_DENIED, for sessions and for jobs."""
    begun = road.initiate(len(VIDEO))
    stranger = road.laptop.person("coach-2")
    request = upload_pb2.InitiateUploadRequest(session_id=begun.session_id, content_type="video/mp4", content_length=10)
    with pytest.raises(grpc.RpcError) as refused:
        road.upload_stub.InitiateUpload(request, metadata=stranger)
    assert refusal(refused) == ("PERMISSION_DENIED", "You don't have access to this session")
    with pytest.raises(grpc.RpcError) as refused:
        road.upload_stub.CompleteUpload(upload_pb2.CompleteUploadRequest(job_id=begun.job_id), metadata=stranger)
    assert refusal(refused) == ("PERMISSION_DENIED", "You don't have access to this job")


def test_an_invented_lease_signs_nothing(road: Product) -> None:
    """The secret alone opens the video, and only `jobs` gives it out."""
    begun = road.initiate(len(VIDEO))
    request = upload_pb2.SignLaunchRequest(job_id=begun.job_id, launch_no=1)
    with pytest.raises(grpc.RpcError) as refused:
        road.upload_stub.SignLaunch(request, metadata=lease("invented"))
    assert (refused.value.code().name, clients.reason(refused.value)) == ("PERMISSION_DENIED", "LEASE_LOST")


def completed_once_jobs_is_found_again(road: Product, job_id: str) -> upload_pb2.CompleteUploadResponse:
    """`upload` notices within seconds that `jobs` is back; until then it says that it is away."""
    while True:
        try:
            return road.complete(job_id)
        except grpc.RpcError as error:
            if clients.reason(error) != "JOBS_AWAY":
                raise


def test_jobs_away_is_unavailable_and_loses_nothing(road: Product) -> None:
    """A Complete while `jobs` is down says so, and succeeds when it is back."""
    begun = road.initiate(len(VIDEO))
    put(begun, VIDEO)
    road.jobs.kill()
    with pytest.raises(grpc.RpcError) as away:
        road.complete(begun.job_id)
    assert (away.value.code(), clients.reason(away.value)) == (grpc.StatusCode.UNAVAILABLE, "JOBS_AWAY")
    road.jobs.start()
    assert completed_once_jobs_is_found_again(road, begun.job_id).status == job_pb2.JOB_STATUS_QUEUED
    assert len(road.open_launches()) == 1


def test_every_server_answers_health_and_reflection(road: Product) -> None:
    """As grpcurl asks: the list of services, without a token. (Health was asked at the start of each.)"""
    for program, service in ((road.jobs, "crease.jobs.v1.JobService"), (road.upload, "crease.upload.v1.UploadService")):
        with grpc.insecure_channel(program.endpoint) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            [reply] = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {one.name for one in reply.list_services_response.service}
        assert {service, "grpc.health.v1.Health"} <= names
