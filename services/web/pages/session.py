"""One analysis: the film with its skeleton beside what to work on first; while it runs, its progress."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_AWAITING_UPLOAD,
    STAGE_QUICK,
    GetJobRequest,
    Job,
    ListJobsRequest,
    WatchJobRequest,
)
from crease.jobs.v1.session_pb2 import GetSessionRequest, Session
from services import clients, naming
from services.rules.artifacts import newest_artifacts
from services.rules.limits import is_capture_fps
from services.rules.options import CORRECTIONS_TITLE, Correction
from services.web import html, visit
from services.web.calls import Calls
from services.web.live import FINAL
from services.web.pages.home import STREAM_HEADERS

FILM, REPORT = "overlay.mp4", "report.html"
# What a visitor may save, with the words for it.
DOWNLOADS = {
    REPORT: "Report",
    FILM: "Film with skeleton",
    "results.json": "Numbers (JSON)",
    "frames.parquet": "Every frame (Parquet)",
}
# As many as a player keeps in mind.
MOST_FINDINGS = 3
CAPTURE_RATES = (60, 120, 240, 480)
# Pictures a second that a visitor may choose to be measured.
SAMPLE_RATES = (10, 15, 30)
DEFAULT_FPS = 30.0
# Results have seconds to three decimals.
SAME_SECONDS = 0.0006
# Ends the stream of an analysis that does not change any more: the browser does not open it again.
END = "end"


@dataclass(frozen=True)
class Drill:
    name: str
    how: str
    dose: str


@dataclass(frozen=True)
class Finding:
    """One thing to work on. `seconds`: its moment in the film, None without one; `frame`: when the film shows it."""

    title: str
    why: str
    cues: list[str]
    drills: list[Drill]
    seconds: float | None
    frame: float | None


@dataclass(frozen=True)
class Reading:
    """What a job's results say on the page."""

    level: str = ""
    summary: str = ""
    warning: str = ""
    findings: list[Finding] = field(default_factory=list)
    # Without a finding: what keeps the player there.
    drills: list[Drill] = field(default_factory=list)
    # (seconds, words, seconds of the frame that shows it) of each moment of the film.
    moments: list[tuple[float, str, float]] = field(default_factory=list)
    fps: float = DEFAULT_FPS
    # Why nothing is judged, as a sentence; empty if it is.
    not_assessed: str = ""
    # The people among whom the player is not known, each as the box of a correction.
    people: list[str] = field(default_factory=list)

    @property
    def is_assessed(self) -> bool:
        return not self.not_assessed


def read(stored: Struct) -> Reading | None:
    """The results of a job; None before the first."""
    if not stored.fields:
        return None
    results: dict[str, Any] = json_format.MessageToDict(stored)
    findings, report = results.get("findings", {}), results.get("report", {})
    summary = results.get("pose", {}).get("pose_summary", {})
    events = summary.get("events", [])
    return Reading(
        level=str(findings.get("overall_level") or ""),
        summary=str(report.get("summary") or ""),
        warning=str(report.get("reliability_warning") or ""),
        findings=[_finding(each, events) for each in findings.get("findings", [])[:MOST_FINDINGS]],
        drills=[_drill(each) for each in report.get("drills", [])],
        moments=[
            (each["time_seconds"], naming.event_label(each["name"], bool(each.get("given"))), _frame_of(each))
            for each in events
            if each["name"] in naming.EVENT_LABELS
        ],
        fps=float(summary.get("video_fps") or DEFAULT_FPS),
        not_assessed=html.as_sentence(findings.get("not_assessed_reason") or ""),
        people=[",".join(map(str, box)) for box in summary.get("athlete", {}).get("candidates", [])],
    )


def _finding(found: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Finding:
    seconds = found.get("time_seconds")
    # A moment lies between two frames; what is measured elsewhere is measured in a frame.
    frames = [_frame_of(each) for each in events if abs(each["time_seconds"] - (seconds or 0.0)) < SAME_SECONDS]
    return Finding(
        title=str(found.get("title") or found.get("code", "")),
        why=str(found.get("why") or ""),
        cues=[str(cue) for cue in found.get("cues", [])],
        drills=[_drill(each) for each in found.get("drills", [])],
        seconds=seconds,
        frame=frames[0] if frames else seconds,
    )


def _frame_of(event: Mapping[str, Any]) -> float:
    """The seconds of the frame that shows a moment."""
    return float(event.get("frame_seconds") or event["time_seconds"])


def _drill(drill: Mapping[str, Any]) -> Drill:
    return Drill(*(str(drill.get(key) or "") for key in ("name", "how", "dose")))


async def session(request: Request) -> Response:
    """The whole page."""
    visiting = await visit.begin(request)
    job = await visiting.calls.call(visiting.calls.stubs.jobs.GetJob, GetJobRequest(job_id=visit.job_id(request)))
    values, analyses = await asyncio.gather(_values(visiting.calls, job), list_analyses(visiting.calls, job.session_id))
    return html.page("session.html", **values, analyses=analyses)


async def list_analyses(calls: Calls, session_id: str) -> list[Job]:
    """The analyses of a session whose video has arrived, oldest first, without results. Raises PageError."""
    listed = await calls.call(calls.stubs.jobs.ListJobs, ListJobsRequest(session_id=session_id))
    return [job for job in reversed(listed.jobs) if job.status != JOB_STATUS_AWAITING_UPLOAD]


async def events(request: Request) -> Response:
    """The body of the page after each change, as server-sent events, until the job is final."""
    visiting = await visit.begin(request)
    job_id, calls = visit.job_id(request), visiting.calls

    async def stream() -> AsyncIterator[str]:
        try:
            async for job in calls.stream(calls.stubs.jobs.WatchJob, WatchJobRequest(job_id=job_id)):
                yield html.event(html.render("session_body.html", **await _values(calls, job)))
            yield html.event("", END)
        except grpc.RpcError as error:
            if not clients.is_transient(error):
                raise

    return StreamingResponse(stream(), media_type="text/event-stream", headers=STREAM_HEADERS)


async def _values(calls: Calls, job: Job) -> dict[str, Any]:
    session: Session = await calls.call(calls.stubs.sessions.GetSession, GetSessionRequest(session_id=job.session_id))
    existing = {name: artifact.stage for name, artifact in newest_artifacts(job).items()}
    discipline = html.discipline(job.discipline or session.discipline)
    reading = read(job.results)
    own_rate = reading.fps if reading and is_capture_fps(reading.fps) and not job.capture_fps else 0.0
    return {
        "job": job,
        "session": session,
        "discipline": discipline,
        "disciplines": naming.DISCIPLINES,
        "final": job.status in FINAL,
        "reading": reading,
        "provisional": job.results_stage == STAGE_QUICK and job.deep_enabled,
        # The film of each stage is another one.
        "film": f"/jobs/{job.job_id}/film?stage={existing[FILM]}" if FILM in existing else "",
        "report": f"/jobs/{job.job_id}/report" if REPORT in existing else "",
        "downloads": [(name, words) for name, words in DOWNLOADS.items() if name in existing],
        "moments": _moments(job, discipline),
        "capture_rates": _capture_rates(own_rate, job.capture_fps),
        "own_rate": own_rate,
        "corrections": Correction,
        "corrections_title": CORRECTIONS_TITLE,
        "sample_rates": SAMPLE_RATES,
    }


def _capture_rates(own_rate: float, given: float) -> list[float]:
    """The rates at which a camera may have recorded: the usual ones, the film's own, and the one that was given."""
    stated = {rate for rate in (own_rate, given) if rate}
    return sorted(stated | {rate for rate in CAPTURE_RATES if all(abs(rate - other) > 1 for other in stated)})


def _moments(job: Job, discipline: str) -> list[tuple[str, str, float | None]]:
    """Each moment that a visitor may state: its name, its label, and the seconds that the job was given."""
    given = {event.name: event.time_seconds for event in reversed(job.events)}
    names = naming.GIVEN_EVENTS[_known(discipline)]
    return [(name, naming.EVENT_LABELS[name], given.get(name)) for name in names]


def _known(discipline: str) -> naming.Discipline:
    return naming.Discipline(discipline or naming.Discipline.BATTING)
