"""Signing, which does not call S3, and calls to an S3 that answers with errors."""

import http.server
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from crease.jobs.v1.job_pb2 import VideoObject
from services import errors
from services.upload.s3 import preflight
from services.upload.s3.preflight import ObservedObject
from services.upload.s3.settings import StorageSettings
from services.upload.s3.storage import Storage

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def settings(region: str = "eu-west-1", endpoint: str = "") -> StorageSettings:
    return StorageSettings(aws_region=region, bucket="videos", s3_endpoint=endpoint, s3_timeout_seconds=2, s3_threads=2)


@pytest.fixture
def answering() -> Iterator[http.server.HTTPServer]:
    """A server that answers with the status and the error code in its key: `404` or `400-RequestTimeout`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            # After a redirect, botocore asks for the region of the bucket; this server answers without one.
            status, _, code = self.path.partition("?")[0].rpartition("/")[2].partition("-")
            body = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(int(status) if status.isdigit() else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "videos.s3.amazonaws.com"),
        ("eu-west-1", "videos.s3.eu-west-1.amazonaws.com"),
        ("me-south-1", "videos.s3.me-south-1.amazonaws.com"),
        ("us-gov-west-1", "videos.s3.us-gov-west-1.amazonaws.com"),
    ],
)
async def test_every_region_signs_for_its_own_host_with_version_4_and_binds_the_headers(region: str, host: str) -> None:
    """By default boto3 signs with version 2 in some regions, which binds no header, and for the global host."""
    signed = await Storage(settings(region)).sign_put(
        "videos", "a/original.mp4", content_length=7, content_type="video/mp4", sha256=EMPTY_SHA256, once=True
    )
    url = urlsplit(signed.url)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert url.hostname == host
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Expires"] == "3600"
    assert query["X-Amz-SignedHeaders"] == "content-length;content-type;host;if-none-match;x-amz-checksum-sha256"
    assert signed.headers["x-amz-checksum-sha256"] == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


async def test_a_pinned_get_binds_version_and_etag() -> None:
    """Both, as the version "null" can be overwritten; and S3 wants the ETag in quotes."""
    signed = await Storage(settings()).sign_get("videos", "k", etag="abc", version_id="v1")
    query = parse_qs(urlsplit(signed.url).query)
    assert query["versionId"] == ["v1"]
    assert query["X-Amz-SignedHeaders"] == ["host;if-match"]
    assert query["X-Amz-Expires"] == ["300"]
    assert dict(signed.headers) == {"If-Match": '"abc"'}


@pytest.mark.parametrize("status", [301, 400, 403, 404, 429, 500, 503])
async def test_the_status_of_s3_is_reported_unchanged(answering: http.server.HTTPServer, status: int) -> None:
    """preflight.py decides whether it is permanent."""
    storage = Storage(settings(endpoint=f"http://127.0.0.1:{answering.server_port}"))
    assert await storage.head("videos", str(status)) == ObservedObject(status, error=f"HTTP {status}")


@pytest.mark.parametrize(
    ("answer", "is_transient"),
    [
        ("400-RequestTimeout", True),
        ("403-RequestTimeTooSkewed", True),
        ("409-ConditionalRequestConflict", True),
        ("429-TooManyRequests", True),
        ("503-SlowDown", True),
        ("400-InvalidRequest", False),
        ("403-AccessDenied", False),
    ],
)
async def test_a_transient_answer_is_unavailable_and_a_refusal_internal(
    answering: http.server.HTTPServer, answer: str, is_transient: bool
) -> None:
    """Of a call that changes S3 and of one that reads the first bytes of a video."""
    storage = Storage(settings(endpoint=f"http://127.0.0.1:{answering.server_port}"))
    with pytest.raises(errors.Unavailable if is_transient else errors.Internal):
        await storage.delete("videos", answer, etag="abc", version_id="")
    observed = await storage.read_head("videos", answer, ObservedObject(200, etag="abc", content_length=100))
    problem = preflight.check(observed, VideoObject(content_length=100), 1000)
    assert problem is not None
    assert problem.code == ("VIDEO_FORBIDDEN" if answer == "403-AccessDenied" else "S3_AWAY")
