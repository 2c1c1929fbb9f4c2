"""The page in a real browser: from a dropped film to the first drill, and an upload that survives its tab."""

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crease.jobs.v1.job_pb2 import STAGE_DEEP, STAGE_QUICK, ListJobsRequest
from crease.upload.v1.upload_pb2 import ListPartsRequest
from services import dev_issuer
from testing.data import motions, reports
from testing.fakes.analysis import RESULTS, Analysis, analysed, finish, with_knee
from testing.servers.browser import Browser, Page, chromium, needs_chromium
from testing.servers.product import SAMPLE
from testing.servers.programs import ROOT
from testing.servers.web import COACH, LINK, Site
from tests.integration.jobs.test_outbox import wait_until

pytestmark = needs_chromium
REPORT = b"<!doctype html><title>Report</title><p>Every number"
AXE = ROOT / "build" / "axe" / "axe.min.js"
needs_axe = pytest.mark.skipif(
    not AXE.exists() and not os.environ.get("CI"), reason="axe-core is not at hand (make proof-tools fetches it)"
)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-")
SENDING = "document.querySelector('.sending:not([hidden]) .state')?.textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def text_of(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector('{selector}')?.innerText ?? ''"))


def drop(page: Page, film: Path, discipline: str = "batting") -> None:
    """Chooses a film, says what it is, and sends it."""
    page.wait("document.readyState === 'complete'")
    page.choose("#choose", film)
    page.click(f".film input[value={discipline}]")
    page.click(".film form button[type=submit]")


def test_a_dropped_film_leads_to_its_first_drill(site: Site, browser: Browser) -> None:
    """Three actions: drop, say what it is, send. Each stage, the moment, the cue and the drill appear by themselves."""
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        drop(page, SAMPLE)
        page.wait("document.querySelector('#session .stage')?.innerText === 'Queued'")
        assert not UUID.search(text_of(page, "body"))
        analysis = Analysis.start(site.product)
        page.wait("document.querySelector('#session .stage')?.innerText === 'Quick analysis'")
        analysis.beat(STAGE_QUICK, 0.4)
        page.wait("document.querySelector('#session progress')?.value > 15")
        files = {"report.html": REPORT, "overlay.mp4": SAMPLE.read_bytes()}
        analysis.submit(STAGE_QUICK, RESULTS, files)
        page.wait("document.querySelector('.findings li') !== null")
        assert "provisional" in text_of(page, ".running")
        analysis.beat(STAGE_DEEP, 0.2)
        analysis.submit(STAGE_DEEP, RESULTS, files)
        page.wait("document.querySelector('.running') === null")
        # Nothing changes any more: the stream ends, and is not opened again.
        page.wait("!document.querySelector('#session')._htmx.sse")
        first = text_of(page, ".findings li")
        assert all(words in first for words in ("The front knee gives way", "Push the ground away", "Wall push"))
        page.wait("document.querySelector('video').readyState >= 2")
        page.click(".findings .jump")
        page.wait("document.querySelector('.clock').textContent === '1.65 s'")
        page.click("[data-step='1']")
        page.wait("document.querySelector('.clock').textContent === '1.68 s'")
        page.click(".report summary")
        page.wait("document.querySelector('iframe').getBoundingClientRect().height > 100")
        assert not UUID.search(text_of(page, "body"))
        assert [words for words in page.complaints if "sandbox" not in words] == []
        hosts = {re.sub(r"^(blob:)?(\w+://[^/]*).*$", r"\2", url) for url in page.requests}
        assert hosts == {site.web.origin, site.web.env["CREASE_S3_ORIGIN"]}


@pytest.mark.slow
def test_the_film_and_the_plots_of_the_report_keep_one_moment(site: Site, browser: Browser) -> None:
    """The report's cursors follow the film, its buttons move the film, and another window moves neither."""
    report = reports.page(motions.stroke(30, knee_deg=100)).encode()
    job = analysed(site.product, "Nets", ["Asha"], report=report)
    cursors = "[...document.querySelectorAll('figure.plot')].map(plot => plot.dataset.at)"
    with browser.page(site.web.sign_in_url()) as page:
        page.open(f"{site.web.origin}/jobs/{job.job_id}")
        page.wait("document.querySelector('.clock').textContent === '1.65 s'")
        page.click(".report summary")
        inside = page.frame()
        inside.wait("document.getElementById('clock')?.textContent === '1.65 s'")
        page.click("[data-step='-1']")
        page.wait("document.querySelector('.clock').textContent === '1.62 s'")
        inside.wait(f"{cursors}.every(at => at && Math.abs(at - 1.617) < 0.002)")
        inside.evaluate("""(plot => {
            const {left, width, top} = plot.getBoundingClientRect();
            plot.dispatchEvent(new MouseEvent('click', {clientX: left + width / 2, clientY: top + 5, bubbles: true}));
        })(document.querySelector('figure.plot svg'))""")
        chosen = inside.evaluate("document.getElementById('clock').textContent")
        assert chosen != "1.62 s"
        page.wait(f"document.querySelector('.clock').textContent === '{chosen}'")
        place = page.evaluate("document.querySelector('video').currentTime")
        for each in (page, inside):
            each.evaluate("""new Promise(done => {
                addEventListener('message', () => done(), {once: true});
                postMessage({seconds: 0}, '*');
            })""")
        assert inside.evaluate("document.getElementById('clock').textContent") == chosen
        assert page.evaluate("document.querySelector('video').currentTime") == place
        # The report plays, and the film with it, until the film is played by its own button.
        inside.click("#go")
        inside.wait(f"document.getElementById('clock').textContent !== '{chosen}'")
        page.wait(f"document.querySelector('.clock').textContent !== '{chosen}'")
        page.click(".play")
        inside.wait("document.getElementById('go').getAttribute('aria-pressed') === 'false'")


def test_a_hidden_tab_holds_no_stream(site: Site, browser: Browser) -> None:
    """A browser opens six connections to a server. A tab opens its stream when it is shown, and ends it when hidden."""
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("document.querySelector('#jobs')?._htmx?.sse !== undefined")
        streams = streams_of(page)
        page.before_load("window.veiled = true; Object.defineProperty(document, 'hidden', {get: () => veiled})")
        page.open(f"{site.web.origin}/")
        page.wait("document.querySelector('#jobs')._htmx !== undefined")
        assert streams_of(page) == streams
        site.product.uploaded(SAMPLE.read_bytes())
        show(page, hidden=False)
        page.wait("document.querySelector('#jobs .stage')?.innerText === 'Queued'")
        show(page, hidden=True)
        # The browser lists a request as soon as it has ended.
        page.wait("performance.getEntriesByName(location.origin + '/events').length === 1")
        assert streams_of(page) == streams + 1
        site.product.uploaded(SAMPLE.read_bytes())
        show(page, hidden=False)
        page.wait("document.querySelectorAll('#jobs .job').length === 2")


def streams_of(page: Page) -> int:
    return sum(url.endswith("/events") for url in page.requests)


def show(page: Page, *, hidden: bool) -> None:
    page.evaluate(f"window.veiled = {str(hidden).lower()}; document.dispatchEvent(new Event('visibilitychange'))")


def test_another_person_is_shown_by_a_box_in_the_first_picture(site: Site, browser: Browser) -> None:
    """With the mouse, and with the keyboard alone on a screen 320 px wide."""
    job = analysed(site.product, "Nets", ["Asha"])
    with browser.page(site.web.sign_in_url()) as page:
        page.open(f"{site.web.origin}/jobs/{job.job_id}")
        page.wait("document.querySelector('video').readyState >= 2")
        page.click("#correct summary")
        page.click(".draw")
        page.wait("!document.querySelector('video').seeking")
        page.drag(".area", (0.3, 0.2), (0.55, 0.9))
        page.click("#correct [type=submit]")
        page.wait(f"location.pathname !== '/jobs/{job.job_id}'")
        assert box_of(site, page) == pytest.approx((0.3, 0.2, 0.25, 0.7), abs=0.01)
        finish(site.product)
        page.resize(320, 640)
        page.open(f"{site.web.origin}/jobs/{job.job_id}")
        page.wait("document.querySelector('video').readyState >= 2")
        steps = {"#correct summary": "Enter", ".draw": " ", ".area": "ArrowRight", "#correct [type=submit]": "Enter"}
        for selector, key in steps.items():
            tab_to(page, selector)
            page.press(key)
            page.wait("!document.querySelector('video').seeking")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.wait(f"location.pathname !== '/jobs/{job.job_id}'")
        assert box_of(site, page) == pytest.approx((0.37, 0.1, 0.3, 0.8), abs=0.01)


def test_the_player_is_chosen_among_the_people_of_a_film(site: Site, browser: Browser) -> None:
    """The page numbers them in the first picture, praises nothing, and names no option of a command."""
    people = {"people_in_view": 2, "athlete": {"candidates": [[0.5, 0.3, 0.2, 0.5], [0.1, 0.2, 0.25, 0.6]]}}
    results: dict[str, Any] = {
        "pose": {"pose_summary": {"video_fps": 30.0, "events": [], **people}},
        "metrics": {},
        "findings": {"overall_level": None, "not_assessed_reason": "two people are in view", "findings": []},
        "report": {"summary": "Not assessed: analyse again with --athlete-box 0.50,0.30,0.20,0.50.", "drills": []},
    }
    job = analysed(site.product, "Nets", ["Asha"], results)
    with browser.page(site.web.sign_in_url()) as page:
        page.open(f"{site.web.origin}/jobs/{job.job_id}")
        page.wait("document.querySelector('.people .box')?.getBoundingClientRect().height > 50")
        words = text_of(page, "main")
        assert "Which one is the player?" in words
        assert "Nothing to mend" not in words
        assert "--athlete-box" not in words
        assert page.evaluate("[...document.querySelectorAll('.people .box')].map(box => box.textContent)") == ["1", "2"]
        page.evaluate("document.querySelectorAll('.people .box')[1].click()")
        page.wait(f"location.pathname !== '/jobs/{job.job_id}'")
        assert box_of(site, page) == pytest.approx((0.1, 0.2, 0.25, 0.6))


def test_a_link_appears_when_its_copy_is_made(site: Site, browser: Browser) -> None:
    """One action: the form asks again by itself, also on a page whose own stream has ended meanwhile."""
    job = analysed(site.product, "Cover drives", ["Asha"])
    again = site.web.post(f"/jobs/{job.job_id}/correct", discipline="batting").headers["hx-redirect"]
    with browser.page(site.web.sign_in_url()) as page:
        page.open(f"{site.web.origin}{again}")
        finish(site.product)
        page.wait("document.querySelector('.share') && !document.querySelector('.running')")
        page.click(".share summary")
        page.click(".share [type=submit]")
        page.wait("document.querySelector('.share .notice progress') !== null")
        finish(site.product)
        page.wait("document.querySelector('.share .link') !== null")
        assert "/s/" in page.evaluate("document.querySelector('.share .link').value")
        page.open(f"{site.web.origin}/")
        assert "without names" not in text_of(page, "#jobs")


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until the element has the focus."""
    for _ in range(60):
        if page.evaluate(f"document.activeElement.matches({json.dumps(selector)})"):
            return
        page.press("Tab")
    raise AssertionError(f"no Tab leads to {selector}")


def box_of(site: Site, page: Page) -> tuple[float, ...]:
    """The box of the job that the page shows."""
    box = site.product.job(page.evaluate("location.pathname").removeprefix("/jobs/")).athlete_box
    return box.left, box.top, box.width, box.height


def test_a_film_is_deleted_and_brought_back_with_the_keyboard(site: Site, browser: Browser) -> None:
    """The page offers the undo once: not again after a reload."""
    job = analysed(site.product, "Cover drives", ["Asha"])
    with browser.page(site.web.sign_in_url()) as page:
        page.open(f"{site.web.origin}/jobs/{job.job_id}")
        for selector, next_page in (("[href$='/edit']", ".danger"), (".danger", ".undo"), (".undo button", ".danger")):
            tab_to(page, selector)
            page.press("Enter")
            page.wait(f"document.readyState === 'complete' && document.querySelector({json.dumps(next_page)}) !== null")
        page.click(".danger")
        page.wait("location.pathname === '/library' && document.querySelector('.undo') !== null")
        page.wait("location.search === ''")
        page.evaluate("location.reload()")
        page.wait("document.readyState === 'complete' && !document.querySelector('.undo')")
        assert "Cover drives" not in text_of(page, "main")


def test_a_comparison_has_the_days_of_its_reader_and_asks_for_a_film_again(site: Site, browser: Browser) -> None:
    """The signed address of a film is valid for minutes."""
    jobs = [analysed(site.product, title, ["Asha"]) for title in ("May", "June")]
    query = "&".join(f"job={job.job_id}" for job in jobs)
    with browser.page(site.web.sign_in_url()) as page:
        page.move_to("Pacific/Kiritimati")
        page.open(f"{site.web.origin}/comparison?{query}")
        page.wait("[...document.querySelectorAll('video')].every(video => video.readyState >= 2 && !video.seeking)")
        wanted = page.evaluate("""[...document.querySelectorAll('[data-when]')].map(each =>
            new Date(each.dataset.when).toLocaleString(undefined, {dateStyle: 'medium', timeStyle: 'short'}))""")
        assert len(wanted) == 2
        assert page.evaluate("[...document.querySelectorAll('[data-when]')].map(each => each.textContent)") == wanted
        film = f"/jobs/{jobs[1].job_id}/film"
        before = sum(url.endswith(film) for url in page.requests)
        place = page.evaluate("document.querySelectorAll('video')[1].currentTime")
        assert place > 0
        page.evaluate("document.querySelectorAll('video')[1].dispatchEvent(new Event('error'))")
        page.wait(f"document.querySelectorAll('video')[1].currentTime === {place}")
        page.wait("document.querySelectorAll('video')[1].readyState >= 2")
        assert sum(url.endswith(film) for url in page.requests) > before
        assert page.complaints == []


def test_the_page_hashes_without_tls(site: Site, browser: Browser) -> None:
    """At a network's address browsers offer no crypto.subtle; both digests of one text agree, whatever its length."""
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("typeof sha256Plain === 'function'")
        for length in (0, 1, 55, 56, 63, 64, 119, 120, 5000):
            text = bytes(k * 7 % 256 for k in range(length))
            digest = page.evaluate(f"sha256Plain(Uint8Array.from({list(text)}))")
            assert (length, digest) == (length, hashlib.sha256(text).hexdigest())


def test_a_film_that_cannot_be_analysed_is_refused_before_it_is_sent(
    site: Site, browser: Browser, tmp_path: Path
) -> None:
    """The page says what the file is, also where the browser cannot play it, and no job exists."""
    movie = SAMPLE.read_bytes()
    index = movie.index(b"moov") - 4
    long = bytearray(movie.replace(b"avc1", b"none"))
    header = long.index(b"mvhd")
    struct.pack_into(">I", long, header + 20, 2000 * struct.unpack_from(">I", long, header + 16)[0])
    films = {
        "it is a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(2000),
        "it has no index": movie[:index] + movie[index:].replace(b"moov", b"free"),
        "has no moving pictures": movie.replace(b"vide", b"soun"),
        "lasts 33 minutes; at most 30 minutes": bytes(long),
    }
    for words, content in films.items():
        film = tmp_path / f"{words[:12]}.mp4"
        film.write_bytes(content)
        with browser.page(site.web.sign_in_url()) as page:
            page.wait("location.pathname === '/'")
            drop(page, film)
            page.wait(f"{SENDING}?.includes('{words}')")
    assert "Nothing yet" in site.web.get("/")


def test_an_upload_goes_on_after_a_new_sign_in(site: Site, browser: Browser) -> None:
    """The page says that the token has expired, keeps the film, and sends it as soon as there is a new one."""
    token = site.web.folder / "coach.jwt"
    good = token.read_text()
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        try:
            token.write_text(dev_issuer.person(site.product.laptop.folder, COACH, seconds=-3600))
            drop(page, SAMPLE)
            page.wait(f"{SENDING}?.includes('Your sign-in has expired')")
        finally:
            token.write_text(good)
        page.wait("document.querySelector('#session .stage')?.innerText === 'Queued'")


@pytest.mark.slow
def test_an_upload_continues_after_its_tab_was_closed(site: Site, browser: Browser, tmp_path: Path) -> None:
    """The same film, chosen again in a new tab, sends only the parts that have not arrived."""
    film = tmp_path / "nets.mp4"
    film.write_bytes(SAMPLE.read_bytes().ljust(40 * 2**20, b"\0"))
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        page.throttle(upload_bytes_per_second=3 * 2**20)
        drop(page, film)
        # Parts are sent side by side: at half of the bytes none may have arrived whole.
        wait_until(lambda: arrived(site))
        first = puts_of(page)
    with browser.page(f"{site.web.origin}/") as page:
        page.wait("document.querySelector('.waiting') !== null")
        assert "nets.mp4" in text_of(page, ".waiting")
        page.choose("#choose", film)
        page.wait("document.querySelector('#session .stage')?.innerText === 'Queued'")
        again = puts_of(page)
    assert len(first | again) == 5
    assert 0 < len(again) < 5


def arrived(site: Site) -> bool:
    """Whether a part of the newest upload has arrived."""
    made, coach = site.product, site.product.coach
    jobs = made.job_stub.ListJobs(ListJobsRequest(), metadata=coach).jobs
    if not jobs:
        return False
    request = ListPartsRequest(job_id=jobs[0].job_id)
    return bool(made.upload_stub.ListParts(request, metadata=coach).parts)


def puts_of(page: Page) -> set[str]:
    """The parts that a tab began to send, by their numbers."""
    return {number for url in page.requests for number in re.findall(r"partNumber=(\d+)", url)}


@needs_axe
@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (390, "light"), (820, "dark"), (1440, "light")])
def test_every_page_is_accessible_and_fits(site: Site, browser: Browser, width: int, scheme: str) -> None:
    """axe-core finds nothing, and no page scrolls sideways, whichever screen it is, also with an error."""
    job = analysed(site.product, "Cover drives", [], with_knee(151.0))
    job_id, edit = job.job_id, f"/sessions/{job.session_id}/edit"
    site.web.post(edit, title="Cover drives at the county ground", player=["Asha Rao"])
    player = site.player_path(job_id)
    link = LINK.findall(site.web.post("/shares", job=job_id, names="true").data.decode())[0]
    reader = link.removeprefix(site.web.origin)
    with browser.page(site.web.sign_in_url(), width, 900) as page:
        page.wait("location.pathname === '/'")
        page.prefer(scheme)
        deleted = (f"/library?deleted={job.session_id}", f"/players?deleted={job.session_id}")
        people = ("/players", player, edit, "/shares", *deleted, reader)
        for path in ("/", f"/jobs/{job_id}", "/library", "/compare?job=nothing", *people):
            page.open(f"{site.web.origin}{path}")
            if path == "/":
                page.choose("#choose", SAMPLE)
                page.wait("document.querySelector('.film form') !== null")
            page.evaluate("document.querySelectorAll('details:not(.report)').forEach(each => each.open = true)")
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_keyboard_reaches_every_action_and_shows_where_it_is(site: Site, browser: Browser, width: int) -> None:
    """Tab alone leads to each link, button and field of every screen, with an outline of at least 2 px."""
    jobs = [analysed(site.product, title, ["Asha"]) for title in ("May", "June")]
    query = "&".join(f"job={job.job_id}" for job in jobs)
    link = LINK.findall(site.web.post("/shares", job=jobs[0].job_id, names="true").data.decode())[0]
    reader = link.removeprefix(site.web.origin)
    edit = f"/sessions/{jobs[0].session_id}/edit"
    with browser.page(site.web.sign_in_url(), width, 900) as page:
        page.wait("location.pathname === '/'")
        for path in (
            "/",
            f"/jobs/{jobs[0].job_id}",
            "/library",
            "/players",
            edit,
            "/shares",
            f"/comparison?{query}",
            reader,
        ):
            page.open(f"{site.web.origin}{path}")
            if path == "/":
                page.choose("#choose", SAMPLE)
                page.wait("document.querySelector('.film form') !== null")
            page.evaluate("document.querySelectorAll('details:not(.report)').forEach(each => each.open = true)")
            expected = page.evaluate(WALK)
            assert expected > 0
            for _ in range(expected + 5):
                page.press("Tab")
                page.evaluate("note()")
            assert page.evaluate("[missed(), hidden]") == [[], []], path


# Of radio buttons with one name, Tab reaches one. An input that fills its label is shown by the label beside it.
WALK = """(() => {
    const shown = each => each.checkVisibility() && !each.disabled && each.tabIndex >= 0;
    const targets = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')].filter(shown);
    const reached = new Set(), key = each => each.type === 'radio' ? each.name : each;
    const outlined = each => each && getComputedStyle(each).outlineStyle !== 'none'
        && parseFloat(getComputedStyle(each).outlineWidth) >= 2;
    globalThis.hidden = [];
    globalThis.note = () => {
        const at = document.activeElement;
        if (at === document.body || reached.has(key(at))) return;
        reached.add(key(at));
        if (at.tagName !== 'IFRAME' && ![at, at.nextElementSibling, at.closest('label')].some(outlined))
            hidden.push(at.outerHTML.slice(0, 100));
    };
    globalThis.missed = () => targets.filter(each => !reached.has(key(each))).map(each => each.outerHTML.slice(0, 100));
    document.activeElement.blur();
    return targets.length;
})()"""


def violations(page: Page) -> list[str]:
    """What axe-core finds, each with its first element."""
    page.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    options = json.dumps(rules | {"iframes": False})
    found = page.evaluate(f"axe.run(document, {options}).then(result => result.violations)")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


@pytest.mark.slow
def test_an_open_page_survives_a_restart_of_each_program(site: Site, browser: Browser) -> None:
    """Without a reload by hand: a film that arrives afterwards appears by itself."""
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        page.evaluate("window.kept = true")
        for program in (site.web, site.product.jobs, site.product.upload):
            program.stop()
            program.start()
            site.product.uploaded(SAMPLE.read_bytes())
        page.wait("document.querySelectorAll('#jobs .job').length === 3")
        assert page.evaluate("window.kept")
