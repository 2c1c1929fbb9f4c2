"""Links to reports: made for a report or a comparison, listed, and ended.

Without names and faces, the link shows an anonymous copy of the analysis, which is made first.
"""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_CANCELLED,
    JOB_STATUS_DONE,
    JOB_STATUS_FAILED,
    JOB_STATUS_UNSPECIFIED,
    GetJobRequest,
    Job,
    ListJobsRequest,
    ReanalyzeJobRequest,
    WatchJobRequest,
)
from crease.jobs.v1.library_pb2 import JobEntry, SearchJobsRequest
from crease.jobs.v1.share_pb2 import CreateShareRequest, ListSharesRequest, RevokeShareRequest, Share
from services import clients
from services.web import html, visit
from services.web.calls import Calls
from services.web.faults import PageError
from services.web.pages.home import STREAM_HEADERS
from services.web.pages.session import END

DAY_SECONDS = 86400
MOST_DAYS, MOST_JOBS = 90, 20
PAGE_SIZE = 20
# The event by which the form of a link asks again.
READY = "ready"


class NewShare(BaseModel):
    """The form of a link. `names`: readers see titles, names and faces."""

    job: list[str] = Field(min_length=1, max_length=MOST_JOBS)
    days: int = Field(default=7, ge=1, le=MOST_DAYS)
    names: bool = False


async def create(request: Request) -> Response:
    """A new link, as a fragment; or that anonymous copies are made first."""
    visiting = await visit.begin(request)
    calls = visiting.calls
    form = await visit.read_form(request, NewShare)
    chosen = [visit.as_id(job_id) for job_id in form.job]
    if not form.names:
        copies = await asyncio.gather(*(_anonymous(calls, job_id) for job_id in chosen))
        pending = [copy for copy in copies if copy.status != JOB_STATUS_DONE]
        if pending:
            visiting.live.wake(visiting.visitor)
            return html.page("share_pending.html", query=urlencode([("job", copy.job_id) for copy in pending]))
        chosen = [copy.job_id for copy in copies]
    asked = CreateShareRequest(
        job_ids=chosen,
        valid_for=Duration(seconds=form.days * DAY_SECONDS),
        with_names=form.names,
        request_id=str(uuid4()),
    )
    made = await calls.call(calls.stubs.shares.CreateShare, asked)
    origin: str = request.app.state.origin
    return html.page(
        "share_made.html",
        share=made.share,
        link=f"{origin}/s/{made.secret}",
        reach=_reach(urlsplit(origin).hostname or ""),
    )


def _reach(host: str) -> str:
    """Where a page of this name is alone reached: this `computer`, this `network`; empty: no such bound is known."""
    try:
        address = ip_address(host)
    except ValueError:
        return "computer" if host == "localhost" else ""
    return "computer" if address.is_loopback else "network" if address.is_private else ""


async def pending(request: Request) -> Response:
    """How far the copies of a link are, as server-sent events; then `ready`, by which its form asks again."""
    visiting = await visit.begin(request)
    copies = [visit.as_id(job_id) for job_id in request.query_params.getlist("job")[:MOST_JOBS]]
    calls = visiting.calls

    async def stream() -> AsyncIterator[str]:
        try:
            for job_id in copies:
                status = JOB_STATUS_UNSPECIFIED
                async for job in calls.stream(calls.stubs.jobs.WatchJob, WatchJobRequest(job_id=job_id)):
                    status = job.status
                    yield html.event(html.render("share_progress.html", job=job))
                if status != JOB_STATUS_DONE:
                    break
            else:
                yield html.event("", READY)
            yield html.event("", END)
        except grpc.RpcError as error:
            if not clients.is_transient(error):
                raise

    return StreamingResponse(stream(), media_type="text/event-stream", headers=STREAM_HEADERS)


async def _anonymous(calls: Calls, job_id: str) -> Job:
    """A job without names and faces: the job itself, its newest copy, or a new copy. Raises PageError."""
    job = await calls.call(calls.stubs.jobs.GetJob, GetJobRequest(job_id=job_id))
    if job.anonymous:
        return job
    if job.status != JOB_STATUS_DONE:
        raise PageError(HTTPStatus.CONFLICT, "Only a finished report can be shared.")
    listed = await calls.call(calls.stubs.jobs.ListJobs, ListJobsRequest(session_id=job.session_id))
    copies = [
        each
        for each in listed.jobs
        if each.source_job_id == job_id
        and each.anonymous
        and each.status not in (JOB_STATUS_FAILED, JOB_STATUS_CANCELLED)
    ]
    if copies:
        return copies[0]
    asked = ReanalyzeJobRequest(job_id=job_id, anonymous=True, request_id=str(uuid4()))
    return await calls.call(calls.stubs.jobs.ReanalyzeJob, asked)


async def shares(request: Request) -> Response:
    """The links that have not ended, newest first."""
    visiting = await visit.begin(request)
    calls = visiting.calls
    asked = ListSharesRequest(page_size=PAGE_SIZE, page_token=request.query_params.get("after", ""))
    listed = await calls.call(calls.stubs.shares.ListShares, asked)
    first = await asyncio.gather(*(_first(calls, share) for share in listed.shares))
    return html.page("shares.html", shares=list(zip(listed.shares, first, strict=True)), next=listed.next_page_token)


async def _first(calls: Calls, share: Share) -> JobEntry | None:
    """The first job of a share with its session; None if it is deleted."""
    found = await calls.call(calls.stubs.library.SearchJobs, SearchJobsRequest(id_prefix=share.job_ids[0]))
    return found.jobs[0] if found.jobs else None


async def revoke(request: Request) -> Response:
    """Ends a link; shows the list."""
    visiting = await visit.begin(request)
    asked = RevokeShareRequest(share_id=visit.path_id(request))
    await visiting.calls.call(visiting.calls.stubs.shares.RevokeShare, asked)
    return html.go_to(request, "/shares")
