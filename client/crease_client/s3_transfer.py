"""Transfers bytes to and from S3 by presigned URLs, with retries."""

import contextlib
import io
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import urllib3

from crease_client import s3_errors
from crease_client.errors import FileError, S3Rejection, S3Unavailable
from crease_client.s3_errors import describe_reply

TRIES = 5
FIRST_PAUSE_SECONDS = 1.0
CHUNK_BYTES = 2**18
# Read timeout: between two bytes, not for the whole transfer, which may take an hour on a slow network.
TIMEOUT = urllib3.Timeout(connect=10.0, read=120.0)
# The object exists: an earlier PUT of ours arrived and its reply was lost.
PRECONDITION_FAILED = 412

Progress = Callable[[int], None]


class TransferStopped(Exception):
    """S3Transfer.stop() was called while this transfer was running."""


class _FileWindow(io.RawIOBase):
    """A range of a file that reports how much of it was read; urllib3 reads it while it sends."""

    def __init__(self, file: BinaryIO, length: int, progress: Progress, stop: threading.Event) -> None:
        self._file = file
        self._length = self._left = length
        self._progress = progress
        self._stop = stop

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._stop.is_set():
            raise TransferStopped
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        self._progress(self._length - self._left)
        return chunk


class S3Transfer:
    """A pool of connections to S3. Its methods may be called from several threads at once."""

    def __init__(self, connections: int = 1) -> None:
        self._pool = urllib3.PoolManager(
            maxsize=connections, block=True, retries=False, timeout=TIMEOUT, blocksize=CHUNK_BYTES
        )
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stops every running PUT; each raises TransferStopped."""
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
        subject: str = "the video",
    ) -> None:
        """Sends `length` bytes of a file from `start` (by default all), with retries; `progress` gets the bytes sent.

        Raises S3Rejection, S3Unavailable, FileError, TransferStopped.
        """
        length = path.stat().st_size if length < 0 else length

        def send() -> urllib3.BaseHTTPResponse:
            with path.open("rb") as file:
                file.seek(start)
                body = _FileWindow(file, length, progress, self._stop)
                return self._pool.request("PUT", url, body=body, headers=dict(headers))

        reply = self._request_with_retries(send)
        if reply.status not in (200, PRECONDITION_FAILED):
            raise S3Rejection(subject, reply.status, reply.data)

    def fetch(self, method: str, url: str, headers: Mapping[str, str], path: Path) -> None:
        """Fetches into a file, which appears complete or not at all. Raises S3Rejection, S3Unavailable, FileError."""
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
            reply = self._request_with_retries(receive)
            if reply.status != 200:
                raise S3Rejection(path.name, reply.status, reply.data)
            draft.replace(path)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)

    def _request_with_retries(self, request: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        """Repeats a request while it fails transiently; returns the first other reply. Raises S3Unavailable."""
        failure = ""
        for tries in range(TRIES):
            if tries:
                # Jitter: parts that were throttled together must not come back together.
                self._stop.wait(FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1) * random.uniform(0.5, 1.0))  # noqa: S311
            try:
                reply = request()
            except urllib3.exceptions.HTTPError as error:
                failure = type(error).__name__
                continue
            if not s3_errors.is_transient(reply.status, s3_errors.error_code(reply.data)):
                return reply
            failure = describe_reply(reply.status, reply.data)
        raise S3Unavailable(f"S3 is unavailable after {TRIES} attempts ({failure}): try again later")
