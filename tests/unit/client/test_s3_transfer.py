"""Transfers to and from a scripted HTTP server."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crease_client import s3_transfer
from crease_client.errors import S3Rejection, S3Unavailable

DENIED = b"<Error><Code>AccessDenied</Code><Message>Request has expired.</Message></Error>"


@dataclass
class Answers:
    """The statuses to answer in turn (0: close the connection), their body, and the bodies received."""

    statuses: list[int]
    body: bytes = b""
    received: list[bytes] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setattr(s3_transfer, "FIRST_PAUSE_SECONDS", 0.0)
    answers = Answers([])

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            answers.received.append(self.rfile.read(int(self.headers.get("content-length", 0))))
            if status := answers.statuses.pop(0):
                self.send_response(status)
                self.send_header("content-length", str(len(answers.body)))
                self.end_headers()
                self.wfile.write(answers.body)
            else:
                self.close_connection = True

        do_PUT = do_GET = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        answers.url = f"http://127.0.0.1:{server.server_port}/key"
        yield answers
        server.shutdown()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"v" * 1_000_000)
    return path


def headers(video: Path) -> dict[str, str]:
    return {"content-length": str(video.stat().st_size)}


@pytest.mark.parametrize("first", [0, 500, 503, 429])
def test_a_put_is_retried_after_a_transient_error(s3: Answers, video: Path, first: int) -> None:
    """The whole file is sent again, with the same URL and headers."""
    s3.statuses[:] = [first, 200]
    progress: list[int] = []
    s3_transfer.S3Transfer().put(s3.url, headers(video), video, progress.append)
    assert s3.received == [video.read_bytes()] * 2
    assert progress[-1] == video.stat().st_size


@pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (403, "RequestTimeTooSkewed"), (409, "")])
def test_a_transient_error_code_is_retried_whatever_its_status(
    s3: Answers, video: Path, tmp_path: Path, status: int, code: str
) -> None:
    """S3 sends RequestTimeout as a 400, which ended an upload at once. The same holds for a download."""
    s3.statuses[:], s3.body = [status, 200, status, 200], f"<Error><Code>{code}</Code></Error>".encode()
    s3_transfer.S3Transfer().put(s3.url, headers(video), video)
    s3_transfer.S3Transfer().fetch("GET", s3.url, {}, tmp_path / "report.html")
    assert s3.statuses == []


def test_a_refused_download_shows_s3_s_error(s3: Answers, tmp_path: Path) -> None:
    """The body of a refusal is read before the connection is given back."""
    s3.statuses[:], s3.body = [403], DENIED
    with pytest.raises(S3Rejection, match="403 AccessDenied Request has expired"):
        s3_transfer.S3Transfer().fetch("GET", s3.url, {}, tmp_path / "report.html")


def test_an_existing_object_is_an_upload_that_arrived(s3: Answers, video: Path) -> None:
    """If the reply of a PUT is lost, If-None-Match rejects the second PUT: the upload has succeeded."""
    s3.statuses[:] = [0, 412]
    s3_transfer.S3Transfer().put(s3.url, headers(video), video)


def test_a_rejected_put_quotes_s3(s3: Answers, video: Path) -> None:
    """A permanent rejection is not retried."""
    s3.statuses[:], s3.body = [403], DENIED
    with pytest.raises(S3Rejection, match="403 AccessDenied Request has expired"):
        s3_transfer.S3Transfer().put(s3.url, headers(video), video)


def test_an_unavailable_s3_is_an_unavailable_service(s3: Answers, video: Path) -> None:
    """After the last attempt the transfer ends, with an error of its own."""
    s3.statuses[:] = [503] * s3_transfer.TRIES
    with pytest.raises(S3Unavailable, match="is unavailable after 5 attempts"):
        s3_transfer.S3Transfer().put(s3.url, headers(video), video)


def test_a_fetched_file_is_complete_or_absent(s3: Answers, tmp_path: Path) -> None:
    """A rejection leaves no file and no part of one; a success leaves the content."""
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    s3.statuses[:], s3.body = [404, 200], b"content"
    with pytest.raises(S3Rejection, match="404"):
        s3_transfer.S3Transfer().fetch("GET", s3.url, {}, target)
    assert list(target.parent.iterdir()) == []
    s3_transfer.S3Transfer().fetch("GET", s3.url, {}, target)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"content"]
