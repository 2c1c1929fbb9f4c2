"""Endpoints and channels: keepalive, reconnection, and the deadlines and retries of a client's calls.

host:port               without TLS
https://host:port       with TLS
https://host:port/NAME  with TLS, where the certificate carries NAME instead of the host

The trusted authorities are gRPC's own setting, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH. Channels read the file again when it
changes.
"""

import json
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from crease_client.authorities import ReloadingAioChannel, ReloadingChannel, credentials

Options = list[tuple[str, Any]]
# How both sides of a connection notice that the other is silent: a ping after this time without data, and the time in
# which it must be answered. gRPC waits for the longer of the last two: by default a minute. The servers permit a ping
# every 5 s.
KEEPALIVE: Options = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
]
# A client reconnects within 2 s after a peer restarts. It notices a silent peer within 20 s, on an open connection and
# on one that it opens.
CHANNEL_OPTIONS: Options = [
    *KEEPALIVE,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.min_reconnect_backoff_ms", 5000),
]

# Five attempts within 13 s: a restart of a service takes less. gRPC answers CANCELLED to a call that reaches a server
# which stops.
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.5s",
    "maxBackoff": "8s",
    "backoffMultiplier": 2.5,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_JOBS, _UPLOAD, _EVENTS = "crease.jobs.v1.JobService", "crease.upload.v1.UploadService", "crease.events.v1.EventService"
# The gRPC service config: the deadline of each call over all its attempts, and which calls are retried. No call is
# hedged.
SERVICE_CONFIG: dict[str, Any] = {
    "methodConfig": [
        {"name": [{}], "timeout": "20s", "retryPolicy": _RETRIES},
        # S3 may take minutes to assemble the parts of a long video.
        {"name": [{"service": _UPLOAD, "method": "CompleteUpload"}], "timeout": "150s", "retryPolicy": _RETRIES},
        # The repetition of a call whose answer was lost fails with WRONG_STATE.
        {"name": [{"service": _JOBS, "method": "RetryJob"}], "timeout": "20s"},
        # Streams last; the reader opens them again.
        {
            "name": [
                {"service": _JOBS, "method": "WatchJob"},
                {"service": _EVENTS, "method": "WatchEvents"},
                {"service": _UPLOAD, "method": "ListOrphans"},
            ]
        },
    ]
}
_CLIENT_OPTIONS: Options = [("grpc.service_config", json.dumps(SERVICE_CONFIG))]


def open_client_channel(endpoint: str, *, retries: bool = True) -> grpc.Channel:
    """A blocking channel with the service config. `retries` False: one attempt per call."""
    return open_channel(endpoint, [*_CLIENT_OPTIONS, ("grpc.enable_retries", int(retries))])


def open_aio_client_channel(endpoint: str, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
    """The same for asyncio."""
    return open_aio_channel(endpoint, _CLIENT_OPTIONS, interceptors)


def open_channel(endpoint: str, more: Options | None = None) -> grpc.Channel:
    """A blocking channel."""
    target, is_tls, options = _parse(endpoint)
    options += more or []
    if is_tls:
        return ReloadingChannel(lambda: grpc.secure_channel(target, credentials(), options))
    return grpc.insecure_channel(target, options)


def open_aio_channel(
    endpoint: str, more: Options | None = None, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()
) -> grpc.aio.Channel:
    """A channel for asyncio."""
    target, is_tls, options = _parse(endpoint)
    options += more or []
    if is_tls:
        return ReloadingAioChannel(
            lambda: grpc.aio.secure_channel(target, credentials(), options, interceptors=interceptors)
        )
    return grpc.aio.insecure_channel(target, options, interceptors=interceptors)


def _parse(endpoint: str) -> tuple[str, bool, Options]:
    """The target of an endpoint, whether it has TLS, and the channel's options."""
    target, _, name = endpoint.removeprefix("https://").removeprefix("http://").partition("/")
    options = list(CHANNEL_OPTIONS)
    if name:
        options.append(("grpc.ssl_target_name_override", name))
    # A proxy of the environment never applies to a peer on this machine.
    if target.startswith(("127.0.0.1:", "localhost:")):
        options.append(("grpc.enable_http_proxy", 0))
    return target, endpoint.startswith("https://"), options
