"""Runs a gRPC server: one interceptor around each call, health checks, reflection and a graceful shutdown.

call ─▶ authentication ─▶ authorization ─▶ caller's bounds ─▶ handler ─▶ errors become a status ─▶ metrics, one log line
"""

import asyncio
import contextlib
import contextvars
import logging
import math
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
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from crease_client.calls import ON_BEHALF_OF
from services import VERSION, errors, logs, metrics, traces
from services.auth import Caller, Lease, Pod, Program, Service, Share, Verifier, act_on_behalf
from services.callers.call_limits import CallLimits
from services.clients import KEEPALIVE
from services.logs import Logger
from services.rules import limits
from services.rules.enums import unknown_enum
from services.rules.limits import CallerLimits
from services.settings import ServerSettings
from services.tls.server import ServerCertificate

MAX_MESSAGE_BYTES = 4 * 2**20
DOMAIN = "crease.dev"
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # A silent client's streams end, too.
    *KEEPALIVE,
    # A connection that is no client's, or half of one. gRPC waits a minute by default.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
    # Our clients send keepalive pings every 10 s; by default gRPC's servers close the connection for that.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Clients reconnect every 5 minutes, so that a new replica gets calls. Running calls finish.
    ("grpc.max_connection_age_ms", 300_000),
    # By default gRPC cancels calls at random from 1,000 pending ones; more than that reconnect after a restart.
    ("grpc.server.max_pending_requests", 5_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
]
# Of an error's message, which may name what the caller sent. gRPC drops an error whose trailer exceeds 8 KB: in it the
# message travels twice, percent-encoded and in base64, and an InvalidArgument's description once more.
MAX_ERROR_BYTES = 1024
# The metadata that say who calls, and for whom. With two values a proxy might check one and the server read the other.
OF_CALLER = ("authorization", "crease-user", ON_BEHALF_OF)
OPEN_TO_ALL = ("/grpc.health.v1.Health/", "/grpc.reflection.")

# The status of every class of errors.py; a test proves it complete.
CODES: dict[type[errors.ServiceError], int] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.Aborted: code_pb2.ABORTED,
    errors.OutOfRange: code_pb2.OUT_OF_RANGE,
    errors.ResourceExhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.Internal: code_pb2.INTERNAL,
}


@dataclass(frozen=True)
class Call:
    """The call that is being handled."""

    method: str
    caller: Caller | None
    metadata: Mapping[str, str]


call: contextvars.ContextVar[Call] = contextvars.ContextVar("call")

Context = grpc.aio.ServicerContext[Any, Any]
# Raises PermissionDenied or Unauthenticated if the caller may not call the method.
Authorize = Callable[[str, Caller | None], None]
# Turns a library's exception into an error; None for a bug of ours.
Translate = Callable[[Exception], errors.ServiceError | None]


def status(error: errors.ServiceError) -> status_pb2.Status:
    """The google.rpc.Status of an error: always ErrorInfo; BadRequest and RetryInfo where they apply."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if isinstance(error, errors.OutOfRange):
        info.metadata["after"] = error.after
    details: list[Any] = [info]
    if isinstance(error, errors.InvalidArgument):
        description = limits.sentence(error.description, MAX_ERROR_BYTES)
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Unavailable):
        delay = duration_pb2.Duration(nanos=int(error.retry_seconds * 1e9) % 10**9, seconds=int(error.retry_seconds))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for box, detail in zip(packed, details, strict=True):
        box.Pack(detail)
    message = limits.sentence(error.message, MAX_ERROR_BYTES)
    return status_pb2.Status(code=CODES[type(error)], message=message, details=packed)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler: authenticates, authorizes, translates errors, records metrics, traces and logs."""

    def __init__(
        self,
        verifier: Verifier,
        authorize: Authorize,
        translate: Translate,
        log: Logger,
        *,
        limits: CallerLimits,
        write_seconds: float = 30.0,
    ) -> None:
        self._verifier = verifier
        self._authorize = authorize
        self._translate = translate
        self._log = log
        self._limits = CallLimits(limits)
        self._write_seconds = write_seconds
        self._watches: set[asyncio.Timeout] = set()
        self._is_stopping = False

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The wrapped handler; health and reflection are not wrapped."""
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
            async with self._handling(method, context, is_stream=False):
                request = _parse(handler, body)
                _bind_job(request)
                reply = await handler.unary_unary(request, context)
                if _job_id(reply) != _job_id(request):
                    _bind_job(reply)
                return reply

        return wrapped

    def _stream(self, method: str, handler: Any) -> Callable[..., Awaitable[None]]:
        async def wrapped(body: bytes, context: Context) -> None:
            async with self._handling(method, context, is_stream=True):
                request = _parse(handler, body)
                _bind_job(request)
                replies = handler.unary_stream(request, context)
                async with self._until_its_end(method, call.get().caller), contextlib.aclosing(replies):
                    async for reply in replies:
                        await self._write(context, reply)

        return wrapped

    @contextlib.asynccontextmanager
    async def _until_its_end(self, method: str, caller: Caller | None) -> AsyncIterator[None]:
        """Ends the block when the caller's token expires: raises Unauthenticated. A lease has no fixed end.

        A watch also ends when the server stops, without an error: its handler cleans up before the program ends.
        """
        expires_at = getattr(caller, "expires_at", math.inf)
        seconds = None if math.isinf(expires_at) else max(expires_at - time.time(), 0.0)
        is_watch = "/Watch" in method
        try:
            async with asyncio.timeout(0 if is_watch and self._is_stopping else seconds) as limit:
                if is_watch:
                    self._watches.add(limit)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            if not (is_watch and self._is_stopping):
                message = "The token has expired: open the stream again with a new one"
                raise errors.Unauthenticated(message) from None
        finally:
            self._watches.discard(limit)

    def end_watches(self) -> None:
        """Ends the streams that have no end of their own, Watch…: the server stops."""
        self._is_stopping = True
        for limit in self._watches:
            if not limit.expired():
                limit.reschedule(0)

    async def _write(self, context: Context, reply: Any) -> None:
        """Writes one message of a stream. gRPC buffers about 4 MB for the client, then blocks.

        Raises CancelledError if the client has left: gRPC cancels the call only after the write has failed.
        """
        try:
            async with asyncio.timeout(self._write_seconds):
                await context.write(reply)
        except TimeoutError:
            message = f"This stream was not read for {self._write_seconds:g} s; call again from the last message read"
            raise errors.ResourceExhausted(message, reason="SLOW_READER") from None
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    @contextlib.asynccontextmanager
    async def _handling(self, method: str, context: Context, *, is_stream: bool) -> AsyncIterator[None]:
        started, error, code = time.monotonic(), None, "OK"
        pairs = [(key, str(value)) for key, value in context.invocation_metadata() or ()]
        metadata = dict(pairs)
        caller, failure = await self._authenticate(metadata, [key for key, _ in pairs])
        with logs.collecting_durations() as durations, _traced(method, caller, metadata) as span:
            try:
                if failure is not None:
                    raise failure
                caller = act_on_behalf(caller, metadata)
                self._authorize(method, caller)
                call.set(Call(method, caller, metadata))
                with self._counted(caller, context, is_stream=is_stream):
                    yield
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except errors.ServiceError as raised:
                error = raised
            except Exception as unexpected:
                error = self._translate(unexpected)
                if error is None:
                    self._log.exception("internal_error", method=method)
                    error = errors.Internal("Internal error", reason="INTERNAL")
            finally:
                seconds = time.monotonic() - started
                if error is not None:
                    code = code_pb2.Code.Name(CODES[type(error)])
                    span.failed(error.reason)
                span.add(outcome=code, **durations)
                metrics.record_call(_short_name(method), code, seconds)
                fields = {
                    "method": method,
                    **audited(caller),
                    "outcome": code,
                    "ms": round(seconds * 1000, 1),
                }
                self._log.info("rpc", **fields, **durations, **({"fault": error.reason} if error else {}))
        if error is not None:
            await context.abort_with_status(rpc_status.to_status(status(error)))

    def _counted(
        self, caller: Caller | None, context: Context, *, is_stream: bool
    ) -> contextlib.AbstractContextManager[None]:
        if caller is None:
            return contextlib.nullcontext()
        # The name of a lease or a share is empty; its secret may be any text, also another caller's name.
        key = f"secret:{caller.secret}" if isinstance(caller, Lease | Share) else _caller_name(caller)
        is_program = isinstance(caller, Program)
        return self._limits.counted(key, context.peer(), is_stream=is_stream, is_program=is_program)

    async def _authenticate(
        self, metadata: Mapping[str, str], keys: list[str]
    ) -> tuple[Caller | None, BaseException | None]:
        """The caller, or the failure: it is raised later, where the call is traced, measured and logged.

        keys: of all metadata, as often as each was sent.
        """
        try:
            for key in OF_CALLER:
                if keys.count(key) > 1:
                    raise errors.Unauthenticated(f"The metadata {key} has {keys.count(key)} values: send one")
            return await self._verifier.caller(metadata), None
        except BaseException as error:
            return None, error


def _traced(
    method: str, caller: Caller | None, metadata: Mapping[str, str]
) -> contextlib.AbstractContextManager[traces.Span]:
    """The span of a call. It continues the trace of an authenticated program, service or pod.

    The traceparent of other callers is ignored: they could force every call to be sampled. A lease is checked by the
    handler, so that its span is recorded only after the call has succeeded.
    """
    if isinstance(caller, Lease) and traces.is_on():
        return traces.span_on_success(_short_name(method), traces.valid_parent(metadata))
    parent = traces.valid_parent(metadata) if isinstance(caller, Program | Service | Pod) else ""
    return traces.span(_short_name(method), parent, served=True)


def _parse(handler: Any, body: bytes) -> Any:
    """The parsed request. gRPC itself would answer UNKNOWN to malformed bytes."""
    try:
        request = handler.request_deserializer(body)
    except DecodeError:
        raise errors.InvalidArgument("request", "is not a valid message of this call") from None
    if unknown := unknown_enum(request):
        path, enum = unknown
        raise errors.InvalidArgument(path, f"must be one of {', '.join(enum.values_by_name)}")
    return request


def _short_name(method: str) -> str:
    """`/crease.jobs.v1.JobService/GetJob` as JobService/GetJob."""
    return method.rpartition(".")[2]


def _bind_job(message: Any) -> None:
    """Adds the job of a request or a reply to the log lines of this call."""
    if job_id := _job_id(message):
        logs.bind_job(job_id, getattr(message, "launch_no", 0))


def _job_id(message: Any) -> str:
    return str(getattr(message, "job_id", ""))


def audited(caller: Caller | None, field: str = "caller") -> dict[str, str]:
    """The fields of a log line that name a caller, and the owner for whom a service calls."""
    owner = caller.on_behalf_of if isinstance(caller, Service) else ""
    return {field: _caller_name(caller), **({"on_behalf_of": owner} if owner else {})}


def _caller_name(caller: Caller | None) -> str:
    match caller:
        case None:
            return "anonymous"
        case _:
            return type(caller).__name__.lower() + ":" + str(getattr(caller, "subject", getattr(caller, "name", "")))


# gRPC logs it as an error that it could not send a reply, because the client has left.
_CLIENT_LEFT = "raised in core by servicer method"
logging.getLogger("grpc._cython.cygrpc").addFilter(lambda record: _CLIENT_LEFT not in record.getMessage())

READY = "ready"
REFLECTION = "grpc.reflection.v1.ServerReflection"
READY_SECONDS = 1.0


async def serve(
    settings: ServerSettings,
    interceptor: CallInterceptor,
    add: Callable[[grpc.aio.Server], None],
    services: tuple[str, ...],
    log: Logger,
    *,
    is_ready: Callable[[], bool] = lambda: True,
    stopping: Callable[[], None] = lambda: None,
    checks: health.aio.HealthServicer | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; then reports NOT_SERVING, lets running calls finish and returns.

    `add` registers the servicers; `services` are their full names, which the health service reports. It also reports
    `is_ready` as `ready`, for monitoring only. `stopping` is called at the signal. `checks`: a health service to which
    the program adds names of its own.
    """
    server = grpc.aio.server(interceptors=[interceptor], options=OPTIONS)
    add(server)
    checks = checks or health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    _add_reflection(server, (*services, health.SERVICE_NAME))
    port = _bind(server, settings, log)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
        for name in ("", *services):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", version=VERSION, listen=settings.listen, port=port)
        readiness = asyncio.create_task(_update_readiness(checks, is_ready))
        await stop.wait()
        stopping()
        interceptor.end_watches()
        readiness.cancel()
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(settings.drain_seconds)
        await asyncio.to_thread(traces.stop)
    log.info("stopped")


def _add_reflection(server: grpc.aio.Server, services: tuple[str, ...]) -> None:
    """Adds reflection v1 and v1alpha. They differ in the service's name alone, and gRPC's package has only v1alpha."""
    names = (*services, REFLECTION, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REFLECTION, methods),))


async def _update_readiness(checks: health.aio.HealthServicer, is_ready: Callable[[], bool]) -> None:
    status = health_pb2.HealthCheckResponse
    while True:
        await checks.set(READY, status.SERVING if is_ready() else status.NOT_SERVING)
        await asyncio.sleep(READY_SECONDS)


def _bind(server: grpc.aio.Server, settings: ServerSettings, log: Logger) -> int:
    try:
        if settings.tls_certificate and settings.tls_key:
            certificate = ServerCertificate(settings.tls_certificate, settings.tls_key, settings.tls_client_ca, log)
            return int(server.add_secure_port(settings.listen, certificate.credentials()))
        return int(server.add_insecure_port(settings.listen))
    except (OSError, ValueError) as error:
        raise SystemExit(f"CREASE_TLS_CERTIFICATE: the certificate cannot be read: {error}") from None
    except RuntimeError as error:
        raise SystemExit(f"CREASE_LISTEN: cannot listen on {settings.listen}: {error}") from None
