"""What a client may ask of an analysis, as columns hold it. Every function raises InvalidArgument, naming the field."""

from uuid import UUID

from crease.jobs.v1 import job_pb2
from services import errors
from services.jobs.rpc import mapping
from services.jobs.store.database import parse_id
from services.limits import DEFAULT_SAMPLE_FPS, MAX_SAMPLE_FPS, MIN_SAMPLE_FPS


def sample_fps(asked: int) -> int:
    """0 means the default."""
    if not 0 <= asked <= MAX_SAMPLE_FPS:
        raise errors.InvalidArgument(
            "sample_fps", f"must be {MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS}, or 0 for {DEFAULT_SAMPLE_FPS}"
        )
    return asked or DEFAULT_SAMPLE_FPS


def accelerator(asked: int) -> str:
    """Unspecified means auto."""
    if asked not in job_pb2.Accelerator.values():
        raise errors.InvalidArgument("accelerator", f"must be one of {', '.join(job_pb2.Accelerator.keys())}")
    return mapping.word(job_pb2.Accelerator, asked) or "auto"


def request_id(asked: str) -> UUID | None:
    """Empty means that a repeated call is another call."""
    parsed = parse_id(asked)
    if asked and parsed is None:
        raise errors.InvalidArgument("request_id", "must be a UUID")
    return parsed
