"""A download is compared with the declared checksum."""

import hashlib
from typing import Any

import pytest

from crease.jobs.v1.job_pb2 import VideoObject
from services.analyzer.worker.transfer import Digest

BODY = bytes(range(256)) * 10
PART_BYTES = 1000


def composite(body: bytes) -> str:
    """S3's checksum of a multipart upload (Amazon S3 user guide, "Checking object integrity": composite checksums)."""
    pieces = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)]
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()


CHECKSUMS: dict[str, dict[str, Any]] = {
    "whole": {"sha256": hashlib.sha256(BODY).hexdigest()},
    "parts": {"part_bytes": PART_BYTES, "parts_sha256": composite(BODY)},
    "exact parts": {"part_bytes": len(BODY) // 2, "parts_sha256": ""},
    "nothing": {},
}
CHECKSUMS["exact parts"]["parts_sha256"] = hashlib.sha256(
    b"".join(hashlib.sha256(half).digest() for half in (BODY[: len(BODY) // 2], BODY[len(BODY) // 2 :]))
).hexdigest()


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 4096])
@pytest.mark.parametrize("declared", CHECKSUMS)
def test_the_right_bytes_are_right_and_others_are_not(declared: str, chunk_bytes: int) -> None:
    """The chunk size does not matter; a video without a checksum always matches."""
    for body in (BODY, BODY[:-1] + b"x", b"x" + BODY[1:]):
        digest = Digest(VideoObject(**CHECKSUMS[declared]))
        for at in range(0, len(body), chunk_bytes):
            digest.update(body[at : at + chunk_bytes])
        assert digest.matches() is (body == BODY or declared == "nothing")
