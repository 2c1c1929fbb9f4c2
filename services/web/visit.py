"""One request of a visitor: who it is, the calls that it may make, and its form."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, get_origin
from urllib.parse import parse_qs
from uuid import UUID

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from services.web.calls import Calls, Stubs
from services.web.faults import PageError
from services.web.live import Live
from services.web.visitors import SignIn, Visitor

# The largest form: the head of a video, its facts and texts of people.
MAX_BODY_BYTES = 64 * 1024

Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class Shared:
    """What all requests share; `app.state.shared` of the application."""

    stubs: Stubs
    sign_in: SignIn
    live: Live
    # The address at which browsers reach S3.
    s3_origin: str


@dataclass(frozen=True)
class Visit:
    """A request's visitor and calls."""

    visitor: Visitor
    calls: Calls
    live: Live


async def begin(request: Request) -> Visit:
    """The visit of a request. Raises PageError."""
    shared: Shared = request.app.state.shared
    visitor = await shared.sign_in.visitor(request)
    return Visit(visitor, Calls(shared.stubs, visitor.token), shared.live)


def job_id(request: Request) -> str:
    """The job that the path names. Raises PageError."""
    return as_id(request.path_params["job_id"])


def path_id(request: Request) -> str:
    """The session, player or share that the path names. Raises PageError."""
    return as_id(request.path_params["id"])


def as_id(text: str) -> str:
    """An id as the services write it. Raises PageError for any other text."""
    try:
        return str(UUID(text))
    except ValueError:
        raise PageError(HTTPStatus.NOT_FOUND, "There is no such page.") from None


async def read_form(request: Request, kind: type[Form]) -> Form:
    """The fields of an HTML form, or a JSON object. Raises PageError for a field that `kind` refuses."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise PageError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too large.")
    try:
        return kind.model_validate(_fields(request, bytes(body), kind))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise PageError(HTTPStatus.BAD_REQUEST, f"{where}: {fault['msg']}.") from None
    except ValueError:
        raise PageError(HTTPStatus.BAD_REQUEST, "The form cannot be read.") from None


def _fields(request: Request, body: bytes, kind: type[BaseModel]) -> Any:
    if request.headers.get("content-type", "").startswith("application/json"):
        return json.loads(body)
    # A list takes every field of its name.
    lists = {name for name, known in kind.model_fields.items() if get_origin(known.annotation) is list}
    sent = parse_qs(body.decode())
    return {name: values if name in lists else values[-1] for name, values in sent.items()}
