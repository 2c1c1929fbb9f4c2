"""Whole analyses of whole videos: the sample with its known truth, and real videos if they are installed."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pyarrow.parquet
import pytest

from services.analyzer.artifacts.results_json import row_copy
from services.analyzer.biomechanics.events import EventName, GivenEvent
from services.analyzer.cpu_time import STAGES
from services.analyzer.errors import BadInput, ModelFault
from services.analyzer.pipeline import Analysis, AnalysisOptions
from services.analyzer.pose.landmarks import PER_FRAME
from services.analyzer.pose.tracking import Box
from services.analyzer.report.metadata import Metadata
from services.analyzer.settings import Accelerator, Limits, Settings
from services.analyzer.video.frames import Losses, pictures
from services.analyzer.video.probe import probe
from services.analyzer.video.sampling import on_grid
from services.rules.limits import MAX_RESULTS_BYTES, results_bytes
from testing.data.clips import even, write_clip
from testing.data.videos import BATTER, ROOT, corpus, needs_model, truly, truth

pytestmark = needs_model
FILES = {"results.json", "report.html", "frames.parquet", "overlay.mp4", "landmarks.npz", "thumbnail.jpg"}
QUICK_FILES = FILES - {"overlay.mp4"}
SUMMARY = {
    "total_frames", "sampled_frames", "frames_with_pose", "detection_rate_percent", "video_fps", "model", "width",
    "height", "rotation_degrees", "duration_seconds", "damaged", "people_in_view", "front_leg", "throwing_arm",
    "reliability", "events",
}  # fmt: skip
METRICS = {
    "head_stability_score", "balance_drift_score", "front_knee_brace_score", "hip_shoulder_separation_timing",
    "elbow_drop_score",
}  # fmt: skip
METRIC = {"value", "unit", "score", "confidence", "plane", "frames_used", "evidence", "absent_reason"}


@dataclass
class Done:
    """One finished stage: its results, its folder and the progress that it reported.

    early: the files at the early publication, and the results without their run; None without one.
    """

    results: dict[str, Any]
    folder: Path
    reported: list[float]
    early: tuple[set[str], dict[str, Any]] | None = None

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.results["pose"]["pose_summary"])

    @property
    def events(self) -> dict[str, float]:
        return {event["name"]: event["time_seconds"] for event in self.summary["events"]}

    @property
    def values(self) -> dict[str, float | None]:
        return {name: metric["value"] for name, metric in self.results["metrics"].items()}


def analysis(video: Path, discipline: str = "batting", sample_fps: int = 10, include_frames: bool = False) -> Analysis:
    order = AnalysisOptions(discipline, sample_fps, include_frames)
    return Analysis(video, order, Settings(accelerator=Accelerator.cpu), Metadata())


def deep(video: Path, folder: Path, discipline: str = "bowling", sample_fps: int = 10) -> Done:
    reported: list[float] = []
    return Done(analysis(video, discipline, sample_fps).deep(folder, reported.append), folder, reported)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Done]:
    """The quick and then the deep stage of the sample, as a pod runs them."""
    work = analysis(BATTER, include_frames=True)
    folders = [tmp_path_factory.mktemp(name) for name in ("quick", "deep")]
    quick_progress, deep_progress = list[float](), list[float]()
    quick = work.quick(folders[0], quick_progress.append, film=False)
    early = []

    def publish(results: dict[str, Any]) -> None:
        early.append(({file.name for file in folders[1].iterdir()}, without_run(results)))

    deep = work.deep(folders[1], deep_progress.append, publish)
    [published] = early
    return Done(quick, folders[0], quick_progress), Done(deep, folders[1], deep_progress, published)


def test_each_stage_leaves_its_files_in_the_contract_s_shape(both: tuple[Done, Done]) -> None:
    """Every required field is present, and results.json holds the returned results. A quick stage writes no film."""
    for stage, files in zip(both, (QUICK_FILES, FILES), strict=True):
        assert {file.name for file in stage.folder.iterdir()} == files
        assert set(stage.results) == {"pose", "metrics", "findings", "report"}
        assert set(stage.summary) >= SUMMARY
        assert set(stage.results["metrics"]) == METRICS
        assert all(set(metric) == METRIC for metric in stage.results["metrics"].values())
        text = (stage.folder / "results.json").read_text()
        assert json.loads(text) == stage.results
        assert "NaN" not in text


def test_all_that_a_coach_reads_is_published_before_the_film_is_encoded(both: tuple[Done, Done]) -> None:
    """The results are those of the end, without the list of frames; the report lies beside them."""
    assert both[1].early is not None
    files, results = both[1].early
    assert files == FILES - {"overlay.mp4", "results.json"}
    final = without_run(both[1].results)
    del final["pose"]["frames"]
    assert results == final


def test_without_a_finding_the_thumbnail_is_the_middle_frame_with_the_athlete(both: tuple[Done, Done]) -> None:
    """Upright and 320 pixels wide: of all frames of the video, its middle is most like it; the athlete is in all."""
    done = both[1]
    assert not done.results["findings"]["findings"]
    small = cv2.imread(str(done.folder / "thumbnail.jpg"))
    assert small is not None
    height, width = small.shape[:2]
    assert width == 320
    assert abs(height / width - done.summary["height"] / done.summary["width"]) < 0.01
    video = probe(BATTER, Limits())
    differences = {}
    for picture in pictures(video, np.arange(len(video.times)), Limits(), Losses(), 720):
        frame = cv2.resize(picture.rgb[..., ::-1], (width, height), interpolation=cv2.INTER_AREA)
        differences[picture.time_seconds] = float(np.abs(frame.astype(float) - small).mean())
    assert abs(min(differences, key=differences.__getitem__) - done.summary["duration_seconds"] / 2) < 0.1


def again(landmarks: Path, **options: Any) -> Analysis:
    """An analysis of the sample with the landmarks that an earlier one kept."""
    settings = Settings(accelerator=Accelerator.cpu)
    return Analysis(BATTER, AnalysisOptions(**options), settings, Metadata(), landmarks)


def without_run(results: dict[str, Any]) -> dict[str, Any]:
    """A copy of the results without the facts of their run."""
    summary = {key: fact for key, fact in results["pose"]["pose_summary"].items() if key != "run"}
    return {**results, "pose": {**results["pose"], "pose_summary": summary}}


def test_kept_landmarks_give_the_same_numbers_without_the_pose_model(
    both: tuple[Done, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stages; only the run itself differs."""
    work = again(both[1].folder / "landmarks.npz", include_frames=True)
    monkeypatch.setattr(work.landmarkers, "create", lambda *_: pytest.fail("a frame was estimated again"))
    for stage, name in zip(both, ("quick", "deep"), strict=True):
        (tmp_path / name).mkdir()
        results = getattr(work, name)(tmp_path / name, lambda _: None)
        assert without_run(results) == without_run(stage.results)


def test_a_moved_contact_is_measured_anew_without_the_pose_model(
    both: tuple[Done, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of a second earlier: the moment is the client's, the front knee is that of the new window."""
    given = GivenEvent(EventName.FRONT_FOOT_CONTACT, both[1].events["front_foot_contact"] - 0.1)
    work = again(both[1].folder / "landmarks.npz", given=(given,))
    monkeypatch.setattr(work.landmarkers, "create", lambda *_: pytest.fail("a frame was estimated again"))
    moved = Done(work.deep(tmp_path, lambda _: None), tmp_path, [])
    assert moved.events["front_foot_contact"] == pytest.approx(given.time_seconds, abs=1e-3)
    assert moved.events["fastest_hands"] == both[1].events["fastest_hands"]
    assert moved.values["front_knee_brace_score"] != both[1].values["front_knee_brace_score"]
    assert "given, not found" in " ".join(moved.summary["notes"]).lower()
    assert "front foot down at 1.28 s (given)" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("changed", [{"sample_fps": 20}, {"athlete_box": Box(0, 0, 1, 1)}, {"capture_fps": 60}])
def test_landmarks_of_other_frames_or_another_player_are_not_taken(
    both: tuple[Done, Done], changed: dict[str, Any]
) -> None:
    """The pass would see other frames, or follow someone else."""
    kept = both[1].folder / "landmarks.npz"
    assert again(kept)._kept is not None
    assert again(kept, discipline="bowling")._kept is not None
    assert again(kept, **changed)._kept is None


def test_landmarks_that_cannot_be_read_are_estimated_again(tmp_path: Path) -> None:
    """A broken file fails no job."""
    broken = tmp_path / "landmarks.npz"
    broken.write_bytes(b"PK\x03\x04 broken")
    assert again(broken)._kept is None


def test_a_moment_after_the_end_is_refused_by_name() -> None:
    """The sentence has the moment and the film's length."""
    with pytest.raises(BadInput, match=r"the given fastest_hands is at 9\.00 s; the video ends at 3\.50 s") as caught:
        again(Path("none"), given=(GivenEvent(EventName.FASTEST_HANDS, 9.0),))
    assert caught.value.code == "EVENT_AFTER_END"


SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "results.schema.json").read_text())


def undescribed(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Keys of a real result that the schema does not describe."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        schema = schema["oneOf"][-1]
    if isinstance(value, list):
        return [miss for item in value for miss in undescribed(item, schema["items"], f"{path}[]")]
    if not isinstance(value, dict):
        return []
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    found = []
    for key, item in value.items():
        inner = known.get(key, others)
        found += [f"{path}.{key}"] if inner is None else undescribed(item, inner, f"{path}.{key}")
    return found


def assert_as_published(results: dict[str, Any]) -> None:
    """Assert that the results match docs/results.schema.json and have no key that it does not describe."""
    jsonschema.Draft202012Validator(SCHEMA).validate(results)
    assert undescribed(results, SCHEMA) == []


def test_results_are_what_the_published_schema_says(both: tuple[Done, Done]) -> None:
    """File and row copy of both stages match; a wrong result does not."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for stage in both:
        assert_as_published(json.loads((stage.folder / "results.json").read_text()))
        assert_as_published(row_copy(stage.results))
    broken = json.loads(json.dumps(both[1].results))
    broken["metrics"]["head_stability_score"]["value"] = None
    with pytest.raises(jsonschema.ValidationError):
        assert_as_published(broken)
    assert undescribed({"pose": {"pose_summary": {"new": 1}}}, SCHEMA) == [".pose.pose_summary.new"]


def test_a_number_or_its_reason_but_never_both(both: tuple[Done, Done]) -> None:
    """Value and score are null exactly if absent_reason is set."""
    for stage in both:
        for metric in stage.results["metrics"].values():
            absent = metric["absent_reason"] is not None
            assert (metric["value"] is None) == (metric["score"] is None) == absent


def test_the_row_s_copy_has_no_frames_and_is_small(both: tuple[Done, Done]) -> None:
    """The file lists every sampled frame; the row lists none and is under 64 KB."""
    row = row_copy(both[1].results)
    assert len(both[1].results["pose"]["frames"]) == 35
    assert "frames" not in row["pose"]
    assert results_bytes(row) <= MAX_RESULTS_BYTES


def test_progress_grows_from_nothing_to_all(both: tuple[Done, Done]) -> None:
    """Progress grows with every frame and never decreases."""
    for stage in both:
        assert stage.reported == sorted(stage.reported)
        assert len(stage.reported) > 30
        assert 0 <= stage.reported[0] < 0.85
        assert stage.reported[-1] > 0.95


def test_the_deep_stage_reuses_the_quick_stage_s_poses(both: tuple[Done, Done]) -> None:
    """For a short clip at 10 fps both stages have the same first pass, so the deep stage adds only the close-up."""
    assert both[0].summary["run"]["provisional"]
    assert "pose" not in both[1].summary["run"]["seconds"]
    tables = [pyarrow.parquet.read_table(stage.folder / "frames.parquet") for stage in both]
    assert tables[0].equals(tables[1])


def test_the_summary_describes_the_sample_and_the_run(both: tuple[Done, Done]) -> None:
    """The summary has the rendered frames, rate and size, and the model, accelerator, versions and memory."""
    summary = both[1].summary
    known = {
        "total_frames": 105,
        "sampled_frames": 35,
        "width": 960,
        "height": 540,
        "damaged": False,
        "people_in_view": 1,
    }
    assert {key: summary[key] for key in known} == known
    assert summary["video_fps"] == pytest.approx(30)
    assert summary["duration_seconds"] == pytest.approx(3.5, abs=0.01)
    assert summary["run"]["accelerator"] == "cpu"
    assert set(summary["run"]["cpu_seconds"]) <= set(STAGES)
    assert summary["run"]["versions"]["mediapipe"]
    assert summary["run"]["peak_memory_bytes"] > 2**20


def test_the_batter_s_true_moments_and_angles_are_found(both: tuple[Done, Done]) -> None:
    """Contact within 0.05 s; front knee within 3.5 degrees on average; left is the front leg of a right-hander."""
    stage = both[1]
    contact = truth()["events"]["front_foot_contact_time_s"]
    assert stage.events["front_foot_contact"] == pytest.approx(contact, abs=0.05)
    assert stage.summary["front_leg"] == truth()["front_leg"] == "left"
    table = pyarrow.parquet.read_table(stage.folder / "frames.parquet")
    at = np.round(table["time_seconds"].to_numpy() * 30).astype(int)
    off = np.abs(table["left_knee_deg"].to_numpy() - truly("left_knee_angle_image_deg")[at])
    assert off.mean() < 3.5


def test_every_picture_of_an_event_shows_the_frame_nearest_to_it(both: tuple[Done, Done]) -> None:
    """The film, its label and the report agree."""
    every_frame = probe(BATTER, Limits()).times
    film = probe(both[1].folder / "overlay.mp4", Limits()).times
    for done in both:
        assert done.summary["events"]
        page = (done.folder / "report.html").read_text(encoding="utf-8")
        frames = dict(re.findall(r'data-time="([\d.]+)" data-frame-time="([\d.]+)"', page))
        for event in done.summary["events"]:
            nearest = every_frame[np.argmin(np.abs(every_frame - event["time_seconds"]))]
            assert event["frame_seconds"] == pytest.approx(nearest, abs=6e-4)
            assert np.abs(film - nearest).min() < 1e-3
            assert float(frames.get(f"{event['time_seconds']:.3f}", nearest)) == pytest.approx(nearest, abs=6e-4)


def test_the_overlay_shows_every_frame(both: tuple[Done, Done]) -> None:
    """The overlay has all 105 frames at their true times."""
    full = probe(both[1].folder / "overlay.mp4", Limits())
    assert full.times == pytest.approx(np.arange(105) / 30, abs=1e-3)


def test_the_report_carries_its_pictures_and_needs_nothing_else(both: tuple[Done, Done]) -> None:
    """The report is one file with its key frames inside, and has no address to fetch from."""
    page = (both[1].folder / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 2
    assert 'src="http' not in page
    assert 'href="http' not in page


@pytest.mark.slow
def test_the_sampling_rate_does_not_change_the_numbers(both: tuple[Done, Done], tmp_path: Path) -> None:
    """Metrics come from the close-up at every frame: 25 fps gives the values of 10 fps, within 5 %."""
    other = deep(BATTER, tmp_path, "batting", sample_fps=25)
    assert other.summary["sampled_frames"] == pytest.approx(87, abs=1)
    for name, value in both[1].values.items():
        assert (value is None) == (other.values[name] is None)
        if value is not None:
            assert other.values[name] == pytest.approx(value, rel=0.05)


@pytest.mark.slow
def test_the_same_video_gives_the_same_landmarks_again(both: tuple[Done, Done], tmp_path: Path) -> None:
    """A second analysis gives the same digits in every frame."""
    analysis(BATTER).quick(tmp_path, lambda _: None)
    again, before = (pyarrow.parquet.read_table(at / "frames.parquet") for at in (tmp_path, both[0].folder))
    assert again.equals(before)


@pytest.mark.slow
@pytest.mark.parametrize("box", [None, Box(0.3, 0.2, 0.3, 0.7)])
def test_a_continued_pass_gives_the_poses_of_one_pass(box: Box | None) -> None:
    """The deep stage after quick gives the same digits, and decodes only the frames after quick's."""
    order, settings = AnalysisOptions(athlete_box=box), Settings(accelerator=Accelerator.cpu)
    passes = [Analysis(BATTER, order, settings, Metadata()).pose_passes for _ in range(3)]
    wanted, reported = on_grid(passes[0].video.times, 10)[:20], list[float]()
    first_part = passes[0].run_whole_clip(wanted[:8], lambda _: None, more=True)
    continued = passes[0].run_whole_clip(wanted, reported.append)
    assert len(reported) == 12
    for one, other in (
        (first_part, passes[1].run_whole_clip(wanted[:8], lambda _: None)),
        (continued, passes[2].run_whole_clip(wanted, lambda _: None)),
    ):
        for name in PER_FRAME:
            np.testing.assert_array_equal(getattr(one.whole, name), getattr(other.whole, name))
        assert replace(one, whole=other.whole, wanted=other.wanted) == other


def test_quick_samples_the_first_thirty_seconds_only(tmp_path: Path) -> None:
    """Of a 1 fps video of 40 s the first 31 frames are sampled, including the one at 30.0 s."""
    video = write_clip(tmp_path / "long.mp4", even(1, 40))
    reported: list[float] = []
    done = Done(analysis(video).quick(tmp_path, reported.append), tmp_path, reported)
    assert done.summary["total_frames"] == 40
    assert done.summary["sampled_frames"] == 31


def test_a_video_without_people_gives_no_number_and_a_finding(tmp_path: Path) -> None:
    """All values are null, one finding is about visibility, and the level is not high."""
    done = deep(write_clip(tmp_path / "field.mp4", even(30, 30)), tmp_path)
    assert done.summary["frames_with_pose"] == 0
    assert set(done.values.values()) == {None}
    assert [f["code"] for f in done.results["findings"]["findings"]] == ["INSUFFICIENT_POSE_VISIBILITY"]
    assert done.results["findings"]["overall_level"] != "high"
    assert_as_published(done.results)


def test_a_video_of_one_frame_is_analysed(tmp_path: Path) -> None:
    """The shortest possible video gives all files."""
    done = deep(write_clip(tmp_path / "one.mp4", [0.0]), tmp_path)
    assert done.summary["total_frames"] == 1


def test_without_a_model_nothing_begins(tmp_path: Path) -> None:
    """The image is at fault, not the video."""
    settings = Settings(mediapipe_pose_model_path=tmp_path / "none")
    with pytest.raises(ModelFault):
        Analysis(BATTER, AnalysisOptions(), settings, Metadata())


@pytest.mark.slow
def test_a_turned_video_gives_the_answers_of_the_upright_one(tmp_path: Path) -> None:
    """A video stored sideways with a tag has the same release."""
    upright = deep(corpus("bowling/bowl_01_540p.mp4"), tmp_path)
    turned = deep(corpus("hard/rot90_tag.mp4"), tmp_path)
    assert (turned.summary["width"], turned.summary["height"]) == (960, 540)
    assert turned.summary["rotation_degrees"] == 90
    assert turned.summary["detection_rate_percent"] == 100
    assert turned.events["release"] == pytest.approx(upright.events["release"], abs=0.034)


@pytest.mark.parametrize("name", ["hard/vfr_dropped.mp4", "hard/mirrored_left_arm.mp4"])
@pytest.mark.slow
def test_the_release_is_found_at_its_time_in_every_copy(name: str, tmp_path: Path) -> None:
    """Frame 25 of 29.97 fps, read by eye to one frame; two frames more for the losses of the copies."""
    done = deep(corpus(name), tmp_path)
    assert done.events["release"] == pytest.approx(25 * 1.001 / 30, abs=2.5 / 30)
    assert done.summary["throwing_arm"] == ("left" if "mirrored" in name else "right")


def test_a_truncated_file_is_refused_or_called_damaged(tmp_path: Path) -> None:
    """A short result never passes as the whole."""
    with pytest.raises(BadInput, match="truncated_file"):
        deep(corpus("hard/truncated_file.mp4"), tmp_path)


@pytest.mark.slow
def test_a_walker_in_vp9_has_gaps_and_not_zeros(tmp_path: Path) -> None:
    """The person enters late and leaves early: rows without her are NaN."""
    results = analysis(corpus("walk/walk_vp9.mp4"), "fielding").quick(tmp_path, lambda _: None)
    table = pyarrow.parquet.read_table(tmp_path / "frames.parquet")
    seen = table["detected"].to_numpy(zero_copy_only=False)
    assert 0 < seen.sum() < len(seen)
    assert np.isnan(table["nose_x"].to_numpy()[~seen]).all()
    assert results["pose"]["pose_summary"]["codec"] == "vp9"


def test_alone_bad_input_is_one_sentence_and_exit_status_65(tmp_path: Path) -> None:
    """The user sees no traceback."""
    path = tmp_path / "notes.mp4"
    path.write_text("not a video at all " * 100)
    ran = _alone("--video", str(path), "--out", str(tmp_path / "out"))
    assert ran.returncode == 65
    assert ran.stderr.strip() == "notes.mp4 is not a video that can be read"


@pytest.mark.slow
@pytest.mark.parametrize("is_long", [False, True])
def test_alone_a_film_ends_in_four_files_and_silence(is_long: bool, tmp_path: Path) -> None:
    """The contract's command prints nothing if there is no fault.

    Of a film over 30 s the quick stage leaves the pose model open for a deep one.
    """
    film = write_clip(tmp_path / "long.mp4", even(1, 40)) if is_long else BATTER
    ran = _alone("--video", str(film), "--out", str(tmp_path / "out"), "--quick")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES


def test_help_does_not_import_the_model() -> None:
    """--help is answered before any large library is imported."""
    ran = _alone("--help", flags=("-X", "importtime"))
    assert ran.returncode == 0
    assert not [line for line in ran.stderr.splitlines() if line.endswith(("| mediapipe", "| numpy", "| grpc"))]


def _alone(*arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "services.analyzer", *arguments]
    environment = os.environ | {"CREASE_ACCELERATOR": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
