"""Authorization: each program has one table of RPCs and the kinds of caller that may call them.

person      a user of any role; jobs checks ownership
upload      the service that accesses S3
controller  the service that accesses a cluster
pod         an analyzer's pod, by its token
lease       an analyzer's pod, by its lease
share       a reader of shared reports, by the share's secret
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from services import errors
from services.auth import Caller, Lease, Person, Pod, Service, Share
from services.serving import call

Table = Mapping[str, frozenset[str]]
C = TypeVar("C", Person, Service, Pod, Lease, Share)


class Authorizer:
    """Checks callers by a table with one row per RPC. A missing or extra row stops the program at start."""

    def __init__(self, table: Table, services: Iterable[ServiceDescriptor]) -> None:
        rpcs = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
        if rpcs != table.keys():
            raise SystemExit(f"The authorization table and the RPCs differ in {', '.join(sorted(rpcs ^ table.keys()))}")
        self._table = table

    def __call__(self, method: str, caller: Caller | None) -> None:
        """Raises Unauthenticated without a caller, PermissionDenied for a caller that the table does not name."""
        if caller is None:
            raise errors.Unauthenticated("This call needs a token: authorization: Bearer <token>")
        if kind(caller) not in self._table[method]:
            raise errors.PermissionDenied(f"{kind(caller)} may not call {method}", reason="CALLER_NOT_ALLOWED")


def kind(caller: Caller) -> str:
    """A caller's column in the table."""
    match caller:
        case Service(name):
            return name
        case _:
            return type(caller).__name__.lower()


def caller_as(expected: type[C]) -> C:
    """The caller of the current call. Raises PermissionDenied if it is of another kind than `expected`."""
    caller = call.get().caller
    if not isinstance(caller, expected):
        raise errors.PermissionDenied(f"Only a {expected.__name__.lower()} may call this", reason="CALLER_NOT_ALLOWED")
    return caller
