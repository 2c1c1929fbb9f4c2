"""The page behind a login, as in a cluster: which header it trusts, and where a visitor without a token is led."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import urllib3

from services import dev_issuer
from testing.fakes.analysis import analysed
from testing.servers.programs import Laptop, free_port, running
from testing.servers.web import COACH, Site, Web

ORIGIN = "https://crease.example.com"
LOGIN = "https://crease.example.com/oauth2/start?rd="


@pytest.fixture(scope="module")
def page(shared_site: Site, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A page as the chart starts it, with the services of another one."""
    folder = tmp_path_factory.mktemp("login")
    made = Web("web", {}, folder / "web.log", free_port(), folder=folder)
    services = ("CREASE_S3_ORIGIN", "CREASE_JOBS_ENDPOINT", "CREASE_UPLOAD_ENDPOINT")
    made.env = {name: shared_site.web.env[name] for name in services} | dict(laptop.env)
    made.env |= {"CREASE_ORIGIN": ORIGIN, "CREASE_LOGIN_URL": LOGIN}
    with running(made):
        yield made


def request(page: Web, path: str, headers: Mapping[str, str], method: str = "GET") -> urllib3.BaseHTTPResponse:
    """A request as the login hands it on: with the visitor's own Host."""
    sent = {"host": "crease.example.com", "sec-fetch-site": "same-origin", **headers}
    return urllib3.request(
        method, f"http://127.0.0.1:{page.port}{path}", headers=sent, redirect=False, retries=False, timeout=60
    )


def bearer(laptop: Laptop, subject: str, seconds: float = 3600) -> dict[str, str]:
    return {"authorization": f"Bearer {dev_issuer.person(laptop.folder, subject, seconds=seconds)}"}


def test_each_visitor_sees_what_their_own_token_may(page: Web, site: Site, laptop: Laptop) -> None:
    """One process, two coaches: neither sees the other's films, in no order of requests."""
    job = analysed(site.product, "Cover drives", ["Asha"])
    for _ in range(2):
        assert "Cover drives" in request(page, "/library", bearer(laptop, COACH)).data.decode()
        assert "Cover drives" not in request(page, "/library", bearer(laptop, "coach-2")).data.decode()
        assert request(page, f"/jobs/{job.job_id}", bearer(laptop, "coach-2")).status == 403


@pytest.mark.parametrize(
    "name",
    [
        "x-forwarded-user", "x-forwarded-email", "x-forwarded-preferred-username", "x-forwarded-access-token",
        "x-auth-request-user", "x-auth-request-access-token", "x-auth-request-redirect", "remote-user", "cookie",
    ],
)  # fmt: skip
def test_no_other_header_signs_in(page: Web, laptop: Laptop, name: str) -> None:
    """Whoever reaches the page past the login could write them; a token anywhere else is not read either."""
    token = bearer(laptop, COACH)["authorization"].removeprefix("Bearer ")
    for value in (COACH, token, f"Bearer {token}", f"crease-443={token}"):
        assert request(page, "/library", {name: value}).status == 303


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer x", "Basic Y29hY2g6eA==", "Share secret", "Lease secret"])
def test_a_visitor_without_a_valid_token_is_led_to_the_login_and_back(page: Web, value: str) -> None:
    """To the same page with its query; a script gets 401, by which the open page goes to the login itself."""
    sent = {"authorization": value}
    led = request(page, "/library?text=drives&days=7", sent)
    assert (led.status, led.headers["location"]) == (303, f"{LOGIN}/library%3Ftext%3Ddrives%26days%3D7")
    stream = request(page, "/events", sent | {"hx-request": "true"})
    assert (stream.status, stream.headers["hx-refresh"]) == (401, "true")
    upload = request(page, "/uploads/00000000-0000-0000-0000-000000000001/complete", sent, "POST")
    assert (upload.status, json.loads(upload.data)["login"]) == (401, f"{LOGIN}/")


def test_only_a_valid_token_of_a_person_signs_in(page: Web, laptop: Laptop, tmp_path: Path) -> None:
    """Neither an expired one, nor that of another issuer with the same name, of a program or of a service."""
    dev_issuer.create(tmp_path)
    foreign = dev_issuer.person(tmp_path, COACH)
    others = (
        foreign, dev_issuer.program(laptop.folder, "upload"), dev_issuer.service(laptop.folder),
    )  # fmt: skip
    assert request(page, "/library", bearer(laptop, COACH)).status == 200
    assert request(page, "/library", bearer(laptop, COACH, seconds=-60)).status == 303
    for token in others:
        assert request(page, "/library", {"authorization": f"Bearer {token}"}).status == 303


def test_forwarded_names_do_not_replace_the_host(page: Web, laptop: Laptop) -> None:
    """The login hands the visitor's Host on; another one is refused, whatever a proxy says of it."""
    forwarded = {"x-forwarded-host": "crease.example.com", "x-forwarded-proto": "https", "forwarded": f"host={ORIGIN}"}
    assert request(page, "/", bearer(laptop, COACH) | forwarded | {"host": "name-web:50060"}).status == 421
    assert request(page, "/", bearer(laptop, COACH) | {"x-forwarded-host": "evil.example"}).status == 200


def test_a_laptops_one_time_address_does_not_exist_in_a_cluster(page: Web) -> None:
    """There is one way in."""
    assert request(page, "/sign-in?key=", {}).status == 404
