"""Multipart uploads: signed, listed, resumed, completed, aborted; and the client that sends them."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import crease_client
from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from crease_client.client import connect
from crease_client.errors import S3Rejection
from crease_client.s3_transfer import S3Transfer
from services import clients
from services.upload.s3.parts import MIN_PART_BYTES, sha256_of
from tests.integration.upload.client import VIDEO, Client, Start, put

LONG = VIDEO + os.urandom(2 * MIN_PART_BYTES)
FROM_BYTES = {"CREASE_MULTIPART_FROM_BYTES": "1000000"}


@pytest.fixture(scope="module")
def client(start: Start) -> Client:
    return start(**FROM_BYTES)


def pieces(body: bytes = LONG) -> list[bytes]:
    return [body[at : at + MIN_PART_BYTES] for at in range(0, len(body), MIN_PART_BYTES)]


def part(number: int, body: bytes = LONG) -> upload_pb2.Part:
    return upload_pb2.Part(part_number=number, sha256=hashlib.sha256(pieces(body)[number - 1]).hexdigest())


def call(client: Client, rpc: str, job_id: str, subject: str = "coach-1", **fields: Any) -> Any:
    request = getattr(upload_pb2, f"{rpc}Request")(job_id=job_id, **fields)
    return getattr(client.stub, rpc)(request, metadata=client.laptop.person(subject), timeout=60)


def send(client: Client, job_id: str, *numbers: int, body: bytes = LONG) -> None:
    signed = call(client, "SignParts", job_id, parts=[part(number, body) for number in numbers]).puts
    for number, one in zip(numbers, signed, strict=True):
        assert put(one.url, pieces(body)[number - 1], one.headers) == 200


def arrived(client: Client, job_id: str) -> list[int]:
    return [part.part_number for part in call(client, "ListParts", job_id).parts]


def reason(caught: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    return clients.reason(caught.value)


def left(client: Client, job_id: str) -> tuple[int, int]:
    """Objects and unfinished uploads under a job's key."""
    key, s3 = client.jobs.jobs[job_id].video.s3_key, client.s3.client()
    objects = s3.list_objects_v2(Bucket="plain", Prefix=key).get("Contents", [])
    return len(objects), len(s3.list_multipart_uploads(Bucket="plain", Prefix=key).get("Uploads", []))


def test_a_long_video_is_uploaded_in_parts_and_resumes_after_upload_was_killed(client: Client) -> None:
    """The plan has the number of parts; arrived parts stay; the job is pinned to the assembled object."""
    begun = client.initiate(LONG)
    assert (begun.presigned_url, begun.parts.part_count, begun.parts.part_bytes) == ("", 3, MIN_PART_BYTES)
    assert arrived(client, begun.job_id) == []
    send(client, begun.job_id, 3, 1)
    client.program.kill()
    client.program.start()
    assert arrived(client, begun.job_id) == [1, 3]
    send(client, begun.job_id, 2)
    done = call(client, "CompleteUpload", begun.job_id, parts=[part(number) for number in (1, 2, 3)])
    assert done.message == "Video uploaded and queued for analysis"
    video = client.jobs.jobs[begun.job_id].video
    assert video.etag.endswith("-3")
    assert video.parts_sha256 == sha256_of([part(number).sha256 for number in (1, 2, 3)])
    assert client.s3.client().get_object(Bucket="plain", Key=video.s3_key)["Body"].read() == LONG
    assert left(client, begun.job_id) == (1, 0)
    with pytest.raises(grpc.RpcError) as caught:
        send(client, begun.job_id, 1)
    assert reason(caught) == "WRONG_STATE"


def test_parts_are_listed_in_pages(client: Client) -> None:
    """Every part once, in order; a token belongs to one job, and a size is not negative."""
    begun, other = client.initiate(LONG), client.initiate(LONG)
    send(client, begun.job_id, 1, 2, 3)
    first = call(client, "ListParts", begun.job_id, page_size=2)
    second = call(client, "ListParts", begun.job_id, page_size=2, page_token=first.next_page_token)
    assert [part.part_number for page in (first, second) for part in page.parts] == [1, 2, 3]
    assert second.next_page_token == ""
    wrong: tuple[dict[str, Any], ...] = (
        {"page_token": "2"}, {"page_token": first.next_page_token + "x"}, {"page_size": -1}
    )  # fmt: skip
    for job_id, fields in (
        (other.job_id, {"page_token": first.next_page_token}),
        *((begun.job_id, one) for one in wrong),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(client, "ListParts", job_id, **fields)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_missing_parts_fail_the_job_and_sending_them_repairs_it(client: Client) -> None:
    """The error lists them, and arrived parts stay."""
    begun = client.initiate(LONG)
    send(client, begun.job_id, 1)
    with pytest.raises(grpc.RpcError) as caught:
        client.complete(begun.job_id)
    assert reason(caught) == "VIDEO_INCOMPLETE"
    assert caught.value.details() == "Upload verification failed: 2 of 3 parts are missing (2, 3)"
    assert client.jobs.jobs[begun.job_id].status == job_pb2.JOB_STATUS_FAILED
    send(client, begun.job_id, 2, 3)
    assert client.complete(begun.job_id).status == job_pb2.JOB_STATUS_QUEUED


def test_completing_an_upload_without_parts_fails_as_missing(client: Client) -> None:
    """No part was signed."""
    with pytest.raises(grpc.RpcError) as caught:
        client.complete(client.initiate(LONG).job_id)
    assert reason(caught) == "VIDEO_MISSING"


@pytest.mark.slow
def test_parts_that_differ_from_the_claims_are_found(client: Client) -> None:
    """CompleteUpload compares the claimed SHA-256s with those in S3."""
    begun = client.initiate(LONG)
    other = LONG[:-5] + b"other"
    send(client, begun.job_id, 1, 2)
    send(client, begun.job_id, 3, body=other)
    claims = [part(number) for number in (1, 2, 3)]
    with pytest.raises(grpc.RpcError) as caught:
        call(client, "CompleteUpload", begun.job_id, parts=claims)
    assert reason(caught) == "VIDEO_CHECKSUM_DIFFERS"
    send(client, begun.job_id, 3)
    assert call(client, "CompleteUpload", begun.job_id, parts=claims).status == job_pb2.JOB_STATUS_QUEUED


@pytest.mark.slow
def test_an_upload_assembled_by_a_lost_call_completes(client: Client) -> None:
    """S3 assembled the object, but jobs did not record it: CompleteUpload finds it with its checksum."""
    begun = client.initiate(LONG)
    send(client, begun.job_id, 1, 2, 3)
    video = client.jobs.jobs[begun.job_id].video
    s3, place = (
        client.s3.client(),
        {"Bucket": "plain", "Key": video.s3_key, "UploadId": client.jobs.upload_ids[begun.job_id]},
    )
    listed = s3.list_parts(**place)["Parts"]
    named = [{name: one[name] for name in ("PartNumber", "ETag", "ChecksumSHA256")} for one in listed]
    s3.complete_multipart_upload(**place, MultipartUpload={"Parts": named})
    assert client.complete(begun.job_id).status == job_pb2.JOB_STATUS_QUEUED
    assert video.parts_sha256 == sha256_of([part(number).sha256 for number in (1, 2, 3)])


@pytest.mark.slow
def test_first_parts_signed_at_once_belong_to_one_upload(client: Client) -> None:
    """Of two concurrent calls, the losing one aborts its upload."""
    begun = client.initiate(LONG)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: send(client, begun.job_id, number), (1, 2, 3)))
    assert left(client, begun.job_id) == (0, 1)
    assert client.complete(begun.job_id).status == job_pb2.JOB_STATUS_QUEUED


def test_an_upload_in_parts_goes_on_while_jobs_is_of_the_last_release(client: Client) -> None:
    """An upgrade replaces `upload` and `jobs` in any order: parts are signed, listed and joined by either."""
    begun = client.initiate(LONG)
    client.jobs.is_old = True
    try:
        send(client, begun.job_id, 1, 2)
        assert arrived(client, begun.job_id) == [1, 2]
        client.jobs.is_old = False
        send(client, begun.job_id, 3)
        assert left(client, begun.job_id) == (0, 1)
        client.jobs.is_old = True
        assert client.complete(begun.job_id).status == job_pb2.JOB_STATUS_QUEUED
    finally:
        client.jobs.is_old = False


@pytest.mark.slow
def test_an_upload_that_s3_lost_is_begun_anew(client: Client) -> None:
    """ListParts is empty, and the next parts go into a new upload."""
    begun = client.initiate(LONG)
    send(client, begun.job_id, 1)
    video = client.jobs.jobs[begun.job_id].video
    client.s3.client().abort_multipart_upload(
        Bucket="plain", Key=video.s3_key, UploadId=client.jobs.upload_ids[begun.job_id]
    )
    assert arrived(client, begun.job_id) == []
    send(client, begun.job_id, 1, 2, 3)
    assert client.complete(begun.job_id).status == job_pb2.JOB_STATUS_QUEUED


def test_an_aborted_upload_leaves_nothing_and_is_cancelled(client: Client) -> None:
    """Aborting is idempotent. A verified video cannot be aborted, only deleted."""
    begun = client.initiate(LONG)
    send(client, begun.job_id, 1)
    assert left(client, begun.job_id) == (0, 1)
    for _ in range(2):
        assert call(client, "AbortUpload", begun.job_id).status == job_pb2.JOB_STATUS_CANCELLED
    assert left(client, begun.job_id) == (0, 0)
    with pytest.raises(grpc.RpcError) as caught:
        call(client, "AbortUpload", client.upload().job_id)
    assert reason(caught) == "WRONG_STATE"


@pytest.mark.parametrize("rpc", ["SignParts", "ListParts", "CompleteUpload", "AbortUpload"])
def test_the_parts_of_another_persons_upload_are_denied(client: Client, rpc: str) -> None:
    """jobs checks ownership by the caller's own token."""
    begun = client.initiate(LONG)
    fields = {"parts": [part(1)]} if rpc == "SignParts" else {}
    with pytest.raises(grpc.RpcError) as caught:
        call(client, rpc, begun.job_id, subject="coach-2", **fields)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("parts", []),
        ("parts", [part(1)] * 101),
        ("parts[0].part_number", [upload_pb2.Part(part_number=0, sha256="ab" * 32)]),
        ("parts[0].part_number", [upload_pb2.Part(part_number=4, sha256="ab" * 32)]),
        ("parts[1].sha256", [part(1), upload_pb2.Part(part_number=2, sha256="a\r\nx-amz-acl: public")]),
    ],
)
def test_a_wrong_part_is_named(client: Client, field: str, parts: list[upload_pb2.Part]) -> None:
    """The error has the path of the wrong field, and S3 begins no upload."""
    begun = client.initiate(LONG)
    with pytest.raises(grpc.RpcError) as caught:
        call(client, "SignParts", begun.job_id, parts=parts)
    assert str(caught.value.details()).startswith(f"{field}: ")
    assert left(client, begun.job_id) == (0, 0)


HOSTILE = ["../../../etc/passwd", "a\r\nx-amz-acl: public", "ü🏏\u202e", "x" * 1000, "a\0b", "%2e%2e/", "//", "?x=1&y"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["session_id", "content_type", "sha256", "request_id"])
def test_no_text_of_a_client_becomes_part_of_a_key_or_a_header(client: Client, field: str, text: str) -> None:
    """The call is INVALID_ARGUMENT or NOT_FOUND, and no job is created."""
    before = len(client.jobs.jobs)
    with pytest.raises(grpc.RpcError) as caught:
        client.initiate(**dict[str, Any]({field: text}))
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert len(client.jobs.jobs) == before


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_of_jobs_and_artifacts_are_unknown(client: Client, text: str) -> None:
    """Every hostile name is NOT_FOUND."""
    job = client.upload()
    for rpc, fields in (("CompleteUpload", {}), ("SignDownload", {"name": "report.html"}), ("AbortUpload", {})):
        with pytest.raises(grpc.RpcError) as caught:
            call(client, rpc, text, **fields)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        call(client, "SignDownload", job.job_id, name=text)
    assert reason(caught) == "ARTIFACT_NOT_FOUND"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "long.mp4"
    path.write_bytes(LONG)
    return path


@pytest.fixture
def sender(client: Client) -> Iterator[crease_client.Client]:
    """The client package, as coach-1, without a jobs service."""
    token = client.laptop.person("coach-1")[0][1].removeprefix("Bearer ")
    with connect(jobs="127.0.0.1:1", upload=client.program.endpoint, token=lambda: token) as connected:
        yield connected


def order(client: Client) -> upload_pb2.InitiateUploadRequest:
    return upload_pb2.InitiateUploadRequest(
        session_id=client.jobs.add_session(),
        content_type="video/mp4",
        content_length=len(LONG),
        request_id=str(uuid.uuid4()),
    )


class BrokenOff(BaseException):
    """Interrupts as Ctrl-C does."""


def test_the_same_command_after_ctrl_c_sends_only_what_is_missing(
    client: Client, sender: crease_client.Client, video: Path
) -> None:
    """Arrived parts are not sent again, and the progress ends at the full length."""
    asked, heard = order(client), list[int]()

    def stop_at_the_second_part(done: int, whole: int) -> None:
        if done > MIN_PART_BYTES:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        sender.upload(video, asked, stop_at_the_second_part)
    begun = sender.uploads.InitiateUpload(asked)
    send(client, begun.job_id, 2)
    said: list[str] = []
    done = sender.upload(video, asked, lambda done, whole: heard.append(done), said.append)
    assert (done.job_id, done.message) == (begun.job_id, "Video uploaded and queued for analysis")
    assert heard[-1] == max(heard) == len(LONG)
    assert any("have arrived before" in sentence for sentence in said)


@pytest.mark.slow
def test_a_changed_file_is_sent_anew(client: Client, sender: crease_client.Client, video: Path) -> None:
    """A part is sent again if it differs from the file."""
    asked = order(client)
    begun = sender.uploads.InitiateUpload(asked)
    send(client, begun.job_id, 1, 2, 3)
    changed = LONG[:-5] + b"other"
    video.write_bytes(changed)
    done = sender.upload(video, asked)
    key = client.jobs.jobs[done.job_id].video.s3_key
    assert client.s3.client().get_object(Bucket="plain", Key=key)["Body"].read() == changed


@pytest.mark.slow
def test_an_expired_url_is_signed_anew(
    client: Client, sender: crease_client.Client, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses the URL, the user sees a sentence, and the part is sent by a new URL."""
    once = [b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"]
    sent = S3Transfer.put

    def put_late(self: S3Transfer, *args: Any, **more: Any) -> None:
        if once:
            raise S3Rejection("part", 403, once.pop())
        sent(self, *args, **more)

    monkeypatch.setattr(S3Transfer, "put", put_late)
    said: list[str] = []
    done = sender.upload(video, order(client), notify=said.append)
    assert done.status == job_pb2.JOB_STATUS_QUEUED
    assert ["expired" in sentence for sentence in said] == [True]


def test_an_object_that_s3_is_still_assembling_is_not_missing(client: Client) -> None:
    """Meanwhile S3 lists neither parts nor object: the call is UNAVAILABLE, and the job does not fail."""
    begun = client.initiate(LONG)
    send(client, begun.job_id, 1)
    video = client.jobs.jobs[begun.job_id].video
    client.s3.client().abort_multipart_upload(
        Bucket="plain", Key=video.s3_key, UploadId=client.jobs.upload_ids[begun.job_id]
    )
    with pytest.raises(grpc.RpcError) as caught:
        client.complete(begun.job_id)
    assert (caught.value.code(), reason(caught)) == (grpc.StatusCode.UNAVAILABLE, "VIDEO_NOT_ASSEMBLED")
    assert client.jobs.jobs[begun.job_id].status == job_pb2.JOB_STATUS_AWAITING_UPLOAD
