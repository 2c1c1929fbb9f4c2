"""The files of an analysis: the film from S3 by a signed address, everything else through the page.

The report runs its own script. The page serves it under a sandbox of its own, so that it has no origin, no cookie and
no network.
"""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

import urllib3
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from crease.upload.v1.upload_pb2 import SignDownloadRequest, SignedRequest
from services.web import visit
from services.web.faults import PageError
from services.web.guard import REPORT_POLICY
from services.web.pages.session import DOWNLOADS, FILM, REPORT

THUMBNAIL = "thumbnail.jpg"
CHUNK_BYTES = 256 * 1024
TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
_pool = urllib3.PoolManager(maxsize=8, retries=False, timeout=TIMEOUT)


async def film(request: Request) -> Response:
    """Sends the browser to the film in S3."""
    signed = await _sign(request, FILM)
    return RedirectResponse(signed.url)


async def thumbnail(request: Request) -> Response:
    """Sends the browser to the picture of an analysis in S3."""
    return RedirectResponse((await _sign(request, THUMBNAIL)).url)


async def report(request: Request) -> Response:
    """The report, in its sandbox."""
    return show_report(await _sign(request, REPORT))


async def download(request: Request) -> Response:
    """A file to save."""
    name = request.path_params["name"]
    if name not in DOWNLOADS:
        raise PageError(HTTPStatus.NOT_FOUND, "There is no such file.")
    saved = {"content-disposition": f'attachment; filename="{name}"', "content-security-policy": "sandbox"}
    return _stream(await _sign(request, name), saved, "application/octet-stream")


async def _sign(request: Request, name: str) -> SignedRequest:
    visiting = await visit.begin(request)
    asked = SignDownloadRequest(job_id=visit.job_id(request), name=name)
    return (await visiting.calls.call(visiting.calls.stubs.uploads.SignDownload, asked)).get


def show_report(signed: SignedRequest) -> Response:
    """A report in its sandbox."""
    return _stream(signed, {"content-security-policy": REPORT_POLICY}, "text/html")


def _stream(signed: SignedRequest, headers: dict[str, str], media_type: str) -> Response:
    """A file of S3, piece by piece. Starlette reads the blocking iterator in a thread."""

    def pieces() -> Iterator[bytes]:
        reply = _pool.request("GET", signed.url, headers=dict(signed.headers), preload_content=False)
        with contextlib.closing(reply):
            if reply.status != 200:
                raise OSError(f"S3 answered {reply.status}")
            yield from reply.stream(CHUNK_BYTES)

    return StreamingResponse(pieces(), media_type=media_type, headers=headers)
