"""Channels from one program to another, and what their errors mean.

host:port               without TLS
https://host:port       with TLS
https://host:port/NAME  with TLS, where the certificate carries NAME instead of the host

The trusted authorities are gRPC's own setting, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH. A channel for asyncio reads the file
again when it changes.
"""

import os
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from services.tls.channel import AUTHORITIES, ReloadingChannel

# A client reconnects within 2 s after a peer restarts, and notices a dead connection within 30 s.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
]


def open_channel(endpoint: str) -> grpc.Channel:
    """A blocking channel."""
    target, is_tls, options = _parse(endpoint)
    if is_tls:
        return grpc.secure_channel(target, _credentials(), options)
    return grpc.insecure_channel(target, options)


def open_aio_channel(endpoint: str) -> grpc.aio.Channel:
    """A channel for asyncio."""
    target, is_tls, options = _parse(endpoint)
    if is_tls:
        return ReloadingChannel(lambda: grpc.aio.secure_channel(target, _credentials(), options))
    return grpc.aio.insecure_channel(target, options)


def _credentials() -> grpc.ChannelCredentials:
    # gRPC reads the variable once, at import; `crease` may set it later.
    roots = os.environ.get(AUTHORITIES)
    return grpc.ssl_channel_credentials(Path(roots).read_bytes() if roots else None)


def _parse(endpoint: str) -> tuple[str, bool, list[tuple[str, Any]]]:
    target, _, name = endpoint.removeprefix("https://").removeprefix("http://").partition("/")
    options = list(CHANNEL_OPTIONS)
    if name:
        options.append(("grpc.ssl_target_name_override", name))
    # A proxy of the environment never applies to a peer on this machine.
    if target.startswith(("127.0.0.1:", "localhost:")):
        options.append(("grpc.enable_http_proxy", 0))
    return target, endpoint.startswith("https://"), options


def reason(error: grpc.RpcError) -> str:
    """The ErrorInfo reason of an error; empty if it has none."""
    status: Status | None = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later: the peer is unavailable or slow."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
