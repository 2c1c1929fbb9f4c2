"""The application: every path of the page, and what becomes of an error.

Guard ─▶ routes ─▶ pages ─▶ jobs, upload, with the visitor's token
"""

from http import HTTPStatus
from typing import cast
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from services.web import html
from services.web.faults import PageError, SignInRequired
from services.web.guard import Guard
from services.web.pages import compare, editing, files, home, jobs, library, session, uploads
from services.web.pages.players import page as players
from services.web.pages.sharing import reader, shares
from services.web.settings import WebSettings
from services.web.visit import Shared
from services.web.visitors import COOKIE_SECONDS, LaptopSignIn, SignIn

# What a reader of a share opens, without a sign-in.
READER_PATH = "/s/"
ROUTES = [
    Route("/", home.home),
    Route("/events", home.events),
    Route("/library", library.library),
    Route("/compare", compare.compare),
    Route("/comparison", compare.comparison),
    Route("/jobs/{job_id}", session.session),
    Route("/jobs/{job_id}/events", session.events),
    Route("/jobs/{job_id}/film", files.film),
    Route("/jobs/{job_id}/thumbnail", files.thumbnail),
    Route("/jobs/{job_id}/report", files.report),
    Route("/jobs/{job_id}/files/{name}", files.download),
    Route("/jobs/{job_id}/why", jobs.why),
    Route("/jobs/{job_id}/cancel", jobs.cancel, methods=["POST"]),
    Route("/jobs/{job_id}/retry", jobs.retry, methods=["POST"]),
    Route("/jobs/{job_id}/correct", jobs.correct, methods=["POST"]),
    Route("/jobs/{job_id}/delete", editing.delete_analysis, methods=["POST"]),
    Route("/jobs/{job_id}/undo", editing.undo_analysis, methods=["POST"]),
    Route("/sessions/{id}/edit", editing.edit, methods=["GET"]),
    Route("/sessions/{id}/edit", editing.save, methods=["POST"]),
    Route("/sessions/{id}/delete", editing.delete, methods=["POST"]),
    Route("/sessions/{id}/undo", editing.undo, methods=["POST"]),
    Route("/players", players.players, methods=["GET"]),
    Route("/players", players.create, methods=["POST"]),
    Route("/players/{id}", players.player, methods=["GET"]),
    Route("/players/{id}", players.save, methods=["POST"]),
    Route("/players/{id}/delete", players.delete, methods=["POST"]),
    Route("/players/{id}/undo", players.undo, methods=["POST"]),
    Route("/shares", shares.shares, methods=["GET"]),
    Route("/shares", shares.create, methods=["POST"]),
    Route("/shares/pending", shares.pending),
    Route("/shares/{id}/revoke", shares.revoke, methods=["POST"]),
    Route(f"{READER_PATH}{{secret}}", reader.shared),
    Route(f"{READER_PATH}{{secret}}/films/{{number:int}}", reader.film),
    Route(f"{READER_PATH}{{secret}}/report", reader.report),
    Route(f"{READER_PATH}{{secret}}/comparison", reader.comparison),
    Route("/uploads", uploads.create, methods=["POST"]),
    Route("/uploads/{job_id}/parts", uploads.list_parts, methods=["GET"]),
    Route("/uploads/{job_id}/parts", uploads.sign_parts, methods=["POST"]),
    Route("/uploads/{job_id}/complete", uploads.complete, methods=["POST"]),
    Route("/uploads/{job_id}/abort", uploads.abort, methods=["POST"]),
]
# The browser asks whether a file has changed: after an upgrade, a page never runs with older scripts.
STATIC_CACHE = "no-cache"
# These files alone: what is compressed together with a secret tells of it by its length.
COMPRESSED = [Middleware(GZipMiddleware)]


class _Static(StaticFiles):
    """Files of the page and of htmx, which the browser may keep."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        answer.headers["cache-control"] = STATIC_CACHE
        return answer


def build(settings: WebSettings, shared: Shared) -> Starlette:
    """The application on its services."""
    routes = [
        *ROUTES,
        Route("/sign-in", _sign_in),
        Mount("/static", _Static(directory=html.FOLDER / "static"), middleware=COMPRESSED),
        Mount("/htmx", _Static(directory=settings.htmx_folder), middleware=COMPRESSED),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, origin=settings.origin, s3_origin=settings.s3_origin)],
        exception_handlers={PageError: _answer_error, HTTPException: _answer_http_error, 500: _answer_unexpected},
    )
    app.state.shared = shared
    app.state.login_url = settings.login_url
    app.state.origin = settings.origin
    return app


async def _sign_in(request: Request) -> Response:
    """Takes the one-time key of a laptop's address, and sets the cookie."""
    sign_in: SignIn = request.app.state.shared.sign_in
    if not isinstance(sign_in, LaptopSignIn):
        raise HTTPException(HTTPStatus.NOT_FOUND)
    answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    try:
        # A second click on the printed address.
        await sign_in.visitor(request)
    except SignInRequired:
        cookie = sign_in.enter(request.query_params.get("key", ""))
        answer.set_cookie(sign_in.cookie_name, cookie, COOKIE_SECONDS, httponly=True, samesite="strict")
    return answer


async def _answer_error(request: Request, error: Exception) -> Response:
    return _answer(request, cast(PageError, error))


def _answer(request: Request, error: PageError) -> Response:
    """The sentence of an error, as a page, a fragment, or JSON for the uploader."""
    login = ""
    if isinstance(error, SignInRequired) and request.app.state.login_url:
        login = f"{request.app.state.login_url}{quote(_way_back(request))}"
    if request.url.path.startswith("/uploads"):
        return JSONResponse({"sentence": error.sentence, "login": login}, error.status)
    if html.is_htmx(request):
        if isinstance(error, SignInRequired):
            # The page itself is asked again, which leads to the login.
            return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Refresh": "true"})
        return html.page("error_notice.html", error.status, sentence=error.sentence)
    if login:
        return RedirectResponse(login, HTTPStatus.SEE_OTHER)
    template = "shared_error.html" if request.url.path.startswith(READER_PATH) else "error.html"
    return html.page(template, error.status, sentence=error.sentence)


def _way_back(request: Request) -> str:
    """The path and the query of a page; Home for what a script asks for."""
    if request.method != "GET" or request.url.path.startswith("/uploads"):
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


async def _answer_http_error(request: Request, error: Exception) -> Response:
    raised = cast(HTTPException, error)
    sentence = "There is no such page." if raised.status_code == HTTPStatus.NOT_FOUND else f"{raised.detail}."
    return _answer(request, PageError(HTTPStatus(raised.status_code), sentence))


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    sentence = "Something failed inside the page. Try again."
    return _answer(request, PageError(HTTPStatus.INTERNAL_SERVER_ERROR, sentence))
