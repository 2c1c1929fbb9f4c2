"""The public keys of one token issuer, cached and fetched in the background. At most one fetch is in flight.

known key     returned at once; of an old cache, after waiting briefly for a fetch
unknown key   waits briefly for a fetch, then is rejected
no key at all waits for the fetch in flight

An answer without usable keys counts as a failed fetch. While fetches fail, the last good keys stay valid for
`keep_seconds`; a good answer without a key withdraws that key.
"""

import asyncio
import json
import ssl
import time
import urllib.request
from typing import Any

import jwt

from services import metrics
from services.clients import bearer
from services.errors import Unauthenticated, Unavailable
from services.settings import Issuer

# Asymmetric algorithms only: with HMAC, the public key would be a signing key.
ALGORITHMS = ("ES256", "RS256")
# The age at which cached keys are fetched again, and the shortest interval between two fetches while keys are cached.
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0
# The longest fetch, and how long a call waits for one while other keys are known.
FETCH_SECONDS = 5.0
BRIEF_SECONDS = 0.5
MAX_ANSWER_BYTES = 2**20


class IssuerKeys:
    def __init__(self, issuer: Issuer, keep_seconds: float) -> None:
        self._issuer = issuer
        self._keep_seconds = keep_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._began_at = float("-inf")
        self._fetch: asyncio.Task[None] | None = None
        self._failure = ""

    async def get(self, key_id: str) -> jwt.PyJWK:
        """The key with an id. Raises Unauthenticated for an unknown id, Unavailable while no key is known."""
        age = time.monotonic() - self._fetched_at
        if age > self._keep_seconds:
            self._keys = {}
        if not self._keys:
            await self._fetched(FETCH_SECONDS)
        elif key_id not in self._keys or age > REFRESH_SECONDS:
            await self._fetched_if_due()
        if not self._keys:
            cause = self._failure or "no answer"
            raise Unavailable(f"The issuer's keys could not be fetched: {cause}", reason="ISSUER_AWAY")
        try:
            return self._keys[key_id]
        except KeyError:
            metrics.ISSUER_KEY_FAULTS.labels(metrics.UNKNOWN_KEY).inc()
            raise Unauthenticated("The token's key id is not among the issuer's keys") from None

    async def _fetched_if_due(self) -> None:
        """Waits briefly for a fetch, unless one ended a moment ago. After a failed one it waits no more."""
        if self._fetch is None and time.monotonic() - self._began_at <= RETRY_SECONDS:
            return
        fetch = self._begin()
        if not self._failure:
            await asyncio.wait({fetch}, timeout=BRIEF_SECONDS)

    def _begin(self) -> asyncio.Task[None]:
        """The fetch in flight; begins one if there is none."""
        if self._fetch is None:
            self._began_at = time.monotonic()
            self._fetch = asyncio.create_task(self._refresh())
        return self._fetch

    async def _fetched(self, seconds: float) -> None:
        """Waits for the fetch in flight. A call that ends meanwhile does not end the fetch."""
        await asyncio.wait({self._begin()}, timeout=seconds)

    async def _refresh(self) -> None:
        try:
            self._keys = await asyncio.to_thread(_download, self._issuer)
            self._fetched_at, self._failure = time.monotonic(), ""
        except Exception as error:
            # The answer is another program's: any failure to read it is the issuer's.
            self._failure = str(error) or type(error).__name__
            metrics.ISSUER_KEY_FAULTS.labels(metrics.FAILED_FETCH).inc()
        finally:
            self._fetch = None


def _download(issuer: Issuer) -> dict[str, jwt.PyJWK]:
    request = urllib.request.Request(issuer.jwks_url)  # noqa: S310 (an operator's setting)
    if issuer.jwks_token_file:
        # Read each time: the cluster renews it. Not sent to where the server redirects.
        request.add_unredirected_header(*bearer(issuer.jwks_token_file))
    context = ssl.create_default_context(cafile=issuer.jwks_ca_file) if issuer.jwks_ca_file else None
    give_up = time.monotonic() + FETCH_SECONDS
    with urllib.request.urlopen(request, timeout=FETCH_SECONDS, context=context) as reply:  # noqa: S310 (as above)
        body = b""
        # The time limit of urlopen is that of one read: a server that sends a byte now and then never meets it.
        while chunk := reply.read1(65536):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES or time.monotonic() > give_up:
                raise ValueError(f"the answer exceeds {MAX_ANSWER_BYTES} bytes or {FETCH_SECONDS:g} s")
    return _parse(json.loads(body))


def _parse(answer: Any) -> dict[str, jwt.PyJWK]:
    """The usable keys by id. Raises an exception for an answer without one."""
    published = jwt.PyJWKSet.from_dict(answer).keys
    usable = {key.key_id or "": key for key in published if key.algorithm_name in ALGORITHMS}
    if not usable:
        raise ValueError(f"no key is for {' or '.join(ALGORITHMS)}")
    return usable
