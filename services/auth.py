"""Who calls: a bearer token of a configured issuer becomes a caller; a lease is a caller of its own kind.

authorization: Bearer <JWT>    a person, a program of ours, or a pod, by the issuer's kind
authorization: Lease <secret>  one launch; only `jobs` can say whether it lives
crease-user: <JWT>             the person for whom a program of ours asks
"""

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from services.errors import Unauthenticated, Unavailable
from services.settings import Issuer

# Asymmetric only: with HMAC in the list, anyone could sign with a public key that everyone can read.
ALGORITHMS = ("ES256", "RS256")
CLOCK_SKEW_SECONDS = 30
# An unknown key id makes us fetch an issuer's keys again, but no more often than this; known ones last longer.
REFRESH_SECONDS = 10.0
KEYS_SECONDS = 300.0
MAX_TOKEN_CHARACTERS = 8192
# Checking a signature costs more than most calls, and a caller shows the same token again and again: one that was
# checked is believed for this long.
BELIEVED_SECONDS = 60.0
MOST_BELIEVED = 10_000


@dataclass(frozen=True)
class Person:
    """A user: `subject` is the issuer's stable id, `role` one of coach_pro_plus, org_pro, superuser."""

    subject: str
    role: str
    organisation_id: str = ""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Service:
    """A program of ours: upload or controller."""

    name: str


@dataclass(frozen=True)
class Pod:
    """The analyzer's pod, before it has a lease."""

    name: str
    uid: str
    namespace: str


@dataclass(frozen=True)
class Lease:
    """A secret that `jobs` gave to one pod for one launch."""

    secret: str = field(repr=False)


Caller = Person | Service | Pod | Lease


class _Keys:
    """One issuer's public keys: fetched again for an unknown key id, so that a rotation needs no restart, and now and
    then, so that a key that was withdrawn proves nothing for long."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        # Who meets an unknown key id while the keys are being fetched waits for them.
        self._fetching = asyncio.Lock()

    async def get(self, key_id: str) -> jwt.PyJWK:
        if self._is_stale(key_id):
            async with self._fetching:
                if self._is_stale(key_id):
                    await self._refresh(key_id)
        try:
            return self._keys[key_id]
        except KeyError:
            raise Unauthenticated("The token's key is unknown to its issuer") from None

    def _is_stale(self, key_id: str) -> bool:
        return time.monotonic() - self._fetched_at > (KEYS_SECONDS if key_id in self._keys else REFRESH_SECONDS)

    async def _refresh(self, key_id: str) -> None:
        try:
            self._keys = await asyncio.to_thread(_fetch, self._issuer)
        except (OSError, ValueError) as error:
            # An issuer that is away does not unmake the keys it gave.
            if key_id not in self._keys:
                raise Unavailable(f"The issuer's keys could not be read: {error}", reason="ISSUER_AWAY") from None
        self._fetched_at = time.monotonic()


def _fetch(issuer: Issuer) -> dict[str, jwt.PyJWK]:
    request = urllib.request.Request(issuer.jwks_url)  # noqa: S310 (the operator's own setting)
    if issuer.jwks_token_file:
        # Read each time, since the cluster renews it; left out where a server redirects.
        request.add_unredirected_header(*bearer(issuer.jwks_token_file))
    context = ssl.create_default_context(cafile=issuer.jwks_ca_file) if issuer.jwks_ca_file else None
    with urllib.request.urlopen(request, timeout=5, context=context) as reply:  # noqa: S310 (as above)
        return {key.key_id or "": key for key in jwt.PyJWKSet.from_dict(json.load(reply)).keys}


@dataclass(frozen=True)
class _Believed:
    caller: Caller
    # Seconds since the epoch.
    until: float


class Verifier:
    """Turns a call's metadata into its caller."""

    def __init__(self, issuers: Sequence[Issuer], audience: str) -> None:
        self._issuers = {i.issuer: i for i in issuers}
        self._keys = {i.issuer: _Keys(i) for i in issuers}
        self._audience = audience
        self._believed: dict[str, _Believed] = {}

    async def caller(self, metadata: Mapping[str, str]) -> Caller | None:
        """None where nobody says who calls. Raises Unauthenticated for a token that proves nothing."""
        scheme, _, secret = metadata.get("authorization", "").partition(" ")
        match scheme.lower():
            case "":
                return None
            case "lease" if secret:
                return Lease(secret)
            case "bearer" if secret:
                return await self.verify(secret)
            case _:
                raise Unauthenticated("authorization must be 'Bearer <token>' or 'Lease <secret>'")

    async def verify(self, token: str) -> Caller:
        """The caller that a token proves. Raises Unauthenticated, and Unavailable where the issuer's keys can't be read."""
        believed = self._believed.get(token)
        if believed is not None and time.time() < believed.until:
            return believed.caller
        try:
            issuer, claims = await self._decode(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The token is not valid: {error}") from None
        caller = _person(claims) if issuer.kind == "people" else _workload(claims, issuer)
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[token] = _Believed(caller, min(float(claims["exp"]), time.time() + BELIEVED_SECONDS))
        return caller

    async def _decode(self, token: str) -> tuple[Issuer, dict[str, Any]]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("The token is too long")
        header = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        issuer = self._issuers.get(str(claimed))
        if issuer is None:
            raise Unauthenticated("The token's issuer is not configured here")
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


def _person(claims: Mapping[str, Any]) -> Person:
    features = claims.get("features", [])
    return Person(
        subject=claims["sub"],
        role=str(claims.get("role", "")),
        organisation_id=str(claims.get("org_id", "")),
        features=frozenset(map(str, features)) if isinstance(features, list) else frozenset(),
    )


def _workload(claims: Mapping[str, Any], issuer: Issuer) -> Caller:
    program = issuer.subjects.get(claims["sub"])
    if program is None:
        raise Unauthenticated(f"{claims['sub']} is no program of ours")
    if program != "analyzer":
        return Service(program)
    try:
        kubernetes = claims["kubernetes.io"]
        return Pod(kubernetes["pod"]["name"], kubernetes["pod"]["uid"], kubernetes["namespace"])
    except (KeyError, TypeError):
        raise Unauthenticated("The token does not say which pod it is") from None


def bearer(token_file: Path) -> tuple[str, str]:
    """The metadata by which a program of ours proves itself. Read at each call, since the cluster renews the file."""
    return ("authorization", f"Bearer {token_file.read_text().strip()}")
