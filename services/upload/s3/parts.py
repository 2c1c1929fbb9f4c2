"""How a long video is cut into parts, and how one compares what arrived with that: arithmetic, no S3."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from crease.jobs.v1.job_pb2 import VideoObject

MIB = 2**20
# S3 takes parts from 5 MiB and 10,000 of them.
SMALLEST_PART_BYTES, LARGEST_PART_BYTES = 8 * MIB, 64 * MIB
MOST_PARTS = 10_000
# So many answer to one page of S3's ListParts; beyond, the parts grow first, then their number.
PARTS_OF_A_PAGE = 1000


@dataclass(frozen=True)
class Arrived:
    """A part as S3 has it."""

    number: int
    content_length: int
    # Without its quotes.
    etag: str
    # Lower-case hex; empty where S3 has none on record.
    sha256: str


def part_bytes(content_length: int) -> int:
    """The length of every part but the last, in whole MiB."""
    wished = -(-content_length // PARTS_OF_A_PAGE)
    return max(SMALLEST_PART_BYTES, min(-(-wished // MIB) * MIB, LARGEST_PART_BYTES))


def count(video: VideoObject) -> int:
    """How many parts a video comes in; 0: in one PUT."""
    return -(-video.content_length // video.part_bytes) if video.part_bytes else 0


def length(video: VideoObject, number: int) -> int:
    """Bytes of a part."""
    return min(video.part_bytes, video.content_length - (number - 1) * video.part_bytes)


def missing(video: VideoObject, arrived: Sequence[Arrived]) -> list[int]:
    """The numbers of the parts that are not there, or not as long as planned."""
    there = {part.number for part in arrived if part.content_length == length(video, part.number)}
    return [number for number in range(1, count(video) + 1) if number not in there]


def sha256_of(sha256s: Sequence[str]) -> str:
    """The SHA-256 over the parts' SHA-256s, which S3 calls a composite checksum; empty where one is missing. Hex."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, sha256s))).hexdigest() if all(sha256s) else ""


def to_hex(checksum: str) -> str:
    """S3's base64 as hex; of a composite one, which ends in `-<parts>`, what stands before that."""
    return base64.b64decode(checksum.partition("-")[0]).hex()


def to_base64(sha256: str) -> str:
    """Hex as S3's base64."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
