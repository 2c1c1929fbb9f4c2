"""`crease compare`: shows what changed between the analyses of one player, on the screen and as one page.

CompareJobs ─▶ per job GetJob, GetSession, overlay.mp4 ─▶ ui/compare_page.py ─▶ crease-compare.html
"""

import tempfile
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import STAGE_QUICK, CompareJobsRequest, CompareJobsResponse, GetJobRequest, Job
from crease.jobs.v1.session_pb2 import GetSessionRequest
from services.cli.api.client import Services
from services.cli.commands import reports
from services.cli.commands.options import Arguments, Commands, add_command, add_json, connect
from services.cli.errors import USAGE, CommandError
from services.cli.ui import console, job_results

if TYPE_CHECKING:
    from services.cli.ui.compare_page import ComparedAnalysis

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
    from services.cli.ui import compare_page

    if out.is_dir():
        raise CommandError(f"{out} is a folder: name the file for the page.", USAGE)
    compared = services.call(services.jobs.CompareJobs, CompareJobsRequest(job_ids=job_ids))
    left, analyses = MOST_VIDEO_BYTES, []
    for job_id in job_ids:
        analyses.append(_analysis(services, job_id, left))
        left -= len(analyses[-1].video)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(compare_page.render(analyses, compared), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}.", USAGE) from None
    return compared


def _analysis(services: Services, job_id: str, most_bytes: int) -> "ComparedAnalysis":
    from services.cli.ui.compare_page import ComparedAnalysis

    job = services.call(services.jobs.GetJob, GetJobRequest(job_id=job_id))
    session = services.call(services.sessions.GetSession, GetSessionRequest(session_id=job.session_id))
    results: dict[str, Any] = json_format.MessageToDict(job.results)
    summary = results.get("pose", {}).get("pose_summary", {})
    events = summary.get("events", [])
    video, reason = _fetch_overlay(services, job, most_bytes)
    return ComparedAnalysis(
        title="Anonymous" if job.anonymous else session.title,
        date=f"{job.created_at.ToDatetime(UTC).astimezone():%-d %b %Y, %H:%M}",
        level=job_results.describe_level(results.get("findings", {})),
        provisional=job.results_stage == STAGE_QUICK,
        video=video,
        video_absent_reason=reason,
        # The events of the first action.
        events={event["name"]: event["time_seconds"] for event in reversed(events)},
        frames={event["name"]: event["frame_seconds"] for event in reversed(events) if event.get("frame_seconds")},
        fps=summary.get("video_fps") or 0.0,
    )


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
