"""Traces by OpenTelemetry: one for each video, from InitiateUpload to its report. Off unless told where to send them.

    InitiateUpload ─▶ CreateJob ─┬─▶ complete (linked to its call) ─▶ ConfirmUpload
     its context lies in the row ├─▶ queue
                                 └─▶ launch ─▶ analysis (by the pod's environment) ─▶ fetch, quick, deep ─▶ SubmitResult

Off, nothing of OpenTelemetry is imported: it costs a comparison a call. A trace that is not sampled is not sampled
anywhere on its way.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from structlog.contextvars import bind_contextvars

from services import VERSION

# The header of W3C's Trace Context, and its form.
HEADER = "traceparent"
_FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
SAMPLED = 1
# What ends while the collector is away does not wait for it longer.
LAST_SECONDS = 2.0

# Set by `start`: an OpenTelemetry tracer, what sends, and a traceparent that is only handed on.
_tracer: Any = None
_provider: Any = None
_through = ""


def start(program: str, endpoint: str, share: float = 1.0) -> None:
    """Sends this process's spans to an OTLP endpoint, http(s)://host:port; of traces that begin here, a share."""
    global _tracer, _provider
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create({"service.name": f"crease-{program}", "service.version": VERSION})
    _provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)), resource=resource)
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("crease")


def start_within(program: str, endpoint: str, parent: str) -> None:
    """The same for a process that is one part of one trace; one that is not sampled is handed on, and costs nothing."""
    global _through
    if parent and int(parent[-2:], 16) & SAMPLED:
        start(program, endpoint)
    else:
        _through = parent


def stop() -> None:
    """Sends what is left, as long as that is quick."""
    if _provider is not None:
        _provider.force_flush(int(LAST_SECONDS * 1000))


def is_on() -> bool:
    """Whether this process traces."""
    return _tracer is not None


@contextmanager
def span(
    name: str, parent: str = "", *, served: bool = False, linked: bool = False, **attributes: Any
) -> Iterator["Span"]:
    """A span around the block: under `parent`, a traceparent, else under the one that is under way.

    served: of a call that came from elsewhere. linked: with a link to the span that is under way, which is of another
    trace. What it yields takes more attributes.
    """
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry import trace

    context = _context(parent) if parent else None
    links = [trace.Link(trace.get_current_span().get_span_context())] if linked else []
    kind = trace.SpanKind.SERVER if served else trace.SpanKind.INTERNAL
    with _tracer.start_as_current_span(name, context, kind, attributes, links) as begun:
        if served or parent:
            bind_contextvars(trace_id=f"{begun.get_span_context().trace_id:032x}")
        yield Span(begun)


def record(name: str, parent: str, began: datetime, ended: datetime, **attributes: Any) -> None:
    """A span that is over already."""
    if _tracer is not None and parent:
        past = _tracer.start_span(name, _context(parent), attributes=attributes, start_time=_nanoseconds(began))
        past.end(_nanoseconds(ended))


def header() -> str:
    """The traceparent by which another program goes on; empty where nothing is traced."""
    if _tracer is None:
        return _through
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return ""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def metadata() -> tuple[tuple[str, str], ...]:
    """The same, for a call by gRPC."""
    found = header()
    return ((HEADER, found),) if found else ()


def parent_in(metadata: Mapping[str, str]) -> str:
    """What a caller sent, if it is a traceparent."""
    found = metadata.get(HEADER, "")
    return found if _FORM.fullmatch(found) else ""


class Span:
    """A span under way."""

    def __init__(self, begun: Any) -> None:
        self._begun = begun

    def add(self, **attributes: Any) -> None:
        """More of what is known of it."""
        if self._begun is not None:
            self._begun.set_attributes(attributes)

    def failed(self, why: str) -> None:
        """It did not do what it was to do."""
        if self._begun is not None:
            from opentelemetry.trace import Status, StatusCode

            self._begun.set_status(Status(StatusCode.ERROR, why))


_NOTHING = Span(None)


def _context(parent: str) -> Any:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    _, trace_id, span_id, flags = parent.split("-")
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(remote))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
