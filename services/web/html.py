"""Turns templates into answers. Every value is autoescaped: titles, names and sentences are other people's text."""

from datetime import datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from crease.jobs.v1.session_pb2 import Discipline, Session
from services.rules import failure_codes, stages
from services.rules.players import player_names

FOLDER = Path(__file__).parent
# What htmx sends with each of its requests.
HTMX_HEADER = "hx-request"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        when=when, stage=stages.describe, sentence=as_sentence, discipline=discipline, players=players
    )
    environment.globals.update(advice=advice, may_retry=may_retry)
    return environment


def render(template: str, **values: object) -> str:
    """The HTML of a template."""
    return _environment().get_template(template).render(values)


def page(template: str, status: HTTPStatus = HTTPStatus.OK, **values: object) -> HTMLResponse:
    """An answer with the HTML of a template."""
    return HTMLResponse(render(template, **values), status)


def is_htmx(request: Request) -> bool:
    """Whether htmx sent the request: it takes a fragment."""
    return request.headers.get(HTMX_HEADER) == "true"


def go_to(request: Request, path: str) -> Response:
    """Sends the browser to a path of the page."""
    if is_htmx(request):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": path})
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"location": path})


def when(at: Timestamp) -> Markup:
    """A time that the page's script writes in the visitor's zone; until then in UTC."""
    moment: datetime = at.ToDatetime()
    return Markup('<time datetime="{}Z">{} UTC</time>').format(
        moment.isoformat(timespec="seconds"), f"{moment:%-d %b %Y, %H:%M}"
    )


def as_sentence(text: object) -> str:
    """A text that begins with a capital letter and ends with a full stop."""
    words = str(text).strip()
    if not words:
        return ""
    return f"{words[0].upper()}{words[1:]}" + ("" if words.endswith((".", "!", "?")) else ".")


def discipline(value: "Discipline.ValueType") -> str:
    """The name of a protobuf Discipline; empty for none."""
    return "" if not value else Discipline.Name(value).removeprefix("DISCIPLINE_").lower()


def players(session: Session) -> tuple[str, ...]:
    """The names of a session's players."""
    return player_names(session.player_ids, session.players)


def may_retry(failure_code: str) -> bool:
    """Whether another attempt at the same video may succeed."""
    return failure_codes.find(failure_code).fault is not failure_codes.Fault.INPUT


def advice(failure_code: str) -> str:
    """What to do about a failed job, without the commands of a terminal."""
    code = failure_codes.find(failure_code)
    match code.fault:
        case failure_codes.Fault.INPUT:
            return code.advice
        case failure_codes.Fault.DISRUPTION:
            return "Try again."
        case _:
            return "The person who runs Crease has to repair this. Then try again."


def event(fragment: str) -> str:
    """A fragment as one server-sent event."""
    return "".join(f"data: {line}\n" for line in fragment.splitlines()) + "\n"
