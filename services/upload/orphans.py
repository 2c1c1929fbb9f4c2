"""OrphanService: compares S3 with the rows of jobs, a page at a time.

page_token holds where the page begins: in which video's folder, and after which of its orphans. S3 and jobs list from
there, so that a page costs the same wherever it is.
"""

import base64
import json

from crease.upload.v1 import orphan_pb2, orphan_pb2_grpc, upload_pb2
from services import errors
from services.auth import Person
from services.authorization import caller_as
from services.errors import InvalidArgument
from services.naming import SUPERUSER, VIDEOS_ROOT
from services.serving import Context
from services.upload.jobs_client import Jobs
from services.upload.s3 import inventory
from services.upload.s3.inventory import Position
from services.upload.s3.storage import Storage

DEFAULT_PAGE, MAX_PAGE = 50, 200
# An S3 key has at most 1,024 bytes.
MAX_TOKEN_CHARACTERS = 10_000


class OrphanService(orphan_pb2_grpc.OrphanServiceServicer):
    """The RPC; protos/crease/upload/v1/orphan.proto documents it."""

    def __init__(self, jobs: Jobs, storage: Storage, bucket: str) -> None:
        self._jobs = jobs
        self._storage = storage
        self._bucket = bucket

    async def ListOrphans(
        self, request: upload_pb2.ListOrphansRequest, context: Context
    ) -> orphan_pb2.ListOrphansResponse:
        check_superuser()
        if request.page_size < 0:
            raise InvalidArgument("page_size", "must not be negative")
        size = min(request.page_size, MAX_PAGE) or DEFAULT_PAGE
        after = _parse_token(request.page_token) if request.page_token else ()
        begin = inventory.before_folder(after)
        folders = inventory.compare(
            self._storage.objects(self._bucket, VIDEOS_ROOT, after=begin),
            self._storage.uploads(self._bucket, VIDEOS_ROOT, after=begin),
            self._jobs.list_videos(self._bucket, after=begin),
        )
        orphans, following = await inventory.read_page(folders, after, size)
        return orphan_pb2.ListOrphansResponse(orphans=orphans, next_page_token=_make_token(following))


def check_superuser() -> None:
    """Raises PermissionDenied for every other caller."""
    if caller_as(Person).role != SUPERUSER:
        raise errors.PermissionDenied("Only superusers may list orphans", reason="ROLE_NOT_ALLOWED")


def _make_token(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode() if position else ""


def _parse_token(token: str) -> Position:
    try:
        match json.loads(base64.urlsafe_b64decode(token[:MAX_TOKEN_CHARACTERS].encode())):
            case [str(folder)] if _is_key(folder):
                return (folder,)
            case [str(folder), str(key), int(kind), str(job_id)] if _is_key(folder):
                return (folder, key, kind, job_id)
    except (ValueError, RecursionError):
        pass
    raise InvalidArgument("page_token", "does not belong to this list")


def _is_key(folder: str) -> bool:
    """Whether S3 and PostgreSQL take a text as the beginning of a key. Raises UnicodeEncodeError."""
    return folder.startswith(VIDEOS_ROOT) and b"\0" not in folder.encode()
