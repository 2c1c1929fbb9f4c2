"""How our programs call each other: one channel a peer, and the reading of what a refusal says."""

from typing import Any

import grpc
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
