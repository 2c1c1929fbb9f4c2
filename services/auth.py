"""Authentication: turns the metadata of a call into its caller.

authorization: Bearer <JWT>    a person, a service or a pod, by the kind of the token's issuer
authorization: Lease <secret>  one launch; jobs checks the secret
crease-user: <JWT>             the person on whose behalf a service calls
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

# Asymmetric algorithms only: with HMAC, the public key would be a signing key.
ALGORITHMS = ("ES256", "RS256")
CLOCK_SKEW_SECONDS = 30
# How often an unknown key id may trigger a fetch of the issuer's keys, and how long known keys are cached.
REFRESH_SECONDS = 10.0
KEYS_SECONDS = 300.0
MAX_TOKEN_CHARACTERS = 8192
# Checking a signature costs more than most calls, and callers reuse tokens: a verified token is cached for this long.
TOKEN_CACHE_SECONDS = 60.0
MAX_CACHED_TOKENS = 10_000


@dataclass(frozen=True)
class Person:
    """A user. `subject`: the issuer's stable id. `role`: a role of services/naming.py."""

    subject: str
    role: str
    organisation_id: str = ""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Service:
    """Another program of Crease: upload or controller."""

    name: str


@dataclass(frozen=True)
class Pod:
    """An analyzer's pod, before it has a lease."""

    name: str
    uid: str
    namespace: str


@dataclass(frozen=True)
class Lease:
    """The secret that jobs issued to one pod for one launch."""

    secret: str = field(repr=False)


Caller = Person | Service | Pod | Lease


class _IssuerKeys:
    """The public keys of one issuer, cached.

    An unknown key id triggers a fetch, so that a key rotation needs no restart. The cache expires, so that a withdrawn
    key does too.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        # Calls with an unknown key id share one fetch.
        self._fetch_lock = asyncio.Lock()

    async def get(self, key_id: str) -> jwt.PyJWK:
        if self._is_stale(key_id):
            async with self._fetch_lock:
                if self._is_stale(key_id):
                    await self._refresh(key_id)
        try:
            return self._keys[key_id]
        except KeyError:
            raise Unauthenticated("The token's key id is not among the issuer's keys") from None

    def _is_stale(self, key_id: str) -> bool:
        return time.monotonic() - self._fetched_at > (KEYS_SECONDS if key_id in self._keys else REFRESH_SECONDS)

    async def _refresh(self, key_id: str) -> None:
        try:
            self._keys = await asyncio.to_thread(_fetch, self._issuer)
        except (OSError, ValueError) as error:
            # Known keys stay valid while the issuer is unavailable.
            if key_id not in self._keys:
                raise Unavailable(f"The issuer's keys could not be fetched: {error}", reason="ISSUER_AWAY") from None
        self._fetched_at = time.monotonic()


def _fetch(issuer: Issuer) -> dict[str, jwt.PyJWK]:
    request = urllib.request.Request(issuer.jwks_url)  # noqa: S310 (an operator's setting)
    if issuer.jwks_token_file:
        # Read each time: the cluster renews it. Not sent to where the server redirects.
        request.add_unredirected_header(*bearer(issuer.jwks_token_file))
    context = ssl.create_default_context(cafile=issuer.jwks_ca_file) if issuer.jwks_ca_file else None
    with urllib.request.urlopen(request, timeout=5, context=context) as reply:  # noqa: S310 (as above)
        return {key.key_id or "": key for key in jwt.PyJWKSet.from_dict(json.load(reply)).keys}


@dataclass(frozen=True)
class _VerifiedToken:
    caller: Caller
    # When the cache entry expires, in seconds since the epoch.
    until: float


class Verifier:
    """Verifies tokens of the configured issuers."""

    def __init__(self, issuers: Sequence[Issuer], audience: str) -> None:
        self._issuers = {i.issuer: i for i in issuers}
        self._keys = {i.issuer: _IssuerKeys(i) for i in issuers}
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
            case "bearer" if secret:
                return await self.verify(secret)
            case _:
                raise Unauthenticated("authorization must be 'Bearer <token>' or 'Lease <secret>'")

    async def verify(self, token: str) -> Caller:
        """The caller of a token. Raises Unauthenticated, or Unavailable where the issuer's keys cannot be fetched."""
        verified = self._verified.get(token)
        if verified is not None and time.time() < verified.until:
            return verified.caller
        try:
            issuer, claims = await self._decode(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The token is not valid: {error}") from None
        caller = _person(claims) if issuer.kind == "people" else _workload(claims, issuer)
        if len(self._verified) >= MAX_CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = _VerifiedToken(caller, min(float(claims["exp"]), time.time() + TOKEN_CACHE_SECONDS))
        return caller

    async def _decode(self, token: str) -> tuple[Issuer, dict[str, Any]]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated(f"The token is longer than {MAX_TOKEN_CHARACTERS} characters")
        header = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        issuer = self._issuers.get(str(claimed))
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
        raise Unauthenticated(f"The subject {claims['sub']} is not configured for any program")
    if program != "analyzer":
        return Service(program)
    try:
        kubernetes = claims["kubernetes.io"]
        return Pod(kubernetes["pod"]["name"], kubernetes["pod"]["uid"], kubernetes["namespace"])
    except (KeyError, TypeError):
        raise Unauthenticated("The token has no claim kubernetes.io with the pod's name, uid and namespace") from None


def bearer(token_file: Path) -> tuple[str, str]:
    """The authorization metadata of a service. Read at each call: the cluster renews the file."""
    return ("authorization", f"Bearer {token_file.read_text().strip()}")
