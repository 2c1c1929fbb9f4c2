"""Validates the settings of an analysis in requests. Every function raises InvalidArgument, naming the field."""

import math
from collections.abc import Sequence
from uuid import UUID

from crease.jobs.v1 import job_pb2, session_pb2
from services import errors
from services.jobs.domain.protobuf import enum_text
from services.jobs.domain.records import Accelerator, GivenEvent
from services.jobs.store.database import parse_id
from services.naming import GIVEN_EVENTS, Discipline
from services.rules.limits import (
    DEFAULT_SAMPLE_FPS,
    MAX_CAPTURE_FPS,
    MAX_GIVEN_EVENTS,
    MAX_SAMPLE_FPS,
    MIN_CAPTURE_FPS,
    MIN_SAMPLE_FPS,
    is_capture_fps,
    is_in_picture,
)


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
        raise errors.InvalidArgument(
            "athlete_box", "must lie in the picture: fractions from 0 to 1, width and height above 0"
        )
    return {field.name: value for field, value in requested.ListFields()}


def capture_fps(requested: float) -> float:
    """Frames a second; 0 means that the client states none."""
    if not is_capture_fps(requested):
        raise errors.InvalidArgument("capture_fps", f"must be {MIN_CAPTURE_FPS} to {MAX_CAPTURE_FPS}, or 0")
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


def request_id(requested: str) -> UUID | None:
    """A UUID; empty means that a repeated call makes another job."""
    parsed = parse_id(requested)
    if requested and parsed is None:
        raise errors.InvalidArgument("request_id", "must be a UUID")
    return parsed
