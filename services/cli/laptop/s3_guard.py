"""Runs ministack behind a guard: only S3 and SQS calls that the server's own key signed reach it.

    preflight of the page's own origin ─▶ ministack, which answers by the bucket's CORS rules
    Host, Origin ─▶ credential: the own key, for s3 or sqs ─▶ all x-amz-* headers are signed ─▶ signature ─▶ ministack

ministack's other endpoints need no credential: any page that a browser shows could delete all videos through them.
The Python that has ministack runs this file as a program, so it imports nothing of Crease.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote

import ministack.app
from ministack.core.sigv4 import (
    decode_header_value,
    header_signature_failure,
    parse_header_signature,
    parse_query_signature,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fault = tuple[str, str]

# The guard answers this itself, with nothing in it.
HEALTH_PATH = "/_ministack/health"
SERVICES = ("s3", "sqs")
# The largest SQS message has 1 MiB. S3 names the hash of a body in a header, so its bodies pass unread.
LARGEST_SQS_CALL = 2 << 20
POLICY_VIOLATION = 1008

_serve = ministack.app.app
_key, _secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
# The page of `crease up`, whose browsers send and read videos by signed URLs. Empty: no page.
_page = os.environ.get("PAGE_ORIGIN", "")
_bound = os.environ["BIND_HOST"]
# In a cluster the server listens everywhere and has any name; its callers sign the name.
_names = {"127.0.0.1": ("127.0.0.1", "localhost"), "0.0.0.0": None}.get(_bound, (_bound,))  # noqa: S104


async def guard(scope: Message, receive: Receive, send: Send) -> None:
    """The ASGI application: hands a call over to ministack, or refuses it."""
    if scope["type"] == "lifespan":
        await _serve(scope, receive, send)
    elif scope["type"] != "http":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
    elif scope["path"] == HEALTH_PATH:
        await _answer(send, 200, "")
    else:
        headers = _read_headers(scope)
        query = parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
        fault = _find_foreign_page(headers) or _find_foreign_path(scope["path"])
        if not fault and not _is_preflight(scope["method"], headers):
            fault, receive = await _find_signature_fault(scope, headers, query, receive)
        if fault:
            code, message = fault
            await _answer(send, 403, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")
        else:
            await _serve(scope, receive, send)


def _read_headers(scope: Message) -> dict[str, str]:
    """Headers by name in small letters, as ministack reads them: repeated ones are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), decode_header_value(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _find_foreign_page(headers: dict[str, str]) -> Fault | None:
    host, origin = headers.get("host", ""), headers.get("origin")
    if _names and host.partition(":")[0] not in _names:
        return "AccessDenied", "This server has another Host."
    if origin is not None and origin.partition("://")[2] != host and (not _page or origin != _page):
        return "AccessDenied", "A page of another Origin may not call this server."
    return None


def _is_preflight(method: str, headers: dict[str, str]) -> bool:
    """Whether a browser asks what the page may send; a preflight has no signature, and changes nothing."""
    return method == "OPTIONS" and bool(_page) and headers.get("origin") == _page


def _find_foreign_path(path: str) -> Fault | None:
    if path.startswith(("/_ministack", "/_localstack", "/_aws")):
        return "AccessDenied", "This server answers S3 and SQS calls only."
    return None


async def _find_signature_fault(
    scope: Message, headers: dict[str, str], query: dict[str, list[str]], receive: Receive
) -> tuple[Fault | None, Receive]:
    """Why the call is refused, if it is; and where ministack reads its body."""
    presigned = "authorization" not in headers
    signature = parse_query_signature(query) if presigned else parse_header_signature(headers)
    if isinstance(signature, tuple):
        return ("AccessDenied", "This server answers signed calls only."), receive
    if signature.access_key_id != _key:
        return ("InvalidAccessKeyId", "This server has another access key."), receive
    if signature.service not in SERVICES:
        return ("AccessDenied", "This server answers S3 and SQS calls only."), receive
    signed = signature.signed_headers.split(";")
    if unsigned := [name for name in headers if name.startswith("x-amz-") and name not in signed]:
        return ("AccessDenied", f"These headers must be signed: {', '.join(unsigned)}."), receive
    if "host" not in signed:
        return ("AccessDenied", "The header Host must be signed."), receive
    body = b""
    if signature.service == "sqs":
        body, receive = await _read_small_body(receive)
    raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    fault = header_signature_failure(
        signature, _secret, scope["method"], raw_path, query, headers, body, presigned=presigned
    )
    return fault, receive


async def _read_small_body(receive: Receive) -> tuple[bytes, Receive]:
    """The body, at most LARGEST_SQS_CALL of it, and a function that gives it once more."""
    body, more = b"", True
    while more and len(body) <= LARGEST_SQS_CALL:
        message = await receive()
        if message["type"] != "http.request":
            return b"", receive
        body += message.get("body", b"")
        more = message.get("more_body", False)
    messages = [{"type": "http.request", "body": body, "more_body": more}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return body, again


async def _answer(send: Send, status: int, body: str) -> None:
    headers = [(b"content-type", b"application/xml"), (b"content-length", str(len(body.encode())).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


if __name__ == "__main__":
    ministack.app.app = guard
    ministack.app.main()
