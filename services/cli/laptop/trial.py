"""`python -m services.cli.laptop.trial`: what a trial in a cluster needs beside the product, as one container each.

postgres   PostgreSQL out of its wheel, on 5432, with the password of CREASE_TRIAL_PASSWORD
s3         the S3 server of the laptop, on 4566, with the keys of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
issuer     on 8080: GET /jwks.json, and GET /token?subject=NAME, a coach's token for whoever asks
token URL FILE     fetches a token from there, waiting until it answers
reach HOST PORT    waits until somebody listens there

None of it is for production: no backup, one copy, and an issuer that believes anybody.
"""

import http.server
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from services import dev_issuer
from services.cli.laptop import postgres, s3

DATA = Path("/data")
POSTGRES_PORT, S3_PORT, ISSUER_PORT = 5432, 4566, 8080
PATIENCE_SECONDS = 60


def run_postgres() -> None:
    """Becomes PostgreSQL, on data that are made where they are missing."""
    binaries, data = postgres.find_binaries(), DATA / "postgres"
    assert binaries is not None, "the image holds it"  # noqa: S101
    if not (data / "PG_VERSION").exists():
        password = DATA / "password"
        password.write_text(os.environ["CREASE_TRIAL_PASSWORD"])
        rules = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
                 "--builtin-locale=C.UTF-8", "--no-instructions")  # fmt: skip
        command = (binaries / "initdb", "-D", data, "-U", postgres.SUPERUSER, "--pwfile", password, *rules)
        subprocess.run(command, check=True)
        password.unlink()
        with (data / "pg_hba.conf").open("a") as hosts:
            hosts.write("host all all all scram-sha-256\n")
    program = str(binaries / "postgres")
    os.execv(program, [program, "-D", str(data), "-h", "*", "-p", str(POSTGRES_PORT), "-k", "/tmp"])  # noqa: S108, S606


def run_s3() -> None:
    """Becomes the S3 server, with its bucket."""
    folder = DATA / "s3"
    s3.make_bucket(folder, os.environ["S3_COACH_VIDEOS_BUCKET"])
    keys = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH")}
    environment = s3.environment(folder, S3_PORT, "") | keys | {"BIND_HOST": "0.0.0.0"}  # noqa: S104
    os.execve(sys.executable, [sys.executable, "-P", "-m", "ministack"], environment)  # noqa: S606


class _Issuer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The public key, or a token."""
        path, _, query = self.path.partition("?")
        match path:
            case "/jwks.json":
                self._answer((DATA / "jwks.json").read_text())
            case "/token":
                subject = urllib.parse.parse_qs(query).get("subject", ["coach@trial"])[0]
                self._answer(dev_issuer.person(DATA, subject))
            case _:
                self.send_error(404)

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """A trial's issuer has nothing to tell."""


def run_issuer() -> None:
    """Serves until it is told to stop."""
    dev_issuer.create(DATA)
    (DATA / "token").write_text(dev_issuer.person(DATA, "coach@trial"))
    http.server.ThreadingHTTPServer(("", ISSUER_PORT), _Issuer).serve_forever()


def fetch_token(url: str, file: str) -> None:
    """Writes a token of the trial's issuer."""

    def fetch() -> None:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 (the chart's own address)
            Path(file).write_bytes(reply.read())

    persist(fetch, url)


def reach(host: str, port: str) -> None:
    """Returns once a connection was made."""
    persist(lambda: socket.create_connection((host, int(port)), timeout=5).close(), f"{host}:{port}")


def persist(attempt: Callable[[], None], what: str) -> None:
    """Tries until it succeeds, or exits when patience ends."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return attempt()
        except OSError as error:
            if time.monotonic() > give_up:
                raise SystemExit(f"{what} does not answer: {error}") from None
            time.sleep(0.2)


def main() -> None:
    match sys.argv[1:]:
        case ["postgres"]:
            run_postgres()
        case ["s3"]:
            run_s3()
        case ["issuer"]:
            run_issuer()
        case ["token", url, file]:
            fetch_token(url, file)
        case ["reach", host, port]:
            reach(host, port)
        case _:
            raise SystemExit(
                "usage: python -m services.cli.laptop.trial postgres | s3 | issuer | token URL FILE | reach HOST PORT"
            )


if __name__ == "__main__":
    main()
