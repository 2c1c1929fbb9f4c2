"""What is downloaded is held against what was sent."""

import hashlib
from typing import Any

import pytest

from crease.jobs.v1.job_pb2 import VideoObject
from services.analyzer.worker.transfer import Digest

BODY = bytes(range(256)) * 10
PART_BYTES = 1000


def composite(body: bytes) -> str:
    """As S3 says of a video in parts (Amazon S3 user guide, "Checking object integrity": composite checksums)."""
    pieces = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)]
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()


PROMISES: dict[str, dict[str, Any]] = {
    "whole": {"sha256": hashlib.sha256(BODY).hexdigest()},
    "parts": {"part_bytes": PART_BYTES, "parts_sha256": composite(BODY)},
    "exact parts": {"part_bytes": len(BODY) // 2, "parts_sha256": ""},
    "nothing": {},
}
PROMISES["exact parts"]["parts_sha256"] = hashlib.sha256(
    b"".join(hashlib.sha256(half).digest() for half in (BODY[: len(BODY) // 2], BODY[len(BODY) // 2 :]))
).hexdigest()


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 4096])
@pytest.mark.parametrize("promise", PROMISES)
def test_the_right_bytes_are_right_and_others_are_not(promise: str, chunk_bytes: int) -> None:
    """However they come in; a video without a checksum is held to none."""
    for body in (BODY, BODY[:-1] + b"x", b"x" + BODY[1:]):
        digest = Digest(VideoObject(**PROMISES[promise]))
        for at in range(0, len(body), chunk_bytes):
            digest.update(body[at : at + chunk_bytes])
        assert digest.matches() is (body == BODY or promise == "nothing")
