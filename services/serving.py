"""How every gRPC server of ours is run: one edge around each call, health, reflection, a graceful end.

call ─▶ who calls (auth) ─▶ may they call this (rights) ─▶ the handler ─▶ faults become a status ─▶ counted, one line
"""

import asyncio
import contextlib
import contextvars
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from services import VERSION, errors, logs, metrics, traces
from services.auth import Caller, Lease, Pod, Service, Verifier
from services.logs import Logger
from services.settings import ServerSettings

MAX_MESSAGE_BYTES = 4 * 2**20
DOMAIN = "crease.dev"
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # Our clients ask every 20 s whether an idle stream still lives; gRPC's servers hang up on that unless told.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Clients connect anew now and then, or a replica that is added would never be asked. Running calls stay.
    ("grpc.max_connection_age_ms", 300_000),
    # gRPC cancels calls at random from 1,000 that wait for us: fewer than come back at once after a restart.
    ("grpc.server.max_pending_requests", 5_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
]
OPEN_TO_ALL = ("/grpc.health.v1.Health/", "/grpc.reflection.")

# The whole translation: every class of errors.py, proven by a test.
CODES: dict[type[errors.Fault], int] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.OutOfRange: code_pb2.OUT_OF_RANGE,
    errors.ResourceExhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.Internal: code_pb2.INTERNAL,
}


@dataclass(frozen=True)
class Call:
    """What a handler may want to know of the call it answers."""

    method: str
    caller: Caller | None
    metadata: Mapping[str, str]


call: contextvars.ContextVar[Call] = contextvars.ContextVar("call")

Context = grpc.aio.ServicerContext[Any, Any]
# Raises PermissionDenied or Unauthenticated where the caller may not call the method.
Rights = Callable[[str, Caller | None], None]
# Gives the fault that a library's exception means, or None for what is our own fault.
Translate = Callable[[Exception], errors.Fault | None]


def status(fault: errors.Fault) -> status_pb2.Status:
    """The google.rpc.Status of a fault: ErrorInfo always, BadRequest and RetryInfo where they belong."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN)]
    if isinstance(fault, errors.InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=fault.field, description=fault.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(fault, errors.Unavailable):
        delay = duration_pb2.Duration(nanos=int(fault.retry_seconds * 1e9) % 10**9, seconds=int(fault.retry_seconds))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for box, detail in zip(packed, details, strict=True):
        box.Pack(detail)
    return status_pb2.Status(code=CODES[type(fault)], message=fault.message, details=packed)


class Edge(grpc.aio.ServerInterceptor):
    """Wraps each handler once; nothing behind it knows tokens, status codes or logs of calls."""

    def __init__(
        self, verifier: Verifier, rights: Rights, translate: Translate, log: Logger, *, write_seconds: float = 30.0
    ) -> None:
        self._verifier = verifier
        self._rights = rights
        self._translate = translate
        self._log = log
        self._write_seconds = write_seconds

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler with the edge around it; health and reflection stay as they are."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(OPEN_TO_ALL):
            return handler
        serializer = handler.response_serializer
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler), response_serializer=serializer)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler), response_serializer=serializer)

    def _unary(self, method: str, handler: Any) -> Callable[..., Awaitable[Any]]:
        async def wrapped(body: bytes, context: Context) -> Any:
            async with self._around(method, context):
                request = _read(handler, body)
                _note(request)
                reply = await handler.unary_unary(request, context)
                if _job_id(reply) != _job_id(request):
                    _note(reply)
                return reply

        return wrapped

    def _stream(self, method: str, handler: Any) -> Callable[..., Awaitable[None]]:
        async def wrapped(body: bytes, context: Context) -> None:
            async with self._around(method, context):
                request = _read(handler, body)
                _note(request)
                async with contextlib.aclosing(handler.unary_stream(request, context)) as replies:
                    async for reply in replies:
                        await self._write(context, reply)

        return wrapped

    async def _write(self, context: Context, reply: Any) -> None:
        """One message of a stream. gRPC takes what fits the client's window, about 4 MB, and then waits."""
        try:
            await asyncio.wait_for(context.write(reply), self._write_seconds)
        except TimeoutError:
            message = f"This stream was not read for {self._write_seconds:g} s; call again from what was read last"
            raise errors.ResourceExhausted(message, reason="SLOW_READER") from None

    @contextlib.asynccontextmanager
    async def _around(self, method: str, context: Context) -> AsyncIterator[None]:
        started, fault, code = time.monotonic(), None, "OK"
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        caller, doubt = await self._who(metadata)
        with logs.spending() as spent, _traced(method, caller, metadata) as span:
            try:
                if doubt is not None:
                    raise doubt
                self._rights(method, caller)
                call.set(Call(method, caller, metadata))
                yield
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except errors.Fault as raised:
                fault = raised
            except Exception as error:
                fault = self._translate(error)
                if fault is None:
                    self._log.exception("broken", method=method)
                    fault = errors.Internal("Internal error", reason="INTERNAL")
            finally:
                seconds = time.monotonic() - started
                if fault is not None:
                    code = code_pb2.Code.Name(CODES[type(fault)])
                    span.failed(fault.reason)
                span.add(outcome=code, **spent)
                metrics.rpc(_short(method), code, seconds)
                said = {"method": method, "caller": _name(caller), "outcome": code, "ms": round(seconds * 1000, 1)}
                self._log.info("rpc", **said, **spent, **({"fault": fault.reason} if fault else {}))
        if fault is not None:
            await context.abort_with_status(rpc_status.to_status(status(fault)))

    async def _who(self, metadata: Mapping[str, str]) -> tuple[Caller | None, BaseException | None]:
        """Who calls, or why that is not known: the call ends with it where it can be traced, counted and logged."""
        try:
            return await self._verifier.caller(metadata), None
        except BaseException as error:
            return None, error


def _traced(
    method: str, caller: Caller | None, metadata: Mapping[str, str]
) -> contextlib.AbstractContextManager[traces.Span]:
    """A trace goes on from a program of ours, which has proved that it is one. Anybody else's traceparent is not heard:
    they could have each of their calls traced. Whether a lease lives is not known before its call has gone well."""
    if isinstance(caller, Lease) and traces.is_on():
        return traces.span_if_well(_short(method), traces.parent_in(metadata))
    parent = traces.parent_in(metadata) if isinstance(caller, Service | Pod) else ""
    return traces.span(_short(method), parent, served=True)


def _read(handler: Any, body: bytes) -> Any:
    """The request. gRPC itself would call bytes that are no message UNKNOWN, as if we were broken."""
    try:
        return handler.request_deserializer(body)
    except DecodeError:
        raise errors.InvalidArgument("request", "is not a message of this call") from None


def _short(method: str) -> str:
    """`/crease.jobs.v1.JobService/GetJob` as JobService/GetJob."""
    return method.rpartition(".")[2]


def _note(message: Any) -> None:
    """Lets the lines of this call say which job it is about, where the request or the reply names one."""
    if job_id := _job_id(message):
        logs.about(job_id, getattr(message, "launch_no", 0))


def _job_id(message: Any) -> str:
    return str(getattr(message, "job_id", ""))


def _name(caller: Caller | None) -> str:
    match caller:
        case None:
            return "nobody"
        case _:
            return type(caller).__name__.lower() + ":" + str(getattr(caller, "subject", getattr(caller, "name", "")))


READY = "ready"
READY_SECONDS = 1.0


async def serve(
    settings: ServerSettings,
    edge: Edge,
    add: Callable[[grpc.aio.Server], None],
    services: tuple[str, ...],
    log: Logger,
    *,
    is_ready: Callable[[], bool] = lambda: True,
    checks: health.aio.HealthServicer | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; then says NOT_SERVING, lets running calls finish and returns.

    `add` registers the servicers; `services` are their full names. Health answers for them, and under `ready` whether
    the program can do its work now, which is no reason to start it again; `checks` is for who has more to say.
    """
    server = grpc.aio.server(interceptors=[edge], options=OPTIONS)
    add(server)
    checks = checks or health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _bind(server, settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
        for name in ("", *services):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", version=VERSION, listen=settings.listen, port=port)
        readiness = asyncio.create_task(_tell_readiness(checks, is_ready))
        await stop.wait()
        readiness.cancel()
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(settings.drain_seconds)
        await asyncio.to_thread(traces.stop)
    log.info("stopped")


async def _tell_readiness(checks: health.aio.HealthServicer, is_ready: Callable[[], bool]) -> None:
    status = health_pb2.HealthCheckResponse
    while True:
        await checks.set(READY, status.SERVING if is_ready() else status.NOT_SERVING)
        await asyncio.sleep(READY_SECONDS)


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> int:
    try:
        if settings.tls_certificate and settings.tls_key:
            client_ca = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
            pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
            credentials = grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
            return int(server.add_secure_port(settings.listen, credentials))
        return int(server.add_insecure_port(settings.listen))
    except RuntimeError as error:
        raise SystemExit(f"CREASE_LISTEN: cannot listen on {settings.listen}: {error}") from None
