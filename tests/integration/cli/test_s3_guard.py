"""Nothing but signed S3 and SQS calls reaches the laptop's S3 server: every other call is an attack, and refused."""

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from services.upload.s3 import cors
from testing.servers.s3 import Endpoint, ministack

BUCKET, KEY = "videos", "a/video.mp4"
VIDEO = b"a video of a coach"
WEBSOCKET = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The laptop's server with one video and one message."""
    with ministack(tmp_path_factory.mktemp("s3")) as endpoint:
        endpoint.make_bucket(BUCKET)
        endpoint.client().put_object(Bucket=BUCKET, Key=KEY, Body=VIDEO)
        sqs = sqs_client(endpoint)
        sqs.send_message(QueueUrl=sqs.create_queue(QueueName="jobs")["QueueUrl"], MessageBody="a job")
        yield endpoint
        assert endpoint.client().get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == VIDEO


def sqs_client(server: Endpoint, secret: str = "") -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret or server.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def call(server: Endpoint, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
    """The status of one call, with these headers as they are."""
    url = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    finally:
        connection.close()


def signed(
    server: Endpoint,
    method: str = "GET",
    path: str = f"/{BUCKET}/{KEY}",
    *,
    service: str = "s3",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    key: str = "",
    secret: str = "",
) -> dict[str, str]:
    """The headers of a signed call, with these among them."""
    request = AWSRequest(method, server.url + path, headers=headers or {}, data=body)
    request.headers["host"] = urllib.parse.urlsplit(server.url).netloc
    credentials = Credentials(key or server.access_key, secret or server.secret_key)
    sign = S3SigV4Auth if service == "s3" else SigV4Auth
    sign(credentials, service, server.region).add_auth(request)
    return dict(request.headers.items())


def presigned(server: Endpoint, method: str = "GET", path: str = f"/{BUCKET}/{KEY}") -> str:
    """The path and query of a presigned URL."""
    request = AWSRequest(method, server.url + path)
    credentials = Credentials(server.access_key, server.secret_key)
    S3SigV4QueryAuth(credentials, "s3", server.region, expires=60).add_auth(request)
    url = urllib.parse.urlsplit(request.prepare().url)
    return f"{url.path}?{url.query}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_ministack/reset"),
        ("POST", "/_ministack/config"),
        ("GET", "/_ministack/sqs/messages"),
        ("GET", "/_ministack/ses/messages"),
        ("GET", "/_ministack/ready"),
        ("GET", "/_ministack/health/"),
        ("GET", "//_ministack/sqs/messages"),
        ("GET", "/_localstack/health"),
        ("POST", "/_localstack/state/reset"),
        ("GET", "/health"),
        ("GET", "/"),
        ("GET", f"/{BUCKET}"),
        ("GET", f"/{BUCKET}/{KEY}"),
        ("PUT", f"/{BUCKET}/{KEY}"),
        ("DELETE", f"/{BUCKET}/{KEY}"),
        ("OPTIONS", f"/{BUCKET}/{KEY}"),
        ("GET", "/?Action=ListQueues"),
        ("POST", "/"),
        ("POST", "/000000000000/jobs"),
        ("POST", "/oauth2/token"),
        ("GET", "/2015-03-31/functions"),
    ],
)
def test_a_call_without_a_signature_is_refused(server: Endpoint, method: str, path: str) -> None:
    """No endpoint of the emulator answers it, not even a preflight."""
    assert call(server, method, path, body=b"{}" if method == "POST" else b"") == 403


@pytest.mark.parametrize(("method", "path"), [("POST", "/_ministack/reset"), ("GET", "/_ministack/sqs/messages")])
def test_the_emulator_s_own_endpoints_refuse_a_signed_call_too(server: Endpoint, method: str, path: str) -> None:
    """They are no part of S3 or SQS, whoever signs."""
    assert call(server, method, path, signed(server, method, path)) == 403
    assert call(server, method, presigned(server, method, path)) == 403


def test_the_health_of_the_server_says_nothing(server: Endpoint) -> None:
    """Its answer is empty: no version, no list of services."""
    answer = urllib3.request("GET", f"{server.url}/_ministack/health")
    assert (answer.status, answer.data) == (200, b"")


def test_signed_and_presigned_calls_are_answered(server: Endpoint) -> None:
    """The calls of the attacks below, without the attack."""
    assert call(server, "GET", f"/{BUCKET}/{KEY}", signed(server)) == 200
    assert call(server, "GET", presigned(server)) == 200


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "another"},
        {"key": "another"},
        {"service": "dynamodb"},
        {"service": "iam"},
        {"service": "sts"},
        {"path": f"/{BUCKET}/another"},
        {"method": "DELETE"},
    ],
    ids=str,
)
def test_another_signature_is_refused(server: Endpoint, change: dict[str, Any]) -> None:
    """Another secret, key, service, path or method than the call's."""
    assert call(server, "GET", f"/{BUCKET}/{KEY}", signed(server, **change)) == 403


@pytest.mark.parametrize(
    "header",
    [
        {"x-amz-target": "DynamoDB_20120810.ListTables"},
        {"x-amz-copy-source": f"/{BUCKET}/another"},
        {"host": "videos.example.com"},
        {"host": "127.0.0.1.example.com"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "https://example.com"},
        {"origin": "null"},
    ],
    ids=str,
)
def test_a_signed_call_with_a_foreign_header_is_refused(server: Endpoint, header: dict[str, str]) -> None:
    """Headers that the signature does not cover change no call; a page of another origin makes none."""
    assert call(server, "GET", f"/{BUCKET}/{KEY}", signed(server) | header) == 403
    assert call(server, "GET", presigned(server), header) == 403


def test_a_page_of_the_server_s_own_origin_may_read_a_presigned_url(server: Endpoint) -> None:
    """A browser sends the origin with a video inside a page."""
    assert call(server, "GET", presigned(server), {"origin": server.url}) == 200


def test_a_websocket_is_refused(server: Endpoint) -> None:
    """The emulator has services on web sockets, which no signature of S3 covers."""
    assert call(server, "GET", "/", WEBSOCKET) == 403


def test_sqs_takes_messages_of_its_own_key_only(server: Endpoint) -> None:
    """Another secret is refused; so is another body under a good signature."""
    sqs = sqs_client(server)
    url = sqs.get_queue_url(QueueName="jobs")["QueueUrl"]
    with pytest.raises(sqs.exceptions.ClientError) as caught:
        sqs_client(server, "another").receive_message(QueueUrl=url)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    body = json.dumps({"QueueUrl": url}).encode()
    target = {"x-amz-target": "AmazonSQS.PurgeQueue", "content-type": "application/x-amz-json-1.0"}
    headers = signed(server, "POST", "/", service="sqs", headers=target, body=b"{}")
    assert call(server, "POST", "/", headers, body) == 403
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "a job"


def test_a_refused_upload_is_answered_before_its_body(server: Endpoint) -> None:
    """An unsigned PUT of a gigabyte is refused from its headers alone."""
    url = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    connection.putrequest("PUT", f"/{BUCKET}/large")
    connection.putheader("content-length", str(10**9))
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()


def test_only_the_page_may_call_from_a_browser(tmp_path: Path) -> None:
    """The page's origin gets its preflight answered and may send signed calls; every other origin is refused."""
    page, evil = "http://127.0.0.1:41234", "http://127.0.0.1:41235"
    with ministack(tmp_path, page) as server:
        server.make_bucket(BUCKET)
        cors.allow(server.client(), BUCKET, page)
        url = server.client().generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": KEY})
        path = url.removeprefix(server.url)
        asks = {"access-control-request-method": "PUT", "access-control-request-headers": "content-type"}
        assert call(server, "OPTIONS", path, {"origin": page} | asks) == 200
        assert call(server, "PUT", path, {"origin": page}, VIDEO) == 200
        reply = urllib3.request("PUT", url, body=VIDEO, headers={"origin": page})
        assert reply.headers["access-control-allow-origin"] == page
        assert "etag" in reply.headers["access-control-expose-headers"].lower()
        for origin in (evil, "null", ""):
            assert call(server, "OPTIONS", path, {"origin": origin} | asks) == 403
            assert call(server, "PUT", path, {"origin": origin}, b"evil") == 403
        assert call(server, "OPTIONS", "/_ministack/reset", {"origin": page} | asks) == 403
        assert call(server, "DELETE", f"/{BUCKET}/{KEY}", {"origin": page}) == 403
        assert server.client().get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == VIDEO


def test_the_rule_of_the_page_keeps_the_rules_of_others(tmp_path: Path) -> None:
    """A bucket's own CORS rules stay, and a second page address replaces the first."""
    others = {"ID": "ours", "AllowedOrigins": ["https://a.example"], "AllowedMethods": ["GET"]}
    with ministack(tmp_path) as server:
        server.make_bucket(BUCKET)
        client = server.client()
        client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [others]})
        for origin in ("http://127.0.0.1:1", "http://127.0.0.1:2"):
            cors.allow(client, BUCKET, origin)
        rules = client.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
        assert [rule["AllowedOrigins"] for rule in rules] == [["https://a.example"], ["http://127.0.0.1:2"]]
