"""Brings the video and takes the artifacts away, by signed requests; nothing here knows a credential.

What S3 refuses for good (404, 403, another ETag) is the video's fault. What may pass (5xx, a broken line) is tried
again with a fresh signature until the caller's patience ends.
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
from services import s3_errors
from services.analyzer.errors import BadInput, ServiceAway

CHUNK_BYTES = 1 << 18
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.3, 10.0

Sign = Callable[[], SignedRequest]


class _Passing(Exception):
    """Worth another try."""


class Digest:
    """Holds what is read against the SHA-256 of a video, or, where it came in parts, against that of their SHA-256s."""

    def __init__(self, video: VideoObject) -> None:
        self._video = video
        self._whole = hashlib.sha256()
        self._parts = hashlib.sha256()
        self._part = hashlib.sha256()
        self._left = video.part_bytes

    def update(self, chunk: bytes) -> None:
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

    def is_right(self) -> bool:
        """Whether all that was read is what was sent; what nobody gave a checksum of is."""
        if self._left < self._video.part_bytes:
            self._end_part()
        video = self._video
        whole = not video.sha256 or self._whole.hexdigest() == video.sha256.lower()
        return whole and (not video.parts_sha256 or self._parts.hexdigest() == video.parts_sha256.lower())


class Transfer:
    """Moves files between S3 and a folder. told() is called all along and may raise to stop."""

    def __init__(self, told: Callable[[], None], patience_seconds: float) -> None:
        self._told = told
        self._patience_seconds = patience_seconds
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=30), retries=False)

    def fetch(self, sign: Sign, to: Path, video: VideoObject, most_bytes: int) -> None:
        """Stream the video into a file. Raises BadInput where it is not there, is another or is too large."""
        expected = video.content_length
        if expected > most_bytes:
            raise BadInput("FILE_TOO_LARGE", f"The video has {expected} bytes; at most {most_bytes} are taken")
        self._persist(lambda: self._fetch(sign(), to, video, most_bytes), "downloaded")

    def put(self, sign: Sign, file: Path) -> None:
        """Store one file under its signed request."""
        self._persist(lambda: self._put(sign(), file), "stored")

    def _fetch(self, signed: SignedRequest, to: Path, video: VideoObject, most: int) -> None:
        expected = video.content_length or None
        response = self._open(signed)
        try:
            if response.status != HTTPStatus.OK:
                code = s3_errors.error_code(response.read(s3_errors.MAX_ERROR_BYTES))
                raise _refusal(response.status, code, "Failed to download video from S3")
            digest, size = Digest(video), 0
            with to.open("wb") as file:
                for chunk in response.stream(CHUNK_BYTES):
                    size += len(chunk)
                    if size > min(most, expected or most):
                        raise BadInput("DOWNLOAD_FAILED", "Failed to download video from S3: larger than was uploaded")
                    digest.update(chunk)
                    file.write(chunk)
                    self._told()
        finally:
            response.release_conn()
        if expected is not None and size != expected:
            raise _Passing(f"{size} of {expected} bytes came")
        if not digest.is_right():
            raise BadInput("DOWNLOAD_FAILED", "Failed to download video from S3: its SHA-256 is not the promised one")

    def _put(self, signed: SignedRequest, file: Path) -> None:
        with file.open("rb") as body:
            headers = {"Content-Length": str(file.stat().st_size), **_headers(signed)}
            response = self._http.request("PUT", signed.url, body=body, headers=headers, redirect=False)
        # 412: an earlier try stored it and its answer was lost; nobody else writes under this launch's prefix.
        if response.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PRECONDITION_FAILED):
            raise _Passing(f"{file.name}: {_phrase(response.status)}")
        self._told()

    def _open(self, signed: SignedRequest) -> urllib3.BaseHTTPResponse:
        return self._http.request("GET", signed.url, headers=_headers(signed), preload_content=False, redirect=False)

    def _persist(self, attempt: Callable[[], None], done: str) -> None:
        give_up_at, pause = time.monotonic() + self._patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                return attempt()
            except (_Passing, urllib3.exceptions.HTTPError) as error:
                if time.monotonic() + pause > give_up_at:
                    raise ServiceAway(f"S3 stayed away; not {done}: {error}") from error
            self._told()
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # so that S3 is not stormed by all pods at once
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _headers(signed: SignedRequest) -> Mapping[str, str]:
    """As signed; the host is the HTTP library's to say."""
    return {name: value for name, value in signed.headers.items() if name.lower() != "host"}


def _refusal(status: int, code: str, what: str) -> Exception:
    if 400 <= status < 500 and not s3_errors.is_transient(status, code):
        return BadInput("DOWNLOAD_FAILED", f"{what}: {_phrase(status)}")
    return _Passing(f"{what}: {_phrase(status)}")


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
