"""Rows of the corpus' and the batter's tables that no other test checks: detections and joint positions.

Clips are posed once a process, by bench.accuracy.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from bench import accuracy
from bench.accuracy import BATTER, BOWLERS, Take, opened, posed_take
from bench.accuracy_claims import moment
from services.analyzer.arrays import Floats
from services.analyzer.artifacts.frames_parquet import ANGLES
from services.analyzer.biomechanics.kinematics import elbow_angle
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.registry import HIP_SHOULDER_TIMING
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.model import FilmCode
from services.analyzer.pose.landmarks import INDEX, Poses
from testing.data.videos import corpus, needs_model, truly, truth

pytestmark = [needs_model, pytest.mark.slow]


def every_frame(path: Path, discipline: str = "bowling") -> Poses:
    """The first pass over the whole clip at 30 frames a second."""
    return posed_take(Take(path, discipline, fps=30))[0]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("bowling/bowl_01_540p.mp4", 1.0),
        ("bowling/bowl_11_540p.mp4", 0.89),
        ("bowling/bowl_14_540p.mp4", 1.0),
        ("bowling/bowl_26_540p.mp4", 1.0),
        ("hard/lowlight_noise.mp4", 0.94),
    ],
)
def test_a_bowler_is_seen_in_so_much_of_a_clip(name: str, least: float) -> None:
    """In every frame, or a share of them in the dark and at a distance."""
    assert every_frame(corpus(name)).detected.mean() >= least


def test_a_bowler_who_comes_late_is_seen_from_then_on() -> None:
    """The field is empty for about twenty frames; the bowler is detected in each of the others."""
    seen = every_frame(corpus("bowling/bowl_21_540p.mp4")).detected
    assert 19 <= int(seen.argmax()) <= 23
    assert seen[seen.argmax() :].all()


@pytest.mark.parametrize("clip", BOWLERS)
def test_a_release_is_at_the_frame_that_was_read(clip: str) -> None:
    """Within the one frame that the eye cannot resolve, by the right arm; in 4K too, if present."""
    corpus(f"bowling/{clip}_540p.mp4")
    sizes = ["540p", "2160p"] if (accuracy.CORPUS / "bowling" / f"{clip}_2160p.mp4").exists() else ["540p"]
    for measured in (accuracy.bowling(f"{clip}_{size}") for size in sizes):
        assert moment(measured, "release") == pytest.approx(accuracy.release_seconds(clip), abs=1 / 29.97)
        assert measured.throwing_arm == "right"


@pytest.mark.parametrize("name", ["dark_undetectable", "no_person", "tiny_person_360p"])
def test_without_a_detection_no_number_is_given_and_the_report_has_the_reason(name: str) -> None:
    """Each number is absent with its reason; the one finding is about the film."""
    corpus(f"hard/{name}.mp4")
    measured = accuracy.hard(name)
    assert {(metric.value, bool(metric.absent_reason)) for metric in measured.metrics.values()} == {(None, True)}
    found = find(measured, "bowling").findings
    assert [finding.code for finding in found] == [FilmCode.INSUFFICIENT_POSE_VISIBILITY]


def test_a_golfer_on_a_phone_stands_upright_all_along() -> None:
    """A .mov rotated by 90 degrees, with sound and a variable rate: in every frame the head is on top."""
    path = corpus("golf/iphone_golf_rot_vfr.mov")
    film, poses = opened(path), posed_take(Take(path, "batting"))[0]
    assert (film.width, film.height, film.rotation_degrees, film.damage) == (720, 1280, 90, None)
    assert len(np.unique(np.diff(film.pts))) > 1
    levels = np.array([poses.point(name)[:, 1] for name in ("nose", "left_hip", "left_ankle")])
    assert (np.diff(levels, axis=0) > 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_elbow_of_a_balancing_man_moves_as_four_cameras_saw_it(side: str) -> None:
    """Its angle in the image correlates with the one in space."""
    path = corpus("pose2sim/cam01.mp4")
    lines = csv.DictReader((path.parent / "ref_angles3d_single.csv").read_text().splitlines())
    exact = np.array([float(line[f"elbow_{side[0]}_deg"] or "nan") for line in lines])
    poses = every_frame(path, "batting")
    at = np.round(poses.times * 60).astype(int)
    known = poses.detected & np.isfinite(exact[at])
    assert known.mean() > 0.9
    assert np.corrcoef(elbow_angle(poses, side)[known], exact[at][known])[0, 1] > 0.6


def joints(name: str) -> Floats:
    """(frames, 2) true pixels of a joint of the batter."""
    return np.array([frame["joints_2d_px"][name] for frame in truth()["frames"]], dtype=float)


def test_the_batter_is_seen_in_every_frame_and_his_legs_are_never_swapped() -> None:
    """Each knee and ankle is nearer to its own true place than to the other's."""
    poses = every_frame(BATTER, "batting")
    assert poses.detected.all()
    for part in ("knee", "ankle"):
        left, right = joints(f"left_{part}"), joints(f"right_{part}")
        found = poses.point(f"left_{part}"), poses.point(f"right_{part}")
        own = np.linalg.norm(found[0] - left, axis=1) + np.linalg.norm(found[1] - right, axis=1)
        other = np.linalg.norm(found[0] - right, axis=1) + np.linalg.norm(found[1] - left, axis=1)
        assert (own < other).all()


@pytest.mark.parametrize(("part", "pixels"), [("nose", 5), ("knee", 8), ("ankle", 8), ("hip", 16), ("shoulder", 15)])
def test_the_batter_s_joints_are_where_they_were_rendered(part: str, pixels: float) -> None:
    """On average within so many pixels of a body of 300."""
    poses = every_frame(BATTER, "batting")
    for name in [part] if part == "nose" else [f"left_{part}", f"right_{part}"]:
        assert np.linalg.norm(poses.point(name) - joints(name), axis=1).mean() < pixels


@pytest.mark.parametrize(("part", "degrees"), [("knee", (3, 7)), ("hip", (6, 6)), ("elbow", (20, 20))])
def test_the_batter_s_angles_are_within_the_model_s_error(part: str, degrees: tuple[float, float]) -> None:
    """Mean error in the image plane, of the front side and of the rear side."""
    poses = every_frame(BATTER, "batting")
    for side, most in zip(("left", "right"), degrees, strict=True):
        exact = truly(f"{side}_{part}_angle_image_deg")
        assert np.abs(ANGLES[part](poses, side) - exact).mean() < most


def test_the_batter_s_front_knee_in_space_is_right_after_contact() -> None:
    """From world landmarks, within five degrees on average; in the image plane the knee has another angle."""
    poses, after = every_frame(BATTER, "batting"), 42
    hip, knee, ankle = (poses.world[after:, INDEX[f"left_{part}"]] for part in ("hip", "knee", "ankle"))
    thigh, shin = hip - knee, ankle - knee
    cosine = (thigh * shin).sum(axis=1) / np.linalg.norm(thigh, axis=1) / np.linalg.norm(shin, axis=1)
    in_space, in_picture = truly("left_knee_angle_3d_deg")[after:], truly("left_knee_angle_image_deg")[after:]
    assert np.abs(np.degrees(np.arccos(cosine)) - in_space).mean() < 5
    assert np.abs(in_space - in_picture).mean() > 5


def test_the_batter_s_front_knee_is_braced_when_it_was() -> None:
    """The knee stays within a degree of its final angle, from within three frames of the true moment."""
    straight, held = ANGLES["knee"](every_frame(BATTER, "batting"), "left"), 75
    bent = np.flatnonzero(np.abs(straight[:held] - straight[held]) > 1)
    assert (bent[-1] + 1) / 30 == pytest.approx(truth()["events"]["front_knee_max_brace_time_s"], abs=0.1)


def test_the_lag_of_the_batter_s_shoulders_is_not_given() -> None:
    """The true lag is 0.12 s. One camera cannot resolve it, so neither line has an event."""
    true = truth()["events"]
    lag = true["shoulder_line_peak_yaw_speed_time_s"] - true["hip_line_peak_yaw_speed_time_s"]
    assert lag == pytest.approx(0.12)
    whole, closeups = posed_take(Take(BATTER, "batting"))
    measured = measure(whole, list(closeups), "batting")
    timing = measured.metrics[HIP_SHOULDER_TIMING.name]
    assert timing.value is None
    assert timing.absent_reason
    assert not [event for event in measured.events if "yaw" in event.name]
