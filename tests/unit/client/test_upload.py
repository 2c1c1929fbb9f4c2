"""The reply to InitiateUpload, not the client, decides whether a video is sent in parts."""

import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crease.upload.v1 import upload_pb2
from crease_client import s3_transfer, upload

HEAD = b"\0\0\0\x18ftypmp42"
# The default threshold of `upload`; the client once had a copy of it.
DEFAULT_FROM_BYTES = 100_000_000


@dataclass
class FakeUploads:
    """`plan`: how the video is sent; None: in one PUT. `puts`: the bytes of each PUT, by its URL."""

    plan: upload_pb2.PartPlan | None = None
    requests: list[upload_pb2.InitiateUploadRequest] = field(default_factory=list)
    puts: dict[str, int] = field(default_factory=dict)

    def InitiateUpload(
        self, request: upload_pb2.InitiateUploadRequest, **_: object
    ) -> upload_pb2.InitiateUploadResponse:
        self.requests.append(request)
        url = "" if self.plan else "whole"
        return upload_pb2.InitiateUploadResponse(job_id="j", presigned_url=url, parts=self.plan)

    def ListParts(self, request: upload_pb2.ListPartsRequest, **_: object) -> upload_pb2.ListPartsResponse:
        return upload_pb2.ListPartsResponse()

    def SignParts(self, request: upload_pb2.SignPartsRequest, **_: object) -> upload_pb2.SignPartsResponse:
        puts = [upload_pb2.SignedRequest(url=f"part {part.part_number}") for part in request.parts]
        return upload_pb2.SignPartsResponse(puts=puts)

    def CompleteUpload(
        self, request: upload_pb2.CompleteUploadRequest, **_: object
    ) -> upload_pb2.CompleteUploadResponse:
        return upload_pb2.CompleteUploadResponse(job_id=request.job_id)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> FakeUploads:
    fake = FakeUploads()

    def put(self: object, url: str, headers: Any, path: Path, *_: object, length: int = -1, **__: object) -> None:
        fake.puts[url] = path.stat().st_size if length < 0 else length

    monkeypatch.setattr(s3_transfer.S3Transfer, "put", put)
    return fake


def write_video(folder: Path, length: int) -> Path:
    """A sparse file with the signature of an MP4."""
    path = folder / "video.mp4"
    path.write_bytes(HEAD)
    with path.open("r+b") as file:
        file.truncate(length)
    return path


def send(uploads: FakeUploads, path: Path) -> None:
    stub: Any = uploads
    upload.send(stub, path, upload_pb2.InitiateUploadRequest())


def test_a_small_video_is_sent_in_parts_if_the_service_has_a_plan(uploads: FakeUploads, tmp_path: Path) -> None:
    """1,000 bytes in parts of 400."""
    uploads.plan = upload_pb2.PartPlan(part_bytes=400, part_count=3)
    send(uploads, write_video(tmp_path, 1000))
    assert uploads.puts == {"part 1": 400, "part 2": 400, "part 3": 200}


def test_a_large_video_is_sent_whole_with_its_checksum_if_the_service_has_no_plan(
    uploads: FakeUploads, tmp_path: Path
) -> None:
    """A service with a larger threshold still gets the SHA-256 that binds the PUT to the file's content."""
    path = write_video(tmp_path, DEFAULT_FROM_BYTES)
    send(uploads, path)
    [request] = uploads.requests
    with path.open("rb") as file:
        assert request.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    assert (request.content_type, request.content_length) == ("video/mp4", DEFAULT_FROM_BYTES)
    assert uuid.UUID(request.request_id)
    assert uploads.puts == {"whole": DEFAULT_FROM_BYTES}
