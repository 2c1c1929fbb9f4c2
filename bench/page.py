"""The page of a coach with a thousand sessions: the first paint of Home and the library, and open pages that idle."""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import urllib3

from bench.figures import Figure, percentile
from bench.jobs import Meter
from services import dev_issuer
from testing.servers.postgres import postgres
from testing.servers.product import BUCKET, product
from testing.servers.programs import Laptop, free_port
from testing.servers.s3 import ministack
from testing.servers.web import COACH, Web, web

SESSIONS, REQUESTS, STREAMS, IDLE_SECONDS = 1000, 60, 60, 20
PATIENCE_SECONDS = 60
FILL = """
    INSERT INTO players (owner_type, owner_id, name, name_key, created_by)
        SELECT 'coach', %(coach)s, 'Player ' || n, 'player ' || n, %(coach)s FROM generate_series(1, 100) n;
    INSERT INTO video_sessions (owner_type, owner_id, created_by, title, player_ids, created_at, updated_at)
        SELECT 'coach', %(coach)s, %(coach)s, 'Nets ' || n, ARRAY['Player ' || n], now() - n * interval '1 day',
            now() - n * interval '1 day' FROM generate_series(1, {sessions}) n;
    INSERT INTO video_analysis_jobs (session_id, status, stage, progress_pct, s3_bucket, s3_key, results, results_stage,
            level, artifacts, created_at, queued_at, started_at, completed_at, created_by, etag)
        SELECT id, 'done', 'COMPLETED', 100, 'videos', 'k', '{{"metrics": {{}}}}', 'deep', 'medium',
            '[{{"name": "thumbnail.jpg", "stage": "STAGE_DEEP", "s3_key": "k", "content_type": "image/jpeg",
                "content_length": 9000}}]',
            created_at, created_at, created_at, created_at, %(coach)s, 'e'
        FROM video_sessions;
"""


def run() -> Iterator[Figure]:
    """Bytes and server time of the first paint, and the CPU of idle pages."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        folder.chmod(0o711)
        database = stack.enter_context(postgres(folder / "data")).clone()
        with psycopg.connect(database, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(FILL.format(sessions=SESSIONS), {"coach": COACH})
            connection.execute("ANALYZE")
        dev_issuer.create(folder / "issuer")
        laptop, port = Laptop(folder / "issuer"), free_port()
        s3 = stack.enter_context(ministack(folder / "s3", f"http://127.0.0.1:{port}"))
        s3.make_bucket(BUCKET)
        env = laptop.env | {"CREASE_DATABASE_URL": database}
        made = stack.enter_context(product(folder, env, laptop, s3, controlled=False))
        page = stack.enter_context(web(folder / "web", port, made, s3))
        how = f"{SESSIONS} sessions with an analysis each"
        yield Figure(
            "page_first_paint_bytes",
            first_paint_bytes(page),
            "B",
            100_000,
            how=f"Home; {how}; as sent, thumbnails apart",
        )
        for name, path in (("home", "/"), ("library", "/library"), ("search", "/library?q=Nets+77")):
            seconds = [timed(page, path) for _ in range(REQUESTS)]
            p50, p95 = (1000 * percentile(seconds[5:], share) for share in (0.5, 0.95))
            yield Figure(f"page_{name}_p95", p95, "ms", 200, how=f"{how}; p50 {p50:.0f} ms of {REQUESTS} requests")
        yield Figure("page_idle_cpu", idle_cpu(page), "cores", 0.05, how=f"{STREAMS} open pages, {IDLE_SECONDS} s")


def first_paint_bytes(page: Web) -> int:
    """The bytes of Home with its styles and scripts, as a browser asks for them."""
    home = page.get("/")
    of_page = set(re.findall(r'(?:src|href)="(/(?:static|htmx)/[^"]+)"', home))
    return sum(sent_bytes(page, path) for path in ("/", *of_page))


def sent_bytes(page: Web, path: str) -> int:
    reply = page.request("GET", path, {"accept-encoding": "gzip"})
    assert reply.status == 200, (path, reply.status)
    return reply.tell()


def timed(page: Web, path: str) -> float:
    began = time.monotonic()
    page.get(path)
    return time.monotonic() - began


def idle_cpu(page: Web) -> float:
    """The cores that the page's process uses while STREAMS pages are open and nothing happens."""
    meter = Meter(page)
    headers = {"cookie": page.cookie, "accept": "text/event-stream", "sec-fetch-site": "same-origin"}
    with urllib3.PoolManager(maxsize=STREAMS) as pool, ExitStack() as stack:
        for _ in range(STREAMS):
            url = f"{page.origin}/events"
            reply = pool.request("GET", url, headers=headers, preload_content=False, timeout=PATIENCE_SECONDS)
            assert reply.status == 200
            stack.callback(reply.close)
        before = meter.read()
        time.sleep(IDLE_SECONDS)
        after = meter.read()
        return (after.cpu - before.cpu) / (after.wall - before.wall)
