"""One pod's work against fakes of `jobs`, `upload` and S3 that simulate failures."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from crease.analysis.v1.launch_pb2 import Ending, StartLaunchResponse
from crease.jobs.v1.job_pb2 import Job, Stage
from crease.jobs.v1.player_pb2 import Player
from crease.jobs.v1.session_pb2 import CameraView, Session
from services.analyzer.errors import BadInput, ModelFault
from services.analyzer.settings import WorkerSettings
from services.analyzer.worker import worker
from services.analyzer.worker.worker import run_launch
from services.naming import LANDMARKS
from testing.data.videos import BATTER, ROOT, needs_model
from testing.fakes.analyzer_peers import TOKEN, Services, serving

RESULTS: dict[str, Any] = {"pose": {"pose_summary": {}, "frames": [{}]}, "metrics": {}, "findings": {}, "report": {}}
DENIED = grpc.StatusCode.PERMISSION_DENIED
AWAY = grpc.StatusCode.UNAVAILABLE
STAGES = {"quick": Stage.STAGE_QUICK, "deep": Stage.STAGE_DEEP}


class Scripted:
    """An analysis that reports half of each stage until a condition holds, then writes one file or fails."""

    def __init__(self, until: Callable[[str], bool] = lambda _: True, fault: Exception | None = None) -> None:
        self.until, self.fault = until, fault
        self.stages: list[str] = []
        self.read = b""

    def begin(self, video: Path, started: StartLaunchResponse, settings: WorkerSettings) -> Any:
        self.read = video.read_bytes()
        landmarks = video.with_name(LANDMARKS)
        self.landmarks = landmarks.read_bytes() if landmarks.exists() else None
        self.folder = video.parent
        return self

    def quick(self, out: Path, progress: Any, *, film: bool = True) -> dict[str, Any]:
        self.quick_film = film
        return self._stage("quick", out, progress)

    def deep(self, out: Path, progress: Any, publish: Any) -> dict[str, Any]:
        results = self._stage("deep", out, progress)
        publish(results)
        (out / "overlay.mp4").write_text("a film")
        return results

    def _stage(self, name: str, out: Path, progress: Any) -> dict[str, Any]:
        self.stages.append(name)
        while not self.until(name):
            progress(0.5)
            time.sleep(0.01)
        if self.fault:
            raise self.fault
        (out / "report.html").write_text(f"<p>{name}")
        return RESULTS


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Restore the SIGTERM handler that the worker replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def run(services: Services, token_file: Path, analysis: Scripted, **settings: Any) -> int:
    with serving(services):
        return run_launch("job-1", 2, _settings(services, token_file, **settings), analysis.begin)


def _settings(services: Services, token_file: Path, **more: Any) -> WorkerSettings:
    return WorkerSettings(
        jobs_endpoint=services.jobs_endpoint,
        upload_endpoint=services.jobs_endpoint,
        token_file=token_file,
        **{"start_patience_seconds": 1.0, "transfer_patience_seconds": 1.0} | more,
    )


def test_both_stages_are_analysed_stored_and_published_in_order(token_file: Path) -> None:
    """The pinned video is read once. A stage's files are in S3 before its result is submitted. Frames stay in S3."""
    services, analysis = Services(video=b"the film"), Scripted()
    assert run(services, token_file, analysis) == 0
    assert analysis.read == b"the film"
    assert analysis.stages == ["quick", "deep"]
    assert not analysis.quick_film
    assert services.stored == {
        "STAGE_QUICK/report.html": b"<p>quick",
        "STAGE_DEEP/report.html": b"<p>deep",
        "STAGE_DEEP/overlay.mp4": b"a film",
    }
    submitted = services.called("SubmitResult")
    assert [request.stage for request in submitted] == [Stage.STAGE_QUICK, Stage.STAGE_DEEP, Stage.STAGE_DEEP]
    assert set(submitted[0].results.keys()) == {"pose", "metrics", "findings", "report"}
    assert list(submitted[0].results["pose"].keys()) == ["pose_summary"]
    assert [(a.name, a.content_length) for a in submitted[0].artifacts] == [("report.html", 8)]
    assert not analysis.folder.exists()


def test_the_deep_result_is_published_before_the_film_and_its_files_are_stored_once(token_file: Path) -> None:
    """First what a coach reads, then everything; only the last call completes the job."""
    services = Services(stage=Stage.STAGE_DEEP)
    assert run(services, token_file, Scripted()) == 0
    early, last = services.called("SubmitResult")
    assert ([file.name for file in early.artifacts], early.more_files) == (["report.html"], True)
    assert ([file.name for file in last.artifacts], last.more_files) == (["overlay.mp4", "report.html"], False)
    signed = [file.name for request in services.called("SignLaunch") for file in request.artifacts]
    assert signed == ["report.html", "overlay.mp4"]


@pytest.mark.parametrize(("answer", "given"), [((200, b"kept"), b"kept"), ((404, b""), None)])
def test_a_reanalysis_gets_the_landmarks_that_its_source_kept(
    token_file: Path, answer: tuple[int, bytes], given: bytes | None
) -> None:
    """Beside the video; without them the analysis estimates all frames, and the job does not fail."""
    services, analysis = Services(source_job_id="job-0", landmarks=[answer]), Scripted()
    assert run(services, token_file, analysis) == 0
    assert analysis.landmarks == given


def test_a_relaunch_resumes_at_deep(token_file: Path) -> None:
    """If the quick result is published already, only the deep stage runs."""
    analysis = Scripted()
    assert run(Services(stage=Stage.STAGE_DEEP), token_file, analysis) == 0
    assert analysis.stages == ["deep"]


def test_without_deep_the_quick_result_is_the_end(token_file: Path) -> None:
    """Only the quick stage runs, and it makes the film."""
    services, analysis = Services(deep_enabled=False), Scripted()
    assert run(services, token_file, analysis) == 0
    assert analysis.stages == ["quick"]
    assert analysis.quick_film


def test_heartbeats_say_stage_and_progress_all_along(token_file: Path) -> None:
    """A heartbeat every third of the lease, and one at once when the deep stage begins."""
    services = Services(lease_seconds=0.3)

    def half() -> set[int]:
        """The stages of which a heartbeat said that half is done."""
        return {b.stage for b in services.called("Heartbeat") if 0.4 < b.progress < 0.6}

    assert run(services, token_file, Scripted(until=lambda stage: STAGES[stage] in half())) == 0
    beats = services.called("Heartbeat")
    assert [b.stage for b in beats] == sorted(b.stage for b in beats)
    assert half() == {*STAGES.values()}
    assert all((b.job_id, b.launch_no) == ("job-1", 2) for b in beats)


@pytest.mark.parametrize("code", [DENIED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND])
def test_a_launch_that_is_not_ours_is_left_alone(token_file: Path, code: grpc.StatusCode) -> None:
    """A rejected StartLaunch gives exit status 75, and the pod makes no other call."""
    services, analysis = Services(refusals={"StartLaunch": code}), Scripted()
    assert run(services, token_file, analysis) == 75
    assert analysis.stages == []
    assert [name for name, _ in services.calls] == ["StartLaunch"]


def test_a_lease_lost_in_the_middle_stops_the_work_and_publishes_nothing(token_file: Path) -> None:
    """The analysis ends at its next progress report after the rejected heartbeat."""
    services = Services(lease_seconds=0.3, refusals={"Heartbeat": DENIED})
    assert run(services, token_file, Scripted(until=lambda _: False)) == 75
    assert services.called("SubmitResult") == services.called("FailLaunch") == []
    assert services.stored == {}


def test_services_that_come_back_lose_nothing(token_file: Path) -> None:
    """Each call is retried until it is answered, and the video is analysed once."""
    faults = {name: [AWAY, AWAY] for name in ("StartLaunch", "SignLaunch", "Heartbeat", "SubmitResult")}
    services, analysis = Services(faults=faults, lease_seconds=10), Scripted()
    assert run(services, token_file, analysis, start_patience_seconds=10, transfer_patience_seconds=10) == 0
    assert analysis.stages == ["quick", "deep"]


def test_a_result_that_cannot_be_committed_is_offered_until_the_lease_ends(token_file: Path) -> None:
    """An unavailable service gives exit status 69, and the analysis is not repeated."""
    services, analysis = Services(refusals={"SubmitResult": AWAY, "Heartbeat": AWAY}, lease_seconds=3), Scripted()
    assert run(services, token_file, analysis) == 69
    assert analysis.stages == ["quick"]
    assert len(services.called("SubmitResult")) >= 2
    assert len({request.SerializeToString(deterministic=True) for request in services.called("SubmitResult")}) == 1


def test_no_services_at_all_is_69(token_file: Path) -> None:
    """The configured port refuses connections."""
    services = Services(jobs_endpoint="127.0.0.1:9")
    assert run_launch("job-1", 2, _settings(services, token_file), Scripted().begin) == 69


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (412, "412 Precondition Failed")]
)
def test_a_video_that_s3_refuses_fails_the_job_in_the_contract_s_words(
    token_file: Path, status: int, words: str
) -> None:
    """A missing, forbidden or replaced object is definite: exit status 65, no retry."""
    services = Services(get=[(status, b"")])
    assert run(services, token_file, Scripted()) == 65
    (request,) = services.called("FailLaunch")
    assert request.error_message == f"Failed to download video from S3: {words}"
    assert (request.ending, request.failure_code) == (Ending.ENDING_BAD_INPUT, "DOWNLOAD_FAILED")


def test_a_passing_fault_of_s3_is_tried_again_with_a_fresh_signature(token_file: Path) -> None:
    """Transient errors of GET and PUT are retried with a new signature each time."""
    services = Services(get=[(503, b""), (429, b"")], put=[(500, b"")], deep_enabled=False)
    assert run(services, token_file, Scripted(), transfer_patience_seconds=10) == 0
    assert len(services.called("SignLaunch")) == 3 + 2
    assert list(services.stored) == ["STAGE_QUICK/report.html"]


@pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (403, "RequestTimeTooSkewed"), (409, "")])
def test_a_transient_error_code_of_s3_is_tried_again_whatever_its_status(
    token_file: Path, status: int, code: str
) -> None:
    """A pod whose clock is wrong, or whose line stalled, must not fail the job for its video."""
    answer = (status, f"<Error><Code>{code}</Code></Error>".encode())
    services = Services(get=[answer], put=[answer], deep_enabled=False)
    assert run(services, token_file, Scripted(), transfer_patience_seconds=10) == 0
    assert services.called("FailLaunch") == []


def test_an_artifact_whose_answer_was_lost_is_not_an_error(token_file: Path) -> None:
    """With If-None-Match, S3 answers 412 to the second attempt of a PUT that succeeded."""
    services = Services(put=[(500, b""), (412, b"")], deep_enabled=False)
    assert run(services, token_file, Scripted(), transfer_patience_seconds=10) == 0


def test_s3_that_stays_away_is_69_and_fails_no_job(token_file: Path) -> None:
    """The video is not at fault, so the job can be launched again."""
    services = Services(get=[(503, b"")] * 99)
    assert run(services, token_file, Scripted()) == 69
    assert services.called("FailLaunch") == []


def test_a_video_longer_or_shorter_than_was_uploaded_is_not_analysed(token_file: Path) -> None:
    """A longer object is definite; a shorter one may be a broken connection and is retried."""
    longer = Services(video=b"0123456789", content_length=5)
    assert run(longer, token_file, analysis := Scripted()) == 65
    shorter = Services(video=b"0123456789", content_length=11)
    assert run(shorter, token_file, analysis) == 69
    assert analysis.stages == []


def test_a_video_over_the_limit_is_not_even_fetched(token_file: Path) -> None:
    """The job states the size, so no URL is requested."""
    services = Services(video=b"0123456789")
    assert run(services, token_file, Scripted(), max_video_bytes=9) == 65
    assert services.called("FailLaunch")[0].failure_code == "FILE_TOO_LARGE"
    assert services.called("SignLaunch") == []


@pytest.mark.parametrize(
    ("fault", "ending", "code", "status"),
    [
        (BadInput("NOT_A_VIDEO", "x is not a video"), Ending.ENDING_BAD_INPUT, "NOT_A_VIDEO", 65),
        (ModelFault("none"), Ending.ENDING_IMAGE, "IMAGE", 70),
        (ZeroDivisionError("division by zero"), Ending.ENDING_UNKNOWN, "UNEXPECTED", 70),
    ],
)
def test_every_failure_has_its_class_code_and_exit_status(
    token_file: Path, fault: Exception, ending: int, code: str, status: int
) -> None:
    """A fault of the video is 65 and final; a fault of the image or of our code is 70."""
    services = Services()
    assert run(services, token_file, Scripted(fault=fault)) == status
    (request,) = services.called("FailLaunch")
    assert (request.ending, request.failure_code) == (ending, code)
    assert request.error_message


def test_a_fault_that_sigterm_caused_is_no_failure(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library turns the SystemExit that interrupts its import into an ImportError."""

    class Interrupted(Scripted):
        def _stage(self, name: str, out: Path, progress: Any) -> dict[str, Any]:
            with pytest.raises(SystemExit):
                signal.raise_signal(signal.SIGTERM)
            raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr(worker, "_stopping", threading.Event())
    monkeypatch.setattr(worker, "_exit_now", lambda: None)
    services = Services()
    assert run(services, token_file, Interrupted()) == 143
    assert services.called("FailLaunch") == []


@needs_model
@pytest.mark.slow
def test_a_pod_analyses_the_sample_from_start_to_end(tmp_path: Path, token_file: Path) -> None:
    """The program as a pod starts it, on the real sample with the real model."""
    services = Services(video=BATTER.read_bytes(), lease_seconds=30)
    with serving(services), _pod(services, token_file, tmp_path) as pod:
        assert pod.wait(timeout=90) == 0
    names = {f"{stage}/{name}" for stage in ("STAGE_QUICK", "STAGE_DEEP") for name in _FILES}
    # Deep follows, so quick makes no film.
    assert set(services.stored) == names - {"STAGE_QUICK/overlay.mp4"}
    last = services.called("SubmitResult")[-1]
    assert last.results["metrics"]["head_stability_score"]["value"] > 0
    assert last.results["pose"]["pose_summary"]["total_frames"] == 105


@needs_model
def test_sigterm_ends_a_pod_and_publishes_nothing(tmp_path: Path, token_file: Path) -> None:
    """During the work SIGTERM gives exit status 143: no result, no failure report, no files."""
    services = Services(video=BATTER.read_bytes(), lease_seconds=0.3)
    with serving(services), _pod(services, token_file, tmp_path) as pod:
        _wait_for(lambda: services.called("SignLaunch"))
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(timeout=60) == 143
    assert services.called("SubmitResult") == services.called("FailLaunch") == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_missing_setting_names_itself(tmp_path: Path) -> None:
    """Exit status 78 and the variable's name."""
    ran = subprocess.run(
        [sys.executable, "-m", "services.analyzer", "--job-id", "j", "--launch", "1"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("CREASE_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 78
    assert "CREASE_TOKEN_FILE" in ran.stderr


_FILES = ("results.json", "report.html", "frames.parquet", "overlay.mp4", "landmarks.npz", "thumbnail.jpg")


@contextmanager
def _pod(services: Services, token_file: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "scratch").mkdir()
    environment = os.environ | services.environment(token_file) | {"TMPDIR": str(tmp_path / "scratch")}
    command = [sys.executable, "-m", "services.analyzer", "--job-id", "job-1", "--launch", "2"]
    pod = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield pod
    finally:
        pod.kill()
        pod.wait()


def _wait_for(happened: Any) -> None:
    patience = threading.Event()
    for _ in range(600):
        if happened():
            return
        patience.wait(0.05)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(
    ("player_ids", "height_cm", "anonymous", "expected"),
    [
        (["id-1"], 171, False, 171),
        (["id-1"], 0, False, None),
        (["id-1", "Bo"], 171, False, None),
        (["id-1"], 171, True, None),
    ],
)
def test_the_report_has_the_height_of_its_only_player(
    player_ids: list[str], height_cm: int, anonymous: bool, expected: float | None
) -> None:
    """Of two players nothing says who is in the film; an anonymous report describes nobody."""
    session = Session(player_ids=player_ids, players=[Player(player_id="id-1", height_cm=height_cm)])
    about = worker.about(StartLaunchResponse(job=Job(job_id="j-1", anonymous=anonymous), session=session), "bowling")
    assert about.height_cm == expected


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(
    ("player_ids", "age", "expected"),
    [(["id-1"], 17, True), (["id-1"], 18, True), (["id-1"], 19, False), (["id-1", "Bo"], 12, False)],
)
def test_the_age_of_the_only_player_bounds_the_findings(
    player_ids: list[str], age: int, expected: bool, anonymous: bool
) -> None:
    """A player of 18 this year may still be 17. The copy without names has the findings of the report with them."""
    born = datetime.now(UTC).year - age
    session = Session(player_ids=player_ids, players=[Player(player_id="id-1", birth_year=born)])
    job = Job(job_id="j-1", anonymous=anonymous)
    assert worker.about(StartLaunchResponse(job=job, session=session), "bowling").under_18 is expected


def test_an_unknown_year_of_birth_bounds_nothing() -> None:
    """Neither a player without one, nor a session without a player."""
    for session in (Session(player_ids=["id-1"], players=[Player(player_id="id-1")]), Session(player_ids=["Bo"])):
        assert not worker.about(StartLaunchResponse(session=session), "bowling").under_18


def test_the_report_of_an_anonymous_job_has_no_text_that_people_wrote() -> None:
    """Title, players and notes may contain names and are left out; discipline and camera view remain."""
    session = Session(
        title="Asha's nets",
        player_ids=["id-1", "Bo"],
        players=[Player(player_id="id-1", name="Asha")],
        notes="with Ravi",
        camera_view=CameraView.CAMERA_VIEW_SIDE,
    )
    for anonymous in (False, True):
        about = worker.about(StartLaunchResponse(job=Job(anonymous=anonymous), session=session), "bowling")
        named = ("", (), "") if anonymous else ("Asha's nets", ("Asha", "Bo"), "with Ravi")
        assert (about.title, about.players, about.notes) == named
        assert (about.discipline, about.camera_view) == ("bowling", "side")
