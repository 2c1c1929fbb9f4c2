"""Validates the settings of an analysis in requests. Every function raises InvalidArgument, naming the field."""

from uuid import UUID

from crease.jobs.v1 import job_pb2
from services import errors
from services.jobs.domain.protobuf import enum_text
from services.jobs.domain.records import Accelerator
from services.jobs.store.database import parse_id
from services.rules.limits import DEFAULT_SAMPLE_FPS, MAX_SAMPLE_FPS, MIN_SAMPLE_FPS


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


def request_id(requested: str) -> UUID | None:
    """A UUID; empty means that a repeated call makes another job."""
    parsed = parse_id(requested)
    if requested and parsed is None:
        raise errors.InvalidArgument("request_id", "must be a UUID")
    return parsed
