"""A client of upload: its calls and its PUTs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import urllib3

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from testing.fakes.jobs import FakeJobs
from testing.servers.programs import Laptop, Program
from testing.servers.s3 import Endpoint

# Before the analyzer, no program reads more than the first box.
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"not a real video" * 50


@dataclass
class Client:
    """A coach's client of one upload, with the S3 and the fake jobs that this upload uses."""

    program: Program
    channel: grpc.Channel
    laptop: Laptop
    jobs: FakeJobs
    s3: Endpoint

    @property
    def stub(self) -> upload_pb2_grpc.UploadServiceStub:
        return upload_pb2_grpc.UploadServiceStub(self.channel)

    def initiate(
        self, body: bytes = VIDEO, *, subject: str = "coach-1", **fields: Any
    ) -> upload_pb2.InitiateUploadResponse:
        fields = {"session_id": fields.pop("session_id", None) or self.jobs.add_session(subject)} | fields
        request: dict[str, Any] = {"content_type": "video/mp4", "content_length": len(body)} | fields
        return self.stub.InitiateUpload(
            upload_pb2.InitiateUploadRequest(**request), metadata=self.laptop.person(subject), timeout=30
        )

    def complete(self, job_id: str, *, subject: str = "coach-1") -> upload_pb2.CompleteUploadResponse:
        request = upload_pb2.CompleteUploadRequest(job_id=job_id)
        return self.stub.CompleteUpload(request, metadata=self.laptop.person(subject), timeout=30)

    def upload(self, body: bytes = VIDEO, **fields: Any) -> job_pb2.Job:
        """A job whose video is in S3 and verified."""
        begun = self.initiate(body, **fields)
        assert put(begun.presigned_url, body, begun.required_headers) == 200
        self.complete(begun.job_id)
        return self.jobs.jobs[begun.job_id]

    def put_directly(self, job_id: str, body: bytes, content_type: str = "video/mp4") -> None:
        """A PUT with the owner's keys, which no signature binds."""
        video = self.jobs.jobs[job_id].video
        self.s3.client().put_object(Bucket=video.s3_bucket, Key=video.s3_key, Body=body, ContentType=content_type)


Start = Callable[..., Client]


def put(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    return urllib3.request("PUT", url, body=body, headers=dict(headers), retries=False, timeout=30).status


def get(signed: upload_pb2.SignedRequest) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", signed.url, headers=dict(signed.headers), retries=False, timeout=30)
