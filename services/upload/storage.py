"""S3, which nobody but `upload` may touch: signing, asking, deleting. Bounded in threads and in time.

Signing needs no answer from S3; what a signature binds, S3 enforces for whoever holds the URL.
"""

import asyncio
import base64
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from crease.upload.v1.upload_pb2 import SignedRequest
from services.errors import Broken
from services.upload.preflight import Seen
from services.upload.settings import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Result = TypeVar("Result")

# All that a call to S3 can end in, beside its answer.
TROUBLES = (BotoCoreError, ClientError, TimeoutError)


class Storage:
    def __init__(self, settings: StorageSettings) -> None:
        self._client = _open(settings)
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.s3_threads, thread_name_prefix="s3")

    async def sign_put(
        self, bucket: str, key: str, *, content_length: int, content_type: str, sha256: str = "", once: bool = False
    ) -> SignedRequest:
        """A PUT of exactly this length and type; with `sha256` (hex) of these bytes; with `once` of a new key only.

        Raises Broken.
        """
        headers = {"Content-Length": str(content_length), "Content-Type": content_type}
        params: dict[str, Any] = {"ContentLength": content_length, "ContentType": content_type}
        if sha256:
            params["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
            headers["x-amz-checksum-sha256"] = params["ChecksumSHA256"]
        if once:
            params["IfNoneMatch"] = headers["If-None-Match"] = "*"
        return await self._sign("PUT", {"Bucket": bucket, "Key": key} | params, headers)

    async def sign_get(self, bucket: str, key: str, *, etag: str = "", version_id: str = "") -> SignedRequest:
        """A GET; with `etag` or `version_id` of that object alone, whatever is put under its key. Raises Broken."""
        params, headers = {"Bucket": bucket, "Key": key}, {}
        if version_id:
            params["VersionId"] = version_id
        if etag:
            # Beside the version too: the version "null" of a bucket whose versions are suspended is overwritten.
            params["IfMatch"] = headers["If-Match"] = f'"{etag}"'
        return await self._sign("GET", params, headers)

    async def head(self, bucket: str, key: str) -> Seen:
        """What S3 says of an object, whatever it says."""
        ask = functools.partial(self._client.head_object, Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        try:
            return _seen(await self._call(ask))
        except ClientError as error:
            status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return Seen(status, trouble=f"HTTP {status}")
        except (BotoCoreError, TimeoutError) as error:
            return Seen(0, trouble=type(error).__name__)

    async def delete(self, bucket: str, key: str, *, etag: str, version_id: str) -> None:
        """Deletes this one object, and no other that came under its key. Raises Broken."""
        pin: dict[str, Any] = {"VersionId": version_id} if version_id else {"IfMatch": f'"{etag}"'}
        delete = functools.partial(self._client.delete_object, Bucket=bucket, Key=key, **pin)
        try:
            await self._call(delete)
        except TROUBLES as error:
            raise Broken(f"Failed to delete: {_why(error)}", reason="NOT_DELETED") from error

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sign(
        self, method: Literal["GET", "PUT"], params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> SignedRequest:
        is_put = method == "PUT"
        seconds = self._settings.upload_url_seconds if is_put else self._settings.download_url_seconds
        sign = self._client.generate_presigned_url
        operation = "put_object" if is_put else "get_object"
        try:
            url = await self._call(functools.partial(sign, operation, Params=params, ExpiresIn=seconds))
        except TROUBLES as error:
            kind = "upload" if is_put else "download"
            raise Broken(f"Failed to generate {kind} URL: {_why(error)}", reason="SIGNING_FAILED") from error
        return SignedRequest(method=method, url=url, headers=headers)

    async def _call(self, work: Callable[[], Result]) -> Result:
        """In a thread of ours. Raises TimeoutError, also where no thread came free in time."""
        async with asyncio.timeout(self._settings.s3_timeout_seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _open(settings: StorageSettings) -> "S3Client":
    # Half for each of two tries, so that the time-out above seldom abandons a thread that still waits.
    half = settings.s3_timeout_seconds / 2
    config = Config(
        # Without it some regions sign with v2, which binds no header.
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing_style},
        connect_timeout=min(2.0, half),
        read_timeout=half,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=settings.s3_threads,
    )
    return boto3.client("s3", region_name=settings.aws_region, endpoint_url=settings.s3_endpoint or None, config=config)


def _seen(reply: Mapping[str, Any]) -> Seen:
    return Seen(
        status=200,
        content_length=reply["ContentLength"],
        content_type=reply.get("ContentType", ""),
        etag=reply["ETag"].strip('"'),
        version_id=reply.get("VersionId", ""),
        sha256=_hex(reply.get("ChecksumSHA256", "")),
    )


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _hex(checksum: str) -> str:
    """Base64 as hex. That of a multipart upload ends in `-<parts>` and is no hash of the whole: empty."""
    return "" if "-" in checksum else base64.b64decode(checksum).hex()
