"""Structured logs on standard error: one JSON object a line, for people only where a terminal reads them.

Each call and each action ends in one line that says all of it: who, what, which job, how it ended, how long it took
and how much of that was spent waiting for whom. While something is done for a job, every line says its id.
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

# What must not be read by who reads logs, whatever brought it here: signatures of URLs, and tokens.
_SIGNED = re.compile(r"\?[^\s\"'\\<>]*X-Amz-[^\s\"'\\<>]*")
_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?<=Lease )[\w-]{20,}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Made once: json.dumps makes one for each line that may hold what JSON has not.
_ENCODER = json.JSONEncoder(default=repr)

_bound: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("bound")
_spent: contextvars.ContextVar[dict[str, float]] = contextvars.ContextVar("spent")


def configure(program: str, level: str = "info", **always: str | int) -> Logger:
    """Sets logging up for this process and returns its logger. Libraries' warnings come out the same way. `always` is
    said in every line, whichever thread it comes from."""
    in_each = {"program": program, **always}
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else _in_json

    def whole(_: object, level: str, said: structlog.typing.EventDict) -> dict[str, Any]:
        # One step, where structlog has four that each of our calls would pay for.
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {**in_each, **bound(), **said, "level": level, "timestamp": now}

    shared: list[structlog.typing.Processor] = [whole, structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, render, hush],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        render,
        hush,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Bound once: the logger that structlog gives would be put together anew for each line.
    logger: Logger = structlog.get_logger().bind()
    return logger


def _in_json(_: object, __: str, said: structlog.typing.EventDict) -> str:
    return _ENCODER.encode(said)


def hush(_: object, __: str, rendered: Any) -> str:
    """The line without what must not be read in it."""
    line = str(rendered)
    if "X-Amz-" in line:
        line = _SIGNED.sub("?…", line)
    if "eyJ" in line or "Lease " in line:
        line = _TOKEN.sub("…", line)
    return line


def words(error: BaseException) -> str:
    """The first line of what an error says; of one that says nothing, such as a TimeoutError, its kind."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def bind(**said: str | int) -> None:
    """Says this in every further line of this call."""
    _bound.set({**bound(), **said})


def bound() -> dict[str, Any]:
    """What is said in every line of this call."""
    return _bound.get({})


def about(job_id: str, launch_no: int = 0) -> None:
    """Says in every further line of this call which job it is about. What is no job's id is not repeated."""
    if _UUID.fullmatch(job_id):
        bind(job_id=job_id, **({"launch_no": launch_no} if launch_no else {}))


@contextmanager
def spending() -> Iterator[dict[str, float]]:
    """Gathers what is `spent` while the block runs, also in tasks that it starts."""
    gathered: dict[str, float] = {}
    token = _spent.set(gathered)
    try:
        yield gathered
    finally:
        _spent.reset(token)


def spent(what: str, seconds: float) -> None:
    """Adds to what the line at the end says: `db_ms`, `s3_ms`, `kube_ms`, `jobs_ms`."""
    gathered = _spent.get(None)
    if gathered is not None:
        gathered[what] = round(gathered.get(what, 0.0) + seconds * 1000, 1)
