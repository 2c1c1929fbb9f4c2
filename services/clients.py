"""How our programs call each other: one channel a peer, and the reading of what a refusal says.

A peer is `host:port` in the clear, or `https://host:port` by TLS, with `/NAME` behind it where the certificate carries
that name instead of the host's. Who is believed is gRPC's own setting, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH.
"""

import os
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

# A peer that restarts is found again within two seconds; a connection that died silently is noticed within thirty.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
]


def open_channel(endpoint: str) -> grpc.Channel:
    """A channel for threads."""
    target, is_tls, options = _parse(endpoint)
    if is_tls:
        return grpc.secure_channel(target, _credentials(), options)
    return grpc.insecure_channel(target, options)


def open_aio_channel(endpoint: str) -> grpc.aio.Channel:
    """A channel for asyncio."""
    target, is_tls, options = _parse(endpoint)
    if is_tls:
        return grpc.aio.secure_channel(target, _credentials(), options)
    return grpc.aio.insecure_channel(target, options)


def _credentials() -> grpc.ChannelCredentials:
    # gRPC reads the variable once, at its start; what finds the services may have set it since.
    roots = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    return grpc.ssl_channel_credentials(Path(roots).read_bytes() if roots else None)


def _parse(endpoint: str) -> tuple[str, bool, list[tuple[str, Any]]]:
    target, _, name = endpoint.removeprefix("https://").removeprefix("http://").partition("/")
    options = list(CHANNEL_OPTIONS)
    if name:
        options.append(("grpc.ssl_target_name_override", name))
    # No proxy of the environment gets between us and a peer on this machine.
    if target.startswith(("127.0.0.1:", "localhost:")):
        options.append(("grpc.enable_http_proxy", 0))
    return target, endpoint.startswith("https://"), options


def reason(error: grpc.RpcError) -> str:
    """The ErrorInfo reason of a refusal; empty where there is none."""
    status: Status | None = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def is_passing(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later: the peer is away or slow, and has refused nothing."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
