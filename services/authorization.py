"""Who may call what: each program has one table of RPC and kinds of caller, checked before any handler runs.

person      a user of any role; ownership decides further, in `jobs`
upload      the program that holds S3
controller  the program that holds a cluster
pod         an analyzer's pod, by its token
lease       an analyzer's pod, by the lease it was given
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from services import errors
from services.auth import Caller, Lease, Person, Pod, Service
from services.serving import call

Table = Mapping[str, frozenset[str]]
C = TypeVar("C", Person, Service, Pod, Lease)


class Rights:
    """A table that has a row for every RPC of the services. An RPC without one stops the program at start."""

    def __init__(self, table: Table, services: Iterable[ServiceDescriptor]) -> None:
        rpcs = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
        if rpcs != table.keys():
            raise SystemExit(f"The table of rights and the RPCs differ in {', '.join(sorted(rpcs ^ table.keys()))}")
        self._table = table

    def __call__(self, method: str, caller: Caller | None) -> None:
        """Raises Unauthenticated or PermissionDenied where the caller may not call the method."""
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
    """Who makes the call that is being answered. Raises PermissionDenied where they are not of the kind that is expected."""
    caller = call.get().caller
    if not isinstance(caller, expected):
        raise errors.PermissionDenied(f"Only a {expected.__name__.lower()} may ask this", reason="CALLER_NOT_ALLOWED")
    return caller
