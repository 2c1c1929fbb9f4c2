"""The arithmetic of multipart uploads: lengths, numbers and checksums of parts. No I/O."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from crease.jobs.v1.job_pb2 import VideoObject

MIB = 2**20
# S3 accepts parts from 5 MiB, and at most 10,000 of them.
MIN_PART_BYTES, MAX_PART_BYTES = 8 * MIB, 64 * MIB
MAX_PARTS_PER_UPLOAD = 10_000
# One page of S3's ListParts. Longer videos get larger parts first, then more of them.
LIST_PARTS_PAGE_SIZE = 1000


@dataclass(frozen=True)
class UploadedPart:
    """A part that S3 has stored."""

    number: int
    content_length: int
    # Without quotes.
    etag: str
    # Lower-case hex; empty if S3 stores none.
    sha256: str


def part_bytes(content_length: int) -> int:
    """The length of every part but the last, in whole MiB."""
    wished = -(-content_length // LIST_PARTS_PAGE_SIZE)
    return max(MIN_PART_BYTES, min(-(-wished // MIB) * MIB, MAX_PART_BYTES))


def count(video: VideoObject) -> int:
    """The number of parts of a video; 0: it is uploaded by one PUT."""
    return -(-video.content_length // video.part_bytes) if video.part_bytes else 0


def length(video: VideoObject, number: int) -> int:
    """Bytes of a part."""
    return min(video.part_bytes, video.content_length - (number - 1) * video.part_bytes)


def missing(video: VideoObject, arrived: Sequence[UploadedPart]) -> list[int]:
    """The numbers of the parts that have not arrived or have another length."""
    there = {part.number for part in arrived if part.content_length == length(video, part.number)}
    return [number for number in range(1, count(video) + 1) if number not in there]


def sha256_of(sha256s: Sequence[str]) -> str:
    """The composite checksum: SHA-256 over the parts' SHA-256s, hex; empty if one is missing."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, sha256s))).hexdigest() if all(sha256s) else ""


def to_hex(checksum: str) -> str:
    """Hex of S3's base64; the suffix `-<parts>` of a composite checksum is dropped."""
    return base64.b64decode(checksum.partition("-")[0]).hex()


def to_base64(sha256: str) -> str:
    """S3's base64 of hex."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
