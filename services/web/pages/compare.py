"""Two or more analyses of one player: the comparison page of `crease compare`, with its films from S3.

The comparison is a document of its own in a frame: its style and its script are inside it, allowed by hash.
"""

import asyncio
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from crease.jobs.v1.job_pb2 import CompareJobsRequest, GetJobRequest, Job
from crease.jobs.v1.session_pb2 import GetSessionRequest
from services.comparison import page
from services.comparison.page import ComparedAnalysis
from services.rules.artifacts import newest_artifacts
from services.web import html, visit
from services.web.calls import Calls
from services.web.faults import PageError
from services.web.guard import comparison_policy
from services.web.pages.session import FILM

FEWEST, MOST = 2, 20


async def compare(request: Request) -> Response:
    """The frame around the comparison. A refusal is shown here, in words."""
    visiting = await visit.begin(request)
    jobs = await _read_jobs(visiting.calls, request)
    await visiting.calls.call(visiting.calls.stubs.jobs.CompareJobs, _to_request(jobs))
    job_ids = [job.job_id for job in jobs]
    query = urlencode([("job", job_id) for job_id in job_ids])
    return html.page("compare.html", query=query, job_ids=job_ids)


async def comparison(request: Request) -> Response:
    """The comparison itself."""
    visiting = await visit.begin(request)
    calls, s3_origin = visiting.calls, request.app.state.shared.s3_origin
    jobs = await _read_jobs(calls, request)
    compared = await calls.call(calls.stubs.jobs.CompareJobs, _to_request(jobs))
    analyses = await asyncio.gather(*(_analysis(calls, job) for job in jobs))
    policy = {"content-security-policy": comparison_policy(s3_origin)}
    return HTMLResponse(page.render(analyses, compared, f"'self' {s3_origin}"), headers=policy)


async def _read_jobs(calls: Calls, request: Request) -> list[Job]:
    """The chosen jobs, oldest first. Raises PageError."""
    chosen = [visit.as_id(job_id) for job_id in dict.fromkeys(request.query_params.getlist("job"))]
    if not FEWEST <= len(chosen) <= MOST:
        raise PageError(HTTPStatus.BAD_REQUEST, f"Choose {FEWEST} to {MOST} films of one player in the library.")
    found = await asyncio.gather(
        *(calls.call(calls.stubs.jobs.GetJob, GetJobRequest(job_id=job_id)) for job_id in chosen)
    )
    return sorted(found, key=lambda job: job.created_at.ToNanoseconds())


def _to_request(jobs: list[Job]) -> CompareJobsRequest:
    return CompareJobsRequest(job_ids=[job.job_id for job in jobs])


async def _analysis(calls: Calls, job: Job) -> ComparedAnalysis:
    session = await calls.call(calls.stubs.sessions.GetSession, GetSessionRequest(session_id=job.session_id))
    # An address of the page, which asks S3 for a new one whenever the browser does.
    video = f"/jobs/{job.job_id}/film" if FILM in newest_artifacts(job) else ""
    date, time = html.utc_day(job.created_at), html.utc(job.created_at)
    return page.analysis_of(job, session, date, video, "this analysis has none", time=time)
