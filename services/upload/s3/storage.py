"""The S3 client: signs, reads, assembles, lists and deletes. Bounded in threads and in time.

Signing needs no answer from S3, and S3 enforces what a signature binds. Fetching credentials before signing has threads
of its own, so that a hanging S3 never blocks signing.
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
from crease_client import s3_errors
from services import logs, traces
from services.errors import Internal, ServiceError, Unavailable
from services.file_signatures import HEAD_BYTES
from services.upload.s3 import parts
from services.upload.s3.parts import UploadedPart
from services.upload.s3.preflight import ObservedObject
from services.upload.s3.settings import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Result = TypeVar("Result")
Params = dict[str, Any]
Operation = Literal["put_object", "get_object", "upload_part"]

REQUESTS = Counter("crease_s3_requests_total", "Calls to S3 by outcome", ["operation", "outcome"])

# All exceptions of a call to S3. The last two are connection errors while a body is read.
S3_EXCEPTIONS = (BotoCoreError, ClientError, TimeoutError, OSError, HTTPError)
# The object was replaced between two calls: the next call sees the new one.
PRECONDITION_FAILED = 412
SIGNING_THREADS = 4


@dataclass(frozen=True)
class Item:
    """An object, a version of it or an unfinished upload. `name`: the version id or the upload id."""

    key: str
    name: str = ""
    content_length: int = 0


@dataclass(frozen=True)
class Page:
    """One page of a list. `last`: the item before the next page; None on the last page."""

    items: list[Item]
    last: Item | None


class Storage:
    """Methods raise Unavailable if S3 is unavailable or slow, Internal if S3 refuses the call."""

    def __init__(self, settings: StorageSettings) -> None:
        session = boto3.Session(region_name=settings.aws_region)
        self._credentials = session.get_credentials()
        self._client = _open(session, settings, settings.s3_timeout_seconds)
        # S3 assembles for minutes. A retry meanwhile would find neither the parts nor the object.
        self._assembly_client = _open(session, settings, settings.s3_assembly_seconds, tries=1)
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.s3_threads, thread_name_prefix="s3")
        self._signing = ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="sign")
        # S3 refuses calls to a bucket that belongs to another account.
        owner = settings.s3_bucket_owner
        self._owner: Params = {"ExpectedBucketOwner": owner} if owner else {}
        self._encryption: Params = {}
        if settings.s3_kms_key:
            self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": settings.s3_kms_key}

    async def sign_put(
        self, bucket: str, key: str, *, content_length: int, content_type: str, sha256: str = "", once: bool = False
    ) -> SignedRequest:
        """Signs a PUT of this length and type. `sha256`: also of these bytes, hex. `once`: only if the key is new.

        Raises Internal.
        """
        params: Params = {"ContentLength": content_length, "ContentType": content_type, **self._encryption}
        if sha256:
            params["ChecksumSHA256"] = parts.to_base64(sha256)
        if once:
            params["IfNoneMatch"] = "*"
        return await self._sign("PUT", "put_object", {"Bucket": bucket, "Key": key} | params)

    async def sign_part(self, video: VideoObject, upload_id: str, number: int, sha256: str) -> SignedRequest:
        """Signs a PUT of these bytes as one part of a multipart upload. Raises Internal."""
        part = {"UploadId": upload_id, "PartNumber": number, "ContentLength": parts.length(video, number)}
        return await self._sign(
            "PUT", "upload_part", _bucket_and_key(video) | part | {"ChecksumSHA256": parts.to_base64(sha256)}
        )

    async def sign_get(self, bucket: str, key: str, *, etag: str = "", version_id: str = "") -> SignedRequest:
        """Signs a GET. `etag`, `version_id`: of that object only, whatever is stored under its key. Raises Internal."""
        params: Params = {"Bucket": bucket, "Key": key}
        if version_id:
            params["VersionId"] = version_id
        if etag:
            # Also with a version: in a bucket with suspended versioning, version "null" is overwritten.
            params["IfMatch"] = f'"{etag}"'
        return await self._sign("GET", "get_object", params)

    async def head(self, bucket: str, key: str) -> ObservedObject:
        """Describes an object. An error of S3 is part of the description."""
        params: Params = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED", **self._owner}
        return await self._observe(lambda: _observed(self._client.head_object(**params)))

    async def read_head(self, bucket: str, key: str, observed: ObservedObject) -> ObservedObject:
        """Adds the first bytes of the observed object."""
        pin: Params = {"VersionId": observed.version_id} if observed.version_id else {}
        params: Params = {"Bucket": bucket, "Key": key, "IfMatch": f'"{observed.etag}"', **pin, **self._owner}

        def read() -> ObservedObject:
            reply = self._client.get_object(Range=f"bytes=0-{HEAD_BYTES - 1}", **params)
            # A server that ignores the range sends the whole object.
            with reply["Body"] as body:
                head = body.read(HEAD_BYTES)
            if len(head) < min(HEAD_BYTES, observed.content_length):
                raise TimeoutError("the response was truncated")
            return observed.with_head(head)

        return await self._observe(read)

    async def begin_parts(self, video: VideoObject) -> str:
        """Begins a multipart upload. Returns its id."""
        kind: Params = {"ContentType": video.content_type, "ChecksumAlgorithm": "SHA256", **self._encryption}
        reply = await self._request(
            lambda: self._client.create_multipart_upload(**_bucket_and_key(video), **kind, **self._owner)
        )
        return str(reply["UploadId"])

    async def list_parts(self, video: VideoObject, upload_id: str) -> list[UploadedPart] | None:
        """The parts that have arrived, by number; None if S3 has no such upload."""
        pages = self._client.get_paginator("list_parts").paginate
        params: Params = {**_bucket_and_key(video), "UploadId": upload_id, **self._owner}

        def read() -> list[UploadedPart] | None:
            try:
                return [_uploaded_part(part) for page in pages(**params) for part in page.get("Parts", [])]
            except ClientError as error:
                if _code(error.response) == "NoSuchUpload":
                    return None
                raise

        return await self._request(read)

    async def assemble(self, video: VideoObject, upload_id: str, arrived: Sequence[UploadedPart]) -> None:
        """Assembles the parts into one object. Succeeds if an earlier call whose answer was lost did so."""
        listed = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            | ({"ChecksumSHA256": parts.to_base64(part.sha256)} if part.sha256 else {})
            for part in arrived
        ]
        params: Params = {"UploadId": upload_id, "MultipartUpload": {"Parts": listed}, "IfNoneMatch": "*"}

        def complete() -> None:
            try:
                self._assembly_client.complete_multipart_upload(**_bucket_and_key(video), **params, **self._owner)
            except ClientError as error:
                if _code(error.response) not in ("NoSuchUpload", "PreconditionFailed"):
                    raise

        await self._request(complete, self._settings.s3_assembly_seconds)

    async def delete(self, bucket: str, key: str, *, etag: str, version_id: str) -> None:
        """Deletes this object, and no other stored under its key."""
        pin: Params = {"VersionId": version_id} if version_id else {"IfMatch": f'"{etag}"'}
        await self._request(lambda: self._client.delete_object(Bucket=bucket, Key=key, **pin, **self._owner))

    async def delete_all(self, bucket: str, prefix: str) -> int:
        """Deletes every version of every object under a prefix, and every unfinished upload. Returns the number.

        Returns when S3 lists none. After an error, call again.
        """
        return await self.abort_all(bucket, prefix) + await self._empty(
            lambda: self._versions(bucket, prefix), lambda items: self._delete(bucket, items)
        )

    async def abort_all(self, bucket: str, prefix: str) -> int:
        """Aborts every unfinished upload under a prefix. Returns the number."""
        return await self._empty(
            lambda: self._uploads(bucket, prefix, Item("")).items, lambda items: self._abort(bucket, items)
        )

    async def delete_some(self, bucket: str, prefix: str, is_unwanted: Callable[[str], bool]) -> int:
        """Deletes every version of the unwanted objects among the first thousand under a prefix. Returns the number."""
        return await self._empty(
            lambda: [item for item in self._versions(bucket, prefix) if is_unwanted(item.key)],
            lambda items: self._delete(bucket, items),
        )

    async def abort(self, video: VideoObject, upload_id: str) -> None:
        """Aborts a multipart upload. Succeeds if S3 has no such upload."""
        await self._request(lambda: self._abort(video.s3_bucket, [Item(video.s3_key, upload_id)]))

    def objects(self, bucket: str, prefix: str, after: str = "") -> AsyncIterator[Item]:
        """All objects under a prefix whose keys come after `after`, in the byte order of their keys."""
        return self._list(functools.partial(self._objects, bucket, prefix), after)

    def uploads(self, bucket: str, prefix: str, after: str = "") -> AsyncIterator[Item]:
        """All unfinished multipart uploads under a prefix, likewise."""
        return self._list(functools.partial(self._uploads, bucket, prefix), after)

    async def is_available(self) -> bool:
        """Whether S3 answers. A refusal is an answer."""
        try:
            await self._call(lambda: self._client.head_bucket(Bucket=self._settings.bucket, **self._owner))
        except ClientError as error:
            return not isinstance(_to_error(error), Unavailable)
        except S3_EXCEPTIONS:
            return False
        return True

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._signing.shutdown(wait=False, cancel_futures=True)

    async def _list(self, read_page: Callable[[Item], Page], after: str) -> AsyncIterator[Item]:
        """The items of all pages; a page begins after the last item of the page before."""
        page = Page([], Item(after))
        while page.last is not None:
            page = await self._request(functools.partial(read_page, page.last))
            for item in page.items:
                yield item

    def _objects(self, bucket: str, prefix: str, after: Item) -> Page:
        reply = self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after.key, **self._owner)
        items = [Item(found["Key"], content_length=found["Size"]) for found in reply.get("Contents", [])]
        return Page(items, items[-1] if items and reply["IsTruncated"] else None)

    def _uploads(self, bucket: str, prefix: str, after: Item) -> Page:
        marker: Params = {"KeyMarker": after.key} if after.key else {}
        if after.name:
            marker["UploadIdMarker"] = after.name
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
            raise Internal(f"S3 did not delete {error.get('Key')}: {error.get('Code')}", reason="NOT_DELETED")

    async def _empty(self, list_page: Callable[[], list[Item]], remove: Callable[[list[Item]], None]) -> int:
        """Removes page after page; the time limit applies to each call."""
        count, before = 0, None
        while items := await self._request(list_page):
            if items == before:
                raise Internal(f"S3 still lists {items[0].key} after deleting it", reason="NOT_DELETED")
            await self._request(functools.partial(remove, items))
            count, before = count + len(items), items
        return count

    async def _sign(self, method: str, operation: Operation, params: Mapping[str, Any]) -> SignedRequest:
        seconds = self._settings.upload_url_seconds if method == "PUT" else self._settings.download_url_seconds
        sign = functools.partial(
            self._client.generate_presigned_url, operation, Params={**params, **self._owner}, ExpiresIn=seconds
        )
        try:
            url = await self._call(sign, self._signing) if self._must_fetch_credentials() else sign()
        except S3_EXCEPTIONS as error:
            kind = "upload" if method == "PUT" else "download"
            raise Internal(f"Failed to generate {kind} URL: {_error_text(error)}", reason="SIGNING_FAILED") from error
        return SignedRequest(method=method, url=url, headers=_headers({**params, **self._owner}))

    def _must_fetch_credentials(self) -> bool:
        """Whether signing must wait for STS; otherwise it takes 0.3 ms of CPU."""
        return isinstance(self._credentials, RefreshableCredentials) and self._credentials.refresh_needed()

    async def _observe(self, work: Callable[[], ObservedObject]) -> ObservedObject:
        """Runs a call that describes an object; an error becomes part of the description."""
        try:
            return await self._call(work)
        except ClientError as error:
            status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return ObservedObject(status, code=_code(error.response), error=f"HTTP {status}")
        except S3_EXCEPTIONS as error:
            return ObservedObject(0, error=type(error).__name__)

    async def _request(self, work: Callable[[], Result], seconds: float = 0.0) -> Result:
        try:
            return await self._call(work, seconds=seconds)
        except S3_EXCEPTIONS as error:
            raise _to_error(error) from error

    async def _call(
        self, work: Callable[[], Result], threads: ThreadPoolExecutor | None = None, seconds: float = 0.0
    ) -> Result:
        """Runs the work in a thread. Raises TimeoutError, also if no thread is free in time."""
        began = time.monotonic()
        if traces.is_on():
            work = functools.partial(contextvars.copy_context().run, work)
        try:
            async with asyncio.timeout(seconds or self._settings.s3_timeout_seconds):
                return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        finally:
            logs.add_duration("s3_ms", time.monotonic() - began)


def open_client(settings: StorageSettings) -> "S3Client":
    """A client for one call at the start of a program."""
    return _open(boto3.Session(region_name=settings.aws_region), settings, settings.s3_timeout_seconds)


def _open(session: boto3.Session, settings: StorageSettings, seconds: float, tries: int = 2) -> "S3Client":
    # Each try gets an equal share, so that the caller's time-out seldom abandons a waiting thread.
    share = seconds / tries
    config = Config(
        # Some regions default to v2, which binds no header.
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing_style},
        connect_timeout=min(2.0, share),
        read_timeout=share,
        retries={"total_max_attempts": tries, "mode": "standard"},
        max_pool_connections=settings.s3_threads,
        # We bind SHA-256 ourselves, and a range of an object has no checksum.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = session.client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        verify=str(settings.s3_ca_file) if settings.s3_ca_file else None,
        config=config,
    )
    client.meta.events.register("before-call.s3", _record_start)
    client.meta.events.register("after-call.s3", _record_answer)
    client.meta.events.register("after-call-error.s3", _record_failure)
    return client


def _record_start(context: dict[str, Any], **_: Any) -> None:
    context["started_at"] = datetime.now(UTC)


def _record_answer(model: Any, http_response: Any, parsed: Any, context: Mapping[str, Any], **_: Any) -> None:
    """Records the final answer; retries are not counted."""
    status = http_response.status_code
    outcome = "ok" if status < 400 else "away" if _is_transient(status, _code(parsed)) else "refused"
    _record_end(model.name, outcome, context, {"http.response.status_code": status})


def _record_failure(event_name: str, exception: Exception, context: Mapping[str, Any], **_: Any) -> None:
    _record_end(event_name.rpartition(".")[2], "away", context, {"error.type": type(exception).__name__})


def _record_end(operation: str, outcome: str, context: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Counts the call and records a span, with OpenTelemetry's attribute names for AWS."""
    REQUESTS.labels(operation, outcome).inc()
    if traces.is_on() and "started_at" in context:
        span_attributes = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation, **attributes}
        started_at, ended_at = context["started_at"], datetime.now(UTC)
        traces.record(f"S3.{operation}", traces.traceparent(), started_at, ended_at, kind="CLIENT", **span_attributes)


# Headers that a signature binds, so that the client must send them: boto's parameter, the header.
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


def _bucket_and_key(video: VideoObject) -> Params:
    return {"Bucket": video.s3_bucket, "Key": video.s3_key}


def _observed(reply: Mapping[str, Any]) -> ObservedObject:
    checksum = reply.get("ChecksumSHA256", "")
    return ObservedObject(
        status=200,
        content_length=reply["ContentLength"],
        content_type=reply.get("ContentType", ""),
        etag=reply["ETag"].strip('"'),
        version_id=reply.get("VersionId", ""),
        sha256="" if "-" in checksum else parts.to_hex(checksum),
        parts_sha256=parts.to_hex(checksum) if "-" in checksum else "",
    )


def _uploaded_part(part: Mapping[str, Any]) -> UploadedPart:
    sha256 = parts.to_hex(part.get("ChecksumSHA256", ""))
    return UploadedPart(part["PartNumber"], part["Size"], part["ETag"].strip('"'), sha256)


def _to_error(error: Exception) -> ServiceError:
    """Unavailable if the error is transient, else Internal."""
    if not isinstance(error, ClientError):
        return Unavailable(f"S3 did not answer ({type(error).__name__})", reason="S3_AWAY")
    status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    if _is_transient(status, _code(error.response)):
        return Unavailable(f"S3 is unavailable (HTTP {status} {_code(error.response)})", reason="S3_AWAY")
    return Internal(f"S3 refused {error.operation_name}: HTTP {status} {_code(error.response)}", reason="S3_REFUSED")


def _is_transient(status: int, code: str = "") -> bool:
    return status == PRECONDITION_FAILED or s3_errors.is_transient(status, code)


def _code(response: Any) -> str:
    """S3's error code. The answer to a HEAD has no body, and botocore puts the status there: no code."""
    code = str(response.get("Error", {}).get("Code", ""))
    return "" if code.isdigit() else code


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__
