"""One pod's work: take the lease, fetch the video, analyse it in one or two stages, publish each.

    StartLaunch ─▶ SignLaunch ─▶ GET video ─┬─▶ quick ─▶ PUT files ─▶ SubmitResult ─┬─▶ deep ─▶ PUT ─▶ SubmitResult ─▶ 0
        │                                   └── (the quick result is in already) ───┘
        ├─ bad input ─▶ FailLaunch ─▶ 65         ├─ no model, anything else ─▶ FailLaunch ─▶ 70
        ├─ lease refused ─▶ 75                   └─ a service stayed away ─▶ 69

A stage is published by one call, after its files lie in S3; a process that ends before it has published nothing.
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from crease.analysis.v1.launch_pb2 import Ending, StartLaunchResponse
from crease.jobs.v1.job_pb2 import Accelerator as Wanted
from crease.jobs.v1.job_pb2 import Artifact, Job, Stage
from crease.jobs.v1.session_pb2 import CameraView, Discipline
from services import traces
from services.analyzer.artifacts.results_json import row_copy
from services.analyzer.cpu_time import spending
from services.analyzer.errors import DONE, BadInput, Fault, LeaseLost, ModelFault, ServiceAway
from services.analyzer.settings import Accelerator, WorkerSettings
from services.analyzer.worker.lease import Launch, Pulse
from services.analyzer.worker.transfer import Transfer
from services.clients import open_channel
from services.logs import Logger, configure

if TYPE_CHECKING:
    from services.analyzer.pipeline import Analysis
    from services.analyzer.pose.tracking import Box
    from services.analyzer.report.metadata import About

Begin = Callable[[Path, StartLaunchResponse, WorkerSettings], "Analysis"]
CONTENT_TYPES = {
    "results.json": "application/json",
    "report.html": "text/html; charset=utf-8",
    "frames.parquet": "application/vnd.apache.parquet",
    "overlay.mp4": "video/mp4",
}
# How much of the first stage is the download.
FETCHED = 0.05
# SIGTERM leaves time for tidying up, but not for waiting on anything.
GRACE_SECONDS, TERMINATED = 1.5, 128 + signal.SIGTERM
_stopping = threading.Event()


def work(job_id: str, number: int, settings: WorkerSettings, begin: Begin | None = None) -> int:
    """Do one launch, analysing with what `begin` makes of the video; returns the process's exit status."""
    log = configure("analyzer", job_id=job_id, launch_no=number)
    signal.signal(signal.SIGTERM, _stop)
    traces.start_in_trace("analyzer", settings.otlp_endpoint, settings.trace_parent)
    try:
        with (
            _launch(job_id, number, settings) as launch,
            traces.span("analysis", settings.trace_parent, job_id=job_id, launch_no=number) as span,
        ):
            status = _work(launch, settings, begin or _analysis, log)
            span.add(exit_status=status)
            return status
    finally:
        traces.stop()


def _work(launch: Launch, settings: WorkerSettings, begin: Begin, log: Logger) -> int:
    try:
        started = launch.start()
        log.info("started", stage=Stage.Name(started.stage), session_id=started.job.session_id)
        _stages(launch, started, settings, begin)
    except (LeaseLost, ServiceAway) as fault:
        log.warning("stopped", code=fault.code, reason=fault.sentence)
        return fault.exit_status
    except Fault as fault:
        return _give_up(launch, fault, log)
    except Exception as error:
        log.exception("failed")
        return _give_up(launch, Fault("UNEXPECTED", f"Processing failed: {type(error).__name__}: {error}"), log)
    log.info("done")
    return DONE


def _stages(launch: Launch, started: StartLaunchResponse, settings: WorkerSettings, begin: Begin) -> None:
    """Both stages, or what is left of them, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="crease-") as folder, Pulse(launch, started.stage) as pulse:
        transfer = Transfer(lambda: pulse.progress(0.0), settings.transfer_patience_seconds)
        # Sentences about a bad file begin with its name, and its user knows it by another than its key's.
        video = Path(folder, "The video")
        with spending("fetch"), traces.span("fetch"):
            transfer.fetch(lambda: launch.sign([]).video, video, started.job.video, settings.max_video_bytes)
        analysis = begin(video, started, settings)
        if started.stage != Stage.STAGE_DEEP:
            _stage(Stage.STAGE_QUICK, analysis, launch, pulse, transfer, Path(folder, "quick"))
        if started.job.deep_enabled:
            pulse.turn(Stage.STAGE_DEEP)
            _stage(Stage.STAGE_DEEP, analysis, launch, pulse, transfer, Path(folder, "deep"))


def _stage(
    stage: "Stage.ValueType", analysis: "Analysis", launch: Launch, pulse: Pulse, transfer: Transfer, out: Path
) -> None:
    """Analyse, store the files, then publish."""
    out.mkdir()
    run = analysis.quick if stage == Stage.STAGE_QUICK else analysis.deep
    with traces.span("quick" if stage == Stage.STAGE_QUICK else "deep"):
        results = run(out, lambda fraction: pulse.progress(FETCHED + (0.95 - FETCHED) * fraction))
        artifacts = [_artifact(file, stage) for file in sorted(out.iterdir())]
        with traces.span("publish"):
            for artifact in artifacts:
                transfer.put(lambda artifact=artifact: launch.sign([artifact]).artifacts[0], out / artifact.name)  # type: ignore[misc]
            pulse.progress(0.99)
            launch.submit(stage, row_copy(results), artifacts)


def _analysis(video: Path, started: StartLaunchResponse, settings: WorkerSettings) -> "Analysis":
    from services.analyzer.pipeline import Analysis, Order  # MediaPipe takes half a second to import

    order = Order(
        discipline=_word(Discipline.Name(started.session.discipline), "DISCIPLINE_") or Order.discipline,
        sample_fps=started.job.sample_fps or Order.sample_fps,
        include_frames=started.job.include_frames,
        athlete_box=_box(started.job),
        anonymous=started.job.anonymous,
    )
    chosen = settings.model_copy(update={"accelerator": _accelerator(started.job, settings)})
    return Analysis(video, order, chosen, about(started, order.discipline))


def about(started: StartLaunchResponse, discipline: str) -> "About":
    """What the report says of its film; of an anonymous job's nothing that a person wrote, which may name people."""
    from services.analyzer.report.metadata import About

    session, named = started.session, not started.job.anonymous
    return About(
        title=session.title if named else "",
        players=tuple(session.player_ids) if named else (),
        discipline=discipline,
        camera_view=_word(CameraView.Name(session.camera_view), "CAMERA_VIEW_"),
        analysed_at=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        notes=session.notes if named else "",
    )


def _word(name: str, prefix: str) -> str:
    """An enum's name as a word for people, `CAMERA_VIEW_SIDE` as side; empty where nobody said."""
    word = name.removeprefix(prefix).lower()
    return "" if word == "unspecified" else word


def _box(job: Job) -> "Box | None":
    from services.analyzer.pose.tracking import Box

    if not job.HasField("athlete_box"):
        return None
    given = job.athlete_box
    return Box(given.left, given.top, given.width, given.height)


def _accelerator(job: Job, settings: WorkerSettings) -> Accelerator:
    """What the pod was placed on decides; where that was left open, what the client asked for."""
    asked = {Wanted.ACCELERATOR_GPU: Accelerator.gpu, Wanted.ACCELERATOR_CPU: Accelerator.cpu}
    if settings.accelerator is not Accelerator.auto:
        return settings.accelerator
    return asked.get(job.accelerator, Accelerator.auto)


def _artifact(file: Path, stage: "Stage.ValueType") -> Artifact:
    size = file.stat().st_size
    return Artifact(name=file.name, stage=stage, content_type=CONTENT_TYPES[file.name], content_length=size)


def _give_up(launch: Launch, fault: Fault, log: Logger) -> int:
    """Tell `jobs` why this launch failed. The exit status says it again, in case `jobs` cannot be told."""
    if _stopping.is_set():  # a library that is interrupted in its import makes an ImportError of SystemExit
        return TERMINATED
    ending = Ending.ENDING_UNKNOWN
    if isinstance(fault, BadInput):
        ending = Ending.ENDING_BAD_INPUT
    elif isinstance(fault, ModelFault):
        ending = Ending.ENDING_IMAGE
    log.warning("gave up", code=fault.code, reason=fault.sentence)
    try:
        launch.fail(ending, fault.code, fault.sentence)
    except Fault as untold:
        log.warning("could not say so", reason=untold.sentence)
    return fault.exit_status


@contextmanager
def _launch(job_id: str, number: int, settings: WorkerSettings) -> Iterator[Launch]:
    with (
        open_channel(settings.jobs_endpoint) as jobs,
        open_channel(settings.upload_endpoint) as upload,
    ):
        yield Launch(
            job_id,
            number,
            jobs=jobs,
            upload=upload,
            token_file=settings.token_file,
            patience_seconds=settings.start_patience_seconds,
        )


def _stop(*_: object) -> NoReturn:
    """SIGTERM: unwind, so that the folder goes; whatever still runs by then is cut off."""
    _stopping.set()
    watchdog = threading.Timer(GRACE_SECONDS, _cut_off)
    watchdog.daemon = True
    watchdog.start()
    sys.exit(TERMINATED)


def _cut_off() -> NoReturn:
    os._exit(TERMINATED)
