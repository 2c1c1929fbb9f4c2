"""What the page does for a visitor, by its requests: library, comparison, corrections, cancel and retry, uploads."""

import base64
import json
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import session_pb2
from services import naming
from services.web.pages import session
from services.web.pages.jobs import Correction
from testing.fakes.analysis import Analysis, finish
from testing.fakes.analysis import analysed as finished
from testing.servers.product import SAMPLE
from testing.servers.programs import lease
from testing.servers.web import Site

FORM = {"content-type": "application/x-www-form-urlencoded"}
STREAMS = 60


def analysed(site: Site, title: str, player: str = "Asha") -> str:
    """A finished job of a session."""
    return finished(site.product, title, [player]).job_id


def order(site: Site, **fields: Any) -> urllib3.BaseHTTPResponse:
    """Begins an upload as the page's script does; `fields` replace its own."""
    video = SAMPLE.read_bytes()
    film = {
        "name": "Nets at noon.mp4",
        "size": len(video),
        "head": base64.b64encode(video[:1280]).decode(),
        "discipline": "bowling",
        "player": "Asha Rao",
        "session_request": str(uuid.uuid4()),
        "request": str(uuid.uuid4()),
    } | fields
    return site.web.request("POST", "/uploads", {"content-type": "application/json"}, json.dumps(film).encode())


def test_the_library_finds_a_film_by_its_title_and_its_player(site: Site) -> None:
    """With its level, its way to the session, and nothing of what does not match."""
    first = analysed(site, "Drives in the nets")
    analysed(site, "Catching", "Ben")
    assert all(title in site.web.get("/library") for title in ("Drives in the nets", "Catching"))
    for query in ("text=drives", "text=asha", "text=Asha&discipline=batting"):
        page = site.web.get(f"/library?{query}")
        assert f"/jobs/{first}" in page
        assert "Medium" in page
        assert "Catching" not in page
    assert "Nothing matches" in site.web.get("/library?discipline=bowling")


def test_two_films_of_one_player_are_compared_and_others_refused(site: Site) -> None:
    """The oldest first, whatever the order of the choice; a wrong choice is answered by a sentence."""
    first, second, other = analysed(site, "May"), analysed(site, "June"), analysed(site, "Catching", "Ben")
    page = site.web.get(f"/comparison?{urlencode([('job', second), ('job', first)])}")
    assert page.index("May") < page.index("June")
    assert f"media-src &#39;self&#39; {site.web.env['CREASE_S3_ORIGIN']}" in page
    assert "/comparison?" in site.web.get(f"/compare?job={first}&job={second}")
    for query, words in ((f"job={first}", "Choose 2 to 20"), (f"job={first}&job={other}", "player")):
        refused = site.web.request("GET", f"/compare?{query}")
        assert (refused.status, words in refused.data.decode()) == (400, True)


def test_a_film_may_be_said_to_be_in_real_time(site: Site) -> None:
    """The list of rates has the film's own, which ends a doubt about slow motion."""
    page = site.web.get(f"/jobs/{analysed(site, 'Nets')}")
    own = re.findall(r'<option value="([^"]+)"[^>]*>Normal speed: filmed at (\S+) frames a second<', page)
    assert [(float(value), words) for value, words in own] == [(30.0, "30")]
    assert [float(value) for value in re.findall(r'value="([^"]+)"[^>]*>Filmed at', page)] == [60, 120, 240, 480]


def test_a_possible_throw_is_named_as_one_beside_the_film() -> None:
    """No sign proves a throw; one that the coach gave is a throw."""
    for given, words in ((False, "Perhaps a throw"), (True, "Throw")):
        stored = Struct()
        event = {"name": "throw", "time_seconds": 1.0, "given": given}
        json_format.ParseDict({"pose": {"pose_summary": {"events": [event]}}}, stored)
        reading = session.read(stored)
        assert reading
        assert [moment[1] for moment in reading.moments] == [words]


def test_a_correction_measures_the_film_again(site: Site) -> None:
    """Another discipline, rate, moment and person make a new job of the same film; the first stays as it is."""
    job_id = analysed(site, "May")
    fields = {"discipline": "bowling", "capture_fps": "240", "sample_fps": "30", "box": "0.25,0.1,0.5,0.75"}
    # A moment of another discipline is left out.
    fields |= {"front_foot_contact": "1.1", "release": "1.25", "take": "2"}
    headers = FORM | {"hx-request": "true"}
    reply = site.web.request("POST", f"/jobs/{job_id}/correct", headers, urlencode(fields).encode())
    path = reply.headers["hx-redirect"]
    again = site.product.job(path.removeprefix("/jobs/"))
    assert (again.source_job_id, again.capture_fps, again.discipline) == (job_id, 240, session_pb2.DISCIPLINE_BOWLING)
    moments = [("front_foot_contact", 1.1), ("release", 1.25)]
    assert [(event.name, event.time_seconds) for event in again.events] == moments
    assert again.sample_fps == 30
    # Another correction keeps these moments, because the form has them.
    finish(site.product)
    shown = site.web.get(path)
    assert all(f'name="{name}"' in shown and f'value="{seconds}"' in shown for name, seconds in moments)
    box = again.athlete_box
    assert (box.left, box.top, box.width, box.height) == (0.25, 0.1, 0.5, 0.75)
    for wrong in (
        {"front_foot_contact": "-1"},
        {"sample_fps": "31"},
        {"capture_fps": "-1"},
        {"discipline": "chess"},
        {"release": "nan"},
        {"box": "0,0,1"},
        {"box": "0.5,0,0.6,1"},
        {"box": "nan,0,1,1"},
    ):
        body = urlencode(fields | wrong).encode()
        assert site.web.request("POST", f"/jobs/{job_id}/correct", headers, body).status == 400


def test_every_moment_can_be_corrected() -> None:
    """A moment that a client may give is a field of the form and has words."""
    given = {name for names in naming.GIVEN_EVENTS.values() for name in names}
    assert given == set(naming.EVENT_LABELS)
    assert given <= set(Correction.model_fields)


def test_a_job_is_cancelled_explained_and_tried_again_from_the_page(site: Site) -> None:
    """Each answer is what the page shows next: the list, or one sentence."""
    cancelled = site.product.uploaded(SAMPLE.read_bytes())
    assert "waits" in site.web.get(f"/jobs/{cancelled}/why")
    assert "Cancelled" in site.web.post(f"/jobs/{cancelled}/cancel").data.decode()
    failed = site.product.uploaded(SAMPLE.read_bytes())
    analysis = Analysis.start(site.product)
    site.product.launch_stub.FailLaunch(
        launch_pb2.FailLaunchRequest(
            job_id=failed,
            launch_no=1,
            ending=launch_pb2.ENDING_IMAGE,
            failure_code="IMAGE",
            error_message="The model is missing",
        ),
        metadata=lease(analysis.secret),
    )
    page = site.web.get("/")
    assert "The model is missing." in page
    assert "The person who runs Crease has to repair this." in page
    assert "Try again" in page
    assert "Try again" in site.web.get(f"/jobs/{failed}")
    assert "Queued" in site.web.post(f"/jobs/{failed}/retry").data.decode()
    from_its_page = site.web.request("POST", f"/jobs/{failed}/cancel")
    assert (from_its_page.status, from_its_page.headers["location"]) == (303, f"/jobs/{failed}")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": 2 * 10**9}, "at most 1.0 GB"),
        ({"seconds": 7200.0}, "lasts"),
        ({"has_index": False}, "has no index"),
        ({"has_pictures": False}, "has no moving pictures"),
        ({"width": 20_000, "height": 20_000}, "megapixels"),
        ({"head": base64.b64encode(b"%PDF-1.7").decode()}, "it is a PDF"),
        ({"head": "not base64!"}, "cannot be read"),
        ({"discipline": "chess"}, "discipline"),
        ({"size": 0}, "size"),
    ],
)
def test_a_film_beyond_the_limits_is_refused_by_a_sentence(site: Site, fields: dict[str, Any], words: str) -> None:
    """Before a session or a job exists."""
    reply = order(site, **fields)
    assert (reply.status // 100, words in json.loads(reply.data)["sentence"]) == (4, True)
    assert "Nothing yet" in site.web.get("/library")


def test_films_sent_at_once_make_one_player(site: Site) -> None:
    """Each looks for the player before any has made it; two players of one name could not be compared."""
    player, films = str(uuid.uuid4()), 6
    with ThreadPoolExecutor(films) as pool:
        replies = list(pool.map(lambda _: order(site, player="Ben Hill", player_request=player), range(films)))
    assert {reply.status for reply in replies} == {200}
    assert site.web.get("/players").count("Ben Hill") == 1


def test_a_repeated_order_continues_the_same_upload(site: Site) -> None:
    """The same ids give the same job, one session and one player; the next film of that name has the same player."""
    ids = {"session_request": str(uuid.uuid4()), "request": str(uuid.uuid4())}
    first, again = (json.loads(order(site, **ids).data) for _ in range(2))
    assert first["job"] == again["job"]
    other = json.loads(order(site, player="asha rao").data)
    sessions = [
        site.product.session_stub.GetSession(
            session_pb2.GetSessionRequest(session_id=site.product.job(job).session_id), metadata=site.product.coach
        )
        for job in (first["job"], other["job"])
    ]
    assert [[player.name for player in session.players] for session in sessions] == [["Asha Rao"]] * 2
    assert sessions[0].player_ids == sessions[1].player_ids
    assert (sessions[0].title, sessions[0].discipline) == ("Nets at noon", session_pb2.DISCIPLINE_BOWLING)


@pytest.mark.slow
def test_sixty_open_pages_hear_of_a_new_film(site: Site) -> None:
    """Over one process, within the streams that jobs allows one caller."""
    site.web.get("/")
    heard = threading.Barrier(STREAMS + 1, timeout=60)
    done = threading.Barrier(STREAMS + 1, timeout=60)
    headers = {"cookie": site.web.cookie}

    def follow() -> None:
        stream = urllib3.request("GET", f"{site.web.origin}/events", headers=headers, preload_content=False)
        text = ""
        for piece in stream.stream(4096):
            text += piece.decode()
            if "Nothing yet" in text and not heard.broken:
                heard.wait()
                break
        for piece in stream.stream(4096):
            text += piece.decode()
            if re.search("Queued", text):
                break
        done.wait()
        stream.close()

    for _ in range(STREAMS):
        threading.Thread(target=follow, daemon=True).start()
    heard.wait()
    begun = json.loads(order(site).data)
    put = begun["put"]
    video = SAMPLE.read_bytes()
    sent = urllib3.request("PUT", put["url"], body=video, headers=put["headers"])
    assert sent.status == 200, sent.data
    assert site.web.request("POST", f"/uploads/{begun['job']}/complete").status == 200
    done.wait()


def test_scripts_are_compressed_and_what_is_about_people_is_not(site: Site) -> None:
    """The length of a compressed answer would tell of secrets in it."""
    for path, encoding in (("/static/app.css", "gzip"), ("/htmx/htmx.js", "gzip"), ("/", None), ("/library", None)):
        assert site.web.request("GET", path, {"accept-encoding": "gzip"}).headers.get("content-encoding") == encoding
