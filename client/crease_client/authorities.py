"""The trusted authorities of a channel with TLS, read again when their file changes.

file changed ──▶ the next call opens a new channel ──▶ running calls finish on the old one
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

# gRPC's own variable: the file of the trusted authorities.
AUTHORITIES = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
# Running calls of asyncio may finish for this long on the old channel.
CLOSE_SECONDS = 30.0

ChannelT = TypeVar("ChannelT", grpc.Channel, grpc.aio.Channel)


def credentials() -> grpc.ChannelCredentials:
    """Credentials with the trusted authorities. gRPC reads the variable once, at import; a program may set it later."""
    roots = os.environ.get(AUTHORITIES)
    return grpc.ssl_channel_credentials(Path(roots).read_bytes() if roots else None)


class _Newest(Generic[ChannelT]):
    """The channel with the authorities of now. `replaced` gets a channel whose authorities have changed."""

    def __init__(self, connect: Callable[[], ChannelT], replaced: Callable[[ChannelT], None]) -> None:
        self._connect: Callable[[], ChannelT] = connect
        self._replaced: Callable[[ChannelT], None] = replaced
        self._version = _version()
        self._channel: ChannelT = connect()

    def get(self) -> ChannelT:
        version = _version()
        if version not in (self._version, None):
            old, self._channel, self._version = self._channel, self._connect(), version
            self._replaced(old)
        return self._channel


class ReloadingChannel(grpc.Channel):
    """A blocking channel that `connect` opens. An old one closes after its last call."""

    def __init__(self, connect: Callable[[], grpc.Channel]) -> None:
        self._newest = _Newest(connect, lambda _: None)

    def unary_unary(self, *made: Any, **given: Any) -> Any:
        return _Method(lambda: self._newest.get().unary_unary(*made, **given))

    def unary_stream(self, *made: Any, **given: Any) -> Any:
        return _Method(lambda: self._newest.get().unary_stream(*made, **given))

    def stream_unary(self, *made: Any, **given: Any) -> Any:
        return _Method(lambda: self._newest.get().stream_unary(*made, **given))

    def stream_stream(self, *made: Any, **given: Any) -> Any:
        return _Method(lambda: self._newest.get().stream_stream(*made, **given))

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        self._newest.get().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._newest.get().unsubscribe(callback)

    def close(self) -> None:
        self._newest.get().close()

    def __enter__(self) -> "ReloadingChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Method:
    """A method of a blocking channel, which is looked up at each call."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __call__(self, *call: Any, **options: Any) -> Any:
        return self._find()(*call, **options)

    def with_call(self, *call: Any, **options: Any) -> Any:
        return self._find().with_call(*call, **options)

    def future(self, *call: Any, **options: Any) -> Any:
        return self._find().future(*call, **options)


class ReloadingAioChannel(grpc.aio.Channel):
    """The same for asyncio."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel]) -> None:
        self._newest = _Newest(connect, self._close_later)
        self._closing: set[asyncio.Task[None]] = set()

    def _close_later(self, old: grpc.aio.Channel) -> None:
        closing = asyncio.create_task(old.close(CLOSE_SECONDS))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _method(self, kind: str, *made: Any, **given: Any) -> Any:
        return lambda *call, **options: getattr(self._newest.get(), kind)(*made, **given)(*call, **options)

    def unary_unary(self, *made: Any, **given: Any) -> Any:
        return self._method("unary_unary", *made, **given)

    def unary_stream(self, *made: Any, **given: Any) -> Any:
        return self._method("unary_stream", *made, **given)

    def stream_unary(self, *made: Any, **given: Any) -> Any:
        return self._method("stream_unary", *made, **given)

    def stream_stream(self, *made: Any, **given: Any) -> Any:
        return self._method("stream_stream", *made, **given)

    async def __aenter__(self) -> "ReloadingAioChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await asyncio.gather(self._newest.get().close(grace), *self._closing)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._newest.get().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._newest.get().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._newest.get().channel_ready()


def _version() -> int | None:
    """Changes with the file of authorities; None without a file."""
    try:
        return Path(os.environ.get(AUTHORITIES, "")).stat().st_mtime_ns
    except OSError:
        return None
