"""A channel with TLS that is opened anew when the file of trusted authorities changes."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from crease_client.channels import AUTHORITIES

# Running calls may finish for this long on the old channel.
CLOSE_SECONDS = 30.0


class ReloadingChannel(grpc.aio.Channel):
    """`connect` opens a channel with the authorities of now. Running calls finish on the old one."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel]) -> None:
        self._connect = connect
        self._version = _authorities_version()
        self._channel = connect()
        self._closing: set[asyncio.Task[None]] = set()

    def _current(self) -> grpc.aio.Channel:
        version = _authorities_version()
        if version not in (self._version, None):
            old, self._channel, self._version = self._channel, self._connect(), version
            closing = asyncio.create_task(old.close(CLOSE_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return self._channel

    def _method(self, kind: str, *made: Any, **given: Any) -> Any:
        return lambda *call, **options: getattr(self._current(), kind)(*made, **given)(*call, **options)

    def unary_unary(self, *made: Any, **given: Any) -> Any:
        return self._method("unary_unary", *made, **given)

    def unary_stream(self, *made: Any, **given: Any) -> Any:
        return self._method("unary_stream", *made, **given)

    def stream_unary(self, *made: Any, **given: Any) -> Any:
        return self._method("stream_unary", *made, **given)

    def stream_stream(self, *made: Any, **given: Any) -> Any:
        return self._method("stream_stream", *made, **given)

    async def __aenter__(self) -> "ReloadingChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await asyncio.gather(self._channel.close(grace), *self._closing)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()


def _authorities_version() -> int | None:
    """Changes with the file of authorities; None without a file."""
    try:
        return Path(os.environ.get(AUTHORITIES, "")).stat().st_mtime_ns
    except OSError:
        return None
