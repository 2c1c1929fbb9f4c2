"""Downloads the video and uploads the artifacts by signed requests; this module holds no credentials.

A definite rejection by S3 (404, 403, another ETag) is the video's fault. A transient error (5xx, a broken connection)
is retried with a new signature until the caller's time limit.
"""

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import urllib3

from crease.jobs.v1.job_pb2 import VideoObject
from crease.upload.v1.upload_pb2 import SignedRequest
from crease_client import s3_errors
from services.analyzer.errors import BadInput, ServiceUnavailable

CHUNK_BYTES = 1 << 18
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.3, 10.0

Sign = Callable[[], SignedRequest]


class _TransientError(Exception):
    """A failure after which a retry may succeed."""


class Digest:
    """Compares a download with the video's SHA-256; of a multipart upload, with the SHA-256 of its parts' digests."""

    def __init__(self, video: VideoObject) -> None:
        self._video = video
        self._whole = hashlib.sha256()
        self._parts = hashlib.sha256()
        self._part = hashlib.sha256()
        self._left = video.part_bytes

    def update(self, chunk: bytes) -> None:
        """Add the next bytes of the file."""
        if self._video.sha256:
            self._whole.update(chunk)
        while self._video.parts_sha256 and chunk:
            piece, chunk = chunk[: self._left], chunk[self._left :]
            self._part.update(piece)
            self._left -= len(piece)
            if not self._left:
                self._end_part()

    def _end_part(self) -> None:
        self._parts.update(self._part.digest())
        self._part, self._left = hashlib.sha256(), self._video.part_bytes

    def matches(self) -> bool:
        """Whether the bytes so far have the declared checksum; true if the client declared none."""
        if self._left < self._video.part_bytes:
            self._end_part()
        video = self._video
        whole = not video.sha256 or self._whole.hexdigest() == video.sha256.lower()
        return whole and (not video.parts_sha256 or self._parts.hexdigest() == video.parts_sha256.lower())


class Transfer:
    """Moves files between S3 and a folder. It calls on_progress() regularly, which may raise to stop the transfer."""

    def __init__(self, on_progress: Callable[[], None], patience_seconds: float) -> None:
        self._on_progress = on_progress
        self._patience_seconds = patience_seconds
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=30), retries=False)

    def download(self, sign: Sign, to: Path, video: VideoObject, max_bytes: int) -> None:
        """Stream the video into a file. Raises BadInput if the object is missing, differs or is too large."""
        expected = video.content_length
        if expected > max_bytes:
            raise BadInput("FILE_TOO_LARGE", f"The video has {expected} bytes; the limit is {max_bytes}")
        self._retry(lambda: self._download(sign(), to, video, max_bytes), "download of the video")

    def upload(self, sign: Sign, file: Path) -> None:
        """Store one file by its signed request."""
        self._retry(lambda: self._upload(sign(), file), f"upload of {file.name}")

    def _download(self, signed: SignedRequest, to: Path, video: VideoObject, max_bytes: int) -> None:
        expected = video.content_length or None
        response = self._open(signed)
        try:
            if response.status != HTTPStatus.OK:
                code = s3_errors.error_code(response.read(s3_errors.MAX_ERROR_BYTES))
                raise _classify_status(response.status, code, "Failed to download video from S3")
            digest, size = Digest(video), 0
            with to.open("wb") as file:
                for chunk in response.stream(CHUNK_BYTES):
                    size += len(chunk)
                    if size > min(max_bytes, expected or max_bytes):
                        raise BadInput("DOWNLOAD_FAILED", "Failed to download video from S3: larger than was uploaded")
                    digest.update(chunk)
                    file.write(chunk)
                    self._on_progress()
        finally:
            response.release_conn()
        if expected is not None and size != expected:
            raise _TransientError(f"S3 sent {size} of {expected} bytes")
        if not digest.matches():
            message = "Failed to download video from S3: its SHA-256 differs from the declared one"
            raise BadInput("DOWNLOAD_FAILED", message)

    def _upload(self, signed: SignedRequest, file: Path) -> None:
        with file.open("rb") as body:
            headers = {"Content-Length": str(file.stat().st_size), **_headers(signed)}
            response = self._http.request("PUT", signed.url, body=body, headers=headers, redirect=False)
        # 412: an earlier attempt stored the file and its answer was lost; only this launch writes under its prefix.
        if response.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PRECONDITION_FAILED):
            raise _TransientError(f"{file.name}: {_describe_status(response.status)}")
        self._on_progress()

    def _open(self, signed: SignedRequest) -> urllib3.BaseHTTPResponse:
        return self._http.request("GET", signed.url, headers=_headers(signed), preload_content=False, redirect=False)

    def _retry(self, attempt: Callable[[], None], name: str) -> None:
        """Repeat the attempt after transient errors until patience_seconds have passed; `name` is for the message."""
        deadline, pause = time.monotonic() + self._patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                return attempt()
            except (_TransientError, urllib3.exceptions.HTTPError) as error:
                if time.monotonic() + pause > deadline:
                    raise ServiceUnavailable(f"S3 was unavailable; the {name} failed: {error}") from error
            self._on_progress()
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the load of many pods on S3
            pause = min(2 * pause, MAX_PAUSE_SECONDS)


def _headers(signed: SignedRequest) -> Mapping[str, str]:
    """The signed headers except the host, which the HTTP library sets."""
    return {name: value for name, value in signed.headers.items() if name.lower() != "host"}


def _classify_status(status: int, code: str, failure: str) -> Exception:
    """BadInput for a definite rejection, else a transient error. code: S3's; failure: begins the message."""
    if 400 <= status < 500 and not s3_errors.is_transient(status, code):
        return BadInput("DOWNLOAD_FAILED", f"{failure}: {_describe_status(status)}")
    return _TransientError(f"{failure}: {_describe_status(status)}")


def _describe_status(status: int) -> str:

    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
