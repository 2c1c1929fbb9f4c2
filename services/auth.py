"""Authentication: turns the metadata of a call into its caller.

authorization: Bearer <JWT>             a person, a program, a pod or a service, by the token's issuer and subject
authorization: Lease <secret>           one launch; jobs checks the secret
authorization: Share <secret>           a reader of shared reports; jobs checks the secret
crease-user: <JWT>                      the person or service for whom `upload` calls
crease-on-behalf-of: coach:ID | org:ID  the owner for whom a service calls
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jwt

from crease_client.calls import ON_BEHALF_OF
from services.callers.issuer_keys import ALGORITHMS, IssuerKeys
from services.errors import InvalidArgument, PermissionDenied, Unauthenticated
from services.naming import OWNER_NAME, SERVICE_ACTOR, SUPERUSER
from services.settings import Issuer, owner_prefixes

CLOCK_SKEW_SECONDS = 30
MAX_TOKEN_CHARACTERS = 8192
# OpenID Connect's bound of `sub`; for the other claims as well.
MAX_CLAIM_CHARACTERS = 255
# Checking a signature costs more than most calls, and callers reuse tokens: a verified token is cached for this long.
TOKEN_CACHE_SECONDS = 60.0
MAX_CACHED_TOKENS = 10_000


@dataclass(frozen=True)
class Person:
    """A coach or an operator. `subject`: the issuer's stable id, after the issuer's owner_prefix.

    `role`: of services/naming.py. `organisation_id` has the same prefix; empty: none. `expires_at`: the token's end,
    in seconds since the epoch.
    """

    subject: str
    role: str
    organisation_id: str = ""
    features: frozenset[str] = frozenset()
    expires_at: float = field(default=math.inf, compare=False, repr=False)


@dataclass(frozen=True)
class Program:
    """Another program of Crease: upload or controller. `cluster`: the only one that it may name; empty: any."""

    name: str
    cluster: str = ""
    expires_at: float = field(default=math.inf, compare=False, repr=False)


@dataclass(frozen=True)
class Service:
    """An internal service. `may`: read, write, events. `owners`: whose rows it may reach; None: every owner's.

    `on_behalf_of`: the owner for whom it makes this call, of those that it may reach; empty: it names none.
    """

    name: str
    may: frozenset[str]
    owners: frozenset[str] | None = None
    on_behalf_of: str = ""
    expires_at: float = field(default=math.inf, compare=False, repr=False)


@dataclass(frozen=True)
class Pod:
    """An analyzer's pod, before it has a lease. `cluster`: as of a program."""

    name: str
    uid: str
    namespace: str
    cluster: str = ""
    expires_at: float = field(default=math.inf, compare=False, repr=False)


@dataclass(frozen=True)
class Lease:
    """The secret that jobs issued to one pod for one launch."""

    secret: str = field(repr=False)


@dataclass(frozen=True)
class Share:
    """The secret that a coach gave to a reader of shared reports."""

    secret: str = field(repr=False)


# Those that own sessions and jobs, or act for their owners.
User = Person | Service
Caller = User | Program | Pod | Lease | Share


@dataclass(frozen=True)
class _VerifiedToken:
    caller: Caller
    # When the cache entry expires, in seconds since the epoch.
    until: float


class Verifier:
    """Verifies tokens of the configured issuers, whose last keys stay valid for `keys_seconds`."""

    def __init__(self, issuers: Sequence[Issuer], audience: str, keys_seconds: float) -> None:
        self._issuers = {i.issuer: i for i in issuers}
        self._keys = {i.issuer: IssuerKeys(i, keys_seconds) for i in issuers}
        self._prefixes = owner_prefixes(issuers)
        self._audience = audience
        self._verified: dict[str, _VerifiedToken] = {}

    async def caller(self, metadata: Mapping[str, str]) -> Caller | None:
        """The caller of a call; None without authorization. Raises Unauthenticated for an invalid token."""
        scheme, _, secret = metadata.get("authorization", "").partition(" ")
        match scheme.lower():
            case "":
                return None
            case "lease" if secret:
                return Lease(secret)
            case "share" if secret:
                return Share(secret)
            case "bearer" if secret:
                return await self.verify(secret)
            case _:
                raise Unauthenticated("authorization must be 'Bearer <token>', 'Lease <secret>' or 'Share <secret>'")

    async def verify(self, token: str) -> Caller:
        """The caller of a token. Raises Unauthenticated, or Unavailable where the issuer's keys cannot be fetched."""
        verified = self._verified.get(token)
        if verified is not None and time.time() < verified.until:
            return verified.caller
        try:
            issuer, claims = await self._decode(token)
        # PyJWT leaves infinite times to int().
        except (jwt.PyJWTError, OverflowError) as error:
            raise Unauthenticated(f"The token is not valid: {error}") from None
        caller = self._person(claims, issuer) if issuer.kind == "people" else _workload(claims, issuer)
        if len(self._verified) >= MAX_CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = _VerifiedToken(caller, min(_expiry(claims), time.time() + TOKEN_CACHE_SECONDS))
        return caller

    def _person(self, claims: Mapping[str, Any], issuer: Issuer) -> Person:
        subject, organisation = _text(claims, "sub"), _text(claims, "org_id")
        if not subject:
            raise _odd("sub", "a text that is not empty")
        role = _text(claims, "role")
        if not self._may_assert_role(issuer, role):
            raise Unauthenticated(f"The token's issuer may not assert the role {role}")
        if organisation and issuer.organisations is not None and organisation not in issuer.organisations:
            raise Unauthenticated(f"The token's issuer may not assert the organisation {organisation}")
        subject = self._owner_id(issuer, "sub", subject)
        if subject.startswith(SERVICE_ACTOR):
            raise _odd("sub", f"a text without {SERVICE_ACTOR} at its start, by which rows name services")
        return Person(
            subject=subject,
            role=role,
            organisation_id=self._owner_id(issuer, "org_id", organisation) if organisation else "",
            features=_texts(claims, "features"),
            expires_at=_expiry(claims),
        )

    def _may_assert_role(self, issuer: Issuer, role: str) -> bool:
        if issuer.roles is not None:
            return not role or role in issuer.roles
        return role != SUPERUSER or len(self._prefixes) == 1

    def _owner_id(self, issuer: Issuer, claim: str, value: str) -> str:
        """The id of an owner. Raises Unauthenticated for a value that reads as an id of another issuer."""
        prefix = self._prefixes[issuer.issuer]
        owner_id = prefix + value
        for other in self._prefixes.values():
            if other != prefix and other.startswith(prefix) and owner_id.startswith(other):
                raise Unauthenticated(f"The token's claim {claim} begins with the prefix of another issuer")
        return owner_id

    async def _decode(self, token: str) -> tuple[Issuer, dict[str, Any]]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated(f"The token is longer than {MAX_TOKEN_CHARACTERS} characters")
        header = jwt.get_unverified_header(token)
        unverified = jwt.decode(token, options={"verify_signature": False})
        _expiry(unverified)
        issuer = self._issuers.get(str(unverified.get("iss")))
        if issuer is None:
            raise Unauthenticated("The token's issuer is not configured")
        key = await self._keys[issuer.issuer].get(str(header.get("kid", "")))
        claims = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=self._audience,
            issuer=issuer.issuer,
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return issuer, claims


def act_on_behalf(caller: Caller | None, metadata: Mapping[str, str]) -> Caller | None:
    """The caller of a call whose metadata may name an owner. Raises InvalidArgument, PermissionDenied."""
    owner = metadata.get(ON_BEHALF_OF, "")
    # A program's metadata names the owner for whom the user behind it calls.
    if not owner or caller is None or isinstance(caller, Program):
        return caller
    if not isinstance(caller, Service):
        raise PermissionDenied(f"Only a service may send {ON_BEHALF_OF}", reason="CALLER_NOT_ALLOWED")
    if not re.fullmatch(OWNER_NAME, owner):
        raise InvalidArgument(ON_BEHALF_OF, "must be coach:ID or org:ID, with the id of a session's owner")
    if caller.owners is not None and owner not in caller.owners:
        message = f"The service {caller.name} may not act on behalf of {owner}"
        raise PermissionDenied(message, reason="OWNER_NOT_ALLOWED")
    return replace(caller, on_behalf_of=owner)


def _workload(claims: Mapping[str, Any], issuer: Issuer) -> Caller:
    subject = _text(claims, "sub")
    if grant := issuer.services.get(subject):
        owners = None if "*" in grant.owners else grant.owners
        return Service(grant.name, grant.may, owners, expires_at=_expiry(claims))
    program = issuer.subjects.get(subject)
    if program is None:
        raise Unauthenticated(f"The subject {subject} is not configured for any program or service")
    if program != "analyzer":
        return Program(program, issuer.cluster, _expiry(claims))
    try:
        kubernetes = claims["kubernetes.io"]
        pod, namespace = kubernetes["pod"], _text(kubernetes, "namespace")
        name, uid = _text(pod, "name"), _text(pod, "uid")
    except (KeyError, TypeError, AttributeError):
        name = uid = namespace = ""
    if not (name and uid and namespace):
        raise Unauthenticated("The token has no claim kubernetes.io with the pod's name, uid and namespace")
    return Pod(name, uid, namespace, issuer.cluster, _expiry(claims))


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is a text; empty if it is absent, null or otherwise empty. Raises Unauthenticated."""
    value = claims.get(name) or ""
    if not isinstance(value, str) or len(value) > MAX_CLAIM_CHARACTERS or not value.isprintable():
        raise _odd(name, f"a text of at most {MAX_CLAIM_CHARACTERS} printable characters")
    return value if value.strip() else ""


def _texts(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """A claim that is a list of texts; empty if it is absent, null or otherwise empty. Raises Unauthenticated."""
    value = claims.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _odd(name, "a list of texts")
    return frozenset(value)


def _expiry(claims: Mapping[str, Any]) -> float:
    value = claims.get("exp")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _odd("exp", "a number")
    return float(value)


def _odd(name: str, expected: str) -> Unauthenticated:
    return Unauthenticated(f"The token's claim {name} must be {expected}")
