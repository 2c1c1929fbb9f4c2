"""`crease analyze` and `reanalyze`: order an analysis, follow it, print the findings and fetch the report.

CreateSession ─▶ Client.upload: the video into S3 ─┬─▶ WatchJob … final ─▶ SignDownload ─▶ GET from S3
ReanalyzeJob ──────────────────────────────────────┘
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_DONE,
    AthleteBox,
    GivenEvent,
    Job,
    ReanalyzeJobRequest,
)
from crease.jobs.v1.session_pb2 import CameraView, CreateSessionRequest, Discipline
from crease.upload.v1.upload_pb2 import (
    CompleteUploadResponse,
    GetUploadLimitsRequest,
    GetUploadLimitsResponse,
    InitiateUploadRequest,
)
from crease_client.errors import CreaseError, Unavailable, Unimplemented
from services import naming
from services.cli.api import client, endpoints, film, video_file
from services.cli.api.client import Services
from services.cli.api.resume_state import ResumeState, ResumeStates, identify
from services.cli.api.video_file import Video
from services.cli.commands import reports
from services.cli.commands.library import players
from services.cli.commands.options import Arguments, Commands, add_command, add_output, connect
from services.cli.errors import UNAVAILABLE, USAGE, CommandError
from services.cli.ui import console
from services.rules.limits import DEFAULT_SAMPLE_FPS, MAX_SAMPLE_FPS, MIN_SAMPLE_FPS
from services.rules.options import add_events, add_footage, parse_height_cm
from services.rules.printable import one_line

# By value: argparse quotes its choices.
DISCIPLINES = tuple(discipline.value for discipline in naming.DISCIPLINES)
CAMERAS = ("side", "front", "behind")
LONGEST_TITLE = 200
# How long `jobs` may be unavailable while the client follows a job. The analysis itself needs no client.
MOST_UNAVAILABLE_SECONDS = 60.0


@dataclass(frozen=True)
class AnalysisOptions:
    """The user's options for one analysis."""

    discipline: str
    camera: str = ""
    title: str = ""
    players: tuple[str, ...] = ()
    # Frames per second; 0: the service's default.
    sample_fps: int = 0
    include_frames: bool = False
    # Sends no names; the artifacts show no faces.
    anonymous: bool = False
    # Left, top, width and height in fractions of the first picture.
    athlete_box: tuple[float, float, float, float] | None = None
    # Frames a second at which the camera recorded; 0: as the file says.
    capture_fps: float = 0
    # Of the one player; 0: as it is known.
    height_cm: int = 0


def add_to(commands: Commands) -> None:
    command = add_command(commands, "analyze", _run, "analyse a video")
    command.add_argument("video", type=Path, metavar="VIDEO")
    add_discipline(command)
    command.add_argument("--camera", choices=CAMERAS, default="", help="position of the camera")
    command.add_argument("--player", action="append", default=[], metavar="NAME", help="player; may be repeated")
    command.add_argument(
        "--height-cm", type=parse_height_cm, default=0, metavar="CM", help="the player's height, kept with the player"
    )
    command.add_argument("--title", default="", help="title of the session (default: the file's name)")
    rates = f"{MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS} (default: {DEFAULT_SAMPLE_FPS})"
    command.add_argument(
        "--sample-fps", type=_parse_sample_fps, default=0, metavar="N", help=f"frames per second, {rates}"
    )
    command.add_argument("--include-frames", action="store_true", help="list every frame in results.json")
    command.add_argument("--anonymous", action="store_true", help="send no names and show no faces")
    add_footage(command)
    command.add_argument("--proxy", action="store_true", help="send a smaller film if this one is over 1080p or 200 MB")
    add_output(command)


def add_discipline(command: argparse.ArgumentParser) -> None:
    """Adds --discipline, which has no default: a film measured as another discipline gets a wrong report."""
    command.add_argument("--discipline", choices=DISCIPLINES, help="what the film shows; asked for on a terminal")


def stated_discipline(arguments: Arguments) -> str:
    """The discipline as given, or asked for. Raises CommandError without a terminal to ask on."""
    if arguments.discipline:
        return str(arguments.discipline)
    if not console.can_ask():
        names = f"{', '.join(DISCIPLINES[:-1])} or {DISCIPLINES[-1]}"
        raise CommandError(f"The discipline is missing: add --discipline with {names}.", USAGE)
    return console.ask("What does the film show?", DISCIPLINES)


def add_reanalyze_to(commands: Commands) -> None:
    command = add_command(commands, "reanalyze", _run_again, "analyse the video of a job again, with corrections")
    command.add_argument("job", metavar="JOB")
    add_events(command)
    add_footage(command)
    command.add_argument("--discipline", choices=DISCIPLINES, help="(default: the job's)")
    command.add_argument("--sample-fps", type=_parse_sample_fps, metavar="N", help="frames per second")
    command.add_argument("--anonymous", action="store_true", default=None, help="show no names and no faces")
    add_output(command)


def _run_again(arguments: Arguments) -> int:
    """Leaves every option that the user did not give as the earlier job had it."""
    request = ReanalyzeJobRequest(
        job_id=arguments.job,
        events=[GivenEvent(name=name, time_seconds=seconds) for name, seconds in arguments.event],
        sample_fps=arguments.sample_fps,
        capture_fps=arguments.capture_fps,
        athlete_box=_athlete_box(arguments.athlete_box),
        anonymous=arguments.anonymous,
        discipline=_discipline(arguments.discipline) if arguments.discipline else None,
        request_id=str(uuid4()),
    )
    with console.reserve_stdout(arguments.json), connect(arguments) as services:
        job = _finish(services, services.call(services.jobs.ReanalyzeJob, request).job_id)
        reports.show(services, job, arguments)
    return 0


def _parse_sample_fps(text: str) -> int:
    if not text.isdecimal() or not MIN_SAMPLE_FPS <= int(text) <= MAX_SAMPLE_FPS:
        raise argparse.ArgumentTypeError(f"must be a whole number from {MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS}")
    return int(text)


def _run(arguments: Arguments) -> int:
    if arguments.anonymous and (arguments.player or arguments.title):
        raise CommandError("--anonymous sends no names: omit --player and --title.", USAGE)
    if arguments.height_cm and len(arguments.player) != 1:
        raise CommandError("--height-cm is the height of one player: give --player once.", USAGE)
    video_file.check(arguments.video)
    discipline = stated_discipline(arguments)
    options = AnalysisOptions(discipline, arguments.camera, arguments.title, tuple(arguments.player),
                              arguments.sample_fps, arguments.include_frames, arguments.anonymous,
                              arguments.athlete_box, arguments.capture_fps or 0,
                              round(arguments.height_cm))  # fmt: skip
    found = endpoints.find(os.environ, arguments.state)
    with console.reserve_stdout(arguments.json), client.connect(found) as services:
        states = ResumeStates(arguments.state.expanduser() / "uploads")
        limits = _limits(services)
        facts = film.look(arguments.video, limits)
        for note in facts.notes:
            console.print_line(note)
        sent = arguments.video
        size = sent.stat().st_size
        wants_proxy = arguments.proxy and facts.is_larger_than_needed(size)
        if wants_proxy and (reason := facts.saves_nothing(size)):
            console.print_line(reason)
        elif wants_proxy:
            sent = _proxy(arguments.video, arguments.state.expanduser() / "proxies", limits, options.capture_fps)
            title = options.title or ("" if options.anonymous else one_line(arguments.video.stem))
            # The smaller film plays in real time.
            capture_fps = options.capture_fps if sent == arguments.video else 0
            options = replace(options, title=title, capture_fps=capture_fps)
        job = analyze(services, sent, options, states=states, largest_bytes=found.largest_video_bytes)
        if sent != arguments.video:
            sent.unlink(missing_ok=True)
        reports.show(services, job, arguments)
    return 0


def _limits(services: Services) -> GetUploadLimitsResponse:
    """What the service accepts; no limits if it is older than this call."""
    try:
        return services.call(services.uploads.GetUploadLimits, GetUploadLimitsRequest())
    except CommandError as error:
        if isinstance(error.__cause__, Unimplemented):
            return GetUploadLimitsResponse()
        raise


def _proxy(path: Path, folder: Path, limits: GetUploadLimitsResponse, capture_fps: float) -> Path:
    """The smaller film, kept until its upload is complete; the film itself if it is no larger. Raises CommandError."""
    proxy = folder / f"{identify(path, capture_fps)}.mp4"
    if not proxy.is_file():
        console.print_line(f"Making a smaller film of {one_line(path.name)}: the original stays on this machine.")
        film.make_proxy(path, proxy, limits, capture_fps)
    before, after = path.stat().st_size, proxy.stat().st_size
    if after >= before:
        proxy.unlink()
        return path
    console.print_line(f"Sending {after / 1e6:.1f} MB instead of {before / 1e6:.1f} MB.")
    return proxy


def analyze(
    services: Services, path: Path, options: AnalysisOptions, *, states: ResumeStates, largest_bytes: int
) -> Job:
    """Sends a video and returns its finished job. After an interruption, the same call resumes the upload.

    `largest_bytes` 0: no limit. Raises CommandError, with the job's own message if the job failed.
    """
    with console.show_progress("Reading") as progress:
        video = video_file.read(path, largest_bytes=largest_bytes, progress=progress)
    return _finish(services, _upload(services, video, options, states))


def _finish(services: Services, job_id: str) -> Job:
    """Follows a job until it is done. Raises CommandError, with the job's own message if it failed."""
    job = follow(services, job_id)
    if job.status != JOB_STATUS_DONE:
        raise reports.to_command_error(job)
    return job


def _upload(services: Services, video: Video, options: AnalysisOptions, states: ResumeStates) -> str:
    key = (services.identity, options)

    def create_session() -> str:
        request = _session_request(video, options)
        request.player_ids[:] = players.find_or_create(services, options.players, options.height_cm)
        return services.call(services.sessions.CreateSession, request).session_id

    state, is_old = states.load_or_create(video.path, *key, create_session=create_session)
    try:
        reply = _send(services, video, options, state)
    except CommandError as error:
        if not (is_old and error.is_refusal):
            raise
        # The interrupted upload cannot be resumed: its job has expired or was deleted.
        states.delete(video.path, *key)
        state, _ = states.load_or_create(video.path, *key, create_session=create_session)
        reply = _send(services, video, options, state)
    states.delete(video.path, *key)
    console.print_aside(f"{reply.message} (job {reply.job_id}).")
    return reply.job_id


def _send(services: Services, video: Video, options: AnalysisOptions, state: ResumeState) -> CompleteUploadResponse:
    request = InitiateUploadRequest(
        session_id=state.session_id,
        sample_fps=options.sample_fps,
        include_frames=options.include_frames,
        anonymous=options.anonymous,
        content_type=video.content_type,
        content_length=video.content_length,
        sha256=video.sha256,
        request_id=state.request_id,
        athlete_box=_athlete_box(options.athlete_box),
        capture_fps=options.capture_fps,
    )
    with console.show_progress("Uploading") as progress, services.translated():
        return services.upload(video.path, request, progress, console.print_line)


def _session_request(video: Video, options: AnalysisOptions) -> CreateSessionRequest:
    # The file's name often contains the player's name.
    title = "Anonymous" if options.anonymous else options.title or one_line(video.path.stem)
    return CreateSessionRequest(
        title=title[:LONGEST_TITLE],
        player_ids=options.players,
        discipline=_discipline(options.discipline),
        camera_view=CameraView.Value(f"CAMERA_VIEW_{options.camera.upper() or 'UNSPECIFIED'}"),
    )


def _discipline(name: str) -> "Discipline.ValueType":
    return Discipline.Value(f"DISCIPLINE_{name.upper()}")


def _athlete_box(sides: tuple[float, float, float, float] | None) -> AthleteBox | None:
    return AthleteBox(left=sides[0], top=sides[1], width=sides[2], height=sides[3]) if sides else None


def follow(services: Services, job_id: str) -> Job:
    """Shows every stage of a job until it is final. Raises CommandError."""
    with console.show_stages() as show_stage:
        for job in watch(services, job_id):
            show_stage(job)
    return job


def watch(services: Services, job_id: str) -> Iterator[Job]:
    """Yields the job now and after every change, until it is final. Reconnects when `jobs` restarts.

    Raises CommandError for a rejection, or when `jobs` stays unavailable.
    """
    try:
        yield from services.watch(
            job_id, patience_seconds=MOST_UNAVAILABLE_SECONDS, reconnecting=services.check_laptop_is_up
        )
    except Unavailable as error:
        sentence = f"`jobs` is unavailable. The analysis continues: run `crease report {job_id}` later."
        raise CommandError(sentence, UNAVAILABLE) from error
    except CreaseError as error:
        raise client.to_command_error(error) from error
