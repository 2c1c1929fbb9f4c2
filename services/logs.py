"""Structured logs on standard error: one JSON object per line; on a terminal, coloured text.

Each call and each action ends with one line: caller, method, job, outcome, duration, and the time spent waiting for
each dependency. Every line written while a program handles a job has the job's id.
"""

import contextvars
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import structlog

Logger = structlog.typing.FilteringBoundLogger

# Never logged: signatures of URLs, tokens, and secrets of leases and shares.
_SIGNED = re.compile(r"\?[^\s\"'\\<>]*X-Amz-[^\s\"'\\<>]*")
_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?<=Lease )[\w-]{20,}|(?<=Share )[\w-]{20,}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# json.dumps with a default function would make an encoder for each line.
_ENCODER = json.JSONEncoder(default=repr)

_bound: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("bound")
_durations: contextvars.ContextVar[dict[str, float]] = contextvars.ContextVar("durations")


def configure(program: str, level: str = "info", **constants: str | int) -> Logger:
    """Sets up logging for this process and returns its logger.

    Warnings of libraries are written the same way. Every line has `constants`, whichever thread writes it.
    """
    in_each = {"program": program, **constants}
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else _in_json

    def add_context(_: object, level: str, event: structlog.typing.EventDict) -> dict[str, Any]:
        # One processor instead of structlog's four, which cost time at each call.
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {**in_each, **bound(), **event, "level": level, "timestamp": now}

    shared: list[structlog.typing.Processor] = [add_context, structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, render, redact],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    stdlib_processors: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        render,
        redact,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=stdlib_processors, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Bound once: an unbound logger of structlog is assembled anew for each line.
    logger: Logger = structlog.get_logger().bind()
    return logger


def _in_json(_: object, __: str, event: structlog.typing.EventDict) -> str:
    return _ENCODER.encode(event)


def redact(_: object, __: str, rendered: Any) -> str:
    """The line without signatures, tokens, and secrets of leases and shares."""
    line = str(rendered)
    if "X-Amz-" in line:
        line = _SIGNED.sub("?…", line)
    if "eyJ" in line or "Lease " in line or "Share " in line:
        line = _TOKEN.sub("…", line)
    return line


def error_text(error: BaseException) -> str:
    """The first line of an error's message; its class name if it has none, as a TimeoutError."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def bind(**fields: str | int) -> None:
    """Adds fields to every further line of this call."""
    _bound.set({**bound(), **fields})


def bound() -> dict[str, Any]:
    """The fields that every line of this call has."""
    return _bound.get({})


def bind_job(job_id: str, launch_no: int = 0) -> None:
    """Adds the job to every further line of this call; ignores a text that is no UUID."""
    if _UUID.fullmatch(job_id):
        bind(job_id=job_id, **({"launch_no": launch_no} if launch_no else {}))


@contextmanager
def collecting_durations() -> Iterator[dict[str, float]]:
    """Sums up the durations added while the block runs, also in tasks that it starts."""
    durations: dict[str, float] = {}
    token = _durations.set(durations)
    try:
        yield durations
    finally:
        _durations.reset(token)


def add_duration(field: str, seconds: float) -> None:
    """Adds to a field of the call's last line, in ms: `db_ms`, `s3_ms`, `kube_ms`, `jobs_ms`."""
    durations = _durations.get(None)
    if durations is not None:
        durations[field] = round(durations.get(field, 0.0) + seconds * 1000, 1)
