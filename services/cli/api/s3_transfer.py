"""Bytes to and from S3, by URLs that are signed for one request each."""

import contextlib
import io
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import urllib3

from services import s3_errors
from services.cli.errors import AWAY, Trouble

TRIES = 5
FIRST_PAUSE_SECONDS = 1.0
CHUNK_BYTES = 2**18
# Between two bytes, not for the whole: a slow line may take an hour.
PATIENCE = urllib3.Timeout(connect=10.0, read=120.0)
# The object is there already: an earlier PUT of ours arrived and its answer was lost.
PRECONDITION_FAILED = 412

Progress = Callable[[int], None]


class Refused(Trouble):
    """S3 said no, for good."""

    def __init__(self, what: str, status: int, body: bytes) -> None:
        super().__init__(f"S3 refused {what}: {refusal(status, body)}.")
        self.status = status
        # AWS says AccessDenied with this message, others ExpiredToken or RequestExpired.
        self.is_expired = status in (400, 403) and b"expired" in body.lower()


class Stopped(Exception):
    """Somebody does not want the rest to be sent."""


class _Window(io.RawIOBase):
    """A piece of a file that tells how far it was read; urllib3 reads it while it sends."""

    def __init__(self, file: BinaryIO, length: int, progress: Progress, stop: threading.Event) -> None:
        self._file = file
        self._length = self._left = length
        self._progress = progress
        self._stop = stop

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._stop.is_set():
            raise Stopped
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        self._progress(self._length - self._left)
        return chunk


class Line:
    """Connections to S3 that are used again; from several threads at once."""

    def __init__(self, connections: int = 1) -> None:
        self._pool = urllib3.PoolManager(
            maxsize=connections, block=True, retries=False, timeout=PATIENCE, blocksize=CHUNK_BYTES
        )
        self._stop = threading.Event()

    def stop(self) -> None:
        """Breaks off what is being sent."""
        self._stop.set()

    def put(
        self,
        url: str,
        headers: Mapping[str, str],
        path: Path,
        progress: Progress = lambda done: None,
        *,
        start: int = 0,
        length: int = -1,
        what: str = "the video",
    ) -> None:
        """Sends a file, or `length` bytes of it from `start`, again where the line breaks; `progress` hears the bytes
        sent.

        Raises Refused, Trouble, Stopped.
        """
        length = path.stat().st_size if length < 0 else length

        def send() -> urllib3.BaseHTTPResponse:
            with path.open("rb") as file:
                file.seek(start)
                body = _Window(file, length, progress, self._stop)
                return self._pool.request("PUT", url, body=body, headers=dict(headers))

        reply = self._insist(send)
        if reply.status not in (200, PRECONDITION_FAILED):
            raise Refused(what, reply.status, reply.data)

    def fetch(self, method: str, url: str, headers: Mapping[str, str], path: Path) -> None:
        """Fetches into a file, which is there whole or not at all. Raises Trouble."""
        draft = path.with_name(f".{path.name}.part")

        def receive() -> urllib3.BaseHTTPResponse:
            reply = self._pool.request(method, url, headers=dict(headers), preload_content=False)
            with contextlib.closing(reply):
                if reply.status != 200:
                    reply.read(cache_content=True)
                    return reply
                with draft.open("wb") as file:
                    for chunk in reply.stream(CHUNK_BYTES):
                        file.write(chunk)
            return reply

        try:
            reply = self._insist(receive)
            if reply.status != 200:
                raise Refused(path.name, reply.status, reply.data)
            draft.replace(path)
        except OSError as error:
            raise Trouble(f"{path} cannot be written: {error.strerror}.") from None
        finally:
            draft.unlink(missing_ok=True)

    def _insist(self, request: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        """Makes a request until S3 answers with something that will not pass by itself."""
        said = ""
        for tries in range(TRIES):
            if tries:
                # Each a little differently, so that parts that were throttled together don't come back together.
                self._stop.wait(FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1) * random.uniform(0.5, 1.0))  # noqa: S311
            try:
                reply = request()
            except urllib3.exceptions.HTTPError as error:
                said = type(error).__name__
                continue
            if not s3_errors.is_transient(reply.status, s3_errors.error_code(reply.data)):
                return reply
            said = refusal(reply.status, reply.data)
        raise Trouble(f"S3 does not answer ({said}): try again later.", AWAY)


def refusal(status: int, body: bytes) -> str:
    """What S3 said, as one phrase."""
    said = s3_errors.error_fields(body)
    return " ".join(filter(None, (str(status), said.get("Code", ""), said.get("Message", "").rstrip("."))))
