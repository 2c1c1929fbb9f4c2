"""Validates fields of requests. Every function but `check_etag` raises InvalidArgument, naming the field."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from crease.jobs.v1 import job_pb2, session_pb2
from services import errors
from services.jobs.domain.protobuf import enum_text
from services.jobs.domain.records import Accelerator, GivenEvent, Player, Session
from services.jobs.store.database import parse_id
from services.naming import ARTIFACT_NAME, GIVEN_EVENTS, Discipline
from services.rules.limits import (
    CAPTURE_FPS_RULE,
    DEFAULT_SAMPLE_FPS,
    IN_PICTURE_RULE,
    MAX_ARTIFACT_BYTES,
    MAX_ARTIFACTS,
    MAX_GIVEN_EVENTS,
    MAX_SAMPLE_FPS,
    MEDIA_TYPE,
    MIN_SAMPLE_FPS,
    is_capture_fps,
    is_in_picture,
)

FAILURE_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
MAX_UID_CHARACTERS = 128
MAX_TEXT_CHARACTERS = 2048


def sample_fps(requested: int) -> int:
    """Frames a second; 0 means the default."""
    if not 0 <= requested <= MAX_SAMPLE_FPS:
        raise errors.InvalidArgument(
            "sample_fps", f"must be {MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS}, or 0 for {DEFAULT_SAMPLE_FPS}"
        )
    return requested or DEFAULT_SAMPLE_FPS


def accelerator(requested: int) -> Accelerator:
    """Unspecified means auto."""
    if requested not in job_pb2.Accelerator.values():
        raise errors.InvalidArgument("accelerator", f"must be one of {', '.join(job_pb2.Accelerator.keys())}")
    return Accelerator(enum_text(job_pb2.Accelerator, requested) or Accelerator.AUTO)


def athlete_box(requested: job_pb2.AthleteBox) -> dict[str, float]:
    """The column `athlete_box`."""
    if not is_in_picture(requested.left, requested.top, requested.width, requested.height):
        raise errors.InvalidArgument("athlete_box", IN_PICTURE_RULE)
    return {field.name: value for field, value in requested.ListFields()}


def capture_fps(requested: float) -> float:
    """Frames a second; 0 means that the client states none."""
    if not is_capture_fps(requested):
        raise errors.InvalidArgument("capture_fps", CAPTURE_FPS_RULE)
    return requested


def discipline(requested: int) -> str:
    """A discipline in lower case; unspecified means the session's, and is empty."""
    if requested not in session_pb2.Discipline.values():
        raise errors.InvalidArgument("discipline", f"must be one of {', '.join(session_pb2.Discipline.keys())}")
    return enum_text(session_pb2.Discipline, requested)


def given_events(requested: Sequence[job_pb2.GivenEvent], of_discipline: str) -> list[GivenEvent]:
    """The moments that a client gives for a video of a discipline."""
    if len(requested) > MAX_GIVEN_EVENTS:
        raise errors.InvalidArgument("events", f"must be at most {MAX_GIVEN_EVENTS}")
    shown = Discipline(of_discipline)
    for index, event in enumerate(requested):
        if event.name not in GIVEN_EVENTS[shown]:
            names = ", ".join(GIVEN_EVENTS[shown])
            raise errors.InvalidArgument(f"events[{index}].name", f"must be one of {names} in {shown}")
        if not (math.isfinite(event.time_seconds) and event.time_seconds >= 0):
            raise errors.InvalidArgument(f"events[{index}].time_seconds", "must be 0 or more seconds")
    return [GivenEvent(event.name, event.time_seconds) for event in requested]


def failure_code(reported: str) -> str:
    """A code such as NOT_A_VIDEO; empty if there is none."""
    if reported and not FAILURE_CODE.fullmatch(reported):
        raise errors.InvalidArgument("failure_code", "must be at most 64 upper-case letters, digits and '_'")
    return reported


def short_texts(request: Message) -> None:
    """Every text of a request that is stored as it is: names and digests of S3 objects."""
    for field, value in request.ListFields():
        if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
            raise errors.InvalidArgument(field.name, f"at most {MAX_TEXT_CHARACTERS} characters")


def kubernetes_uid(reported: str) -> str:
    """The UID of a Kubernetes Job, or of a local process; empty if there is none."""
    if len(reported) > MAX_UID_CHARACTERS:
        raise errors.InvalidArgument("kubernetes_uid", f"at most {MAX_UID_CHARACTERS} characters")
    return reported


def artifacts(reported: Sequence[job_pb2.Artifact]) -> Sequence[job_pb2.Artifact]:
    """The artifacts of one stage, each with a name of its own."""
    if len(reported) > MAX_ARTIFACTS:
        raise errors.InvalidArgument("artifacts", f"at most {MAX_ARTIFACTS}")
    names = set()
    for index, artifact in enumerate(reported):
        path = f"artifacts[{index}]"
        if not ARTIFACT_NAME.fullmatch(artifact.name) or artifact.name in names:
            raise errors.InvalidArgument(f"{path}.name", "must be an artifact's name that no other one has")
        if not 0 <= artifact.content_length <= MAX_ARTIFACT_BYTES:
            raise errors.InvalidArgument(f"{path}.content_length", f"must be 0 to {MAX_ARTIFACT_BYTES} bytes")
        if artifact.content_type and not MEDIA_TYPE.fullmatch(artifact.content_type):
            raise errors.InvalidArgument(f"{path}.content_type", "must be a media type such as text/html, or empty")
        names.add(artifact.name)
    return reported


def request_id(requested: str) -> UUID | None:
    """A UUID; empty means that a repeated call makes another job."""
    parsed = parse_id(requested)
    if requested and parsed is None:
        raise errors.InvalidArgument("request_id", "must be a UUID")
    return parsed


def text(field: str, written: str, limit: int) -> str:
    """A text that a person wrote, of at most `limit` characters."""
    if len(written) > limit:
        raise errors.InvalidArgument(field, f"at most {limit} characters")
    if "\0" in written:
        raise errors.InvalidArgument(field, "must not hold a NUL character")
    return written


def enum(field: str, values: Any, number: int) -> str:
    """A value of an enum in lower case; unspecified is empty."""
    if number not in values.values():
        raise errors.InvalidArgument(field, f"must be one of {', '.join(values.keys())}")
    return enum_text(values, number)


def masked(message: Message, mask: FieldMask, settable: Sequence[str]) -> Sequence[str]:
    """The fields to write (AIP-134): those of the mask; without a mask, those that are populated."""
    paths = list(mask.paths)
    if paths == ["*"]:
        return settable
    for path in paths:
        if path not in settable:
            raise errors.InvalidArgument("update_mask", f"{path[:100]!r} cannot be set; {', '.join(settable)} can")
    return paths or [field.name for field, _ in message.ListFields() if field.name in settable]


def check_etag(etag: str, record: Player | Session) -> None:
    """Raises Aborted if a record was changed since it had this etag."""
    if etag != record.etag:
        message = f"Another call has changed the {type(record).__name__.lower()} since: read it again"
        raise errors.Aborted(message, reason="ETAG_MISMATCH")


def digest(columns: Mapping[str, Any]) -> str:
    """Identifies the content of a request that creates a row."""
    return hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()
