"""Authorization: each program has one table of RPCs and the kinds of caller that may call them.

person         a person of any role; jobs checks ownership
service:RIGHT  an internal service that may read, write or hear events; jobs checks which owners it may reach
upload         the program that accesses S3
controller     the program that accesses a cluster
pod            an analyzer's pod, by its token
lease          an analyzer's pod, by its lease
share          a reader of shared reports, by the share's secret
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from services import errors
from services.auth import Caller, Lease, Person, Pod, Program, Service, Share, User
from services.serving import call

Table = Mapping[str, frozenset[str]]
C = TypeVar("C", Person, Service, Program, Pod, Lease, Share)
# The kinds of user that may read, and those that may write.
READERS = frozenset({"person", "service:read"})
WRITERS = frozenset({"person", "service:write"})


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
        if not kinds(caller) & self._table[method]:
            raise errors.PermissionDenied(f"{_described(caller)} may not call {method}", reason="CALLER_NOT_ALLOWED")


def kinds(caller: Caller) -> frozenset[str]:
    """The kinds of caller in the table that a caller has: a service one for each of its rights, the others one."""
    match caller:
        case Program(name):
            return frozenset({name})
        case Service():
            return frozenset(f"service:{right}" for right in caller.may)
        case _:
            return frozenset({type(caller).__name__.lower()})


def _described(caller: Caller) -> str:
    if isinstance(caller, Service):
        return f"The service {caller.name}, which may {', '.join(sorted(caller.may))},"
    return next(iter(kinds(caller)))


def user() -> User:
    """The person or service of the current call. Raises PermissionDenied for another caller."""
    caller = call.get().caller
    if not isinstance(caller, User):
        raise errors.PermissionDenied("Only a person or a service may call this", reason="CALLER_NOT_ALLOWED")
    return caller


def caller_as(expected: type[C]) -> C:
    """The caller of the current call. Raises PermissionDenied if it is of another kind than `expected`."""
    caller = call.get().caller
    if not isinstance(caller, expected):
        raise errors.PermissionDenied(f"Only a {expected.__name__.lower()} may call this", reason="CALLER_NOT_ALLOWED")
    return caller
