"""Calls as a client makes them: with a deadline each, again after a transient error, until the patience ends."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import grpc
import grpc.aio

from crease.upload.v1.upload_pb2 import SignedRequest
from services.clients import open_aio_channel

CALL_SECONDS = 10.0
S3_SECONDS = 15.0
PAUSE_SECONDS = 0.3
Metadata = tuple[tuple[str, str], ...]
# INTERNAL and UNKNOWN are faults of ours, but a client that meets one calls again.
AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class GaveUp(Exception):
    """The patience ended without an answer."""


class Calls:
    """`answers` counts each call's outcome, by method and code."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str]] = Counter()

    async def once(self, rpc: Callable[..., Awaitable[Any]], request: Any, metadata: Metadata) -> Any:
        """One call. Raises grpc.aio.AioRpcError."""
        name = type(request).__name__.removesuffix("Request")
        try:
            reply = await rpc(request, metadata=metadata, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            self.answers[name, error.code().name] += 1
            raise
        self.answers[name, "OK"] += 1
        return reply

    async def until(self, rpc: Callable[..., Awaitable[Any]], request: Any, metadata: Metadata, patience: float) -> Any:
        """Calls until an answer that no further call changes. Raises AioRpcError, GaveUp."""
        give_up = time.monotonic() + patience
        while True:
            try:
                return await self.once(rpc, request, metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    raise
                if time.monotonic() > give_up:
                    raise GaveUp(f"{type(request).__name__}: {error.code().name} {error.details()}") from error
            await asyncio.sleep(PAUSE_SECONDS)


def own_channel(endpoint: str) -> grpc.aio.Channel:
    """A channel as a program of ours opens it. In one process channels otherwise share a connection."""
    return open_aio_channel(endpoint, [("grpc.use_local_subchannel_pool", 1)])


def http_session() -> aiohttp.ClientSession:
    """A client of S3, which opens a connection for each request, as short-lived programs do."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=S3_SECONDS))


async def transfer(http: aiohttp.ClientSession, signed: SignedRequest, body: bytes | None, patience: float) -> bytes:
    """One request to S3 by a signed URL, again after 5xx and broken connections. Raises GaveUp."""
    give_up = time.monotonic() + patience
    why = ""
    while time.monotonic() < give_up:
        try:
            async with http.request(signed.method, signed.url, data=body, headers=dict(signed.headers)) as reply:
                content = await reply.read()
                # 412: an earlier attempt stored the object, and its answer was lost.
                if reply.status in (200, 204) or (reply.status == 412 and signed.method == "PUT"):
                    return content
                why = f"{reply.status} {content[:200]!r}"
                if reply.status < 500:
                    raise GaveUp(f"S3: {why}")
        except (aiohttp.ClientError, TimeoutError) as error:
            why = repr(error)
        await asyncio.sleep(PAUSE_SECONDS)
    raise GaveUp(f"S3: {why}")
