"""Preflight: checks that the object in S3 is the promised video, from the answer to HEAD and the first bytes.

A permanent problem is the object's: the job fails. A transient problem is S3's: the job stays as it is, and the client
calls again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from crease.jobs.v1.job_pb2 import VideoObject
from crease_client import s3_errors
from services import file_signatures

# Sent by clients and servers that do not know the type; the first bytes decide.
GENERIC_TYPES = ("", "application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True)
class ObservedObject:
    """An object as S3 described it. `status`: HTTP's, 0 without an answer. `error`: why S3 gave no description."""

    status: int
    # S3's error code; the answer to a HEAD has none.
    code: str = ""
    error: str = ""
    content_length: int = 0
    content_type: str = ""
    # Without quotes, as everywhere outside HTTP headers.
    etag: str = ""
    # Empty if the bucket has no versions.
    version_id: str = ""
    # Lower-case hex; empty if S3 stores none.
    sha256: str = ""
    # The SHA-256 over the SHA-256s of the uploaded parts, hex.
    parts_sha256: str = ""
    # The first bytes; None until they are read.
    head: bytes | None = None

    def with_head(self, head: bytes) -> Self:
        return replace(self, head=head)


@dataclass(frozen=True)
class Problem:
    """Why an upload cannot be completed."""

    code: str
    is_permanent: bool
    message: str


@dataclass(frozen=True)
class Facts:
    """What the rules compare."""

    observed: ObservedObject
    promised: VideoObject
    max_bytes: int


@dataclass(frozen=True)
class Rule:
    """`holds`: whether an object has the problem. `sentence`: a format of the facts and `format`, the file's format."""

    code: str
    is_permanent: bool
    holds: Callable[[Facts], bool]
    sentence: str


def _has_other_sha256(facts: Facts) -> bool:
    """False if either is unknown: the analyzer hashes what it downloads."""
    observed, promised = facts.observed.sha256, facts.promised.sha256.lower()
    return bool(observed and promised) and observed != promised


def _has_other_parts_sha256(facts: Facts) -> bool:
    observed, promised = facts.observed.parts_sha256, facts.promised.parts_sha256
    return bool(observed and promised) and observed != promised


def _is_forbidden(facts: Facts) -> bool:
    """A transient 403 exists: RequestTimeTooSkewed."""
    observed = facts.observed
    return observed.status == 403 and not s3_errors.is_transient(observed.status, observed.code)


def _has_other_format(facts: Facts) -> bool:
    head = facts.observed.head
    return head is not None and not file_signatures.is_video(head)


# The first rule that holds decides.
RULES: tuple[Rule, ...] = (
    Rule("VIDEO_MISSING", True, lambda facts: facts.observed.status == 404, "no video was uploaded"),
    Rule("VIDEO_FORBIDDEN", True, _is_forbidden, "S3 forbids reading the video"),
    Rule("S3_AWAY", False, lambda facts: facts.observed.status != 200, "S3 did not answer ({observed.error})"),
    Rule("VIDEO_EMPTY", True, lambda facts: facts.observed.content_length == 0, "the video is empty"),
    Rule(
        "VIDEO_TOO_LARGE",
        True,
        lambda facts: facts.observed.content_length > facts.max_bytes,
        "the video has {observed.content_length} bytes, at most {max_bytes} are accepted",
    ),
    Rule(
        "VIDEO_LENGTH_DIFFERS",
        True,
        lambda facts: facts.observed.content_length != facts.promised.content_length,
        "the video has {observed.content_length} bytes, {promised.content_length} were promised",
    ),
    Rule(
        "NOT_A_VIDEO",
        True,
        lambda facts: not _may_be_video(facts.observed.content_type),
        "the file is no video but {observed.content_type}",
    ),
    Rule(
        "VIDEO_CHECKSUM_DIFFERS",
        True,
        _has_other_sha256,
        "the video's SHA-256 is {observed.sha256}, {promised.sha256} was promised",
    ),
    Rule(
        "VIDEO_CHECKSUM_DIFFERS",
        True,
        _has_other_parts_sha256,
        "the parts' SHA-256s are not those of the parts that were sent",
    ),
    Rule("NOT_A_VIDEO", True, _has_other_format, "the file is no video but {format}"),
)


def check(observed: ObservedObject, promised: VideoObject, max_bytes: int) -> Problem | None:
    """The problem of an object; None if it is the promised video."""
    facts = Facts(observed, promised, max_bytes)
    for rule in RULES:
        if rule.holds(facts):
            file_format = file_signatures.describe(observed.head or b"")
            detail = rule.sentence.format(observed=observed, promised=promised, max_bytes=max_bytes, format=file_format)
            return Problem(rule.code, rule.is_permanent, f"Upload verification failed: {detail}")
    return None


def _may_be_video(content_type: str) -> bool:
    return content_type.startswith("video/") or content_type in GENERIC_TYPES
