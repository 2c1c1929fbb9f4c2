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

# How both sides of a connection notice that the other is silent: a ping after this time without data, and the time in
# which it must be answered. gRPC waits for the longer of the last two: by default a minute.
KEEPALIVE: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
]
# A client reconnects within 2 s after a peer restarts. It notices a silent peer within 20 s, on an open connection and
# on one that it opens.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    *KEEPALIVE,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.min_reconnect_backoff_ms", 5000),
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


def bearer(token_file: Path) -> tuple[str, str]:
    """The authorization metadata of a service. Read at each call: the cluster renews the file."""
    return ("authorization", f"Bearer {token_file.read_text().strip()}")


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
