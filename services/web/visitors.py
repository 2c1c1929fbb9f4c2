"""Who a visitor is: the person of a laptop by a cookie, a person of a cluster by the token that a login hands on.

laptop   one-time key in the URL that `crease up` prints ─▶ cookie, signed, HttpOnly, SameSite=Strict
cluster  authorization: Bearer <JWT>, verified as jobs verifies it

The token itself reaches neither a URL nor the browser's scripts.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from starlette.requests import Request

from services import naming
from services.auth import Person, Verifier
from services.errors import ServiceError, Unauthenticated
from services.web.faults import PageError, SignInRequired

COOKIE_SECONDS = 30 * 86400


@dataclass(frozen=True)
class Visitor:
    """`identity` distinguishes visitors, and the rights of one; `token` returns the newest token at each call.

    expires_at: the end of the sign-in, in seconds since the epoch.
    """

    identity: Hashable
    token: Callable[[], str]
    expires_at: float


class SignIn(Protocol):
    """A way in."""

    async def visitor(self, request: Request) -> Visitor:
        """The visitor of a request. Raises PageError."""


class LaptopSignIn:
    """The one person of a laptop. `folder` holds both keys; the cookie's name has the port, as cookies have none."""

    def __init__(self, folder: Path, token_file: Path, origin: str) -> None:
        self._token_file = token_file
        self._sign_in_file = folder / naming.SIGN_IN_FILE
        self._cookie_key = (folder / naming.COOKIE_KEY_FILE).read_bytes()
        self.cookie_name = f"crease-{origin.rpartition(':')[2]}"

    async def visitor(self, request: Request) -> Visitor:
        """As SignIn."""
        cookie = request.cookies.get(self.cookie_name, "")
        if not self._is_valid(cookie):
            raise SignInRequired("Open the address that `crease open` prints in a terminal: it signs this browser in.")
        return Visitor("laptop", self._read_token, float(cookie.partition(".")[0]))

    def enter(self, key: str) -> str:
        """The cookie for a one-time key, which is then used up. Raises SignInRequired."""
        try:
            if hmac.compare_digest(key.encode(), self._sign_in_file.read_bytes().strip()):
                # Of two requests with one key, the second finds no file.
                self._sign_in_file.unlink()
                return self._sign(int(time.time()) + COOKIE_SECONDS)
        except FileNotFoundError:
            pass
        raise SignInRequired("This address was used before. `crease open` prints a new one in a terminal.")

    def _read_token(self) -> str:
        return self._token_file.read_text().strip()

    def _sign(self, expires: int) -> str:
        proof = hmac.new(self._cookie_key, str(expires).encode(), hashlib.sha256).hexdigest()
        return f"{expires}.{proof}"

    def _is_valid(self, cookie: str) -> bool:
        expires, _, _ = cookie.partition(".")
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 12):
            return False
        return hmac.compare_digest(cookie.encode(), self._sign(int(expires)).encode()) and int(expires) > time.time()


class BearerSignIn:
    """The people of a cluster, by the token that the login in front of the page hands on with each request."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def visitor(self, request: Request) -> Visitor:
        """As SignIn."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise SignInRequired("You are not signed in.")
        try:
            caller = await self._verifier.verify(token)
        except Unauthenticated:
            raise SignInRequired("Your sign-in has expired.") from None
        except ServiceError as error:
            raise PageError(HTTPStatus.SERVICE_UNAVAILABLE, f"{str(error).rstrip('.')}.") from error
        if not isinstance(caller, Person):
            raise SignInRequired("This token is not a person's.")
        return Visitor(caller, lambda: token, caller.expires_at)
