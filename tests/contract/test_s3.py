"""What upload requires of S3, tested against several servers: signatures, pins, multipart uploads.

A check that a server can't pass is skipped there by name, with the reason; no check is skipped on all of them.
"""

import asyncio
import hashlib
import os
import ssl
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from crease.jobs.v1.job_pb2 import VideoObject
from crease.upload.v1.upload_pb2 import SignedRequest
from services.upload.s3 import parts, preflight
from services.upload.s3.settings import StorageSettings
from services.upload.s3.storage import Storage
from testing.servers import certificates, s3
from testing.servers.proxy import proxy

VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)
MOST = 10**9
SERVERS = {"ministack": s3.ministack, "versitygw": s3.versitygw, "moto": s3.moto}
SIGNATURES = "moto checks no signature"
CHECKSUMS = "moto compares no checksum with the bytes, and keeps none of parts"
# (check, server): why the server cannot pass it.
UNABLE = {
    **{
        (check, "moto"): SIGNATURES
        for check in (
            "a_tampered_signature_is_refused", "a_signature_is_for_one_key", "a_signature_is_for_one_method",
            "an_expired_url_is_refused", "another_length_is_refused", "another_type_is_refused",
            "a_put_without_its_condition_is_refused", "a_part_of_another_length_is_refused", "a_stranger_sees_nothing",
            "the_key_that_encrypts_is_bound",
        )
    },
    **{
        (check, "moto"): CHECKSUMS
        for check in (
            "other_bytes_than_the_checksum_are_refused", "other_bytes_than_a_parts_checksum_are_refused",
            "parts_arrive_in_any_order_and_are_listed", "parts_become_the_video_with_their_checksum",
        )
    },
    **{
        ("a_bucket_of_another_account_gives_nothing", server): f"{server} does not ask whose a bucket should be"
        for server in ("ministack", "moto")
    },
    ("an_aborted_upload_takes_no_part_and_is_unknown", "moto"): "moto answers 500 to a part of an unknown upload",
}  # fmt: skip


@dataclass
class Store:
    """A bucket of one server, with upload's client of it."""

    endpoint: s3.Endpoint
    storage: Storage
    bucket: str

    def with_settings(self, **settings: Any) -> "Store":
        """The same bucket with other settings."""
        given = {"aws_region": self.endpoint.region, "bucket": self.bucket, "s3_endpoint": self.endpoint.url} | settings
        return Store(self.endpoint, Storage(StorageSettings(**given)), self.bucket)

    def key(self) -> str:
        return f"coach_plus/coach/c/{uuid.uuid4()}/{uuid.uuid4()}/original.mp4"

    async def sign_put(self, key: str, body: bytes = VIDEO, *, checked: bool = True) -> SignedRequest:
        sha256 = hashlib.sha256(body).hexdigest() if checked else ""
        return await self.storage.sign_put(
            self.bucket, key, content_length=len(body), content_type="video/mp4", sha256=sha256, once=True
        )

    async def stored(self, body: bytes = VIDEO) -> str:
        key = self.key()
        assert send(await self.sign_put(key, body), body) == 200
        return key

    async def problem(self, key: str, promised: bytes = VIDEO) -> str:
        """The code that CompleteUpload would report; empty for the promised video."""
        video = VideoObject(content_length=len(promised), sha256=hashlib.sha256(promised).hexdigest())
        observed = await self.storage.head(self.bucket, key)
        problem = preflight.check(observed, video, MOST)
        if problem is None:
            problem = preflight.check(await self.storage.read_head(self.bucket, key, observed), video, MOST)
        return problem.code if problem else ""

    async def begun(self, count: int = 2) -> tuple[VideoObject, str, bytes]:
        """A multipart upload that has begun, its id and its bytes."""
        body = VIDEO + os.urandom(parts.MIN_PART_BYTES * (count - 1))
        video = VideoObject(
            s3_bucket=self.bucket,
            s3_key=self.key(),
            content_type="video/mp4",
            content_length=len(body),
            part_bytes=parts.MIN_PART_BYTES,
        )
        return video, await self.storage.begin_parts(video), body

    async def put_part(self, video: VideoObject, upload_id: str, body: bytes, number: int) -> int:
        piece = body[(number - 1) * video.part_bytes :][: video.part_bytes]
        return send(await self.storage.sign_part(video, upload_id, number, hashlib.sha256(piece).hexdigest()), piece)


def send(signed: SignedRequest, body: bytes = b"", **changed: str) -> int:
    headers = {name: value for name, value in (dict(signed.headers) | changed).items() if value != "-"}
    return answer(signed.method, signed.url, body, headers).status


def answer(method: str, url: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    return urllib3.request(method, url, body=body, headers=headers, retries=False, timeout=60)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Callable[..., Store]]:
    """Starts each server once, when a test first needs it."""
    running: dict[str, Store] = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        def one(server: str) -> Store:
            if server not in running:
                if server == "ministack":
                    endpoint = request.getfixturevalue("s3_server")
                else:
                    endpoint = stack.enter_context(SERVERS[server](tmp_path_factory.mktemp(server)))
                for name, value in endpoint.env.items():
                    patch.setenv(name, value)
                bucket = endpoint.make_bucket("contract")
                settings = StorageSettings(aws_region=endpoint.region, bucket=bucket, s3_endpoint=endpoint.url)
                running[server] = Store(endpoint, Storage(settings), bucket)
            return running[server]

        yield one


async def what_is_put_as_signed_is_the_promised_video(store: Store) -> None:
    key = await store.stored()
    assert await store.problem(key) == ""


async def a_tampered_signature_is_refused(store: Store) -> None:
    signed = await store.sign_put(store.key())
    signed.url = signed.url[:-4] + ("0000" if not signed.url.endswith("0000") else "1111")
    assert send(signed, VIDEO) == 403


async def a_signature_is_for_one_key(store: Store) -> None:
    key, other = store.key(), store.key()
    signed = await store.sign_put(key)
    signed.url = signed.url.replace(key, other)
    assert send(signed, VIDEO) == 403


async def a_signature_is_for_one_method(store: Store) -> None:
    key = await store.stored()
    signed = await store.storage.sign_get(store.bucket, key)
    for method in ("PUT", "DELETE"):
        assert answer(method, signed.url, b"", {}).status == 403


async def an_expired_url_is_refused(store: Store) -> None:
    signed = await store.with_settings(upload_url_seconds=1, download_url_seconds=1).sign_put(store.key())
    await asyncio.sleep(2.1)
    assert send(signed, VIDEO) == 403


async def another_length_is_refused(store: Store) -> None:
    for body in (VIDEO + b"x", VIDEO[:-1]):
        assert send(await store.sign_put(store.key(), checked=False), body, **{"Content-Length": str(len(body))}) == 403


async def another_type_is_refused(store: Store) -> None:
    assert send(await store.sign_put(store.key()), VIDEO, **{"Content-Type": "text/html"}) == 403


async def other_bytes_than_the_checksum_are_refused(store: Store) -> None:
    key = store.key()
    assert send(await store.sign_put(key), VIDEO[::-1]) == 400
    assert await store.problem(key) == "VIDEO_MISSING"


async def a_put_without_its_condition_is_refused(store: Store) -> None:
    assert send(await store.sign_put(store.key()), VIDEO, **{"If-None-Match": "-"}) == 403


async def a_second_put_is_refused(store: Store) -> None:
    key = store.key()
    signed = await store.sign_put(key)
    assert [send(signed, VIDEO) for _ in range(2)] == [200, 412]


async def a_swapped_video_is_not_read_by_its_pin(store: Store) -> None:
    key = await store.stored()
    observed = await store.storage.head(store.bucket, key)
    pinned = await store.storage.sign_get(store.bucket, key, etag=observed.etag)
    assert send(pinned) == 200
    store.endpoint.client().put_object(Bucket=store.bucket, Key=key, Body=VIDEO[::-1])
    assert send(pinned) == 412
    assert (await store.storage.read_head(store.bucket, key, observed)).status == 412


async def a_pinned_version_outlives_a_swap(store: Store) -> None:
    client, bucket, key = store.endpoint.client(), f"versions-{uuid.uuid4()}", store.key()
    store.endpoint.make_bucket(bucket, versioned=True)
    client.put_object(Bucket=bucket, Key=key, Body=VIDEO)
    observed = await store.storage.head(bucket, key)
    client.put_object(Bucket=bucket, Key=key, Body=VIDEO[::-1])
    pinned = await store.storage.sign_get(bucket, key, etag=observed.etag, version_id=observed.version_id)
    reply = answer("GET", pinned.url, b"", dict(pinned.headers))
    assert (reply.status, reply.data) == (200, VIDEO)


async def every_version_is_deleted(store: Store) -> None:
    client, bucket, key = store.endpoint.client(), f"deleted-{uuid.uuid4()}", store.key()
    store.endpoint.make_bucket(bucket, versioned=True)
    for body in (VIDEO, VIDEO[::-1]):
        client.put_object(Bucket=bucket, Key=key, Body=body)
    client.delete_object(Bucket=bucket, Key=key)
    assert await store.storage.delete_all(bucket, key.rpartition("/")[0] + "/") == 3
    left = client.list_object_versions(Bucket=bucket)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


async def a_missing_video_is_missing(store: Store) -> None:
    assert await store.problem(store.key()) == "VIDEO_MISSING"


async def a_stranger_sees_nothing(store: Store) -> None:
    key = await store.stored()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "an-unknown-key")
        assert await store.with_settings().problem(key) == "VIDEO_FORBIDDEN"


async def the_key_that_encrypts_is_bound(store: Store) -> None:
    encrypted = store.with_settings(s3_kms_key="alias/crease")
    header = "x-amz-server-side-encryption-aws-kms-key-id"
    signed = await encrypted.sign_put(encrypted.key())
    assert signed.headers[header] == "alias/crease"
    assert [send(signed, VIDEO, **{header: other}) for other in ("alias/theirs", "-")] == [403, 403]
    assert await encrypted.problem(await encrypted.stored()) == ""


async def a_bucket_of_another_account_gives_nothing(store: Store) -> None:
    key = await store.stored()
    assert await store.with_settings(s3_bucket_owner="999999999999").problem(key) == "VIDEO_FORBIDDEN"


async def an_authority_of_its_own_is_believed_where_it_is_named(store: Store) -> None:
    with tempfile.TemporaryDirectory() as folder:
        certificate, key_file = certificates.make(Path(folder))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key_file)
        key = await store.stored()
        with proxy(store.endpoint.url, tls) as line:
            assert await store.with_settings(s3_endpoint=line.url, s3_ca_file=certificate).problem(key) == ""
            unnamed = await store.with_settings(s3_endpoint=line.url).storage.head(store.bucket, key)
            assert unnamed.error == "SSLError"


async def an_empty_object_is_empty(store: Store) -> None:
    key = store.key()
    store.endpoint.client().put_object(Bucket=store.bucket, Key=key, Body=b"")
    assert await store.problem(key) == "VIDEO_EMPTY"


async def a_truncated_video_is_of_another_length(store: Store) -> None:
    key = store.key()
    store.endpoint.client().put_object(Bucket=store.bucket, Key=key, Body=VIDEO[:-10])
    assert await store.problem(key) == "VIDEO_LENGTH_DIFFERS"


async def what_is_no_video_inside_is_found_out(store: Store) -> None:
    page = b"<!doctype html>" + bytes(len(VIDEO))
    assert await store.problem(await store.stored(page), page) == "NOT_A_VIDEO"


async def parts_arrive_in_any_order_and_are_listed(store: Store) -> None:
    video, upload_id, body = await store.begun()
    assert await store.storage.list_parts(video, upload_id) == []
    assert await store.put_part(video, upload_id, body, 2) == 200
    [arrived] = await store.storage.list_parts(video, upload_id) or []
    last = hashlib.sha256(body[video.part_bytes :]).hexdigest()
    assert (arrived.number, arrived.content_length, arrived.sha256) == (2, len(body) - video.part_bytes, last)
    assert parts.missing(video, [arrived]) == [1]


async def parts_become_the_video_with_their_checksum(store: Store) -> None:
    video, upload_id, body = await store.begun()
    for number in (2, 1):
        assert await store.put_part(video, upload_id, body, number) == 200
    arrived = await store.storage.list_parts(video, upload_id) or []
    await store.storage.assemble(video, upload_id, arrived)
    observed = await store.storage.head(video.s3_bucket, video.s3_key)
    assert (observed.content_length, observed.content_type) == (len(body), "video/mp4")
    assert observed.parts_sha256 == parts.sha256_of([part.sha256 for part in arrived]) != ""
    signed = await store.storage.sign_get(video.s3_bucket, video.s3_key, etag=observed.etag)
    assert answer("GET", signed.url, b"", dict(signed.headers)).data == body


async def assembling_again_is_success(store: Store) -> None:
    video, upload_id, body = await store.begun()
    for number in (1, 2):
        await store.put_part(video, upload_id, body, number)
    arrived = await store.storage.list_parts(video, upload_id) or []
    await store.storage.assemble(video, upload_id, arrived)
    before = await store.storage.head(video.s3_bucket, video.s3_key)
    await store.storage.assemble(video, upload_id, arrived)
    assert await store.storage.list_parts(video, upload_id) is None
    assert await store.storage.head(video.s3_bucket, video.s3_key) == before


async def an_assembled_video_replaces_none(store: Store) -> None:
    video, upload_id, body = await store.begun()
    for number in (1, 2):
        await store.put_part(video, upload_id, body, number)
    store.endpoint.client().put_object(Bucket=video.s3_bucket, Key=video.s3_key, Body=VIDEO)
    await store.storage.assemble(video, upload_id, await store.storage.list_parts(video, upload_id) or [])
    assert (await store.storage.head(video.s3_bucket, video.s3_key)).content_length == len(VIDEO)


async def other_bytes_than_a_parts_checksum_are_refused(store: Store) -> None:
    video, upload_id, body = await store.begun()
    piece = body[video.part_bytes :]
    signed = await store.storage.sign_part(video, upload_id, 2, hashlib.sha256(piece).hexdigest())
    assert send(signed, piece[::-1]) == 400
    assert await store.storage.list_parts(video, upload_id) == []


async def a_part_of_another_length_is_refused(store: Store) -> None:
    video, upload_id, body = await store.begun()
    piece = body[video.part_bytes :]
    signed = await store.storage.sign_part(video, upload_id, 2, hashlib.sha256(piece).hexdigest())
    assert send(signed, piece[:-1], **{"Content-Length": str(len(piece) - 1)}) == 403


async def an_aborted_upload_takes_no_part_and_is_unknown(store: Store) -> None:
    video, upload_id, body = await store.begun()
    await store.put_part(video, upload_id, body, 2)
    await store.storage.abort(video, upload_id)
    await store.storage.abort(video, upload_id)
    assert await store.storage.list_parts(video, upload_id) is None
    assert await store.put_part(video, upload_id, body, 2) == 404


async def unfinished_parts_are_found_and_deleted(store: Store) -> None:
    video, upload_id, body = await store.begun()
    await store.put_part(video, upload_id, body, 2)
    folder = video.s3_key.rpartition("/")[0] + "/"
    assert [item.key async for item in store.storage.uploads(store.bucket, folder)] == [video.s3_key]
    assert await store.storage.delete_all(store.bucket, folder) == 1
    assert [item async for item in store.storage.uploads(store.bucket, folder)] == []


async def a_folder_is_deleted_and_its_neighbour_is_not(store: Store) -> None:
    client, folder, other = store.endpoint.client(), store.key().rpartition("/")[0], await store.stored()
    for name in ("original.mp4", "analysis/j/1/quick/report.html", "analysis/j/1/deep/report.html"):
        client.put_object(Bucket=store.bucket, Key=f"{folder}/{name}", Body=b"x")
    assert await store.storage.delete_all(store.bucket, f"{folder}/") == 3
    assert [item async for item in store.storage.objects(store.bucket, f"{folder}/")] == []
    assert await store.problem(other) == ""


async def objects_are_listed_in_the_order_of_their_bytes(store: Store) -> None:
    client, root = store.endpoint.client(), f"order/{uuid.uuid4()}/"
    names = ["B/x", "a-b/x", "a/x", "a/y", "aa/x", "b/x"]
    for name in reversed(names):
        client.put_object(Bucket=store.bucket, Key=root + name, Body=b"x")
    listed = [item.key.removeprefix(root) async for item in store.storage.objects(store.bucket, root)]
    assert listed == sorted(names, key=str.encode)


CHECKS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    name: check
    for name, check in list(globals().items())
    if asyncio.iscoroutinefunction(check) and check.__module__ == __name__
}


def cases() -> Iterator[Any]:
    for server in SERVERS:
        for check in CHECKS:
            # Each of the others takes longer to start than all its checks.
            yield pytest.param(server, check, marks=() if server == "ministack" else pytest.mark.slow)


@pytest.mark.parametrize(("server", "check"), list(cases()))
async def test_s3(server: str, check: str, stores: Callable[[str], Store]) -> None:
    """The check, whose name is its claim, passes on the server."""
    if reason := UNABLE.get((check, server)):
        pytest.skip(reason)
    await CHECKS[check](stores(server))


def test_no_check_is_skipped_on_every_server() -> None:
    """A check skipped everywhere proves nothing. Every name in the table is the name of a check."""
    assert {check for check, _ in UNABLE} <= CHECKS.keys()
    for check in CHECKS:
        assert any((check, server) not in UNABLE for server in SERVERS), check
