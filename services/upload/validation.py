"""Checks requests; InvalidArgument names the first wrong field."""

import hashlib
import re
from collections.abc import Sequence
from uuid import UUID

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services.errors import InvalidArgument
from services.naming import ARTIFACT_NAME
from services.rules.limits import (
    CAPTURE_FPS_RULE,
    DEFAULT_SAMPLE_FPS,
    IN_PICTURE_RULE,
    MAX_ARTIFACT_BYTES,
    MAX_ARTIFACTS,
    MAX_SAMPLE_FPS,
    MEDIA_TYPE,
    MIN_SAMPLE_FPS,
    is_capture_fps,
    is_in_picture,
)

VIDEO_TYPES = (
    "video/mp4",
    "video/quicktime",
    "video/x-matroska",
    "video/webm",
    "video/x-msvideo",
    "video/mpeg",
    "video/mp2t",
    "video/3gpp",
    "video/3gpp2",
    "video/x-m4v",
)
SHA256 = re.compile(r"[0-9a-fA-F]{64}")

# The most parts in one SignParts.
MAX_PARTS = 100
# The most parts in one page of ListParts, as in S3's own.
MAX_LISTED = 1000


def check_upload(request: upload_pb2.InitiateUploadRequest, max_content_length: int) -> None:
    """Raises InvalidArgument."""
    if request.content_type not in VIDEO_TYPES:
        raise InvalidArgument("content_type", f"must be one of {', '.join(VIDEO_TYPES)}")
    if not 1 <= request.content_length <= max_content_length:
        raise InvalidArgument("content_length", f"must be 1 to {max_content_length} bytes")
    if not 0 <= request.sample_fps <= MAX_SAMPLE_FPS:
        raise InvalidArgument(
            "sample_fps", f"must be {MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS}, or 0 for {DEFAULT_SAMPLE_FPS}"
        )
    if request.sha256 and not SHA256.fullmatch(request.sha256):
        raise InvalidArgument("sha256", "must be 64 hex digits, or empty")
    if request.request_id and not _is_uuid(request.request_id):
        raise InvalidArgument("request_id", "must be a UUID, or empty")
    if request.accelerator not in job_pb2.Accelerator.values():
        raise InvalidArgument("accelerator", "must be AUTO, GPU or CPU")
    if not is_capture_fps(request.capture_fps):
        raise InvalidArgument("capture_fps", CAPTURE_FPS_RULE)
    box = request.athlete_box
    if request.HasField("athlete_box") and not is_in_picture(box.left, box.top, box.width, box.height):
        raise InvalidArgument("athlete_box", IN_PICTURE_RULE)


def check_parts(requested: Sequence[upload_pb2.Part], count: int) -> None:
    """`count`: how many parts the video has. Raises InvalidArgument."""
    if not 1 <= len(requested) <= MAX_PARTS:
        raise InvalidArgument("parts", f"must be 1 to {MAX_PARTS}")
    for index, part in enumerate(requested):
        if not 1 <= part.part_number <= count:
            raise InvalidArgument(f"parts[{index}].part_number", f"must be 1 to {count}")
        if not SHA256.fullmatch(part.sha256):
            raise InvalidArgument(f"parts[{index}].sha256", "must be 64 hex digits")


def page_bounds(request: upload_pb2.ListPartsRequest) -> tuple[int, int]:
    """The number of the last part before the page, and how many parts the page has. Raises InvalidArgument."""
    if request.page_size < 0:
        raise InvalidArgument("page_size", "must not be negative")
    size = min(request.page_size or MAX_LISTED, MAX_LISTED)
    if not request.page_token:
        return 0, size
    after = request.page_token.removeprefix(_token(request.job_id, ""))
    if after == request.page_token or not re.fullmatch(r"[0-9]{1,5}", after):
        raise InvalidArgument("page_token", "must be a next_page_token of this job's list")
    return int(after), size


def page_token(job_id: str, last: int) -> str:
    """The token of the page after part `last`."""
    return _token(job_id, str(last))


def _token(job_id: str, last: str) -> str:
    return f"{hashlib.sha256(job_id.encode()).hexdigest()[:16]}-{last}"


def check_claims(claimed: Sequence[upload_pb2.Part], count: int) -> None:
    """Checks the parts that a client states it sent: none, or some of `count`. Raises InvalidArgument."""
    if len(claimed) > count:
        raise InvalidArgument("parts", f"must be at most {count}")
    for first in range(0, len(claimed), MAX_PARTS):
        check_parts(claimed[first : first + MAX_PARTS], count)


def check_artifacts(artifacts: Sequence[job_pb2.Artifact]) -> None:
    """Raises InvalidArgument."""
    if len(artifacts) > MAX_ARTIFACTS:
        raise InvalidArgument("artifacts", f"must be at most {MAX_ARTIFACTS}")
    for index, artifact in enumerate(artifacts):
        path = f"artifacts[{index}]"
        if not ARTIFACT_NAME.fullmatch(artifact.name):
            raise InvalidArgument(f"{path}.name", "must be a file name of lower-case letters, digits, '.', '_' and '-'")
        if artifact.stage not in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
            raise InvalidArgument(f"{path}.stage", "must be QUICK or DEEP")
        if not MEDIA_TYPE.fullmatch(artifact.content_type):
            raise InvalidArgument(f"{path}.content_type", "must be a media type such as text/html")
        if not 1 <= artifact.content_length <= MAX_ARTIFACT_BYTES:
            raise InvalidArgument(f"{path}.content_length", f"must be 1 to {MAX_ARTIFACT_BYTES} bytes")


def _is_uuid(text: str) -> bool:
    try:
        # UUID() also accepts braces and prefixes; only the canonical spelling is unambiguous.
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
