"""The gRPC error that a stub raises, made without a server."""

from collections.abc import Callable
from typing import Any

import grpc
from grpc_status import rpc_status

from services import errors
from services.serving import status

# A tuple of name and value pairs; gRPC's own type for them is private.
Metadata = tuple[Any, ...]


class FakeRpcError(grpc.RpcError, grpc.Call):
    """Made of a server error (`of`), or of a code and the channel's own message."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> None:
        self._code = code
        self._details = details
        self._trailing = trailing

    @classmethod
    def of(cls, error: errors.ServiceError) -> "FakeRpcError":
        """The error as a client receives it."""
        sent = rpc_status.to_status(status(error))
        return cls(sent.code, sent.details, sent.trailing_metadata)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Metadata:
        return self._trailing

    def initial_metadata(self) -> Metadata:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        return False
