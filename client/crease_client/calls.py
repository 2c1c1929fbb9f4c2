"""Interceptors of every call. They add the caller's token and turn a gRPC error into an error of this package.

They also give each request that creates something a request_id, so that a retried call creates it once.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from crease_client.errors import TokenError, from_rpc_error

# The metadata by which a service names the owner for whom it calls.
ON_BEHALF_OF = "crease-on-behalf-of"
# Returns the token of now; called at each call, because tokens expire.
Token = Callable[[], str]


def token_file(path: Path) -> Token:
    """The token in a file, which another program renews."""

    def read() -> str:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise TokenError(f"Your token cannot be read ({path}): {error.strerror}") from None

    return read


class Calls(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """For blocking channels. `owner`: for whom the service calls; empty: none is named."""

    def __init__(self, token: Token, owner: str = "") -> None:
        self._token = token
        self._owner = owner

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """One call. Raises RpcError, TokenError."""
        call = continuation(self._with_caller(client_call_details), _identified(request))
        error = call.exception()
        if isinstance(error, grpc.RpcError):
            raise from_rpc_error(error) from error
        return call

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """The messages of a stream. Raises TokenError; the iterator raises RpcError."""
        return _Stream(continuation(self._with_caller(client_call_details), _identified(request)))

    def _with_caller(self, details: Any) -> Any:
        return _with_owner(_with_token(details, self._token()), self._owner)


class AioUnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """Single calls of asyncio. gRPC registers one interceptor for one kind of call there."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """One call. Raises RpcError, TokenError."""
        call = await continuation(_with_token(client_call_details, self._token()), _identified(request))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return call


class AioStreamCalls(grpc.aio.UnaryStreamClientInterceptor):
    """Streams of asyncio."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """The messages of a stream. The iterator raises RpcError, TokenError."""
        return _read_aio(await continuation(_with_token(client_call_details, self._token()), _identified(request)))


class AioOnBehalf:
    """An asyncio channel whose calls name an owner. gRPC's interceptors are those of the shared channel."""

    def __init__(self, channel: grpc.aio.Channel, owner: str) -> None:
        self._channel = channel
        self._metadata = ((ON_BEHALF_OF, owner),)

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """As of the channel."""
        return self._named(self._channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """As of the channel."""
        return self._named(self._channel.unary_stream(*arguments, **options))

    def _named(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def named(request: Any, *, metadata: Any = (), **options: Any) -> Any:
            return call(request, metadata=(*metadata, *self._metadata), **options)

        return named


def _with_token(details: Any, token: str) -> Any:
    return details._replace(metadata=(*(details.metadata or ()), ("authorization", f"Bearer {token}")))


def _with_owner(details: Any, owner: str) -> Any:
    return details._replace(metadata=(*details.metadata, (ON_BEHALF_OF, owner))) if owner else details


def _identified(request: Any) -> Any:
    """The request with a request_id, if it takes one and has none."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:
        return request
    identified = type(request)()
    identified.CopyFrom(request)
    identified.request_id = str(uuid.uuid4())
    return identified


class _Stream:
    """A stream whose errors are those of this package; all else is gRPC's call."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> "_Stream":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


async def _read_aio(stream: Any) -> AsyncIterator[Any]:
    try:
        async for message in stream:
            yield message
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    finally:
        stream.cancel()
