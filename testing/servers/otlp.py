"""An OTLP collector: a real gRPC server of the protocol, which keeps the spans it receives."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class Span:
    """A received span; ids in hexadecimal. `links`: the ids of linked spans."""

    program: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    began: int
    ended: int


@dataclass
class Collector(TraceServiceServicer):
    spans: list[Span] = field(default_factory=list)
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: wire.ExportTraceServiceRequest, context: object) -> wire.ExportTraceServiceResponse:
        with self._lock:
            for sent in request.resource_spans:
                named = {one.key: one.value.string_value for one in sent.resource.attributes}
                self.spans += [_span(named["service.name"], one) for scope in sent.scope_spans for one in scope.spans]
        return wire.ExportTraceServiceResponse()


def _span(program: str, sent: Any) -> Span:
    return Span(
        program=program.removeprefix("crease-"),
        name=sent.name,
        trace=sent.trace_id.hex(),
        id=sent.span_id.hex(),
        parent=sent.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in sent.links),
        attributes={one.key: getattr(one.value, one.value.WhichOneof("value")) for one in sent.attributes},
        began=sent.start_time_unix_nano,
        ended=sent.end_time_unix_nano,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port, until the block ends."""
    made = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]  # generated without types
    made.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield made
    finally:
        server.stop(None)
