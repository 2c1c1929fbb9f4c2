"""Attacks on the page: foreign pages, foreign names, frames, stolen and forged sign-ins, scripts in every text."""

import hashlib
import hmac
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import urllib3

from crease.jobs.v1 import session_pb2
from crease.jobs.v1.job_pb2 import STAGE_DEEP, STAGE_QUICK
from crease.upload.v1 import upload_pb2
from services import dev_issuer, naming
from services.web.app import READER_PATH, ROUTES
from testing.data.reports import HOSTILE
from testing.fakes.analysis import FINDING, RESULTS, Analysis, analysed
from testing.servers.browser import Browser, chromium, needs_chromium
from testing.servers.product import SAMPLE
from testing.servers.programs import running
from testing.servers.web import LINK, Site, Web

# Every path of the page, with the id of a job or of its session in it; a player's and a share's are any id.
CHANGING = (
    "/uploads", "/uploads/{job}/parts", "/uploads/{job}/complete", "/uploads/{job}/abort",
    "/jobs/{job}/cancel", "/jobs/{job}/retry", "/jobs/{job}/correct", "/jobs/{job}/delete", "/jobs/{job}/undo",
    "/sessions/{session}/edit", "/sessions/{session}/delete", "/sessions/{session}/undo",
    "/players", "/players/{job}", "/players/{job}/delete", "/players/{job}/undo", "/shares", "/shares/{job}/revoke",
)  # fmt: skip
READING = (
    "/", "/library", "/events", "/compare", "/comparison", "/players", "/players/{job}", "/shares", "/shares/pending",
    "/jobs/{job}", "/jobs/{job}/events", "/jobs/{job}/report", "/jobs/{job}/film", "/jobs/{job}/thumbnail",
    "/jobs/{job}/why", "/jobs/{job}/files/results.json", "/uploads/{job}/parts", "/sessions/{session}/edit",
)  # fmt: skip
SCRIPT = "<img src=x onerror=window.taken=1><script>window.taken=1</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def job_id(site: Site) -> str:
    return site.product.uploaded(SAMPLE.read_bytes())


def paths(site: Site, job_id: str, patterns: tuple[str, ...]) -> list[str]:
    session_id = site.product.job(job_id).session_id
    return [pattern.format(job=job_id, session=session_id) for pattern in patterns]


def test_every_path_of_the_page_is_attacked() -> None:
    """A new one stands in one of the lists above; what a reader of a share opens needs no sign-in."""
    ids = {"job_id": "{job}", "id": "{any}", "name": "results.json"}
    attacked = {(path.replace("{session}", "{any}"), path in CHANGING) for path in CHANGING + READING}
    attacked = {(re.sub(r"^(/players|/shares)/{job}", r"\1/{any}", path), is_post) for path, is_post in attacked}
    known = {
        (re.sub(r"{(\w+)}", lambda found: ids[found[1]], route.path), "POST" in (route.methods or ()))
        for route in ROUTES
        if not route.path.startswith(READER_PATH)
    }
    both = {path for path, is_post in known if is_post} & {path for path, is_post in known if not is_post}
    assert {path for path, _ in known} == {path for path, _ in attacked}
    assert both <= {path for path, is_post in attacked}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
        {"sec-fetch-site": "", "origin": "null"},
        {"sec-fetch-site": "", "origin": ""},
    ],
)
def test_a_foreign_page_changes_nothing(site: Site, job_id: str, headers: dict[str, str]) -> None:
    """The browser sends the cookie for another port of the machine too; the page refuses by the origin."""
    for path in paths(site, job_id, CHANGING):
        assert site.web.request("POST", path, headers).status == 403
    assert site.product.status(job_id) == "queued"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost:{port}", "127.0.0.1"])
def test_a_foreign_name_for_this_machine_reads_nothing(site: Site, job_id: str, host: str) -> None:
    """DNS rebinding: a name that resolves to this machine gets no page, with or without a cookie."""
    for path in paths(site, job_id, READING):
        reply = site.web.request("GET", path, {"host": host.format(port=site.web.port)})
        assert (reply.status, job_id in reply.data.decode()) == (421, False)


def test_nothing_is_shown_without_a_sign_in(site: Site, job_id: str) -> None:
    """Neither without a cookie, nor with a forged, an expired or another page's one."""
    site.web.request("GET", "/")
    name, _, valid = site.web.cookie.partition("=")
    expires, _, proof = valid.partition(".")
    assert site.web.request("GET", "/").status == 200
    past = str(int(time.time()) - 10)
    key = (site.web.folder / naming.COOKIE_KEY_FILE).read_bytes()
    expired = f"{past}.{hmac.new(key, past.encode(), hashlib.sha256).hexdigest()}"
    for forged in ("", "x", expired, f"{int(expires) + 1}.{proof}", f"{expires}.", f"{expires}.{proof}0"):
        cookie = {"cookie": f"{name}={forged}" if forged else ""}
        for method, patterns in (("GET", READING), ("POST", CHANGING)):
            for path in paths(site, job_id, patterns):
                assert (path, site.web.request(method, path, cookie).status) == (path, 401)
    assert site.product.status(job_id) == "queued"


def test_a_one_time_address_signs_in_once(site: Site) -> None:
    """A second use, a guess and an empty key are refused; the cookie is for this page alone, and not for scripts."""
    url = site.web.sign_in_url()
    for guess in (f"{site.web.origin}/sign-in?key=guess", f"{site.web.origin}/sign-in?key=", f"{url}x"):
        assert urllib3.request("GET", guess, redirect=False).status == 401
    first = urllib3.request("GET", url, redirect=False)
    assert (first.status, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert urllib3.request("GET", url, redirect=False).status == 401


def test_the_token_never_reaches_the_browser(site: Site, job_id: str) -> None:
    """No page, no script, no header and no address contains it."""
    token = (site.web.folder / "coach.jwt").read_text()
    static = re.findall(r'(?:src|href)="(/[^"]+)"', site.web.get("/"))
    assert len(static) > 5
    for path in ("/", "/library", f"/jobs/{job_id}", *static):
        reply = site.web.request("GET", path)
        assert token not in f"{reply.headers}{reply.data.decode(errors='replace')}"


def test_no_page_can_be_framed_or_run_a_foreign_script(site: Site, job_id: str) -> None:
    """Every answer carries the policy, errors too; the report alone may be framed, by the page, without an origin."""
    for path in ("/", "/library", f"/jobs/{job_id}", "/nothing", "/jobs/x"):
        headers = site.web.request("GET", path).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_other_peoples_jobs_stay_hidden(site: Site) -> None:
    """The page has no power of its own: another coach's job is refused by jobs, on every path."""
    other = site.product.laptop.person("coach-2")
    session = site.product.session_stub.CreateSession(
        session_pb2.CreateSessionRequest(title="Secret nets"), metadata=other
    )
    request = upload_pb2.InitiateUploadRequest(
        session_id=session.session_id, content_type="video/mp4", content_length=10
    )
    begun = site.product.upload_stub.InitiateUpload(request, metadata=other, timeout=60)
    for path in ("/jobs/{job}", "/jobs/{job}/report", "/jobs/{job}/film", "/jobs/{job}/why", "/uploads/{job}/parts"):
        assert site.web.request("GET", path.format(job=begun.job_id)).status == 403
    for path in ("/jobs/{job}/cancel", "/jobs/{job}/retry", "/uploads/{job}/abort", "/jobs/{job}/delete"):
        assert site.web.request("POST", path.format(job=begun.job_id)).status == 403
    assert site.web.request("GET", f"/sessions/{session.session_id}/edit").status == 403
    for change in ("edit", "delete", "undo"):
        assert site.web.post(f"/sessions/{session.session_id}/{change}", title="Mine").status == 403
    for names in ("true", "false"):
        assert site.web.post("/shares", job=begun.job_id, names=names).status == 403
    assert "Secret nets" not in site.web.get("/library")


@needs_chromium
def test_a_script_in_any_text_is_shown_as_text(site: Site, browser: Browser) -> None:
    """Title, player, and every sentence of the results; the report's own script has no origin."""
    request = session_pb2.CreateSessionRequest(
        title=SCRIPT, player_ids=[SCRIPT], notes=HOSTILE, discipline=session_pb2.DISCIPLINE_BATTING
    )
    session = site.product.session_stub.CreateSession(request, metadata=site.product.coach)
    site.product.uploaded(SAMPLE.read_bytes(), session_id=session.session_id)
    analysis = Analysis.start(site.product)
    finding = FINDING | {
        "title": SCRIPT,
        "why": SCRIPT,
        "cues": [SCRIPT],
        "drills": [{"name": SCRIPT, "how": SCRIPT, "dose": SCRIPT}],
    }
    results = json.loads(json.dumps(RESULTS)) | {"report": {"summary": SCRIPT, "reliability_warning": SCRIPT}}
    results["findings"]["findings"] = [finding]
    report = b"<script>try { parent.taken = 1; document.cookie } catch (e) { document.title = e.name }</script>"
    analysis.submit(STAGE_QUICK, results, {"report.html": report})
    analysis.submit(STAGE_DEEP, results, {"report.html": report})
    job = f"/jobs/{analysis.launch.job_id}"
    with browser.page(site.web.sign_in_url()) as page:
        edit = f"/sessions/{session.session_id}/edit"
        site.web.post(edit, title=SCRIPT, player=[f"{SCRIPT} 2"], notes=SCRIPT)
        link = LINK.findall(site.web.post("/shares", job=analysis.launch.job_id, names="true").data.decode())[0]
        reader = link.removeprefix(site.web.origin)
        player = site.player_path(analysis.launch.job_id)
        for path in ("/", "/library", job, edit, "/players", player, "/shares", reader):
            page.open(f"{site.web.origin}{path}")
            assert "onerror=window.taken" in page.evaluate("document.querySelector('main').innerText")
            assert page.evaluate("window.taken === undefined && !document.querySelector('main img')")
        page.click(".report summary")
        page.wait("document.querySelector('iframe').getBoundingClientRect().height > 100")
        page.open(f"{site.web.origin}{job}/report")
        assert page.evaluate("[origin, document.title]") == ["null", "SecurityError"]


def test_a_share_opens_its_report_alone(site: Site) -> None:
    """A guessed, a cut and a foreign secret open nothing; a true one opens no other path, and is in no index."""
    job = analysed(site.product, "Nets", ["Asha"])
    link = LINK.findall(site.web.post("/shares", job=job.job_id, names="true").data.decode())[0]
    path = link.removeprefix(site.web.origin)
    secret = path.removeprefix(READER_PATH)
    unsigned = {"cookie": ""}
    reply = site.web.request("GET", path, unsigned)
    assert (reply.status, reply.headers["x-robots-tag"]) == (200, "noindex")
    assert reply.headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert "sandbox" in site.web.request("GET", f"{path}/report", unsigned).headers["content-security-policy"]
    assert not re.search(r'href="/(library|players|shares|jobs|sessions)', reply.data.decode())
    for wrong in (secret[:-1], secret + "A", "A" * len(secret), "x", secret.swapcase(), "%0d%0aa", job.job_id):
        for rest in ("", "/report", "/films/0", "/comparison"):
            assert site.web.request("GET", f"{READER_PATH}{wrong}{rest}", unsigned).status == 404
    bearer = {"cookie": "", "authorization": f"Share {secret}"}
    for other in paths(site, job.job_id, READING):
        assert site.web.request("GET", other, bearer).status == 401
    assert site.web.request("POST", path, unsigned).status == 405


@needs_chromium
def test_a_page_of_another_origin_cannot_frame_or_call_the_page(site: Site, browser: Browser, tmp_path: Path) -> None:
    """In a real browser, from another port of the same machine: the page is neither shown nor changed."""
    (tmp_path / "index.html").write_text(f"<!doctype html><iframe src='{site.web.origin}/'></iframe>")
    with serving(tmp_path) as evil, browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        page.open(evil)
        while not any("frame-ancestors" in words for words in page.complaints):
            page.wait("true")
        assert page.evaluate("document.querySelector('iframe').contentDocument === null")
        refused = page.evaluate(f"""fetch('{site.web.origin}/uploads', {{method: 'POST', credentials: 'include'}})
            .then(() => 'answered', () => 'refused')""")
        assert refused == "refused"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A page of another origin on this machine, until the block ends."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_an_expired_token_asks_for_a_sign_in(site: Site) -> None:
    """The page, a fragment and an upload say so; no stale page is shown. A new token continues without a reload."""
    token = site.web.folder / "coach.jwt"
    good = token.read_text()
    try:
        token.write_text(dev_issuer.person(site.product.laptop.folder, "coach-1", seconds=-3600))
        assert site.web.request("GET", "/").status == 401
        assert site.web.request("GET", "/", {"hx-request": "true"}).headers["hx-refresh"] == "true"
        upload = site.web.request("POST", "/uploads/00000000-0000-0000-0000-000000000001/complete")
        assert (upload.status, "expired" in json.loads(upload.data)["sentence"]) == (401, True)
    finally:
        token.write_text(good)
    assert site.web.request("GET", "/").status == 200


@contextmanager
def behind_a_login(site: Site, folder: Path) -> Iterator[Web]:
    """A page as in a cluster: each request brings a token, which a login in front of the page hands on."""
    page = Web("web", {}, folder / "web.log", folder=folder)
    laptop_only = ("CREASE_SIGN_IN_FOLDER", "CREASE_TOKEN_FILE")
    inherited = {name: value for name, value in site.web.env.items() if name not in laptop_only}
    page.env = inherited | site.product.laptop.env | {"CREASE_ORIGIN": page.origin}
    with running(page):
        yield page


def stream(page: Web, token: str) -> urllib3.BaseHTTPResponse:
    """The list of jobs as server-sent events."""
    headers = {"authorization": f"Bearer {token}"}
    return urllib3.request("GET", f"{page.origin}/events", headers=headers, preload_content=False, timeout=60)


def test_a_list_ends_with_its_token(site: Site, tmp_path: Path) -> None:
    """Also while the same person has another page open, whose token is newer: a stolen token reads no longer."""
    folder = site.product.laptop.folder
    with behind_a_login(site, tmp_path) as page:
        for seconds in (2, 8, 32):
            stolen = stream(page, dev_issuer.person(folder, "coach-1", seconds=seconds))
            newer = stream(page, dev_issuer.person(folder, "coach-1"))
            assert newer.status == 200
            if stolen.status == 200:
                break
        with closing(newer), closing(stolen):
            events = b""
            for piece in stolen.stream():
                events += piece
                # A heartbeat comes every 20 s.
                assert events.count(b": open") < 3, "the stream has no end"
            assert events.startswith(b"data:")


def test_two_tokens_of_one_person_share_no_list(site: Site, job_id: str, tmp_path: Path) -> None:
    """A token with fewer rights reads nothing of what a page of the same person reads with more."""
    folder = site.product.laptop.folder
    with behind_a_login(site, tmp_path) as page:
        for _ in range(2):
            powerful = stream(page, dev_issuer.person(folder, "root", role=naming.SUPERUSER))
            weak = stream(page, dev_issuer.person(folder, "root"))
            with closing(powerful), closing(weak):
                assert job_id in next(powerful.stream()).decode()
                assert job_id not in next(weak.stream()).decode()
