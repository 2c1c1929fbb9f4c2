"""Sends a video, however long and however bad the line. Of use without the rest of `crease`: it shows nothing.

InitiateUpload ─┬─ one PUT ─────────────────────────────────────────────────────────────┬─▶ CompleteUpload
                └─ ListParts ─▶ per page: hash ─▶ SignParts ─▶ PUTs, several at once ───┘

The same request_id again goes on where it stood: what has arrived, and is still what the file holds, is not sent again.
"""

import functools
import hashlib
import threading
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
from services.cli.api.client import Services
from services.cli.api.s3_transfer import Line, Refused
from services.cli.errors import Trouble

PARALLEL = 4
# Parts that are hashed and signed in one go; while they are sent the next page is hashed.
PAGE = 16
HASH_BYTES = 2**20
# S3 may need so long to put parts together.
ASSEMBLY_SECONDS = 150.0
# How often a URL that has expired, or an upload that S3 has lost, is begun anew before we give up.
FRESH_STARTS = 3
NOT_FOUND = 404

T = TypeVar("T")
# Hears bytes that have arrived, and bytes in all.
Progress = Callable[[int, int], None]
# Hears a sentence for the user.
Say = Callable[[str], None]


def send(
    services: Services,
    path: Path,
    asked: InitiateUploadRequest,
    progress: Progress = lambda done, all: None,
    say: Say = lambda sentence: None,
) -> CompleteUploadResponse:
    """Sends a file as `asked` and completes the upload. Raises Trouble; the same call again goes on."""
    begun = services.call(services.uploads.InitiateUpload, asked)
    sent: list[Part] = []
    if begun.HasField("parts"):
        sent = _send_parts(services, path, begun, asked.content_length, progress, say)
    else:
        _send_whole(services, path, asked, begun, progress, say)
    complete = CompleteUploadRequest(job_id=begun.job_id, parts=sent)
    patience = {"seconds": ASSEMBLY_SECONDS, "patience_seconds": ASSEMBLY_SECONDS} if sent else {}
    return services.call(services.uploads.CompleteUpload, complete, **patience)


def _send_whole(
    services: Services,
    path: Path,
    asked: InitiateUploadRequest,
    begun: InitiateUploadResponse,
    progress: Progress,
    say: Say,
) -> None:
    def renew() -> InitiateUploadResponse:
        say("The upload URL has expired; a new one was asked for.")
        return services.call(services.uploads.InitiateUpload, asked)

    def put(signed: InitiateUploadResponse) -> None:
        told = functools.partial(_told, progress, asked.content_length)
        Line().put(signed.presigned_url, signed.required_headers, path, told)

    _put_renewed(put, begun, renew)


def _told(progress: Progress, length: int, done: int) -> None:
    progress(done, length)


def _put_renewed(put: Callable[[T], None], signed: T, renew: Callable[[], T]) -> None:
    """Puts by what was signed, and by what is signed anew where that has expired."""
    for _ in range(FRESH_STARTS):
        try:
            put(signed)
        except Refused as refused:
            if not refused.is_expired:
                raise
            signed = renew()
        else:
            return
    put(signed)


class _Lost(Exception):
    """S3 knows nothing of the upload any more."""


def _send_parts(
    services: Services, path: Path, begun: InitiateUploadResponse, length: int, progress: Progress, say: Say
) -> list[Part]:
    for fresh in range(FRESH_STARTS + 1):
        there = services.call(services.uploads.ListParts, ListPartsRequest(job_id=begun.job_id)).parts
        if there and not fresh:
            say(f"{len(there)} of {begun.parts.part_count} parts have arrived before; going on from there.")
        sending = _Sending(services, path, begun.job_id, begun.parts, length, progress, say)
        try:
            return sending.run({part.part_number: part.sha256 for part in there})
        except _Lost:
            say("S3 has lost what had arrived; sending it again.")
    raise Trouble("S3 loses what is sent: try again later.")


class _Sending:
    """The parts of one file on their way."""

    def __init__(
        self,
        services: Services,
        path: Path,
        job_id: str,
        plan: PartPlan,
        length: int,
        progress: Progress,
        say: Say,
    ) -> None:
        self._services = services
        self._path = path
        self._job_id = job_id
        self._plan = plan
        self._length = length
        self._progress = progress
        self._say = say
        self._line = Line(PARALLEL)
        self._lock = threading.Lock()
        # part number: bytes that have been sent
        self._sent: dict[int, int] = {}

    def run(self, there: Mapping[int, str]) -> list[Part]:
        """Sends what is not `there` (part number: SHA-256) as the file holds it. All parts, as sent."""
        parts: list[Part] = []
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="part") as pool:
            underway: set[Future[None]] = set()
            try:
                for page in self._pages():
                    parts += page
                    missing = [part for part in page if there.get(part.part_number) != part.sha256]
                    for part in page:
                        if part not in missing:
                            self._count(part.part_number, self._window(part.part_number)[1])
                    underway = self._settle(underway, PARALLEL)
                    underway |= {pool.submit(self._put, part, put) for part, put in self._signed(missing)}
                self._settle(underway, 0)
            except BaseException:
                # Ctrl-C too: the parts that are underway are broken off, and sent by the next call.
                self._line.stop()
                pool.shutdown(cancel_futures=True)
                raise
        return parts

    def _pages(self) -> Iterator[list[Part]]:
        """Every part with its SHA-256, a page at a time, in order."""
        with self._path.open("rb") as file:
            for first in range(1, self._plan.part_count + 1, PAGE):
                numbers = range(first, min(first + PAGE, self._plan.part_count + 1))
                yield [Part(part_number=number, sha256=self._hash(file.read, number)) for number in numbers]

    def _hash(self, read: Callable[[int], bytes], number: int) -> str:
        digest, left = hashlib.sha256(), self._window(number)[1]
        while left and (chunk := read(min(left, HASH_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if left:
            raise Trouble(f"{self._path} became shorter while it was sent.")
        return digest.hexdigest()

    def _window(self, number: int) -> tuple[int, int]:
        """Where a part starts in the file, and its length."""
        start = (number - 1) * self._plan.part_bytes
        return start, min(self._plan.part_bytes, self._length - start)

    def _signed(self, parts: list[Part]) -> list[tuple[Part, SignedRequest]]:
        if not parts:
            return []
        request = SignPartsRequest(job_id=self._job_id, parts=parts)
        return list(zip(parts, self._services.call(self._services.uploads.SignParts, request).puts, strict=True))

    def _put(self, part: Part, signed: SignedRequest) -> None:
        number = part.part_number
        start, length = self._window(number)

        def put(signed: SignedRequest) -> None:
            told, what = functools.partial(self._count, number), f"part {number} of the video"
            self._line.put(signed.url, signed.headers, self._path, told, start=start, length=length, what=what)

        def renew() -> SignedRequest:
            self._say(f"The URL of part {number} has expired; a new one was asked for.")
            return self._signed([part])[0][1]

        try:
            _put_renewed(put, signed, renew)
        except Refused as refused:
            if refused.status == NOT_FOUND:
                raise _Lost from None
            raise

    def _count(self, number: int, done: int) -> None:
        with self._lock:
            self._sent[number] = done
            self._progress(sum(self._sent.values()), self._length)

    def _settle(self, underway: set[Future[None]], most: int) -> set[Future[None]]:
        """Waits until no more than `most` are underway. Raises what one of them raised."""
        while len(underway) > most:
            done, underway = wait(underway, timeout=0.1, return_when=FIRST_EXCEPTION)
            for one in done:
                one.result()
        return underway
