"""The page in a real browser: from a dropped film to the first drill, and an upload that survives its tab."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crease.jobs.v1.job_pb2 import STAGE_DEEP, STAGE_QUICK
from testing.fakes.analysis import RESULTS, Analysis
from testing.servers.browser import Browser, Page, chromium, needs_chromium
from testing.servers.product import SAMPLE
from testing.servers.web import Site

pytestmark = needs_chromium
REPORT = b"<!doctype html><title>Report</title><p>Every number"
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
    page.choose("#choose", film)
    page.click(f".film input[value={discipline}]")
    page.click(".film form button[type=submit]")


def test_a_dropped_film_leads_to_its_first_drill(site: Site, browser: Browser) -> None:
    """Drop, say what it is, send: the page shows each stage by itself, then the moment, the cue and the drill."""
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        drop(page, SAMPLE)
        page.wait("document.querySelector('#jobs .stage')?.innerText === 'Queued'")
        assert not UUID.search(text_of(page, "body"))
        analysis = Analysis.start(site.product)
        page.wait("document.querySelector('#jobs .stage')?.innerText === 'Quick analysis'")
        analysis.beat(STAGE_QUICK, 0.4)
        page.wait("document.querySelector('#jobs progress')?.value > 15")
        page.click("#jobs .name a")
        page.wait("document.querySelector('#session .stage')?.innerText === 'Quick analysis'")
        files = {"report.html": REPORT, "overlay.mp4": SAMPLE.read_bytes()}
        analysis.submit(STAGE_QUICK, RESULTS, files)
        page.wait("document.querySelector('.findings li') !== null")
        assert "provisional" in text_of(page, ".running")
        analysis.beat(STAGE_DEEP, 0.2)
        analysis.submit(STAGE_DEEP, RESULTS, files)
        page.wait("document.querySelector('.running') === null")
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


def test_a_film_that_cannot_be_analysed_is_refused_before_it_is_sent(
    site: Site, browser: Browser, tmp_path: Path
) -> None:
    """The page says what the file is, and no job exists."""
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        drop(page, picture)
        page.wait(f"{SENDING}?.includes('it is a PNG picture')")
    assert "Nothing yet" in site.web.get("/")


@pytest.mark.slow
def test_an_upload_continues_after_its_tab_was_closed(site: Site, browser: Browser, tmp_path: Path) -> None:
    """The same film, chosen again in a new tab, sends only the parts that have not arrived."""
    film = tmp_path / "nets.mp4"
    film.write_bytes(SAMPLE.read_bytes().ljust(40 * 2**20, b"\0"))
    with browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/'")
        page.throttle(upload_bytes_per_second=6 * 2**20)
        drop(page, film)
        page.wait("document.querySelector('.sending progress').value > 45")
        first = puts_of(page)
    with browser.page(f"{site.web.origin}/") as page:
        page.wait("document.querySelector('.waiting') !== null")
        assert "nets.mp4" in text_of(page, ".waiting")
        page.choose("#choose", film)
        page.wait("document.querySelector('#jobs .stage')?.innerText === 'Queued'")
        again = puts_of(page)
    assert len(first | again) == 5
    assert 0 < len(again) < 5


def puts_of(page: Page) -> set[str]:
    """The parts that a tab began to send, by their numbers."""
    return {number for url in page.requests for number in re.findall(r"partNumber=(\d+)", url)}
