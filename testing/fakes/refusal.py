"""What a stub raises when a service refuses a call, made without a service."""

from typing import Any

import grpc
from grpc_status import rpc_status

from services import errors
from services.serving import status


class Refusal(grpc.RpcError, grpc.Call):
    """What a stub raises, made of a status of ours or of the channel's own words."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[Any, ...] = ()) -> None:
        self._all = (code, details, trailing)

    @classmethod
    def of(cls, fault: errors.ServiceError) -> "Refusal":
        made = rpc_status.to_status(status(fault))
        return cls(made.code, made.details, made.trailing_metadata)

    def code(self) -> grpc.StatusCode:
        return self._all[0]

    def details(self) -> str:
        return self._all[1]

    def trailing_metadata(self) -> tuple[Any, ...]:
        return self._all[2]

    def initial_metadata(self) -> tuple[Any, ...]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False
