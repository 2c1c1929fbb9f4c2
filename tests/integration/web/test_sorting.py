"""What a coach does with films that are analysed: rename, move, delete and undo, follow a player, share."""

import re
from http import HTTPStatus

import urllib3

from crease.jobs.v1 import job_pb2, session_pb2
from crease.jobs.v1.library_pb2 import Trend
from services.web import html
from services.web.pages.players import trends
from testing.fakes.analysis import RESULTS, analysed, finish, with_knee
from testing.servers.product import SAMPLE
from testing.servers.web import LINK, Site

ETAG = re.compile(r'name="etag" value="([^"]+)"')


def session_of(site: Site, job: job_pb2.Job) -> session_pb2.Session:
    request = session_pb2.GetSessionRequest(session_id=job.session_id)
    return site.product.session_stub.GetSession(request, metadata=site.product.coach)


def read(link: str) -> urllib3.BaseHTTPResponse:
    """A link as its reader opens it: without a cookie."""
    return urllib3.request("GET", link, redirect=False, retries=False, timeout=60)


def test_a_film_is_renamed_and_given_to_another_player(site: Site) -> None:
    """A new name makes a player, a known one and a free text stay who they are; a stale form changes nothing."""
    job = analysed(site.product, "Nets", ["An older client's text"])
    path = f"/sessions/{job.session_id}/edit"
    etag = ETAG.findall(site.web.get(path))[0]
    names = ["an older client's TEXT", "Asha Rao", "asha rao", " "]
    saved = site.web.post(path, title="Cover drives", player=names, notes="one\r\ntwo", etag=etag)
    assert saved.headers["hx-redirect"] == f"/jobs/{job.job_id}"
    session = session_of(site, job)
    assert (session.title, session.notes) == ("Cover drives", "one\ntwo")
    assert session.player_ids[0] == "An older client's text"
    assert [player.name for player in session.players] == ["Asha Rao"]
    assert "Cover drives" in site.web.get("/library?text=asha")
    stale = site.web.post(path, title="Other", player=["Asha Rao"], etag=etag)
    assert stale.status == HTTPStatus.CONFLICT
    assert site.web.post(path, title="x" * 201).status == HTTPStatus.BAD_REQUEST
    assert session_of(site, job).title == "Cover drives"
    assert site.web.post(path).status == HTTPStatus.NO_CONTENT
    assert list(session_of(site, job).player_ids) == []


def test_a_deleted_film_comes_back_by_undo(site: Site) -> None:
    """Hidden at once, everywhere; a film that is being analysed is kept, and the page says what to do."""
    job = analysed(site.product, "Cover drives", ["Asha"])
    again = site.web.post(f"/jobs/{job.job_id}/correct", discipline="bowling").headers["hx-redirect"]
    assert "Cancel it</a> first" in site.web.get(f"/sessions/{job.session_id}/edit")
    refused = site.web.post(f"/sessions/{job.session_id}/delete")
    assert (refused.status, "cancel it first" in refused.data.decode()) == (HTTPStatus.CONFLICT, True)
    finish(site.product)
    assert "Analyses of this film" in site.web.get(again)
    shown = site.web.post(f"{again}/delete").headers["hx-redirect"]
    assert 'action="' + again + '/undo"' in site.web.get(shown)
    assert site.web.request("GET", again).status == HTTPStatus.NOT_FOUND
    assert site.web.request("POST", f"{again}/undo").headers["location"] == again
    shown = site.web.post(f"/sessions/{job.session_id}/delete").headers["hx-redirect"]
    page = site.web.get(shown)
    assert f'action="/sessions/{job.session_id}/undo"' in page
    assert "Cover drives" not in page
    assert site.web.request("GET", f"/jobs/{job.job_id}").status == HTTPStatus.NOT_FOUND
    site.web.request("POST", f"/sessions/{job.session_id}/undo")
    assert "Cover drives" in site.web.get("/library")
    assert "Cover drives" in site.web.get(again)
    site.product.session_stub.DeleteSession(
        session_pb2.DeleteSessionRequest(session_id=job.session_id), metadata=site.product.coach
    )
    late = site.web.request("POST", f"/sessions/{job.session_id}/undo")
    assert (late.status, "The minute to undo is over" in late.data.decode()) == (HTTPStatus.NOT_FOUND, True)


def test_a_finding_leads_to_the_frame_of_its_moment(site: Site) -> None:
    """A moment lies between two frames: the film goes to the one that the report shows, not to the one before."""
    events = [{"name": "fastest_hands", "time_seconds": 1.65, "frame_seconds": 1.667, "confidence": 0.9}]
    finding = RESULTS["findings"]["findings"][0]
    elsewhere = finding | {"time_seconds": 1.4}
    results = RESULTS | {
        "pose": {"pose_summary": {"video_fps": 30.0, "events": events}},
        "findings": RESULTS["findings"] | {"findings": [finding, elsewhere]},
    }
    page = site.web.get(f"/jobs/{analysed(site.product, 'Nets', ['Asha'], results).job_id}")
    assert re.findall(r'data-time="([^"]+)">See it at ([^<]+)<', page) == [("1.667", "1.65 s"), ("1.4", "1.40 s")]


def test_a_best_film_within_its_errors_is_said_to_be() -> None:
    """Whether it is the last one, with the next best beside it, or an earlier one, with the last beside it."""
    for values, clear in (
        ((140, 151, 149), False),
        ((140, 151, 130), True),
        ((140, 149, 151), False),
        ((130, 151), True),
    ):
        trend = Trend(name="front_knee_brace_score", unit="deg")
        for number, value in enumerate(values):
            trend.points.add(job_id=str(number), value=value, error=3.0)
        [drawn] = trends.draw([trend])
        assert drawn.best
        assert drawn.best.job_id == str(values.index(max(values)))
        assert drawn.best_is_clear is clear


def test_a_player_has_each_number_over_time(site: Site) -> None:
    """With its error, the best so far and our mark; a film of two players is never the best."""
    assert site.web.post("/players", player="Asha Rao").headers["hx-redirect"].startswith("/players/")
    films = [analysed(site.product, f"Film {knee:.0f}", [], with_knee(knee)) for knee in (140.0, 151.0, 158.0, 149.0)]
    for film in films:
        both = ["Asha Rao"] + (["Ben"] if film is films[2] else [])
        site.web.post(f"/sessions/{film.session_id}/edit", title="Drives", player=both)
    path = site.player_path(films[0].job_id)
    page = site.web.get(path)
    assert "Last <strong>149° ± 3°</strong>; best <strong>151° ± 3°</strong> on " in page
    assert "our mark 160° or more" in page
    assert "158° ± 3° · the film names other players too" in page
    assert "from the side" in page
    line = re.findall(r'class="curve" points="([^"]*)"', page)[0].split()
    heights = [float(point.partition(",")[2]) for point in line]
    assert heights[1] < heights[2] < heights[0]
    assert len(re.findall(r"<circle", page)) == 4
    assert "No numbers yet" in site.web.get(f"{path}?discipline=bowling")
    assert "Drives" in site.web.get(f"/library?player={path.removeprefix('/players/')}&days=7")
    etag = ETAG.findall(page)[0]
    told = {"player": "Asha R.", "height_cm": 164, "birth_year": 2008, "hand": "left", "etag": etag}
    told |= {"notes": "Sore knee.\r\n<b>Ask</b> her father." + "\r\n" * 2490 + "x"}
    assert site.web.post(path, **told).headers["hx-redirect"] == path
    page = site.web.get(path)
    assert all(words in page for words in ("Asha R.", "Born 2008 · 164 cm", '<option value="left" selected>'))
    assert page.count("Sore knee.\n&lt;b&gt;Ask&lt;/b&gt; her father.\n") == 2
    for wrong in ({"height_cm": "tall"}, {"height_cm": 20}, {"player": ""}, {"hand": "both"}, {"etag": etag}):
        assert site.web.post(path, **(told | {"etag": ""} | wrong)).status in (400, 409)
    assert "Asha R." in site.web.get("/players?player=asha")
    shown = site.web.post(f"{path}/delete").headers["hx-redirect"]
    assert f'action="{path}/undo"' in site.web.get(shown)
    assert site.web.request("GET", path).status == HTTPStatus.NOT_FOUND
    assert site.web.post(f"{path}/undo").headers["hx-redirect"] == path
    assert site.web.request("GET", path).status == HTTPStatus.OK
    site.web.post(f"{path}/delete")
    assert site.web.request("GET", path).status == HTTPStatus.NOT_FOUND


def test_a_link_shows_an_anonymous_copy_until_it_is_ended(site: Site) -> None:
    """The copy is made once, and first; the reader needs no sign-in and sees neither title nor name."""
    job = analysed(site.product, "Asha's drives", ["Asha"])
    for _ in range(2):
        made = site.web.post("/shares", job=job.job_id, names="false").data.decode()
        assert "A copy without names and faces is being made" in made
    finish(site.product)
    [copies] = re.findall(r'hx-sse:connect="(/shares/pending[^"]*)"', made)
    events = site.web.get(copies)
    assert events.index("event: ready") < events.index("event: end")
    made = site.web.post("/shares", job=job.job_id, names="false", days=1).data.decode()
    link = LINK.findall(made)[0]
    assert "The link works on this computer alone" in made
    assert f'href="/jobs/{job.job_id}"' in site.web.get("/library")
    page = read(link).data.decode()
    assert all(words in page for words in ("The front knee gives way", "Wall push", "/report", "/films/0"))
    assert "Asha" not in page
    # The day of the film, not of its copy.
    session = session_pb2.GetSessionRequest(session_id=job.session_id)
    created_at = site.product.session_stub.GetSession(session, metadata=site.product.coach).created_at
    assert html.utc(created_at) in page
    film = read(f"{link}/films/0")
    assert film.headers["location"].startswith(site.web.env["CREASE_S3_ORIGIN"])
    assert urllib3.request("GET", film.headers["location"]).data == SAMPLE.read_bytes()
    report = read(f"{link}/report")
    assert (report.data, "sandbox" in report.headers["content-security-policy"]) == (b"<p>report", True)
    assert (read(f"{link}/films/1").status, read(f"{link}/comparison").status) == (404, 404)
    [end] = re.findall(r'hx-post="(/shares/[^"]+/revoke)"', site.web.get("/shares"))
    assert "Asha&#39;s drives" in site.web.get("/shares")
    assert site.web.post(end).headers["hx-redirect"] == "/shares"
    ended = read(link)
    assert (ended.status, "This link has ended" in ended.data.decode()) == (404, True)
    assert (read(f"{link}/films/0").status, read(f"{link}/report").status) == (404, 404)
    assert "No link yet" in site.web.get("/shares")


def test_a_link_shows_a_comparison_with_names(site: Site) -> None:
    """Both films and every number, without a sign-in; a wrong choice is answered by a sentence."""
    jobs = [
        analysed(site.product, title, ["Asha"], with_knee(knee)) for title, knee in (("May", 140.0), ("June", 155.0))
    ]
    ids = [job.job_id for job in jobs]
    link = LINK.findall(site.web.post("/shares", job=ids, names="true", days=90).data.decode())[0]
    assert "/comparison" in read(link).data.decode()
    page = read(f"{link}/comparison").data.decode()
    assert all(words in page for words in ("Asha", "May", "June", "Front knee", "/films/0", "/films/1"))
    assert read(f"{link}/films/1").status == HTTPStatus.TEMPORARY_REDIRECT
    wrongs: list[dict[str, object]] = [{"job": []}, {"job": "x"}, {"days": 0}, {"days": 91}, {"names": "perhaps"}]
    for wrong in wrongs:
        assert site.web.post("/shares", **({"job": ids} | wrong)).status in (400, 404)
