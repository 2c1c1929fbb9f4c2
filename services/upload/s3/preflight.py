"""Whether the object in S3 is the promised video: a pure judgement of what S3 said of it and of its first bytes.

A definite fault is the object's: asking again changes nothing, so the job fails. A passing fault is S3's or ours:
nothing is known of the object, so nothing changes and the client calls again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from crease.jobs.v1.job_pb2 import VideoObject
from services import file_signatures, s3_errors

# What clients and servers say that don't know better; the first bytes tell.
GENERIC_TYPES = ("", "application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True)
class Seen:
    """What S3 said. `status` is HTTP's, 0 where there was no answer; `trouble` says why in a few words."""

    status: int
    # S3's error code; the answer to a HEAD has none.
    code: str = ""
    trouble: str = ""
    content_length: int = 0
    content_type: str = ""
    # Without its quotes, as everywhere outside HTTP headers.
    etag: str = ""
    # Empty where the bucket has no versions.
    version_id: str = ""
    # Lower-case hex; empty where S3 has none on record.
    sha256: str = ""
    # The same over the SHA-256s of the parts that it came in.
    parts_sha256: str = ""
    # The first bytes; None before they were read.
    head: bytes | None = None

    def with_head(self, head: bytes) -> Self:
        return replace(self, head=head)


@dataclass(frozen=True)
class Finding:
    """What is wrong with an upload."""

    code: str
    is_definite: bool
    message: str


Rule = Callable[[Seen, VideoObject, int], bool]

# The first row that holds decides. `seen`, `promised` and `most` (bytes) are at hand in rules and sentences.
TABLE: tuple[tuple[str, bool, Rule, str], ...] = (
    # code, is it definite, when, sentence
    ("VIDEO_MISSING", True, lambda seen, promised, most: seen.status == 404, "no video was uploaded"),
    (
        "VIDEO_FORBIDDEN",
        True,
        lambda seen, promised, most: seen.status == 403 and not s3_errors.is_transient(seen.status, seen.code),
        "S3 forbids reading the video",
    ),
    ("S3_AWAY", False, lambda seen, promised, most: seen.status != 200, "S3 could not be asked ({seen.trouble})"),
    ("VIDEO_EMPTY", True, lambda seen, promised, most: seen.content_length == 0, "the video is empty"),
    (
        "VIDEO_TOO_LARGE",
        True,
        lambda seen, promised, most: seen.content_length > most,
        "the video has {seen.content_length} bytes, at most {most} are taken",
    ),
    (
        "VIDEO_LENGTH_DIFFERS",
        True,
        lambda seen, promised, most: seen.content_length != promised.content_length,
        "the video has {seen.content_length} bytes, {promised.content_length} were promised",
    ),
    (
        "NOT_A_VIDEO",
        True,
        lambda seen, promised, most: not _may_be_video(seen.content_type),
        "the file is no video but {seen.content_type}",
    ),
    (
        # None on record is no difference: the analyzer hashes what it downloads.
        "VIDEO_CHECKSUM_DIFFERS",
        True,
        lambda seen, promised, most: bool(seen.sha256 and promised.sha256) and seen.sha256 != promised.sha256.lower(),
        "the video's SHA-256 is {seen.sha256}, {promised.sha256} was promised",
    ),
    (
        "VIDEO_CHECKSUM_DIFFERS",
        True,
        lambda seen, promised, most: (
            bool(seen.parts_sha256 and promised.parts_sha256) and seen.parts_sha256 != promised.parts_sha256
        ),
        "the parts' SHA-256s are not those of the parts that were sent",
    ),
    (
        "NOT_A_VIDEO",
        True,
        lambda seen, promised, most: seen.head is not None and not file_signatures.is_video(seen.head),
        "the file is no video but {inside}",
    ),
)


def judge(seen: Seen, promised: VideoObject, most: int) -> Finding | None:
    """What is wrong, or None for the promised video. `most`: bytes."""
    for code, is_definite, holds, sentence in TABLE:
        if holds(seen, promised, most):
            inside = file_signatures.describe(seen.head or b"")
            detail = sentence.format(seen=seen, promised=promised, most=most, inside=inside)
            return Finding(code, is_definite, f"Upload verification failed: {detail}")
    return None


def _may_be_video(content_type: str) -> bool:
    return content_type.startswith("video/") or content_type in GENERIC_TYPES
