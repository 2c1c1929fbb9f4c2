"""Home: where films are dropped, and the newest jobs with their progress."""

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services import naming
from services.web import html, visit
from services.web.live import FINAL, RecentJob, list_recent
from services.web.pages.players.names import list_names

# A stream sends something at least this often, so that proxies keep it.
HEARTBEAT_SECONDS = 20.0
# An event, not a comment: the page's script hears it, and opens a stream again that has fallen silent.
HEARTBEAT = "event: beat\ndata:\n\n"
STREAM_HEADERS = {"x-accel-buffering": "no"}


async def home(request: Request) -> Response:
    """The whole page."""
    visiting = await visit.begin(request)
    jobs, names = await asyncio.gather(list_recent(visiting.calls), list_names(visiting.calls))
    return html.page(
        "home.html",
        jobs=jobs,
        final=FINAL,
        disciplines=naming.DISCIPLINES,
        players=names,
    )


async def events(request: Request) -> Response:
    """The list of jobs, once and after each change, as server-sent events, until the sign-in ends.

    The browser then asks again, with the newest sign-in.
    """
    visiting = await visit.begin(request)
    expires_at = visiting.visitor.expires_at

    async def stream() -> AsyncIterator[str]:
        version = 0
        async with visiting.live.open(visiting.visitor) as recent:
            # The first list of this visitor is on its way; an open page has it already.
            newest = recent.version or await recent.wait(0, HEARTBEAT_SECONDS)
            while (left := expires_at - time.time()) > 0:
                if newest != version:
                    version = newest
                    yield html.event(list_jobs(recent.jobs))
                else:
                    yield HEARTBEAT
                newest = await recent.wait(version, min(left, HEARTBEAT_SECONDS))

    return StreamingResponse(stream(), media_type="text/event-stream", headers=STREAM_HEADERS)


def list_jobs(jobs: list[RecentJob]) -> str:
    """The list as a fragment."""
    return html.render("jobs.html", jobs=jobs, final=FINAL)
