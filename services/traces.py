"""Traces by OpenTelemetry: one per video, from InitiateUpload to its report. Off unless CREASE_OTLP_ENDPOINT is set.

    InitiateUpload ─▶ CreateJob ─┬─▶ complete (linked to its call) ─▶ ConfirmUpload
     (its context is in the row) ├─▶ queue
                                 └─▶ launch ─▶ analysis (by the pod's environment) ─▶ fetch, quick, deep ─▶ SubmitResult

When tracing is off, neither OpenTelemetry nor the logs are imported: it costs one comparison per call. The first
program that a caller reaches decides whether a trace is sampled; all others follow. The sampling flag of a caller from
outside is ignored (serving.py).
"""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from services import VERSION

# The header of W3C's Trace Context, and its format.
HEADER = "traceparent"
_FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
SAMPLED = 1
# A program that ends waits at most this long for the collector.
FLUSH_SECONDS = 2.0

# Set by `start`: the tracer, its provider, and the share of new traces that is sampled.
_tracer: Any = None
_provider: Any = None
_share = 1.0
# The traceparent of the current trace if it is not sampled; it is only propagated.
_unsampled: ContextVar[str] = ContextVar("unsampled", default="")


def start(program: str, endpoint: str, share: float = 1.0) -> None:
    """Exports this process's spans to an OTLP endpoint, http(s)://host:port by gRPC. `share`: of new traces."""
    global _tracer, _provider, _share
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": f"crease-{program}", "service.version": VERSION})
    _provider, _share = TracerProvider(resource=resource), share
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("crease")


def start_in_trace(program: str, endpoint: str, parent: str) -> None:
    """As `start`, for a process whose whole work belongs to one trace. A trace that is not sampled costs nothing."""
    if _is_sampled(parent):
        start(program, endpoint)
    else:
        _unsampled.set(parent)


def stop() -> None:
    """Exports the remaining spans, for at most FLUSH_SECONDS."""
    if _provider is not None:
        _provider.force_flush(int(FLUSH_SECONDS * 1000))


def is_on() -> bool:
    """Whether this process exports spans."""
    return _tracer is not None


@contextmanager
def span(
    name: str, parent: str = "", *, served: bool = False, linked: bool = False, called: bool = False, **attributes: Any
) -> Iterator["Span"]:
    """A span around the block: a child of `parent`, a traceparent, else of the current span, if any.

    served: the span of a call that this program answers; it may start a trace. linked: with a link to the current span,
    which belongs to another trace. called: the span of a call to a server that is not ours.
    """
    if _tracer is None:
        yield _NO_SPAN
        return
    if served and not parent and random.random() >= _share:  # noqa: S311 (not for security)
        parent = _unsampled_parent()
    if parent and not _is_sampled(parent):
        with _propagating(parent):
            yield _NO_SPAN
    elif parent or served or _is_under_way():
        kind = "SERVER" if served else "CLIENT" if called else "INTERNAL"
        with _propagating(""), _started(name, parent, kind, linked, attributes) as started:
            yield started
    else:
        yield _NO_SPAN


@contextmanager
def span_on_success(name: str, parent: str) -> Iterator["Span"]:
    """The span of a served call whose caller is authenticated by the handler.

    It is recorded under `parent` if the call succeeds. Calls that the handler makes are never sampled.
    """
    deferred, started_at = _DeferredSpan(), datetime.now(UTC)
    with _propagating(f"{parent[:-2]}00" if parent else _unsampled_parent()):
        yield deferred
    if not deferred.has_failed:
        record(name, parent, started_at, datetime.now(UTC), kind="SERVER", **deferred.attributes)


@contextmanager
def _propagating(parent: str) -> Iterator[None]:
    if parent:
        _log_with(parent[3:35])
    token = _unsampled.set(parent)
    try:
        yield
    finally:
        _unsampled.reset(token)


@contextmanager
def _started(name: str, parent: str, kind: str, linked: bool, attributes: Mapping[str, Any]) -> Iterator["Span"]:
    from opentelemetry import trace

    under_way = trace.get_current_span().get_span_context()
    links = [trace.Link(under_way)] if linked and under_way.is_valid else []
    context = _context(parent) if parent else None
    with _tracer.start_as_current_span(name, context, trace.SpanKind[kind], attributes, links) as started:
        if kind == "SERVER" or parent:
            _log_with(f"{started.get_span_context().trace_id:032x}")
        yield Span(started)


def _log_with(trace_id: str) -> None:
    from services import logs

    logs.bind(trace_id=trace_id)


def _is_under_way() -> bool:
    from opentelemetry import trace

    return not _unsampled.get() and trace.get_current_span().get_span_context().is_valid


def record(
    name: str, parent: str, started_at: datetime, ended_at: datetime, *, kind: str = "INTERNAL", **attributes: Any
) -> None:
    """Records a span that has ended."""
    if _tracer is not None and _is_sampled(parent):
        from opentelemetry import trace

        past = _tracer.start_span(
            name, _context(parent), trace.SpanKind[kind], attributes, start_time=_nanoseconds(started_at)
        )
        past.end(_nanoseconds(ended_at))


def traceparent() -> str:
    """The traceparent for a call to another program; empty without a trace."""
    if _tracer is None or _unsampled.get():
        return _unsampled.get()
    from opentelemetry import trace

    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return ""
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"


def metadata() -> tuple[tuple[str, str], ...]:
    """The traceparent as metadata of a gRPC call."""
    current = traceparent()
    return ((HEADER, current),) if current else ()


def valid_parent(metadata: Mapping[str, str]) -> str:
    """The caller's traceparent; empty if it is missing or malformed."""
    current = metadata.get(HEADER, "")
    return current if _FORM.fullmatch(current) else ""


class Span:
    """A span that has not ended."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def add(self, **attributes: Any) -> None:
        """Adds attributes."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def failed(self, why: str) -> None:
        """Sets the status to ERROR."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, why))


class _DeferredSpan(Span):
    """Keeps attributes until it is known whether the span is recorded."""

    def __init__(self) -> None:
        super().__init__(None)
        self.attributes: dict[str, Any] = {}
        self.has_failed = False

    def add(self, **attributes: Any) -> None:
        self.attributes |= attributes

    def failed(self, why: str) -> None:
        self.has_failed = True


_NO_SPAN = Span(None)


def _unsampled_parent() -> str:
    """The traceparent of a new trace that is not sampled."""
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


def _is_sampled(parent: str) -> bool:
    return bool(parent) and bool(int(parent[-2:], 16) & SAMPLED)


def _context(parent: str) -> Any:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    _, trace_id, span_id, flags = parent.split("-")
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(remote))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
