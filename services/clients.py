"""Channels from one program to another, and what their errors mean. Endpoints and options: crease_client.channels.

A channel for asyncio reads the file of trusted authorities again when it changes.
"""

from pathlib import Path

import grpc
import grpc.aio

from crease_client.channels import CHANNEL_OPTIONS, KEEPALIVE, credentials, open_channel, parse
from crease_client.errors import reason
from services.tls.channel import ReloadingChannel

__all__ = ["CHANNEL_OPTIONS", "KEEPALIVE", "bearer", "is_transient", "open_aio_channel", "open_channel", "reason"]


def open_aio_channel(endpoint: str) -> grpc.aio.Channel:
    """A channel for asyncio."""
    target, is_tls, options = parse(endpoint)
    if is_tls:
        return ReloadingChannel(lambda: grpc.aio.secure_channel(target, credentials(), options))
    return grpc.aio.insecure_channel(target, options)


def bearer(token_file: Path) -> tuple[str, str]:
    """The authorization metadata of a service. Read at each call: the cluster renews the file."""
    return ("authorization", f"Bearer {token_file.read_text().strip()}")


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later: the peer is unavailable or slow."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
