"""`crease compare`: what changed between the analyses of one player, on the screen and as one page.

CompareJobs ─▶ per job GetJob, GetSession, overlay.mp4 ─▶ compare_page.py ─▶ crease-compare.html
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import STAGE_QUICK, CompareJobsRequest, CompareJobsResponse, GetJobRequest, Job
from crease.jobs.v1.session_pb2 import GetSessionRequest
from services.cli.api.client import Services
from services.cli.commands import reports
from services.cli.errors import USAGE, Trouble
from services.cli.ui.compare_page import Compared, page

FILM = "overlay.mp4"
# A page larger than this is no longer opened by a phone.
MOST_FILM_BYTES = 20 * 2**20


def compare(services: Services, job_ids: Sequence[str], out: Path) -> CompareJobsResponse:
    """Writes the page to `out`; returns what it was made of. Raises Trouble."""
    if out.is_dir():
        raise Trouble(f"{out} is a folder: name the file that the page goes to.", USAGE)
    compared = services.call(services.jobs.CompareJobs, CompareJobsRequest(job_ids=job_ids))
    left, analyses = MOST_FILM_BYTES, []
    for job_id in job_ids:
        analyses.append(_analysis(services, job_id, left))
        left -= len(analyses[-1].film)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(analyses, compared), encoding="utf-8")
    except OSError as error:
        raise Trouble(f"{out} cannot be written: {error.strerror}.", USAGE) from None
    return compared


def _analysis(services: Services, job_id: str, most_bytes: int) -> Compared:
    job = services.call(services.jobs.GetJob, GetJobRequest(job_id=job_id))
    session = services.call(services.sessions.GetSession, GetSessionRequest(session_id=job.session_id))
    results: dict[str, Any] = json_format.MessageToDict(job.results)
    events = results.get("pose", {}).get("pose_summary", {}).get("events", [])
    film, reason = _film(services, job, most_bytes)
    return Compared(
        title="Anonymous" if job.anonymous else session.title,
        date=f"{job.created_at.ToDatetime().astimezone():%-d %b %Y, %H:%M}",
        level=str(results.get("findings", {}).get("overall_level", "not known")),
        provisional=job.results_stage == STAGE_QUICK,
        film=film,
        no_film=reason,
        # Of several actions the first.
        events={event["name"]: event["time_seconds"] for event in reversed(events)},
    )


def _film(services: Services, job: Job, most_bytes: int) -> tuple[bytes, str]:
    """The overlay video, or why there is none."""
    size = next((artifact.content_length for artifact in job.artifacts if artifact.name == FILM), None)
    if size is None:
        return b"", "this analysis left none"
    if size > most_bytes:
        return b"", f"`crease report {job.job_id}` fetches it, it has {size / 1e6:.0f} MB"
    with tempfile.TemporaryDirectory(prefix="crease-") as folder:
        file = Path(folder, FILM)
        reports.fetch_one(services, job, FILM, file)
        return file.read_bytes(), ""
