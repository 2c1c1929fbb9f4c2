"""Bytes to and from S3, by URLs that are signed for one request each."""

import contextlib
import io
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import urllib3

from services.cli.trouble import AWAY, Trouble

TRIES = 4
FIRST_PAUSE_SECONDS = 1.0
CHUNK_BYTES = 2**18
# Between two bytes, not for the whole: a slow line may take an hour.
PATIENCE = urllib3.Timeout(connect=10.0, read=120.0)
# The object is there already: an earlier PUT of ours arrived and its answer was lost.
PRECONDITION_FAILED = 412

Progress = Callable[[int], None]


class _Counted(io.RawIOBase):
    """A file that tells how far it was read; urllib3 reads it while it sends."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._progress(self._file.tell())
        return chunk


def put(url: str, headers: Mapping[str, str], path: Path, progress: Progress = lambda done: None) -> None:
    """Sends a file, again where the line breaks; `progress` hears the bytes sent. Raises Trouble."""

    def send(pool: urllib3.PoolManager) -> urllib3.BaseHTTPResponse:
        with path.open("rb") as file:
            return pool.request("PUT", url, body=_Counted(file, progress), headers=dict(headers))

    reply = _insist(send)
    if reply.status not in (200, PRECONDITION_FAILED):
        raise Trouble(f"S3 refused the video: {refusal(reply.status, reply.data)}.")


def fetch(method: str, url: str, headers: Mapping[str, str], path: Path) -> None:
    """Fetches into a file, which is there whole or not at all. Raises Trouble."""
    draft = path.with_name(f".{path.name}.part")

    def receive(pool: urllib3.PoolManager) -> urllib3.BaseHTTPResponse:
        reply = pool.request(method, url, headers=dict(headers), preload_content=False)
        with contextlib.closing(reply):
            if reply.status != 200:
                reply.read()
                return reply
            with draft.open("wb") as file:
                for chunk in reply.stream(CHUNK_BYTES):
                    file.write(chunk)
        return reply

    try:
        reply = _insist(receive)
        if reply.status != 200:
            raise Trouble(f"S3 refused {path.name}: {refusal(reply.status, reply.data)}.")
        draft.replace(path)
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        draft.unlink(missing_ok=True)


def refusal(status: int, body: bytes) -> str:
    """What S3 said, as one phrase."""
    said = dict(re.findall(r"<(Code|Message)>([^<]*)</", body[:4096].decode(errors="replace")))
    return " ".join(filter(None, (str(status), said.get("Code", ""), said.get("Message", "").rstrip("."))))


def _insist(request: Callable[[urllib3.PoolManager], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
    """Makes a request until S3 answers with something that will not pass by itself."""
    said = ""
    with urllib3.PoolManager(retries=False, timeout=PATIENCE) as pool:
        for tries in range(TRIES):
            if tries:
                time.sleep(FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1))
            try:
                reply = request(pool)
            except urllib3.exceptions.HTTPError as error:
                said = type(error).__name__
                continue
            if reply.status < 500 and reply.status != 429:
                return reply
            said = refusal(reply.status, reply.data)
    raise Trouble(f"S3 does not answer ({said}): try again later.", AWAY)
