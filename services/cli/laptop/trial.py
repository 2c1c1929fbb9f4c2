"""`python -m services.cli.laptop.trial`: the servers that a trial in a cluster needs beside Crease, one container each.

postgres   PostgreSQL from its wheel, on port 5432, with the password in CREASE_TRIAL_PASSWORD
s3         the laptop's S3 server, on port 4566, with the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
issuer     a token issuer, on port 8080: GET /jwks.json; GET /token?subject=NAME returns a coach's token to every caller
token URL FILE     fetches a token from the issuer, with retries
reach HOST PORT    waits until the port accepts a connection

Not for production: no backup, one replica, and an issuer that authenticates no caller.
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
    """Becomes PostgreSQL, creating its data if missing."""
    binaries, data = postgres.find_binaries(), DATA / "postgres"
    assert binaries is not None, "the image contains the wheel"  # noqa: S101
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
    """Creates the bucket and becomes the S3 server."""
    folder = DATA / "s3"
    s3.make_bucket(folder, os.environ["S3_COACH_VIDEOS_BUCKET"])
    keys = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH")}
    environment = s3.environment(folder, S3_PORT, "") | keys | {"BIND_HOST": "0.0.0.0"}  # noqa: S104
    os.execve(sys.executable, s3.command(sys.executable), environment)  # noqa: S606


class _Issuer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answers with the public key or a token."""
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
        """Logs no request."""


def run_issuer() -> None:
    """Serves until it is killed."""
    dev_issuer.create(DATA)
    (DATA / "token").write_text(dev_issuer.person(DATA, "coach@trial"))
    http.server.ThreadingHTTPServer(("", ISSUER_PORT), _Issuer).serve_forever()


def fetch_token(url: str, file: str) -> None:
    """Fetches a token of the trial's issuer into a file."""

    def fetch() -> None:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 (the chart's own address)
            Path(file).write_bytes(reply.read())

    retry(fetch, url)


def reach(host: str, port: str) -> None:
    """Returns when a connection succeeds."""
    retry(lambda: socket.create_connection((host, int(port)), timeout=5).close(), f"{host}:{port}")


def retry(attempt: Callable[[], None], target: str) -> None:
    """Repeats an attempt until it succeeds; exits after PATIENCE_SECONDS."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return attempt()
        except OSError as error:
            if time.monotonic() > give_up:
                raise SystemExit(f"{target} does not answer after {PATIENCE_SECONDS} s: {error}") from None
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
