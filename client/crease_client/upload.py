"""Sends a video of any length over an unreliable network.

InitiateUpload ─┬─ one PUT ─────────────────────────────────────────────────────────────┬─▶ CompleteUpload
                └─ ListParts ─▶ per page: hash ─▶ SignParts ─▶ PUTs, several at once ───┘

The reply to InitiateUpload decides between the two. The same request_id resumes an upload: a part that has arrived is
not sent again, unless the file's content at its place has changed.
"""

import functools
import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from crease.upload.v1.upload_pb2 import (
    CompleteUploadRequest,
    CompleteUploadResponse,
    InitiateUploadRequest,
    InitiateUploadResponse,
    ListPartsRequest,
    Part,
    PartPlan,
    SignedRequest,
    SignPartsRequest,
)
from crease.upload.v1.upload_pb2_grpc import UploadServiceStub
from crease_client.errors import FileError, S3Rejection, S3Unavailable
from crease_client.s3_transfer import S3Transfer

PARALLEL = 4
# Parts that are hashed and signed together; the next page is hashed while this one is sent.
PARTS_PER_PAGE = 16
HASH_BYTES = 2**20
# How often an expired URL is renewed, or an upload that S3 lost is started again.
RENEWALS = 3
NOT_FOUND = 404

T = TypeVar("T")
# Gets the bytes sent and all bytes.
Progress = Callable[[int, int], None]
# Gets a sentence for the user.
Notify = Callable[[str], None]

# By the end of a file's name; the service checks the content.
CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".ts": "video/mp2t",
    ".mts": "video/mp2t",
    ".3gp": "video/3gpp",
    ".3g2": "video/3gpp2",
}


def ignore_progress(done: int, all_bytes: int) -> None:
    """The Progress of a caller that shows none."""


def ignore_sentence(sentence: str) -> None:
    """The Notify of a caller that shows none."""


def send(
    uploads: UploadServiceStub,
    path: Path,
    request: InitiateUploadRequest,
    progress: Progress = ignore_progress,
    notify: Notify = ignore_sentence,
    transfer: S3Transfer | None = None,
) -> CompleteUploadResponse:
    """Sends a file and completes the upload. The same request_id again resumes it.

    `transfer`: its stop() ends the upload with TransferStopped. Raises RpcError, S3Error, FileError.
    """
    transfer = transfer or S3Transfer(PARALLEL)
    request = _describe(path, request)
    initiated = uploads.InitiateUpload(request)
    sent: list[Part] = []
    if initiated.HasField("parts"):
        sent = _send_parts(uploads, transfer, path, initiated, request.content_length, progress, notify)
    else:
        _send_whole(uploads, transfer, path, request, initiated, progress, notify)
    return uploads.CompleteUpload(CompleteUploadRequest(job_id=initiated.job_id, parts=sent))


def hash_file(path: Path, progress: Progress = ignore_progress) -> str:
    """The SHA-256 of a file, in hex. Raises FileError."""
    digest, done = hashlib.sha256(), 0
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(HASH_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress(done, length)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _describe(path: Path, request: InitiateUploadRequest) -> InitiateUploadRequest:
    """The request with the facts of the file that it omits."""
    described = InitiateUploadRequest()
    described.CopyFrom(request)
    described.sha256 = request.sha256 or hash_file(path)
    described.content_length = request.content_length or path.stat().st_size
    described.request_id = request.request_id or str(uuid.uuid4())
    described.content_type = request.content_type or CONTENT_TYPES.get(path.suffix.lower(), "")
    if not described.content_type:
        raise FileError(f"{path} has no suffix of a video: set content_type")
    return described


def _send_whole(
    uploads: UploadServiceStub,
    transfer: S3Transfer,
    path: Path,
    request: InitiateUploadRequest,
    initiated: InitiateUploadResponse,
    progress: Progress,
    notify: Notify,
) -> None:
    def renew() -> InitiateUploadResponse:
        notify("The upload URL has expired: requesting a new one.")
        return uploads.InitiateUpload(request)

    def put(signed: InitiateUploadResponse) -> None:
        report = functools.partial(_report, progress, request.content_length)
        transfer.put(signed.presigned_url, signed.required_headers, path, report)

    _put_with_renewals(put, initiated, renew)


def _report(progress: Progress, length: int, done: int) -> None:
    progress(done, length)


def _put_with_renewals(put: Callable[[T], None], signed: T, renew: Callable[[], T]) -> None:
    """Puts by a signed request; renews the request when it has expired."""
    for _ in range(RENEWALS):
        try:
            put(signed)
        except S3Rejection as rejection:
            if not rejection.is_expired:
                raise
            signed = renew()
        else:
            return
    put(signed)


class _MultipartUploadLost(Exception):
    """S3 no longer knows the multipart upload."""


def _send_parts(
    uploads: UploadServiceStub,
    transfer: S3Transfer,
    path: Path,
    initiated: InitiateUploadResponse,
    length: int,
    progress: Progress,
    notify: Notify,
) -> list[Part]:
    for restarts in range(RENEWALS + 1):
        arrived = uploads.ListParts(ListPartsRequest(job_id=initiated.job_id)).parts
        if arrived and not restarts:
            notify(f"Resuming: {len(arrived)} of {initiated.parts.part_count} parts have arrived before.")
        sender = _PartSender(uploads, transfer, path, initiated.job_id, initiated.parts, length, progress, notify)
        try:
            return sender.send({part.part_number: part.sha256 for part in arrived})
        except _MultipartUploadLost:
            notify("S3 has lost the parts that arrived: sending them again.")
    raise S3Unavailable(f"S3 lost the parts {RENEWALS + 1} times: try again later")


class _PartSender:
    """Sends the parts of one file, several at once."""

    def __init__(
        self,
        uploads: UploadServiceStub,
        transfer: S3Transfer,
        path: Path,
        job_id: str,
        plan: PartPlan,
        length: int,
        progress: Progress,
        notify: Notify,
    ) -> None:
        self._uploads = uploads
        self._transfer = transfer
        self._path = path
        self._job_id = job_id
        self._plan = plan
        self._length = length
        self._progress = progress
        self._notify = notify
        self._lock = threading.Lock()
        # part number: bytes sent
        self._sent: dict[int, int] = {}

    def send(self, arrived: Mapping[int, str]) -> list[Part]:
        """Sends the parts that are missing from `arrived` (part number: SHA-256) or differ; returns all parts."""
        parts: list[Part] = []
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="part") as pool:
            running: set[Future[None]] = set()
            try:
                for page in self._hash_pages():
                    parts += page
                    missing = [part for part in page if arrived.get(part.part_number) != part.sha256]
                    for part in page:
                        if part not in missing:
                            self._count(part.part_number, self._range(part.part_number)[1])
                    running = self._wait(running, PARALLEL)
                    running |= {pool.submit(self._put, part, put) for part, put in self._sign(missing)}
                self._wait(running, 0)
            except BaseException:
                # Also on Ctrl-C: stop the running PUTs; the next call sends these parts.
                self._transfer.stop()
                pool.shutdown(cancel_futures=True)
                raise
        return parts

    def _hash_pages(self) -> Iterator[list[Part]]:
        """All parts with their SHA-256, in order, one page at a time."""
        with self._path.open("rb") as file:
            for first in range(1, self._plan.part_count + 1, PARTS_PER_PAGE):
                numbers = range(first, min(first + PARTS_PER_PAGE, self._plan.part_count + 1))
                yield [Part(part_number=number, sha256=self._hash(file.read, number)) for number in numbers]

    def _hash(self, read: Callable[[int], bytes], number: int) -> str:
        digest, left = hashlib.sha256(), self._range(number)[1]
        while left and (chunk := read(min(left, HASH_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if left:
            raise FileError(f"{self._path} became shorter during the upload: send it again")
        return digest.hexdigest()

    def _range(self, number: int) -> tuple[int, int]:
        """Offset and length of a part in the file, in bytes."""
        start = (number - 1) * self._plan.part_bytes
        return start, min(self._plan.part_bytes, self._length - start)

    def _sign(self, parts: list[Part]) -> list[tuple[Part, SignedRequest]]:
        if not parts:
            return []
        request = SignPartsRequest(job_id=self._job_id, parts=parts)
        return list(zip(parts, self._uploads.SignParts(request).puts, strict=True))

    def _put(self, part: Part, signed: SignedRequest) -> None:
        number = part.part_number
        start, length = self._range(number)

        def put(signed: SignedRequest) -> None:
            report, subject = functools.partial(self._count, number), f"part {number} of the video"
            self._transfer.put(
                signed.url, signed.headers, self._path, report, start=start, length=length, subject=subject
            )

        def renew() -> SignedRequest:
            self._notify(f"The URL of part {number} has expired: requesting a new one.")
            return self._sign([part])[0][1]

        try:
            _put_with_renewals(put, signed, renew)
        except S3Rejection as rejection:
            if rejection.status == NOT_FOUND:
                raise _MultipartUploadLost from None
            raise

    def _count(self, number: int, done: int) -> None:
        with self._lock:
            self._sent[number] = done
            self._progress(sum(self._sent.values()), self._length)

    def _wait(self, running: set[Future[None]], most: int) -> set[Future[None]]:
        """Waits until at most `most` PUTs are running. Raises the first error of one that ended."""
        while len(running) > most:
            done, running = wait(running, timeout=0.1, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        return running
