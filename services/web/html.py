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
        when=when,
        day=day,
        utc=utc,
        utc_day=utc_day,
        stage=stages.describe,
        sentence=as_sentence,
        discipline=discipline,
        players=players,
        linked_players=linked_players,
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
    return Markup('<time datetime="{}">{} UTC</time>').format(utc(at), f"{at.ToDatetime():%-d %b %Y, %H:%M}")


def day(at: Timestamp) -> Markup:
    """The day of a time, as `when` writes times."""
    return Markup('<time datetime="{}" data-day="{}">{}</time>').format(utc(at), utc(at), utc_day(at))


def utc(at: Timestamp) -> str:
    """A time for scripts: `2026-05-03T09:30:00Z`."""
    moment: datetime = at.ToDatetime()
    return f"{moment.isoformat(timespec='seconds')}Z"


def utc_day(at: Timestamp) -> str:
    """The day of a time: `3 May 2026`."""
    return f"{at.ToDatetime():%-d %b %Y}"


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


def linked_players(session: Session) -> list[tuple[str, str]]:
    """The same, each with the player's id; without one for a text of another client."""
    known = {player.player_id for player in session.players}
    return [
        (player_id if player_id in known else "", name)
        for player_id, name in zip(session.player_ids, players(session), strict=True)
    ]


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


def event(fragment: str, name: str = "") -> str:
    """A fragment as one server-sent event; htmx swaps in an event without a name."""
    head = f"event: {name}\n" if name else ""
    return head + "".join(f"data: {line}\n" for line in fragment.splitlines() or [""]) + "\n"
