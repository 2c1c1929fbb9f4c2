"""Runs one launch as its pod: takes the lease, downloads the video, analyses it in one or two stages, publishes each.

    StartLaunch ─▶ SignLaunch ─▶ GET video ─┬─▶ quick ─▶ PUT files ─▶ SubmitResult ─┬─▶ deep ─▶ PUT ─▶ SubmitResult ─▶ 0
        │                                   └── (the quick result is published) ────┘
        ├─ bad input ─▶ FailLaunch ─▶ 65         ├─ no model, other failure ─▶ FailLaunch ─▶ 70
        ├─ lease lost ─▶ 75                      └─ a service is unavailable ─▶ 69

A stage is published after its files are in S3, so a process that ends earlier has published nothing. The deep result is
published twice: with all that a coach reads, and again with the overlay video, which completes the job.
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from crease.analysis.v1.launch_pb2 import Ending, StartLaunchResponse
from crease.jobs.v1.job_pb2 import Accelerator as JobAccelerator
from crease.jobs.v1.job_pb2 import Artifact, Job, Stage, VideoObject
from crease.jobs.v1.player_pb2 import Player
from crease.jobs.v1.session_pb2 import CameraView, Discipline
from crease.upload.v1.upload_pb2 import SignedRequest
from services import traces
from services.analyzer.artifacts.results_json import Results, row_copy
from services.analyzer.cpu_time import count_cpu_time
from services.analyzer.errors import DONE, BadInput, Fault, LeaseLost, ModelFault, ServiceUnavailable
from services.analyzer.progress import Progress, part_of
from services.analyzer.settings import Accelerator, WorkerSettings
from services.analyzer.worker.lease import Heartbeat, LaunchLease
from services.analyzer.worker.transfer import Transfer
from services.clients import open_channel
from services.logs import Logger, configure
from services.naming import LANDMARKS, THUMBNAIL
from services.rules.players import may_be_under_18, player_names

if TYPE_CHECKING:
    from services.analyzer.pipeline import Analysis
    from services.analyzer.pose.tracking import Box
    from services.analyzer.report.metadata import Metadata

CreateAnalysis = Callable[[Path, StartLaunchResponse, WorkerSettings], "Analysis"]
# Analyses one stage: the folder for its files, and the progress.
RunStage = Callable[[Path, Progress], Results]
CONTENT_TYPES = {
    "results.json": "application/json",
    "report.html": "text/html; charset=utf-8",
    "frames.parquet": "application/vnd.apache.parquet",
    "overlay.mp4": "video/mp4",
    LANDMARKS: "application/octet-stream",
    THUMBNAIL: "image/jpeg",
}
# The download's share of the first stage's progress.
DOWNLOAD_SHARE = 0.05
# After SIGTERM the process has this long to delete its folder; it does not wait for running work.
GRACE_SECONDS, TERMINATED = 1.5, 128 + signal.SIGTERM
_stopping = threading.Event()


def run_launch(
    job_id: str, number: int, settings: WorkerSettings, create_analysis: CreateAnalysis | None = None
) -> int:
    """Run one launch; returns the process's exit status. create_analysis: makes the analysis of the video."""
    log = configure("analyzer", job_id=job_id, launch_no=number)
    signal.signal(signal.SIGTERM, _stop)
    traces.start_in_trace("analyzer", settings.otlp_endpoint, settings.trace_parent)
    try:
        with (
            _open_lease(job_id, number, settings) as lease,
            traces.span("analysis", settings.trace_parent, job_id=job_id, launch_no=number) as span,
        ):
            status = _run(lease, settings, create_analysis or _create_analysis, log)
            span.add(exit_status=status)
            return status
    finally:
        traces.stop()


def _run(lease: LaunchLease, settings: WorkerSettings, create_analysis: CreateAnalysis, log: Logger) -> int:
    try:
        started = lease.start()
        log.info("launch_started", stage=Stage.Name(started.stage), session_id=started.job.session_id)
        _run_stages(lease, started, settings, create_analysis)
    except (LeaseLost, ServiceUnavailable) as fault:
        log.warning("launch_stopped", code=fault.code, reason=fault.message)
        return fault.exit_status
    except Fault as fault:
        return _report_failure(lease, fault, log)
    except Exception as error:
        log.exception("analysis_crashed")
        crash = Fault("UNEXPECTED", f"Processing failed: {type(error).__name__}: {error}")
        return _report_failure(lease, crash, log)
    log.info("launch_done")
    return DONE


def _run_stages(
    lease: LaunchLease, started: StartLaunchResponse, settings: WorkerSettings, create_analysis: CreateAnalysis
) -> None:
    """Run both stages, or the remaining ones, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="crease-") as folder, Heartbeat(lease, started.stage) as heartbeat:
        transfer = Transfer(lambda: heartbeat.progress(0.0), settings.transfer_patience_seconds)
        # Messages about a bad file begin with its name. The user does not know the name in the S3 key.
        video = Path(folder, "The video")
        with count_cpu_time("fetch"), traces.span("fetch"):
            transfer.download(lambda: lease.sign([]).video, video, started.job.video, settings.max_video_bytes)
            if started.job.source_job_id:
                _download_landmarks(lease, transfer, Path(folder, LANDMARKS), settings.max_video_bytes)
        analysis = create_analysis(video, started, settings)
        if started.stage != Stage.STAGE_DEEP:
            files = StageFiles(Stage.STAGE_QUICK, lease, transfer, Path(folder, "quick"))
            _run_stage(partial(analysis.quick, film=not started.job.deep_enabled), files, heartbeat)
        if started.job.deep_enabled:
            heartbeat.begin_stage(Stage.STAGE_DEEP)
            files = StageFiles(Stage.STAGE_DEEP, lease, transfer, Path(folder, "deep"))
            _run_stage(partial(analysis.deep, publish=partial(files.publish, more_files=True)), files, heartbeat)


def _download_landmarks(lease: LaunchLease, transfer: Transfer, to: Path, max_bytes: int) -> None:
    """Fetch the landmarks that the source job kept, if there are any; without them, all frames are estimated."""
    if lease.sign([]).HasField("landmarks"):
        with suppress(BadInput):  # deleted since
            transfer.download(lambda: lease.sign([]).landmarks, to, VideoObject(), max_bytes)


class StageFiles:
    """The files of one stage in a new folder. Each is stored in S3 once, before a result that names it is published."""

    def __init__(self, stage: "Stage.ValueType", lease: LaunchLease, transfer: Transfer, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self._lease = lease
        self._transfer = transfer
        self._stored: set[str] = set()
        folder.mkdir()

    def publish(self, results: Results, *, more_files: bool = False) -> None:
        """Store the files so far and publish the results with them. more_files: others follow, so the stage runs on."""
        artifacts = [_describe_artifact(file, self.stage) for file in sorted(self.folder.iterdir())]
        with traces.span("publish"):
            for artifact in artifacts:
                if artifact.name not in self._stored:
                    self._transfer.upload(partial(self._sign, artifact), self.folder / artifact.name)
                    self._stored.add(artifact.name)
            self._lease.submit(self.stage, row_copy(results), artifacts, more_files=more_files)

    def _sign(self, artifact: Artifact) -> SignedRequest:
        return self._lease.sign([artifact]).artifacts[0]


def _run_stage(run: RunStage, files: StageFiles, heartbeat: Heartbeat) -> None:
    """Analyse, store the files, then publish the result."""
    with traces.span("quick" if files.stage == Stage.STAGE_QUICK else "deep"):
        results = run(files.folder, part_of(heartbeat.progress, DOWNLOAD_SHARE, 0.95))
        heartbeat.progress(0.99)
        files.publish(results)


def _create_analysis(video: Path, started: StartLaunchResponse, settings: WorkerSettings) -> "Analysis":
    from services.analyzer.biomechanics.events import EventName, GivenEvent
    from services.analyzer.pipeline import Analysis, AnalysisOptions  # MediaPipe takes half a second to import

    stated = started.job.discipline or started.session.discipline
    discipline = _enum_word(Discipline.Name(stated), "DISCIPLINE_")
    landmarks = video.with_name(LANDMARKS)
    options = AnalysisOptions(
        discipline=discipline or AnalysisOptions.discipline,
        sample_fps=started.job.sample_fps or AnalysisOptions.sample_fps,
        include_frames=started.job.include_frames,
        athlete_box=_athlete_box(started.job),
        capture_fps=started.job.capture_fps,
        given=tuple(GivenEvent(EventName(event.name), event.time_seconds) for event in started.job.events),
        anonymous=started.job.anonymous,
    )
    job_settings = settings.model_copy(update={"accelerator": _choose_accelerator(started.job, settings)})
    metadata = about(started, options.discipline)
    return Analysis(video, options, job_settings, metadata, landmarks if landmarks.exists() else None)


def about(started: StartLaunchResponse, discipline: str) -> "Metadata":
    """The report's metadata; for an anonymous job without text that people wrote, because it may contain names."""
    from services.analyzer.report.metadata import Metadata

    session, named = started.session, not started.job.anonymous
    # Of several players nothing says who is in the film.
    player = session.players[0] if session.players and len(session.player_ids) == 1 else Player()
    now = datetime.now(UTC)
    return Metadata(
        title=session.title if named else "",
        players=player_names(session.player_ids, session.players) if named else (),
        discipline=discipline,
        camera_view=_enum_word(CameraView.Name(session.camera_view), "CAMERA_VIEW_"),
        analysed_at=now.isoformat(timespec="seconds"),
        notes=session.notes if named else "",
        height_cm=player.height_cm or None if named else None,
        under_18=may_be_under_18(player.birth_year, now.year),
    )


def _enum_word(name: str, prefix: str) -> str:
    """An enum's name as a word for people, `CAMERA_VIEW_SIDE` as side; empty for the unspecified value."""
    word = name.removeprefix(prefix).lower()
    return "" if word == "unspecified" else word


def _athlete_box(job: Job) -> "Box | None":
    from services.analyzer.pose.tracking import Box

    if not job.HasField("athlete_box"):
        return None
    box = job.athlete_box
    return Box(box.left, box.top, box.width, box.height)


def _choose_accelerator(job: Job, settings: WorkerSettings) -> Accelerator:
    """The accelerator of the pod's node; if the setting is `auto`, the job's own."""
    requested = {JobAccelerator.ACCELERATOR_GPU: Accelerator.gpu, JobAccelerator.ACCELERATOR_CPU: Accelerator.cpu}
    if settings.accelerator is not Accelerator.auto:
        return settings.accelerator
    return requested.get(job.accelerator, Accelerator.auto)


def _describe_artifact(file: Path, stage: "Stage.ValueType") -> Artifact:
    size = file.stat().st_size
    return Artifact(name=file.name, stage=stage, content_type=CONTENT_TYPES[file.name], content_length=size)


def _report_failure(lease: LaunchLease, fault: Fault, log: Logger) -> int:
    """Report the failure to `jobs`; returns the exit status, which the controller reads if the report fails."""
    if _stopping.is_set():  # a C library that is interrupted in its import turns SystemExit into ImportError
        return TERMINATED
    ending = Ending.ENDING_UNKNOWN
    if isinstance(fault, BadInput):
        ending = Ending.ENDING_BAD_INPUT
    elif isinstance(fault, ModelFault):
        ending = Ending.ENDING_IMAGE
    log.warning("launch_failed", code=fault.code, reason=fault.message)
    try:
        lease.fail(ending, fault.code, fault.message)
    except Fault as report_fault:
        log.warning("failure_not_reported", reason=report_fault.message)
    return fault.exit_status


@contextmanager
def _open_lease(job_id: str, number: int, settings: WorkerSettings) -> Iterator[LaunchLease]:
    with (
        open_channel(settings.jobs_endpoint) as jobs,
        open_channel(settings.upload_endpoint) as upload,
    ):
        yield LaunchLease(
            job_id,
            number,
            jobs=jobs,
            upload=upload,
            token_file=settings.token_file,
            patience_seconds=settings.start_patience_seconds,
        )


def _stop(*_: object) -> NoReturn:
    """Handle SIGTERM: unwind, so that the folder is deleted; exit after GRACE_SECONDS in any case."""
    _stopping.set()
    watchdog = threading.Timer(GRACE_SECONDS, _exit_now)
    watchdog.daemon = True
    watchdog.start()
    sys.exit(TERMINATED)


def _exit_now() -> NoReturn:

    os._exit(TERMINATED)
