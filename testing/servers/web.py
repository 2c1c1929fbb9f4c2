"""The page for tests: a running `web` on a running product, with a browser's requests to it."""

import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import urllib3

from services import dev_issuer, naming
from services.upload.s3 import cors
from testing.servers.product import BUCKET, Product
from testing.servers.programs import READY_SECONDS, Program, running
from testing.servers.s3 import Endpoint

COACH = "coach-1"
# The link that the page shows after it has shared something.
LINK = re.compile(r'value="(http[^"]+/s/[^"]+)"')


@dataclass
class Web(Program):
    """A page for one coach, as `crease up` starts it."""

    folder: Path = field(default_factory=Path)
    cookie: str = ""
    # A one-time address signs in one of several threads.
    signing_in: threading.Lock = field(default_factory=threading.Lock)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _wait_until_serving(self) -> None:
        give_up = time.monotonic() + READY_SECONDS
        while True:
            try:
                if urllib3.request("GET", f"{self.origin}/healthz", retries=False, timeout=5).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            assert self.process is not None
            assert self.process.poll() is None, f"web ended:\n{self.log.read_text()}"
            assert time.monotonic() < give_up, f"web is not serving:\n{self.log.read_text()}"
            time.sleep(0.05)

    def sign_in_url(self) -> str:
        """A new one-time address."""
        key = secrets.token_urlsafe(24)
        (self.folder / naming.SIGN_IN_FILE).write_text(key)
        return f"{self.origin}/sign-in?key={key}"

    def signed_in(self) -> str:
        """The cookie of a browser that has used a one-time address."""
        reply = urllib3.request("GET", self.sign_in_url(), redirect=False)
        assert reply.status == 303, reply.data
        return reply.headers["set-cookie"].partition(";")[0]

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> urllib3.BaseHTTPResponse:
        """A request of a signed-in browser's own page; `headers` replace or, if empty, remove those of the browser."""
        with self.signing_in:
            self.cookie = self.cookie or self.signed_in()
        sent = {"cookie": self.cookie, "sec-fetch-site": "same-origin", "origin": self.origin} | dict(headers or {})
        kept = {name: value for name, value in sent.items() if value}
        return urllib3.request(
            method, f"{self.origin}{path}", headers=kept, body=body, redirect=False, retries=False, timeout=60
        )

    def post(self, path: str, **fields: object) -> urllib3.BaseHTTPResponse:
        """A form as htmx sends it; a list becomes a field for each of its items."""
        headers = {"content-type": "application/x-www-form-urlencoded", "hx-request": "true"}
        return self.request("POST", path, headers, urlencode(fields, doseq=True).encode())

    def get(self, path: str) -> str:
        """A page of the signed-in browser."""
        reply = self.request("GET", path)
        assert reply.status == 200, (path, reply.status, reply.data)
        return reply.data.decode()


@dataclass(frozen=True)
class Site:
    """The page and what is behind it."""

    web: Web
    product: Product
    database_url: str

    def player_path(self, job_id: str) -> str:
        """The page of a film's player, from the link in the film's page."""
        found = re.search(r'href="(/players/[^"]+)"', self.web.get(f"/jobs/{job_id}"))
        assert found
        return found[1]


@contextmanager
def web(folder: Path, port: int, made: Product, s3: Endpoint) -> Iterator[Web]:
    """A running page at a port, until the block ends. The S3 server was started for its origin."""
    folder.mkdir(exist_ok=True)
    (folder / naming.COOKIE_KEY_FILE).write_text(secrets.token_urlsafe(32))
    token = folder / "coach.jwt"
    token.write_text(dev_issuer.person(made.laptop.folder, COACH))
    page = Web("web", {}, folder / "web.log", port, folder=folder)
    page.env = {
        "CREASE_ORIGIN": page.origin,
        "CREASE_S3_ORIGIN": s3.url,
        "CREASE_JOBS_ENDPOINT": made.jobs.endpoint,
        "CREASE_UPLOAD_ENDPOINT": made.upload.endpoint,
        "CREASE_TOKEN_FILE": str(token),
        "CREASE_SIGN_IN_FOLDER": str(folder),
    }
    cors.allow(s3.client(), BUCKET, page.origin)
    with running(page):
        yield page
