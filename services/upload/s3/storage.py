"""S3, which nobody but `upload` may touch: signing, asking, assembling, deleting. Bounded in threads and in time.

Signing needs no answer from S3; what a signature binds, S3 enforces for whoever holds the URL. Where credentials must
be fetched first it has threads of its own, so that an S3 that hangs stops nobody from being signed for.
"""

import asyncio
import contextvars
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import Counter
from urllib3.exceptions import HTTPError

from crease.jobs.v1.job_pb2 import VideoObject
from crease.upload.v1.upload_pb2 import SignedRequest
from services import logs, s3_errors, traces
from services.errors import ServiceError, Internal, Unavailable
from services.file_signatures import HEAD_BYTES
from services.upload.s3 import parts
from services.upload.s3.parts import Arrived
from services.upload.s3.preflight import Seen
from services.upload.s3.settings import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Result = TypeVar("Result")
Params = dict[str, Any]
Operation = Literal["put_object", "get_object", "upload_part"]

REQUESTS = Counter("crease_s3_requests_total", "Calls to S3 by how they ended", ["operation", "outcome"])

# All that a call to S3 can end in, beside its answer; the last two are a line that broke while a body was read.
TROUBLES = (BotoCoreError, ClientError, TimeoutError, OSError, HTTPError)
# The object was replaced between two calls: the next call sees the new one.
PRECONDITION_FAILED = 412
SIGNING_THREADS = 4


@dataclass(frozen=True)
class Item:
    """An object, one version of it, or an unfinished upload; `name` tells these apart where there are several."""

    key: str
    name: str = ""
    content_length: int = 0


@dataclass(frozen=True)
class Page:
    """Some of a list; `last` is None where it ends."""

    items: list[Item]
    last: Item | None


class Storage:
    """Methods raise Unavailable where S3 is away or slow, and Internal where it refuses us."""

    def __init__(self, settings: StorageSettings) -> None:
        session = boto3.Session(region_name=settings.aws_region)
        self._credentials = session.get_credentials()
        self._client = _open(session, settings, settings.s3_timeout_seconds)
        # Putting parts together takes S3 minutes; a second try would find the parts gone and nothing made of them yet.
        self._patient = _open(session, settings, settings.s3_assembly_seconds, tries=1)
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.s3_threads, thread_name_prefix="s3")
        self._signing = ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="sign")
        # Ours alone: a bucket that another account has taken over gets nothing and gives nothing.
        owner = settings.s3_bucket_owner
        self._owner: Params = {"ExpectedBucketOwner": owner} if owner else {}
        self._encryption: Params = {}
        if settings.s3_kms_key:
            self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": settings.s3_kms_key}

    async def sign_put(
        self, bucket: str, key: str, *, content_length: int, content_type: str, sha256: str = "", once: bool = False
    ) -> SignedRequest:
        """A PUT of exactly this length and type; with `sha256` (hex) of these bytes; with `once` of a new key only.

        Raises Internal.
        """
        params: Params = {"ContentLength": content_length, "ContentType": content_type, **self._encryption}
        if sha256:
            params["ChecksumSHA256"] = parts.to_base64(sha256)
        if once:
            params["IfNoneMatch"] = "*"
        return await self._sign("PUT", "put_object", {"Bucket": bucket, "Key": key} | params)

    async def sign_part(self, video: VideoObject, number: int, sha256: str) -> SignedRequest:
        """A PUT of exactly these bytes as one part of an upload that has begun. Raises Internal."""
        part = {"UploadId": video.upload_id, "PartNumber": number, "ContentLength": parts.length(video, number)}
        return await self._sign(
            "PUT", "upload_part", _place(video) | part | {"ChecksumSHA256": parts.to_base64(sha256)}
        )

    async def sign_get(self, bucket: str, key: str, *, etag: str = "", version_id: str = "") -> SignedRequest:
        """A GET; with `etag` or `version_id` of that object alone, whatever is put under its key. Raises Internal."""
        params: Params = {"Bucket": bucket, "Key": key}
        if version_id:
            params["VersionId"] = version_id
        if etag:
            # Beside the version too: the version "null" of a bucket whose versions are suspended is overwritten.
            params["IfMatch"] = f'"{etag}"'
        return await self._sign("GET", "get_object", params)

    async def head(self, bucket: str, key: str) -> Seen:
        """What S3 says of an object, whatever it says."""
        params: Params = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED", **self._owner}
        return await self._look(lambda: _seen(self._client.head_object(**params)))

    async def read_head(self, bucket: str, key: str, seen: Seen) -> Seen:
        """Adds the first bytes of the object that was seen, and of no other."""
        pin: Params = {"VersionId": seen.version_id} if seen.version_id else {}
        params: Params = {"Bucket": bucket, "Key": key, "IfMatch": f'"{seen.etag}"', **pin, **self._owner}

        def read() -> Seen:
            reply = self._client.get_object(Range=f"bytes=0-{HEAD_BYTES - 1}", **params)
            # A server that ignores the range sends everything.
            with reply["Body"] as body:
                head = body.read(HEAD_BYTES)
            if len(head) < min(HEAD_BYTES, seen.content_length):
                raise TimeoutError("the answer was cut short")
            return seen.with_head(head)

        return await self._look(read)

    async def begin_parts(self, video: VideoObject) -> str:
        """Begins an upload in parts; its id."""
        kind: Params = {"ContentType": video.content_type, "ChecksumAlgorithm": "SHA256", **self._encryption}
        reply = await self._ask(lambda: self._client.create_multipart_upload(**_place(video), **kind, **self._owner))
        return str(reply["UploadId"])

    async def list_parts(self, video: VideoObject) -> list[Arrived] | None:
        """What has arrived, by number; None where S3 knows no such upload (any more)."""
        pages = self._client.get_paginator("list_parts").paginate
        params: Params = {**_place(video), "UploadId": video.upload_id, **self._owner}

        def read() -> list[Arrived] | None:
            try:
                return [_arrived(part) for page in pages(**params) for part in page.get("Parts", [])]
            except ClientError as error:
                if _code(error.response) == "NoSuchUpload":
                    return None
                raise

        return await self._ask(read)

    async def assemble(self, video: VideoObject, arrived: Sequence[Arrived]) -> None:
        """Makes one object of the parts, unless one is there. Did so an earlier call whose answer was lost: success."""
        listed = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            | ({"ChecksumSHA256": parts.to_base64(part.sha256)} if part.sha256 else {})
            for part in arrived
        ]
        params: Params = {"UploadId": video.upload_id, "MultipartUpload": {"Parts": listed}, "IfNoneMatch": "*"}

        def complete() -> None:
            try:
                self._patient.complete_multipart_upload(**_place(video), **params, **self._owner)
            except ClientError as error:
                if _code(error.response) not in ("NoSuchUpload", "PreconditionFailed"):
                    raise

        await self._ask(complete, self._settings.s3_assembly_seconds)

    async def delete(self, bucket: str, key: str, *, etag: str, version_id: str) -> None:
        """Deletes this one object, and no other that came under its key."""
        pin: Params = {"VersionId": version_id} if version_id else {"IfMatch": f'"{etag}"'}
        await self._ask(lambda: self._client.delete_object(Bucket=bucket, Key=key, **pin, **self._owner))

    async def delete_all(self, bucket: str, prefix: str) -> int:
        """Deletes every version of every object under a prefix, and every unfinished upload. Returns how many.

        Done when S3 lists none. What was deleted stays deleted where it breaks off: call again.
        """
        uploads = await self._empty(
            lambda: self._uploads(bucket, prefix, Item("")).items, lambda items: self._abort(bucket, items)
        )
        return uploads + await self._empty(
            lambda: self._versions(bucket, prefix), lambda items: self._delete(bucket, items)
        )

    async def abort(self, video: VideoObject) -> None:
        """Ends an upload in parts; one that S3 does not know has ended."""
        await self._ask(lambda: self._abort(video.s3_bucket, [Item(video.s3_key, video.upload_id)]))

    async def objects(self, bucket: str, prefix: str) -> AsyncIterator[Item]:
        """All objects under a prefix, in the order of the keys' bytes."""
        page = Page([], Item(""))
        while page.last is not None:
            page = await self._ask(functools.partial(self._objects, bucket, prefix, page.last))
            for item in page.items:
                yield item

    async def uploads(self, bucket: str, prefix: str) -> AsyncIterator[Item]:
        """All unfinished uploads in parts under a prefix, in the order of the keys' bytes."""
        page = Page([], Item(""))
        while page.last is not None:
            page = await self._ask(functools.partial(self._uploads, bucket, prefix, page.last))
            for item in page.items:
                yield item

    async def is_there(self) -> bool:
        """Whether S3 answers at all; what it answers is nobody's health but its operator's."""
        try:
            await self._call(lambda: self._client.head_bucket(Bucket=self._settings.bucket, **self._owner))
        except ClientError as error:
            return not isinstance(_fault(error), Unavailable)
        except TROUBLES:
            return False
        return True

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._signing.shutdown(wait=False, cancel_futures=True)

    def _objects(self, bucket: str, prefix: str, after: Item) -> Page:
        reply = self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after.key, **self._owner)
        items = [Item(found["Key"], content_length=found["Size"]) for found in reply.get("Contents", [])]
        return Page(items, items[-1] if items and reply["IsTruncated"] else None)

    def _uploads(self, bucket: str, prefix: str, after: Item) -> Page:
        marker: Params = {"KeyMarker": after.key, "UploadIdMarker": after.name} if after.key else {}
        reply = self._client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, **marker, **self._owner)
        items = [Item(found["Key"], found["UploadId"]) for found in reply.get("Uploads", [])]
        return Page(items, items[-1] if items and reply["IsTruncated"] else None)

    def _versions(self, bucket: str, prefix: str) -> list[Item]:
        reply = self._client.list_object_versions(Bucket=bucket, Prefix=prefix, **self._owner)
        found = [*reply.get("Versions", []), *reply.get("DeleteMarkers", [])]
        return [Item(one["Key"], one["VersionId"]) for one in found]

    def _abort(self, bucket: str, items: Sequence[Item]) -> None:
        for item in items:
            try:
                self._client.abort_multipart_upload(Bucket=bucket, Key=item.key, UploadId=item.name, **self._owner)
            except ClientError as error:
                if _code(error.response) != "NoSuchUpload":
                    raise

    def _delete(self, bucket: str, items: Sequence[Item]) -> None:
        named: Any = [{"Key": item.key, "VersionId": item.name} for item in items]
        reply = self._client.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True}, **self._owner)
        for error in reply.get("Errors", []):
            raise Internal(f"S3 does not delete {error.get('Key')}: {error.get('Code')}", reason="NOT_DELETED")

    async def _empty(self, look: Callable[[], list[Item]], remove: Callable[[list[Item]], None]) -> int:
        """Removes page after page, each call by itself bounded in time."""
        count, before = 0, None
        while items := await self._ask(look):
            if items == before:
                raise Internal(f"S3 still lists {items[0].key}, which it deleted", reason="NOT_DELETED")
            await self._ask(functools.partial(remove, items))
            count, before = count + len(items), items
        return count

    async def _sign(self, method: str, operation: Operation, params: Mapping[str, Any]) -> SignedRequest:
        seconds = self._settings.upload_url_seconds if method == "PUT" else self._settings.download_url_seconds
        sign = functools.partial(
            self._client.generate_presigned_url, operation, Params={**params, **self._owner}, ExpiresIn=seconds
        )
        try:
            url = await self._call(sign, self._signing) if self._must_fetch_credentials() else sign()
        except TROUBLES as error:
            kind = "upload" if method == "PUT" else "download"
            raise Internal(f"Failed to generate {kind} URL: {_why(error)}", reason="SIGNING_FAILED") from error
        return SignedRequest(method=method, url=url, headers=_headers({**params, **self._owner}))

    def _must_fetch_credentials(self) -> bool:
        """Whether signing may wait for an answer of STS; else it is a third of a millisecond of arithmetic."""
        return isinstance(self._credentials, RefreshableCredentials) and self._credentials.refresh_needed()

    async def _look(self, work: Callable[[], Seen]) -> Seen:
        """What S3 says, its refusals included."""
        try:
            return await self._call(work)
        except ClientError as error:
            status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return Seen(status, code=_code(error.response), trouble=f"HTTP {status}")
        except TROUBLES as error:
            return Seen(0, trouble=type(error).__name__)

    async def _ask(self, work: Callable[[], Result], seconds: float = 0.0) -> Result:
        try:
            return await self._call(work, seconds=seconds)
        except TROUBLES as error:
            raise _fault(error) from error

    async def _call(
        self, work: Callable[[], Result], threads: ThreadPoolExecutor | None = None, seconds: float = 0.0
    ) -> Result:
        """In a thread of ours. Raises TimeoutError, also where no thread came free in time."""
        began = time.monotonic()
        if traces.is_on():
            work = functools.partial(contextvars.copy_context().run, work)
        try:
            async with asyncio.timeout(seconds or self._settings.s3_timeout_seconds):
                return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        finally:
            logs.add_duration("s3_ms", time.monotonic() - began)


def _open(session: boto3.Session, settings: StorageSettings, seconds: float, tries: int = 2) -> "S3Client":
    # An equal share for each try, so that the time-out above seldom abandons a thread that still waits.
    share = seconds / tries
    config = Config(
        # Without it some regions sign with v2, which binds no header.
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing_style},
        connect_timeout=min(2.0, share),
        read_timeout=share,
        retries={"total_max_attempts": tries, "mode": "standard"},
        max_pool_connections=settings.s3_threads,
        # We bind SHA-256 ourselves, and a part of an object has no checksum to compare.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = session.client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        verify=str(settings.s3_ca_file) if settings.s3_ca_file else None,
        config=config,
    )
    client.meta.events.register("before-call.s3", _asked)
    client.meta.events.register("after-call.s3", _answered)
    client.meta.events.register("after-call-error.s3", _unanswered)
    return client


def _asked(context: dict[str, Any], **_: Any) -> None:
    context["asked_at"] = datetime.now(UTC)


def _answered(model: Any, http_response: Any, parsed: Any, context: Mapping[str, Any], **_: Any) -> None:
    """What S3 said at last: retries count as one."""
    status = http_response.status_code
    outcome = "ok" if status < 400 else "away" if _is_transient(status, _code(parsed)) else "refused"
    _ended(model.name, outcome, context, {"http.response.status_code": status})


def _unanswered(event_name: str, exception: Exception, context: Mapping[str, Any], **_: Any) -> None:
    _ended(event_name.rpartition(".")[2], "away", context, {"error.type": type(exception).__name__})


def _ended(operation: str, outcome: str, context: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Counted; and a span, by the names that OpenTelemetry gives to calls of AWS."""
    REQUESTS.labels(operation, outcome).inc()
    if traces.is_on() and "asked_at" in context:
        called = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation, **said}
        began, ended = context["asked_at"], datetime.now(UTC)
        traces.record(f"S3.{operation}", traces.traceparent(), began, ended, kind="CLIENT", **called)


# What a signature binds beside method, host and path, and so must be sent: boto's parameter, the header.
_HEADERS = {
    "ContentLength": "Content-Length",
    "ContentType": "Content-Type",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "IfNoneMatch": "If-None-Match",
    "IfMatch": "If-Match",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
}


def _headers(params: Mapping[str, Any]) -> dict[str, str]:
    return {_HEADERS[name]: str(value) for name, value in params.items() if name in _HEADERS}


def _place(video: VideoObject) -> Params:
    return {"Bucket": video.s3_bucket, "Key": video.s3_key}


def _seen(reply: Mapping[str, Any]) -> Seen:
    checksum = reply.get("ChecksumSHA256", "")
    return Seen(
        status=200,
        content_length=reply["ContentLength"],
        content_type=reply.get("ContentType", ""),
        etag=reply["ETag"].strip('"'),
        version_id=reply.get("VersionId", ""),
        sha256="" if "-" in checksum else parts.to_hex(checksum),
        parts_sha256=parts.to_hex(checksum) if "-" in checksum else "",
    )


def _arrived(part: Mapping[str, Any]) -> Arrived:
    sha256 = parts.to_hex(part.get("ChecksumSHA256", ""))
    return Arrived(part["PartNumber"], part["Size"], part["ETag"].strip('"'), sha256)


def _fault(error: Exception) -> ServiceError:
    """Away for what may pass, Broken for what will not."""
    if not isinstance(error, ClientError):
        return Unavailable(f"S3 could not be asked ({type(error).__name__})", reason="S3_AWAY")
    status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    if _is_transient(status, _code(error.response)):
        return Unavailable(f"S3 could not be asked (HTTP {status} {_code(error.response)})", reason="S3_AWAY")
    return Internal(f"S3 refused {error.operation_name}: HTTP {status} {_code(error.response)}", reason="S3_REFUSED")


def _is_transient(status: int, code: str = "") -> bool:
    return status == PRECONDITION_FAILED or s3_errors.is_transient(status, code)


def _code(response: Any) -> str:
    """S3's error code. The answer to a HEAD has no body, and botocore puts the status there: no code."""
    code = str(response.get("Error", {}).get("Code", ""))
    return "" if code.isdigit() else code


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
