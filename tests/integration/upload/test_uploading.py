"""Uploading a video by one PUT: InitiateUpload, the PUT, CompleteUpload."""

import base64
import hashlib
import json
import re
import socket
import uuid
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services import VERSION, clients
from testing.servers.programs import free_port, lease
from tests.integration.upload.client import VIDEO, Client, get, put

AWAITING = job_pb2.JOB_STATUS_AWAITING_UPLOAD
QUEUED = job_pb2.JOB_STATUS_QUEUED
FAILED = job_pb2.JOB_STATUS_FAILED


@pytest.fixture(params=["plain", "versioned"])
def either(request: pytest.FixtureRequest) -> Client:
    """An `upload` whose bucket keeps versions, and one whose bucket doesn't."""
    chosen: Client = request.getfixturevalue("client" if request.param == "plain" else "versioned")
    return chosen


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, str]:
    return error.code(), error.details() or "", clients.reason(error)


def detail(error: grpc.RpcError, kind: Any) -> Any:
    status = rpc_status.from_call(error)
    found = kind()
    assert any(one.Unpack(found) for one in status.details), f"no {kind.__name__}"
    return found


def test_an_uploaded_video_is_verified_pinned_and_queued(either: Client) -> None:
    """The job gets the ETag, size, SHA-256 and version of the object."""
    sha256 = hashlib.sha256(VIDEO).hexdigest()
    begun = either.initiate(sha256=sha256.upper(), sample_fps=15, include_frames=True, anonymous=True, capture_fps=120)
    assert begun.expires_in == 3600
    assert re.fullmatch(r"coach_plus/coach/coach-1/[^/]+/[^/]+/original\.mp4", begun.s3_key)
    assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200

    done = either.complete(begun.job_id)
    assert (done.status, done.message) == (QUEUED, "Video uploaded and queued for analysis")
    job = either.jobs.jobs[begun.job_id]
    assert (job.sample_fps, job.include_frames, job.anonymous, job.capture_fps) == (15, True, True, 120)
    assert job.video.etag == hashlib.md5(VIDEO, usedforsecurity=False).hexdigest()
    assert (job.video.sha256, job.video.content_length) == (sha256, len(VIDEO))
    assert bool(job.video.version_id) == (begun.s3_bucket == "versioned")


def test_the_log_of_the_start_has_the_version(client: Client) -> None:
    """So that a log names the release that wrote it."""
    lines = [json.loads(line) for line in client.program.log.read_text().splitlines() if line.startswith("{")]
    started = [line for line in lines if line["event"] == "serving"]
    assert started
    assert {line["version"] for line in started} == {VERSION}


def test_the_reply_lists_the_headers_that_the_signature_binds(client: Client) -> None:
    """A client that sends exactly these headers succeeds."""
    begun = client.initiate(sha256=hashlib.sha256(VIDEO).hexdigest())
    assert dict(begun.required_headers) == {
        "Content-Length": str(len(VIDEO)),
        "Content-Type": "video/mp4",
        "If-None-Match": "*",
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(VIDEO).digest()).decode(),
    }
    signed = re.search(r"X-Amz-SignedHeaders=([^&]+)", begun.presigned_url)
    assert signed is not None
    assert set(signed[1].split("%3B")) == {"host"} | {name.lower() for name in begun.required_headers}


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (VIDEO + b"x", {"Content-Length": str(len(VIDEO) + 1)}),
        (VIDEO[:-1], {"Content-Length": str(len(VIDEO) - 1)}),
        (VIDEO, {"Content-Type": "text/html"}),
        (VIDEO, {"If-None-Match": None}),
        (VIDEO, {"x-amz-checksum-sha256": None}),
        (VIDEO[::-1], {}),
    ],
    ids=["longer", "shorter", "other type", "not only once", "no checksum", "other bytes"],
)
def test_s3_refuses_a_put_of_anything_but_what_was_declared(
    client: Client, body: bytes, changed: dict[str, str | None]
) -> None:
    """S3 enforces every header that the signature binds."""
    begun = client.initiate(sha256=hashlib.sha256(VIDEO).hexdigest())
    headers = {name: value for name, value in (dict(begun.required_headers) | changed).items() if value is not None}
    assert put(begun.presigned_url, body, headers) in (400, 403)


def test_a_second_put_is_refused(either: Client) -> None:
    """A signed URL never replaces an uploaded video."""
    begun = either.initiate()
    assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200
    assert put(begun.presigned_url, VIDEO[::-1], begun.required_headers) == 412


def test_completing_without_an_upload_fails_the_job_and_uploading_repairs_it(client: Client) -> None:
    """The error has the code of the problem. The same URL then uploads the video, and the job is queued."""
    begun = client.initiate()
    with pytest.raises(grpc.RpcError) as caught:
        client.complete(begun.job_id)
    code, message, reason = refusal(caught.value)
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VIDEO_MISSING")
    assert message.startswith("Upload verification failed: ")
    job = client.jobs.jobs[begun.job_id]
    assert (job.status, job.failure_code, job.error_message) == (FAILED, "VIDEO_MISSING", message)

    assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200
    assert client.complete(begun.job_id).status == QUEUED


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "video/mp4", "VIDEO_EMPTY"),
        (VIDEO + b"x", "video/mp4", "VIDEO_LENGTH_DIFFERS"),
        (VIDEO, "text/html", "NOT_A_VIDEO"),
    ],
)
def test_another_object_fails_the_job_and_makes_room_for_the_right_one(
    either: Client, body: bytes, content_type: str, reason: str
) -> None:
    """A wrong object is deleted, because a signed PUT never replaces one."""
    begun = either.initiate()
    either.put_directly(begun.job_id, body, content_type)
    with pytest.raises(grpc.RpcError) as caught:
        either.complete(begun.job_id)
    assert refusal(caught.value)[::2] == (grpc.StatusCode.FAILED_PRECONDITION, reason)
    assert either.jobs.jobs[begun.job_id].status == FAILED

    assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200
    assert either.complete(begun.job_id).status == QUEUED


def test_a_video_that_was_accepted_once_is_never_deleted(client: Client) -> None:
    """An object under a verified job's key is kept as evidence."""
    job = client.upload()
    job.status = FAILED
    client.put_directly(job.job_id, VIDEO + b"x")
    with pytest.raises(grpc.RpcError):
        client.complete(job.job_id)
    assert client.s3.client().head_object(Bucket=job.video.s3_bucket, Key=job.video.s3_key)


def test_a_failed_job_with_its_video_is_queued_again(client: Client) -> None:
    """CompleteUpload verifies a failed job's video again."""
    job = client.upload()
    job.status = FAILED
    assert client.complete(job.job_id).message == "Video uploaded and queued for analysis"
    assert job.status == QUEUED


@pytest.mark.parametrize("status", ["QUEUED", "QUICK_RUNNING", "QUICK_DONE", "DEEP_RUNNING", "DONE"])
def test_completing_again_succeeds_and_changes_nothing(client: Client, status: str) -> None:
    """A client that lost the answer may repeat the call; S3 is not called again."""
    job = client.upload()
    job.status = job_pb2.JobStatus.Value(f"JOB_STATUS_{status}")
    job.sqs_message_id = "message-1"
    client.s3.client().delete_object(Bucket=job.video.s3_bucket, Key=job.video.s3_key)
    before = job_pb2.Job.FromString(job.SerializeToString())
    again = client.complete(job.job_id)
    assert again == upload_pb2.CompleteUploadResponse(
        job_id=job.job_id,
        status=job.status,
        sqs_message_id="message-1",
        message="Job already processed - no action taken",
    )
    assert job == before


def test_a_cancelled_job_cannot_be_completed(client: Client) -> None:
    """A cancelled job is final."""
    job = client.upload()
    job.status = job_pb2.JOB_STATUS_CANCELLED
    with pytest.raises(grpc.RpcError) as caught:
        client.complete(job.job_id)
    message = "Cannot complete upload for job in status: cancelled"
    assert refusal(caught.value) == (grpc.StatusCode.FAILED_PRECONDITION, message, "WRONG_STATE")


def test_an_earlier_completion_wins_over_a_late_problem(client: Client) -> None:
    """This call finds no object while a concurrent call confirms it: this call succeeds too."""
    begun = client.initiate()
    client.jobs.meanwhile[begun.job_id] = lambda job: setattr(job, "status", QUEUED)
    assert client.complete(begun.job_id).message == "Job already processed - no action taken"


def test_a_forbidden_object_fails_the_job(start: Any) -> None:
    """S3 would refuse the object to the analyzer too."""
    stranger = start(AWS_ACCESS_KEY_ID="an-unknown-key")
    begun = stranger.initiate()
    with pytest.raises(grpc.RpcError) as caught:
        stranger.complete(begun.job_id)
    assert refusal(caught.value)[::2] == (grpc.StatusCode.FAILED_PRECONDITION, "VIDEO_FORBIDDEN")


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_an_unavailable_s3_is_unavailable_and_changes_nothing(start: Any, how: str) -> None:
    """A transient error has a retry delay, and the job still awaits its upload."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        port = free_port() if how == "refuses" else silent.getsockname()[1]
        cut_off = start(CREASE_S3_ENDPOINT=f"http://127.0.0.1:{port}", CREASE_S3_TIMEOUT_SECONDS="1")
        begun = cut_off.initiate()
        assert begun.presigned_url, "signing does not call S3"
        with pytest.raises(grpc.RpcError) as caught:
            cut_off.complete(begun.job_id)
    assert refusal(caught.value)[::2] == (grpc.StatusCode.UNAVAILABLE, "S3_AWAY")
    assert detail(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds >= 1
    assert cut_off.jobs.jobs[begun.job_id].status == AWAITING


def test_unavailable_jobs_is_unavailable(start: Any) -> None:
    """The error has a retry delay."""
    alone = start(CREASE_JOBS_ENDPOINT=f"127.0.0.1:{free_port()}")
    with pytest.raises(grpc.RpcError) as caught:
        alone.initiate()
    assert refusal(caught.value)[::2] == (grpc.StatusCode.UNAVAILABLE, "JOBS_AWAY")
    assert detail(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds >= 1


def test_signing_that_fails_is_internal_and_says_why(start: Any) -> None:
    """Missing S3 keys are an internal error, not the client's."""
    keyless = start(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    with pytest.raises(grpc.RpcError) as caught:
        keyless.initiate()
    code, message, reason = refusal(caught.value)
    assert (code, reason) == (grpc.StatusCode.INTERNAL, "SIGNING_FAILED")
    assert message == "Failed to generate upload URL: Unable to locate credentials"


def test_the_limits_of_a_video_are_those_of_the_settings_and_the_size_is_enforced(start: Any) -> None:
    """A size of exactly max_content_length is accepted; anybody's token reads the limits, no token is refused."""
    limited = start(
        CREASE_MAX_CONTENT_LENGTH="5000",
        CREASE_MAX_VIDEO_SECONDS="90.5",
        CREASE_MAX_VIDEO_PIXELS="2000000",
        CREASE_MAX_VIDEO_FRAMES="7000",
    )
    request = upload_pb2.GetUploadLimitsRequest()
    limits = limited.stub.GetUploadLimits(request, metadata=limited.laptop.person("nobody"), timeout=30)
    assert (limits.max_content_length, limits.max_duration.ToMilliseconds()) == (5000, 90_500)
    assert (limits.max_picture_pixels, limits.max_frames) == (2_000_000, 7000)
    assert limited.initiate(content_length=limits.max_content_length).job_id
    with pytest.raises(grpc.RpcError) as too_large:
        limited.initiate(content_length=limits.max_content_length + 1)
    assert too_large.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "content_length" in str(too_large.value.details())
    with pytest.raises(grpc.RpcError) as unnamed:
        limited.stub.GetUploadLimits(request, timeout=30)
    assert unnamed.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_same_request_id_is_the_same_job(client: Client) -> None:
    """A repeated call gets a URL for the job it made before."""
    fields: dict[str, Any] = {"session_id": client.jobs.add_session(), "request_id": str(uuid.uuid4())}
    first, again = client.initiate(**fields), client.initiate(**fields)
    assert (first.job_id, first.s3_key) == (again.job_id, again.s3_key)
    assert put(again.presigned_url, VIDEO, again.required_headers) == 200


def test_an_error_of_jobs_reaches_the_client_unchanged(client: Client) -> None:
    """Code, sentence and reason are those of `jobs`."""
    with pytest.raises(grpc.RpcError) as unknown:
        client.initiate(session_id=str(uuid.uuid4()))
    assert refusal(unknown.value) == (grpc.StatusCode.NOT_FOUND, "Video session not found", "SESSION_NOT_FOUND")
    with pytest.raises(grpc.RpcError) as foreign:
        client.complete(client.upload().job_id, subject="coach-2")
    message = "You don't have access to this job"
    assert refusal(foreign.value) == (grpc.StatusCode.PERMISSION_DENIED, message, "JOB_ACCESS_DENIED")


def test_a_wrong_field_is_named_before_anything_is_made(client: Client) -> None:
    """The request is checked first, so that no job is created."""
    before = len(client.jobs.jobs)
    with pytest.raises(grpc.RpcError) as caught:
        client.initiate(sample_fps=31)
    assert refusal(caught.value)[::2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    violations = detail(caught.value, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == ["sample_fps"]
    assert len(client.jobs.jobs) == before


def test_a_swapped_video_is_not_what_the_analyzer_gets(either: Client) -> None:
    """With versioning the pinned version is read; without, S3 refuses the other object."""
    job = either.upload()
    either.jobs.leases[job.job_id, 1] = "secret"
    either.put_directly(job.job_id, VIDEO[::-1])
    request = upload_pb2.SignLaunchRequest(job_id=job.job_id, launch_no=1)
    signed = either.stub.SignLaunch(request, metadata=lease("secret"), timeout=30)
    reply = get(signed.video)
    if job.video.version_id:
        assert (reply.status, reply.data) == (200, VIDEO)
    else:
        assert reply.status == 412
