"""`crease admin orphans`: lists every S3 object and every row without its counterpart."""

from crease.upload.v1.upload_pb2 import ListOrphansRequest, Orphan
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect_as_operator
from services.cli.errors import UNHEALTHY
from services.cli.ui import console

PAGE = 200
# A page reads up to 500 folders of S3.
PAGE_SECONDS = 120.0
KINDS = {
    Orphan.KIND_OBJECT: "object without a job",
    Orphan.KIND_PARTS: "parts without a job",
    Orphan.KIND_VIDEO_MISSING: "video missing",
    Orphan.KIND_ARTIFACT_MISSING: "artifact missing",
}


def add_to(commands: Commands) -> None:
    add_command(commands, "orphans", _run, "list the S3 objects and the rows without a counterpart")


def _run(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state) as services:
        return UNHEALTHY if show_orphans(services) else 0


def show_orphans(services: Services) -> int:
    """Prints one line per orphan and their number, which it returns. Raises CommandError."""
    count, request = 0, ListOrphansRequest(page_size=PAGE)
    while True:
        page = services.call(services.orphans.ListOrphans, request, seconds=PAGE_SECONDS)
        for orphan in page.orphans:
            count += 1
            detail = f"  (job {orphan.job_id})" if orphan.job_id else f"  ({orphan.content_length} bytes)"
            console.print_line(f"{KINDS[orphan.kind]:<28}{orphan.s3_key}{detail}", whole=True)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    caveat = "An upload or a deletion during the listing may appear as an orphan: list again before you act."
    console.print_line(f"{count} orphans. {caveat}" if count else "No orphans.")
    return count
