"""An upload, as the page's script asks for it: JSON in and out. The video itself goes from the browser to S3.

POST /uploads ─▶ CreateSession, InitiateUpload ─▶ one PUT, or a plan of parts
POST /uploads/JOB/parts ─▶ SignParts      GET /uploads/JOB/parts ─▶ ListParts      POST /uploads/JOB/complete
"""

import base64
import binascii
from http import HTTPStatus
from pathlib import PurePath
from uuid import UUID, uuid5

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crease.jobs.v1.session_pb2 import CameraView, CreateSessionRequest, Discipline
from crease.upload.v1.upload_pb2 import (
    AbortUploadRequest,
    CompleteUploadRequest,
    GetUploadLimitsRequest,
    GetUploadLimitsResponse,
    InitiateUploadRequest,
    ListPartsRequest,
    Part,
    SignedRequest,
    SignPartsRequest,
)
from services import file_signatures
from services.rules import film_limits
from services.rules.printable import one_line
from services.web import html, visit
from services.web.calls import Calls
from services.web.faults import PageError
from services.web.pages.jobs import DisciplineName
from services.web.pages.players.names import find_or_create

LONGEST_TITLE = 200
# The browser sets these itself.
BROWSERS_OWN = ("content-length", "host")


class NewUpload(BaseModel):
    """What the browser knows of a film; 0 for each number that it cannot know.

    has_index: false for an MP4 that was cut before its index. has_pictures: false for one of sound alone.
    """

    name: str = Field(max_length=1000)
    size: int = Field(gt=0)
    # The first bytes, in base64.
    head: str = Field(max_length=4096)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    seconds: float = Field(default=0, ge=0)
    width: int = Field(default=0, ge=0)
    height: int = Field(default=0, ge=0)
    has_index: bool = True
    has_pictures: bool = True
    discipline: DisciplineName
    camera: str = Field(default="", pattern=r"^(side|front|behind)?$")
    player: str = Field(default="", max_length=100)
    # Chosen by the browser and kept by it: the same ids continue the same upload.
    session_request: UUID
    request: UUID
    # The same for all films of one player that the browser sends at once: they make one player.
    player_request: UUID | None = None


class SentPart(BaseModel):
    number: int
    sha256: str


class Parts(BaseModel):
    parts: list[SentPart] = Field(max_length=100)


async def create(request: Request) -> Response:
    """Begins or continues an upload; refuses a film that cannot be analysed before a byte of it is sent."""
    visiting = await visit.begin(request)
    film = await visit.read_form(request, NewUpload)
    calls = visiting.calls
    limits = await calls.call(calls.stubs.uploads.GetUploadLimits, GetUploadLimitsRequest())
    content_type = check(film, limits)
    session = await calls.call(
        calls.stubs.sessions.CreateSession,
        CreateSessionRequest(
            title=one_line(PurePath(film.name).stem)[:LONGEST_TITLE],
            player_ids=[await _player_id(calls, film)] if film.player.strip() else [],
            discipline=Discipline.Value(f"DISCIPLINE_{film.discipline.upper()}"),
            camera_view=CameraView.Value(f"CAMERA_VIEW_{(film.camera or 'unspecified').upper()}"),
            request_id=str(film.session_request),
        ),
    )
    begun = await calls.call(
        calls.stubs.uploads.InitiateUpload,
        InitiateUploadRequest(
            session_id=session.session_id,
            content_type=content_type,
            content_length=film.size,
            sha256=film.sha256,
            request_id=str(film.request),
        ),
    )
    plan = {"bytes": begun.parts.part_bytes, "count": begun.parts.part_count} if begun.HasField("parts") else None
    put = _put(SignedRequest(url=begun.presigned_url, headers=begun.required_headers)) if plan is None else None
    return JSONResponse({"job": begun.job_id, "put": put, "plan": plan})


async def _player_id(calls: Calls, film: NewUpload) -> str:
    """The id of the film's player. Raises PageError."""
    # Derived where the browser names none, so that a repeated request makes one player.
    request_id = film.player_request or uuid5(film.session_request, "player")
    return await find_or_create(calls, film.player.strip(), request_id)


def check(film: NewUpload, limits: GetUploadLimitsResponse) -> str:
    """The content type of a film within the limits. Raises PageError with the sentence that the analyzer would say."""
    name = one_line(film.name)
    try:
        head = base64.b64decode(film.head, validate=True)
    except binascii.Error:
        raise PageError(HTTPStatus.BAD_REQUEST, f"{name} cannot be read.") from None
    content_type = file_signatures.content_type(head)
    if not content_type:
        raise _refuse(f"{name} is not a video: it is {file_signatures.describe(head)}")
    if not film.has_index:
        raise _refuse(film_limits.no_index(name))
    if not film.has_pictures:
        raise _refuse(film_limits.no_pictures(name))
    if film.size > limits.max_content_length:
        raise _refuse(film_limits.too_large(name, film.size, limits.max_content_length))
    longest = limits.max_duration.ToTimedelta().total_seconds()
    if film.seconds > longest:
        raise _refuse(film_limits.too_long(name, film.seconds, longest))
    if film.width * film.height > limits.max_picture_pixels:
        raise _refuse(film_limits.too_many_pixels(name, film.width, film.height, limits.max_picture_pixels))
    return content_type


def _refuse(words: str) -> PageError:
    return PageError(HTTPStatus.UNPROCESSABLE_ENTITY, html.as_sentence(words))


async def sign_parts(request: Request) -> Response:
    """A signed PUT for each of the parts."""
    visiting = await visit.begin(request)
    asked = await visit.read_form(request, Parts)
    parts = [Part(part_number=part.number, sha256=part.sha256) for part in asked.parts]
    signed = await visiting.calls.call(
        visiting.calls.stubs.uploads.SignParts, SignPartsRequest(job_id=visit.job_id(request), parts=parts)
    )
    return JSONResponse({"puts": [_put(put) for put in signed.puts]})


async def list_parts(request: Request) -> Response:
    """The SHA-256 of each part that has arrived, by its number."""
    visiting = await visit.begin(request)
    asked, arrived = ListPartsRequest(job_id=visit.job_id(request)), dict[int, str]()
    while True:
        listed = await visiting.calls.call(visiting.calls.stubs.uploads.ListParts, asked)
        arrived |= {part.part_number: part.sha256 for part in listed.parts}
        asked.page_token = listed.next_page_token
        if not asked.page_token:
            return JSONResponse(arrived)


async def complete(request: Request) -> Response:
    """Ends the upload: the video is verified and its job queued."""
    visiting = await visit.begin(request)
    await visiting.calls.call(
        visiting.calls.stubs.uploads.CompleteUpload,
        CompleteUploadRequest(job_id=visit.job_id(request)),
    )
    visiting.live.wake(visiting.visitor)
    return JSONResponse({})


async def abort(request: Request) -> Response:
    """Gives the upload up."""
    visiting = await visit.begin(request)
    await visiting.calls.call(
        visiting.calls.stubs.uploads.AbortUpload, AbortUploadRequest(job_id=visit.job_id(request))
    )
    return JSONResponse({})


def _put(signed: SignedRequest) -> dict[str, object]:
    headers = {name: value for name, value in signed.headers.items() if name.lower() not in BROWSERS_OWN}
    return {"url": signed.url, "headers": headers}
