"""Uploads through the real gRPC servers, on a real PostgreSQL and a real S3 server that checks signatures."""

import uuid
from collections.abc import Iterator

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

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


def code_and_message(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[str, str]:
    return error.value.code().name, error.value.details() or ""


def test_upload_lifecycle_prevents_premature_claiming(road: Product) -> None:
    """jobs opens no launch before the video is verified in S3, and exactly one afterwards."""
    initiated = road.initiate(len(VIDEO))
    assert road.status(initiated.job_id) == "awaiting_upload"
    assert road.open_launches() == []
    put(initiated, VIDEO)
    assert road.open_launches() == []
    done = road.complete(initiated.job_id)
    assert (done.status, done.message) == (job_pb2.JOB_STATUS_QUEUED, "Video uploaded and queued for analysis")
    assert [launch.job_id for launch in road.open_launches()] == [initiated.job_id]
    assert road.open_launches() == []
    pinned = road.job(initiated.job_id).video
    assert (pinned.content_length, pinned.etag != "") == (len(VIDEO), True)


def test_upload_complete_idempotency(road: Product) -> None:
    """A second CompleteUpload succeeds and changes nothing: one launch."""
    initiated = road.initiate(len(VIDEO))
    put(initiated, VIDEO)
    road.complete(initiated.job_id)
    before = road.job(initiated.job_id)
    again = road.complete(initiated.job_id)
    assert (again.status, again.message) == (
        job_pb2.JOB_STATUS_QUEUED,
        "Job already processed - no action taken",
    )
    assert road.job(initiated.job_id) == before
    assert len(road.open_launches()) == 1


def test_upload_complete_fails_on_missing_s3_object(road: Product) -> None:
    """CompleteUpload without a video fails the job with a sentence; an upload and a second call repair it."""
    initiated = road.initiate(len(VIDEO))
    with pytest.raises(grpc.RpcError) as missing:
        road.complete(initiated.job_id)
    code, message = code_and_message(missing)
    assert code == "FAILED_PRECONDITION"
    assert message.startswith("Upload verification failed: ")
    job = road.job(initiated.job_id)
    assert (job.status, job.stage, job.failure_code) == (job_pb2.JOB_STATUS_FAILED, "FAILED", "VIDEO_MISSING")
    assert job.error_message == message
    assert road.open_launches() == []
    put(initiated, VIDEO)
    assert road.complete(initiated.job_id).status == job_pb2.JOB_STATUS_QUEUED
    assert road.job(initiated.job_id).error_message == ""


@pytest.mark.parametrize("sample_fps", [-1, 31, 2**31 - 1])
def test_a_rate_out_of_range_is_rejected_and_named(road: Product, sample_fps: int) -> None:
    """1 to 30, or 0 for the default."""
    with pytest.raises(grpc.RpcError) as rejected:
        road.initiate(len(VIDEO), sample_fps=sample_fps)
    code, message = code_and_message(rejected)
    assert code == "INVALID_ARGUMENT"
    assert "sample_fps" in message


def test_no_rate_means_ten(road: Product) -> None:
    """sample_fps 0 is the default."""
    assert road.job(road.initiate(len(VIDEO), sample_fps=0).job_id).sample_fps == 10


def test_an_unknown_session_and_an_unknown_job_are_not_found(road: Product) -> None:
    """The contract's sentences, through `upload` too."""
    with pytest.raises(grpc.RpcError) as no_session:
        road.initiate(len(VIDEO), session_id=str(uuid.uuid4()))
    assert code_and_message(no_session) == ("NOT_FOUND", "Video session not found")
    with pytest.raises(grpc.RpcError) as no_job:
        road.complete(str(uuid.uuid4()))
    assert code_and_message(no_job) == ("NOT_FOUND", "Analysis job not found")


def test_an_upload_to_another_persons_session_is_denied(road: Product) -> None:
    """PERMISSION_DENIED for the sessions and the jobs of other persons."""
    initiated = road.initiate(len(VIDEO))
    other_coach = road.laptop.person("coach-2")
    request = upload_pb2.InitiateUploadRequest(
        session_id=initiated.session_id, content_type="video/mp4", content_length=10
    )
    with pytest.raises(grpc.RpcError) as rejected:
        road.upload_stub.InitiateUpload(request, metadata=other_coach)
    assert code_and_message(rejected) == ("PERMISSION_DENIED", "You don't have access to this session")
    with pytest.raises(grpc.RpcError) as rejected:
        road.upload_stub.CompleteUpload(upload_pb2.CompleteUploadRequest(job_id=initiated.job_id), metadata=other_coach)
    assert code_and_message(rejected) == ("PERMISSION_DENIED", "You don't have access to this job")


def test_an_invented_lease_signs_nothing(road: Product) -> None:
    """Only a lease secret that jobs issued opens the video."""
    initiated = road.initiate(len(VIDEO))
    request = upload_pb2.SignLaunchRequest(job_id=initiated.job_id, launch_no=1)
    with pytest.raises(grpc.RpcError) as rejected:
        road.upload_stub.SignLaunch(request, metadata=lease("invented"))
    assert (rejected.value.code().name, clients.reason(rejected.value)) == ("PERMISSION_DENIED", "LEASE_LOST")


def complete_when_jobs_is_back(road: Product, job_id: str) -> upload_pb2.CompleteUploadResponse:
    """Calls CompleteUpload until upload has reconnected to jobs, which takes seconds after a restart."""
    while True:
        try:
            return road.complete(job_id)
        except grpc.RpcError as error:
            if clients.reason(error) != "JOBS_AWAY":
                raise


@pytest.mark.slow
def test_an_unavailable_jobs_loses_no_upload(road: Product) -> None:
    """CompleteUpload is UNAVAILABLE while jobs is down, and succeeds after its restart."""
    initiated = road.initiate(len(VIDEO))
    put(initiated, VIDEO)
    road.jobs.kill()
    with pytest.raises(grpc.RpcError) as unavailable:
        road.complete(initiated.job_id)
    assert (unavailable.value.code(), clients.reason(unavailable.value)) == (grpc.StatusCode.UNAVAILABLE, "JOBS_AWAY")
    road.jobs.start()
    assert complete_when_jobs_is_back(road, initiated.job_id).status == job_pb2.JOB_STATUS_QUEUED
    assert len(road.open_launches()) == 1


def test_every_server_answers_health_and_reflection(road: Product) -> None:
    """The list of services without a token, as grpcurl requests it. (The start of each server has checked health.)"""
    for program, service in ((road.jobs, "crease.jobs.v1.JobService"), (road.upload, "crease.upload.v1.UploadService")):
        with grpc.insecure_channel(program.endpoint) as channel:
            for version in ("v1", "v1alpha"):
                ask = channel.stream_stream(
                    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                    request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                    response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
                )
                [reply] = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=30)
                names = {one.name for one in reply.list_services_response.service}
                assert {service, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
