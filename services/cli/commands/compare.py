"""`crease compare`: shows what changed between the analyses of one player, on the screen and as one page.

CompareJobs ─▶ per job GetJob, GetSession, overlay.mp4 ─▶ services/comparison ─▶ crease-compare.html
"""

import tempfile
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import CompareJobsRequest, CompareJobsResponse, GetJobRequest, Job
from crease.jobs.v1.session_pb2 import GetSessionRequest
from services.cli.api.client import Services
from services.cli.commands import reports
from services.cli.commands.options import Arguments, Commands, add_command, add_json, connect
from services.cli.errors import USAGE, CommandError
from services.cli.ui import console, job_results

if TYPE_CHECKING:
    from services.comparison.page import ComparedAnalysis

OVERLAY = "overlay.mp4"
# A phone does not open a larger page.
MOST_VIDEO_BYTES = 20 * 2**20


def add_to(commands: Commands) -> None:
    summary = "show what changed between analyses of one player, as one page"
    command = add_command(commands, "compare", _run, summary)
    command.add_argument("job", metavar="JOB", nargs="+")
    command.add_argument(
        "--out", type=Path, default=Path("crease-compare.html"), metavar="FILE", help="(default: %(default)s)"
    )
    add_json(command)


def _run(arguments: Arguments) -> int:
    with connect(arguments) as services:
        compared = compare(services, arguments.job, arguments.out)
    if arguments.json:
        console.print_json({"page": str(arguments.out), **json_format.MessageToDict(compared)})
        return 0
    job_results.print_changes(compared)
    console.print_report_path(arguments.out)
    reports.open_page(arguments.out)
    return 0


def compare(services: Services, job_ids: Sequence[str], out: Path) -> CompareJobsResponse:
    """Compares jobs, writes the page to `out` and returns the comparison. Raises CommandError."""
    # Imported here: it brings a template engine, which the other commands do not need.
    from services.comparison import page

    if out.is_dir():
        raise CommandError(f"{out} is a folder: name the file for the page.", USAGE)
    compared = services.call(services.jobs.CompareJobs, CompareJobsRequest(job_ids=job_ids))
    left, analyses = MOST_VIDEO_BYTES, []
    for job_id in job_ids:
        analysis, video_bytes = _analysis(services, job_id, left)
        analyses.append(analysis)
        left -= video_bytes
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page.render(analyses, compared), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}.", USAGE) from None
    return compared


def _analysis(services: Services, job_id: str, most_bytes: int) -> "tuple[ComparedAnalysis, int]":
    """An analysis with its video inside, and the bytes of the video."""
    from services.comparison import page

    job = services.call(services.jobs.GetJob, GetJobRequest(job_id=job_id))
    session = services.call(services.sessions.GetSession, GetSessionRequest(session_id=job.session_id))
    video, reason = _fetch_overlay(services, job, most_bytes)
    date = f"{job.created_at.ToDatetime(UTC).astimezone():%-d %b %Y, %H:%M}"
    return page.analysis_of(job, session, date, page.embed(video), reason), len(video)


def _fetch_overlay(services: Services, job: Job, most_bytes: int) -> tuple[bytes, str]:
    """The overlay video, or an empty one and the reason."""
    size = next((artifact.content_length for artifact in job.artifacts if artifact.name == OVERLAY), None)
    if size is None:
        return b"", "this analysis has none"
    if size > most_bytes:
        return b"", f"it has {size / 1e6:.0f} MB; `crease report {job.job_id}` fetches it"
    with tempfile.TemporaryDirectory(prefix="crease-") as folder:
        file = Path(folder, OVERLAY)
        reports.fetch_artifact(services, job, OVERLAY, file)
        return file.read_bytes(), ""
