"""What a visitor does with a job: cancel, try again, ask why it is not done, correct what was measured."""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from crease.jobs.v1.job_pb2 import (
    AthleteBox,
    CancelJobRequest,
    ExplainJobRequest,
    GivenEvent,
    ReanalyzeJobRequest,
    RetryJobRequest,
)
from crease.jobs.v1.session_pb2 import Discipline
from services import naming
from services.rules.limits import CAPTURE_FPS_RULE, IN_PICTURE_RULE, is_capture_fps, is_in_picture
from services.web import html, visit
from services.web.faults import PageError
from services.web.live import list_recent
from services.web.pages.home import list_jobs

DisciplineName = Literal["batting", "bowling", "wicketkeeping", "fielding"]


async def cancel(request: Request) -> Response:
    """Cancels a job; answers with the list, or shows the job."""
    visiting = await visit.begin(request)
    await visiting.calls.call(visiting.calls.stubs.jobs.CancelJob, CancelJobRequest(job_id=visit.job_id(request)))
    return await _shown(request, visiting)


async def retry(request: Request) -> Response:
    """Queues a failed job again; answers with the list, or shows the job."""
    visiting = await visit.begin(request)
    await visiting.calls.call(visiting.calls.stubs.jobs.RetryJob, RetryJobRequest(job_id=visit.job_id(request)))
    return await _shown(request, visiting)


async def why(request: Request) -> Response:
    """One sentence: why the job is not done, or how it ended and what to do."""
    visiting = await visit.begin(request)
    job_id = visit.job_id(request)
    stubs = visiting.calls.stubs
    explained = await visiting.calls.call(stubs.jobs.ExplainJob, ExplainJobRequest(job_id=job_id))
    return HTMLResponse(html.render("why.html", sentence=explained.sentence))


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal[""]


class Correction(BaseModel):
    """The form *Not right?*. Empty fields keep what the job had."""

    discipline: DisciplineName
    # Frames a second at which the camera recorded.
    capture_fps: float | Literal[""] = ""
    # Pictures a second that are measured.
    sample_fps: int | Literal[""] = ""
    # The seconds at which a moment is, by the names of `naming.EVENT_LABELS`.
    front_foot_contact: Seconds = ""
    fastest_hands: Seconds = ""
    release: Seconds = ""
    throw: Seconds = ""
    take: Seconds = ""
    # The person in the first picture: left, top, width and height as shares of it.
    box: str = Field(default="", max_length=100)


async def correct(request: Request) -> Response:
    """Measures the job's film again with the corrections; goes to the new job."""
    visiting = await visit.begin(request)
    correction = await visit.read_form(request, Correction)
    asked = to_request(visit.job_id(request), correction)
    job = await visiting.calls.call(visiting.calls.stubs.jobs.ReanalyzeJob, asked)
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/jobs/{job.job_id}")


def to_request(job_id: str, correction: Correction) -> ReanalyzeJobRequest:
    """The call for a correction. Raises PageError."""
    request = ReanalyzeJobRequest(
        job_id=job_id,
        discipline=Discipline.Value(f"DISCIPLINE_{correction.discipline.upper()}"),
        request_id=str(uuid4()),
    )
    if correction.capture_fps != "":
        if not is_capture_fps(correction.capture_fps):
            raise PageError(HTTPStatus.BAD_REQUEST, html.as_sentence(f"The frame rate {CAPTURE_FPS_RULE}"))
        request.capture_fps = correction.capture_fps
    if correction.sample_fps != "":
        request.sample_fps = correction.sample_fps
    # The moments of the form are those of the discipline that the film had; another one has its own.
    for name in naming.GIVEN_EVENTS[naming.Discipline(correction.discipline)]:
        if (seconds := getattr(correction, name)) != "":
            request.events.append(GivenEvent(name=name, time_seconds=seconds))
    if correction.box:
        request.athlete_box.CopyFrom(_box(correction.box))
    return request


def _box(text: str) -> AthleteBox:
    """A box as the page's script writes it: `0.2,0.1,0.3,0.8`. Raises PageError."""
    try:
        left, top, width, height = (float(share) for share in text.split(","))
    except ValueError:
        raise PageError(HTTPStatus.BAD_REQUEST, "The box cannot be read.") from None
    if not is_in_picture(left, top, width, height):
        raise PageError(HTTPStatus.BAD_REQUEST, html.as_sentence(f"The box {IN_PICTURE_RULE}"))
    return AthleteBox(left=left, top=top, width=width, height=height)


async def _shown(request: Request, visiting: visit.Visit) -> Response:
    """The list for htmx, which Home asks by; else the way to the job."""
    visiting.live.wake(visiting.visitor)
    if not html.is_htmx(request):
        return html.go_to(request, f"/jobs/{visit.job_id(request)}")
    return HTMLResponse(list_jobs(await list_recent(visiting.calls)))
