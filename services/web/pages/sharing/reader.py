"""The page of a share's reader: one report or one comparison, by the secret in its address, without a sign-in.

GET /s/SECRET ─▶ ReadShare with the secret ─▶ the report; its film from S3 by a signed address
"""

import re
from http import HTTPStatus

from google.protobuf.timestamp_pb2 import Timestamp
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from crease.jobs.v1.job_pb2 import STAGE_DEEP, Job
from crease.jobs.v1.session_pb2 import Session
from crease.upload.v1.share_pb2 import ReadShareRequest, ReadShareResponse, SharedReport
from crease.upload.v1.upload_pb2 import SignedRequest
from services.comparison import page
from services.web import html
from services.web.calls import Calls
from services.web.faults import PageError
from services.web.guard import comparison_policy
from services.web.pages.files import show_report
from services.web.pages.session import FILM, REPORT, read
from services.web.visit import Shared

SECRET = re.compile(r"[A-Za-z0-9_-]{16,128}")
HEADERS = {"x-robots-tag": "noindex"}


async def shared(request: Request) -> Response:
    """The whole page."""
    path, share = _path(request), await _read(request)
    if share.HasField("compared"):
        answer = html.page("shared_comparison.html", path=path, share=share)
    else:
        [report] = share.reports
        reading = read(report.results)
        answer = html.page(
            "shared.html",
            share=share,
            shared=report,
            day=_day_of(report),
            discipline=html.discipline(report.discipline),
            reading=reading,
            film=f"{path}/films/0" if _has(report, FILM) else "",
            report=f"{path}/report" if _has(report, REPORT) else "",
        )
    answer.headers.update(HEADERS)
    return answer


async def film(request: Request) -> Response:
    """Sends the browser to a film in S3."""
    share = await _read(request)
    number = int(request.path_params["number"])
    if number >= len(share.reports):
        raise PageError(HTTPStatus.NOT_FOUND, "There is no such film.")
    return RedirectResponse(_find(share.reports[number], FILM).url)


async def report(request: Request) -> Response:
    """The report, in its sandbox."""
    share = await _read(request)
    return show_report(_find(share.reports[0], REPORT))


async def comparison(request: Request) -> Response:
    """The comparison itself."""
    path, share = _path(request), await _read(request)
    if not share.HasField("compared"):
        raise PageError(HTTPStatus.NOT_FOUND, "There is no such comparison.")
    s3_origin = request.app.state.shared.s3_origin
    analyses = [
        page.analysis_of(
            Job(results=each.results, results_stage=STAGE_DEEP),
            Session(title=each.title or "Film"),
            html.utc_day(_day_of(each)),
            f"{path}/films/{number}" if _has(each, FILM) else "",
            "this analysis has none",
            time=html.utc(_day_of(each)),
        )
        for number, each in enumerate(share.reports)
    ]
    policy = {"content-security-policy": comparison_policy(s3_origin)}
    return HTMLResponse(page.render(analyses, share.compared, f"'self' {s3_origin}"), headers=HEADERS | policy)


async def _read(request: Request) -> ReadShareResponse:
    """What the secret shares. Raises PageError."""
    secret = request.path_params["secret"]
    if not SECRET.fullmatch(secret):
        raise PageError(HTTPStatus.NOT_FOUND, "This link is not complete. Copy the whole of it.")
    services: Shared = request.app.state.shared
    calls = Calls(services.stubs, lambda: secret, "Share")
    try:
        return await calls.call(calls.stubs.shared.ReadShare, ReadShareRequest())
    except PageError as error:
        if error.status is HTTPStatus.NOT_FOUND:
            raise PageError(error.status, "This link has ended. Ask the person who sent it for a new one.") from None
        raise


def _day_of(shared_report: SharedReport) -> Timestamp:
    """When the film was sent: the copy without names is younger. An older upload knows only the copy's time."""
    return shared_report.created_at if shared_report.HasField("created_at") else shared_report.completed_at


def _path(request: Request) -> str:
    return f"/s/{request.path_params['secret']}"


def _has(shared_report: SharedReport, name: str) -> bool:
    return any(file.name == name for file in shared_report.files)


def _find(shared_report: SharedReport, name: str) -> SignedRequest:
    for file in shared_report.files:
        if file.name == name:
            return file.get
    raise PageError(HTTPStatus.NOT_FOUND, "There is no such file.")
