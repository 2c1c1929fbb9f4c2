"""The library: every session, newest first, with its newest analysis."""

from starlette.requests import Request
from starlette.responses import Response

from crease.jobs.v1.job_pb2 import JOB_STATUS_DONE, Job, ListJobsRequest
from crease.jobs.v1.session_pb2 import ListSessionsRequest
from services.web import html, visit

PAGE_SIZE = 50
# Jobs of the listed sessions: more than one a session after corrections.
JOBS_LISTED = 200


async def library(request: Request) -> Response:
    """One page of sessions."""
    visiting = await visit.begin(request)
    calls = visiting.calls
    listed = await calls.call(
        calls.stubs.sessions.ListSessions,
        ListSessionsRequest(page_size=PAGE_SIZE, page_token=request.query_params.get("after", "")),
    )
    newest: dict[str, Job] = {}
    jobs = await calls.call(calls.stubs.jobs.ListJobs, ListJobsRequest(page_size=JOBS_LISTED))
    for job in jobs.jobs:
        known = newest.setdefault(job.session_id, job)
        if known.status != JOB_STATUS_DONE and job.status == JOB_STATUS_DONE:
            newest[job.session_id] = job
    return html.page(
        "library.html",
        sessions=[(session, newest.get(session.session_id)) for session in listed.sessions],
        done=JOB_STATUS_DONE,
        next=listed.next_page_token,
    )
