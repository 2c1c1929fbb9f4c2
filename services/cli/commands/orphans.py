"""`crease admin orphans`: what only S3 or only the database has."""

import grpc

from crease.upload.v1.upload_pb2 import ListOrphansRequest, Orphan
from services.cli.api import client
from services.cli.api.client import Services
from services.cli.ui import console

WORDS = {
    Orphan.KIND_OBJECT: "object of no job",
    Orphan.KIND_PARTS: "unfinished parts of no job",
    Orphan.KIND_VIDEO_MISSING: "video missing",
    Orphan.KIND_ARTIFACT_MISSING: "artifact missing",
}


def show_orphans(services: Services) -> int:
    """Prints one line for each, and how many there are, which it returns. Raises Trouble."""
    count = 0
    try:
        for orphan in services.stream(services.uploads.ListOrphans, ListOrphansRequest()):
            count += 1
            job = f"  (job {orphan.job_id})" if orphan.job_id else f"  ({orphan.content_length} bytes)"
            console.line(f"{WORDS[orphan.kind]:<28}{orphan.s3_key}{job}", whole=True)
    except grpc.RpcError as error:
        raise client.meaning(error) from error
    caveat = "What is uploaded or deleted just now may be among them."
    console.line(f"{count} orphans. {caveat}" if count else "No orphans.")
    return count
