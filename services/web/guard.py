"""Protects every answer, before any page is asked: whose request it is, and what the browser may do with the answer.

Host ─▶ is this the page's own name? (a foreign name that resolves to this machine is DNS rebinding)
state-changing method ─▶ Sec-Fetch-Site: same-origin, or an Origin of the page (a foreign page sends the cookie too)
answer ─▶ content security policy, no framing, no sniffing, no referrer, no cache
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH_PATH = "/healthz"
READING = ("GET", "HEAD")
# The analyzer wrote a report from a stranger's film: it runs its script without an origin, and loads nothing.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts allow-modals"
)


def page_policy(s3_origin: str) -> str:
    """The content security policy of the page: its own files, and films and parts from and to S3."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; frame-src 'self'; "
        f"img-src 'self' data: blob: {s3_origin}; media-src 'self' blob: {s3_origin}; connect-src 'self' {s3_origin}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def comparison_policy(s3_origin: str) -> str:
    """The policy of a comparison, whose own policy allows its style and its script alone, by hash."""
    return (
        f"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; media-src 'self' {s3_origin}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, origin: str, s3_origin: str) -> None:
        self._app = app
        self._origin = origin
        self._host = origin.partition("://")[2]
        self._policy = page_policy(s3_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == HEALTH_PATH:
            await PlainTextResponse("ok")(scope, receive, send)
        elif refusal := self._refusal(scope["method"], Headers(scope=scope)):
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, self._protect(send))

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        if headers.getlist("host") != [self._host]:
            return PlainTextResponse(f"This page has another address: open {self._origin}.", 421)
        if method in READING:
            return None
        site = headers.get("sec-fetch-site")
        # Another port of the same machine is `same-site`.
        is_own = site == "same-origin" if site is not None else headers.get("origin") == self._origin
        return None if is_own else PlainTextResponse("A page of another origin may not do this.", 403)

    def _protect(self, send: Send) -> Send:
        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", self._policy)
                headers.setdefault("cache-control", "no-store")
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"
                headers["cross-origin-opener-policy"] = "same-origin"
                headers["cross-origin-resource-policy"] = "same-origin"
                headers["permissions-policy"] = "camera=(), microphone=(), geolocation=()"
            await send(message)

        return protected
