"""A film from a real browser to S3 over a line that breaks again and again, or is gone for a while."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testing.servers.browser import chromium, needs_chromium
from testing.servers.line import Line, line
from testing.servers.postgres import Server
from testing.servers.product import BUCKET, SAMPLE, product
from testing.servers.programs import Laptop, free_port
from testing.servers.s3 import Endpoint, ministack
from testing.servers.web import Site, web
from tests.conftest import jobs_on

pytestmark = [needs_chromium, pytest.mark.slow]
MB = 2**20
# By hand, with 2 GB over a line of 12 MB/s that breaks every 20 s:
# FILM_MB=1907 BREAK_SECONDS=20 RATE_MB=12 OFFLINE_SECONDS=20 pytest -n0 -m slow tests/integration/web/test_lines.py
FILM_BYTES = int(os.environ.get("FILM_MB", "64")) * MB
BREAK_SECONDS = float(os.environ.get("BREAK_SECONDS", "5"))
BYTES_PER_SECOND = int(os.environ.get("RATE_MB", "8")) * MB
OFFLINE_SECONDS = float(os.environ.get("OFFLINE_SECONDS", "2"))
# An upper bound; it measures nothing.
PATIENCE_SECONDS = 1800


@contextmanager
def broken_site(folder: Path, postgres_server: Server, laptop: Laptop) -> Iterator[tuple[Site, Line, Any]]:
    """A page whose browsers reach S3 by a line alone."""
    port, database_url = free_port(), postgres_server.clone()
    with ministack(folder / "s3", f"http://127.0.0.1:{port}") as s3, line(("127.0.0.1", _port(s3.url))) as between:
        s3.make_bucket(BUCKET)
        seen = Endpoint(f"http://{between.endpoint}", s3.region, s3.access_key, s3.secret_key)
        limits = {"CREASE_MAX_CONTENT_LENGTH": str(FILM_BYTES), "CREASE_MULTIPART_FROM_BYTES": "1000000"}
        env = jobs_on(database_url, laptop)
        with (
            product(folder, env, laptop, seen, controlled=False, upload_settings=limits) as made,
            web(folder / "web", port, made, seen) as page,
        ):
            yield Site(page, made, database_url), between, s3.client()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def send(site: Site, between: Line, film: Path) -> int:
    """Sends a film while the line breaks; the number of breaks."""
    breaks, arrived = 0, threading.Event()

    def break_it() -> None:
        nonlocal breaks
        while not arrived.wait(BREAK_SECONDS):
            between.cut()
            breaks += 1

    breaker = threading.Thread(target=break_it)
    with chromium() as browser, browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/' && document.readyState === 'complete'")
        page.throttle(BYTES_PER_SECOND)
        page.choose("#choose", film)
        page.click(".film input[value=batting]")
        page.click(".film form button[type=submit]")
        breaker.start()
        try:
            give_up = time.monotonic() + PATIENCE_SECONDS
            while page.evaluate("document.querySelector('#session .stage')?.innerText") != "Queued":
                assert time.monotonic() < give_up, page.evaluate("document.querySelector('.state')?.innerText")
                time.sleep(0.2)
        finally:
            arrived.set()
            breaker.join()
    return breaks


def test_a_film_arrives_over_a_line_that_breaks(postgres_server: Server, laptop: Laptop, tmp_path: Path) -> None:
    """Every part whole, in its place; nobody does anything."""
    film = tmp_path / "nets.mp4"
    film.write_bytes(SAMPLE.read_bytes().ljust(FILM_BYTES, b"\x5a"))
    with broken_site(tmp_path, postgres_server, laptop) as (site, between, s3):
        breaks = send(site, between, film)
        assert breaks > 1
        stored = [each for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"] if each["Size"] == FILM_BYTES]
        assert len(stored) == 1
        body = s3.get_object(Bucket=BUCKET, Key=stored[0]["Key"])["Body"]
        assert hashlib.file_digest(body, "sha256").digest() == hashlib.sha256(film.read_bytes()).digest()


def test_a_page_and_its_upload_survive_a_lost_network(site: Site, tmp_path: Path) -> None:
    """The upload goes on, and a film that arrived meanwhile appears, without a reload."""
    film = tmp_path / "nets.mp4"
    film.write_bytes(SAMPLE.read_bytes().ljust(24 * MB, b"\0"))
    with chromium() as browser, browser.page(site.web.sign_in_url()) as page:
        page.wait("location.pathname === '/' && document.readyState === 'complete'")
        page.evaluate("window.kept = true")
        page.throttle(MB // 4)
        page.choose("#choose", film)
        page.click(".film input[value=batting]")
        page.click(".film form button[type=submit]")
        # With another film to decide on, the page stays where it is.
        page.choose("#choose", SAMPLE)
        page.wait("document.querySelector('.sending progress').value > 2")
        page.throttle(offline=True)
        site.product.uploaded(SAMPLE.read_bytes())
        page.wait("document.querySelector('.sending .state').textContent.includes('No connection')")
        time.sleep(OFFLINE_SECONDS)
        page.throttle()
        page.wait("document.querySelectorAll('#jobs .job').length === 2 && window.kept")
