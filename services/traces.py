"""Traces by OpenTelemetry: one for each video, from InitiateUpload to its report. Off unless told where to send them.

    InitiateUpload ─▶ CreateJob ─┬─▶ complete (linked to its call) ─▶ ConfirmUpload
     its context lies in the row ├─▶ queue
                                 └─▶ launch ─▶ analysis (by the pod's environment) ─▶ fetch, quick, deep ─▶ SubmitResult

Off, nothing of OpenTelemetry is imported, nor what writes logs: it costs a comparison a call. A trace that is not
sampled is not sampled anywhere on its way. Which are, we decide where the first of our programs is called: what a
caller from outside says of that is not heard (serving.py).
"""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from services import VERSION

# The header of W3C's Trace Context, and its form.
HEADER = "traceparent"
_FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
SAMPLED = 1
# What ends while the collector is away does not wait for it longer.
LAST_SECONDS = 2.0

# Set by `start`: an OpenTelemetry tracer, what sends, and how many of the traces that begin here are sampled.
_tracer: Any = None
_provider: Any = None
_share = 1.0
# The traceparent of what is under way, where that is not sampled; it is only handed on.
_unsampled: ContextVar[str] = ContextVar("unsampled", default="")


def start(program: str, endpoint: str, share: float = 1.0) -> None:
    """Sends this process's spans to an OTLP endpoint, http(s)://host:port by gRPC; a share of what begins here."""
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


def start_within(program: str, endpoint: str, parent: str) -> None:
    """The same for a process that is one part of one trace; one that is not sampled is handed on, and costs nothing."""
    if _is_sampled(parent):
        start(program, endpoint)
    else:
        _unsampled.set(parent)


def stop() -> None:
    """Sends what is left, as long as that is quick."""
    if _provider is not None:
        _provider.force_flush(int(LAST_SECONDS * 1000))


def is_on() -> bool:
    """Whether this process traces."""
    return _tracer is not None


@contextmanager
def span(
    name: str, parent: str = "", *, served: bool = False, linked: bool = False, called: bool = False, **attributes: Any
) -> Iterator["Span"]:
    """A span around the block: under `parent`, a traceparent, else under the one that is under way, if any.

    served: of a call, with which a trace may begin. linked: with a link to the span that is under way, which is of
    another trace. called: of a call to a server that is not ours. What it yields takes more attributes.
    """
    if _tracer is None:
        yield _NOTHING
        return
    if served and not parent and random.random() >= _share:  # noqa: S311 (nothing is guarded by it)
        parent = _unsampled_parent()
    if parent and not _is_sampled(parent):
        with _handing_on(parent):
            yield _NOTHING
    elif parent or served or _is_under_way():
        kind = "SERVER" if served else "CLIENT" if called else "INTERNAL"
        with _handing_on(""), _begun(name, parent, kind, linked, attributes) as begun:
            yield begun
    else:
        yield _NOTHING


@contextmanager
def span_if_well(name: str, parent: str) -> Iterator["Span"]:
    """Of a served call whose caller is known only when it has gone well: told then, under `parent`; else, and for what
    it calls in turn, nothing is."""
    kept, began = _Kept(), datetime.now(UTC)
    with _handing_on(f"{parent[:-2]}00" if parent else _unsampled_parent()):
        yield kept
    if not kept.has_failed:
        record(name, parent, began, datetime.now(UTC), kind="SERVER", **kept.attributes)


@contextmanager
def _handing_on(parent: str) -> Iterator[None]:
    if parent:
        _log_with(parent[3:35])
    token = _unsampled.set(parent)
    try:
        yield
    finally:
        _unsampled.reset(token)


@contextmanager
def _begun(name: str, parent: str, kind: str, linked: bool, attributes: Mapping[str, Any]) -> Iterator["Span"]:
    from opentelemetry import trace

    under_way = trace.get_current_span().get_span_context()
    links = [trace.Link(under_way)] if linked and under_way.is_valid else []
    context = _context(parent) if parent else None
    with _tracer.start_as_current_span(name, context, trace.SpanKind[kind], attributes, links) as begun:
        if kind == "SERVER" or parent:
            _log_with(f"{begun.get_span_context().trace_id:032x}")
        yield Span(begun)


def _log_with(trace_id: str) -> None:
    from services import logs

    logs.bind(trace_id=trace_id)


def _is_under_way() -> bool:
    from opentelemetry import trace

    return not _unsampled.get() and trace.get_current_span().get_span_context().is_valid


def record(
    name: str, parent: str, began: datetime, ended: datetime, *, kind: str = "INTERNAL", **attributes: Any
) -> None:
    """A span that is over already."""
    if _tracer is not None and _is_sampled(parent):
        from opentelemetry import trace

        past = _tracer.start_span(
            name, _context(parent), trace.SpanKind[kind], attributes, start_time=_nanoseconds(began)
        )
        past.end(_nanoseconds(ended))


def header() -> str:
    """The traceparent by which another program goes on; empty where nothing is traced."""
    if _tracer is None or _unsampled.get():
        return _unsampled.get()
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


class _Kept(Span):
    """What is said of it until it is known whether it is told."""

    def __init__(self) -> None:
        super().__init__(None)
        self.attributes: dict[str, Any] = {}
        self.has_failed = False

    def add(self, **attributes: Any) -> None:
        self.attributes |= attributes

    def failed(self, why: str) -> None:
        self.has_failed = True


_NOTHING = Span(None)


def _unsampled_parent() -> str:
    """A trace that begins here and is not sent."""
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
