"""Channels from one program to another, and what their errors mean. Endpoints and options: crease_client.channels."""

from pathlib import Path

import grpc

from crease_client.channels import CHANNEL_OPTIONS, KEEPALIVE, open_aio_channel, open_channel
from crease_client.errors import reason

__all__ = ["CHANNEL_OPTIONS", "KEEPALIVE", "bearer", "is_transient", "open_aio_channel", "open_channel", "reason"]

# CANCELLED as an error comes from a peer that stops. A call that this side cancels raises CancelledError.
TRANSIENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


def bearer(token_file: Path) -> tuple[str, str]:
    """The authorization metadata of a service. Read at each call: the cluster renews the file."""
    return ("authorization", f"Bearer {token_file.read_text().strip()}")


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later: the peer is unavailable or slow, or stopped before it answered."""
    return error.code() in TRANSIENT
