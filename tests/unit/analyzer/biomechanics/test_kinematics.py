"""Lengths, angles and speeds of a figure with known answers."""

import numpy as np
import pytest

from services.analyzer.biomechanics.kinematics import (
    body_length,
    feet_in_view,
    frame_rate,
    hand_speeds,
    joint_angle,
    knee_angle,
    torso_length,
    travel,
)
from services.analyzer.pose.landmarks import select_frames
from testing.data import motions


def test_lengths_are_those_of_the_figure() -> None:
    """A trunk of 100 px, a body of 260 px."""
    poses = motions.still(30)
    assert torso_length(poses) == pytest.approx(motions.TORSO)
    assert body_length(poses) == pytest.approx(motions.BODY)


def test_a_body_without_legs_in_view_comes_from_the_torso() -> None:
    """Body proportions replace it, within 5 %."""
    assert body_length(motions.hidden(motions.still(30), "knee", "ankle", "heel", "foot")) == pytest.approx(
        270, rel=0.05
    )


def test_an_empty_clip_has_no_length() -> None:
    """NaN, not zero."""
    assert np.isnan(torso_length(motions.undetected(30)))
    assert np.isnan(body_length(motions.undetected(30)))


@pytest.mark.parametrize(("c", "degrees"), [((1, 0), 90), ((0, -1), 180), ((0, 1), 0), ((1, -1), 135)])
def test_a_joint_angle_is_the_included_one(c: tuple[int, int], degrees: float) -> None:
    """180 is straight."""
    assert joint_angle(np.array([0.0, 1.0]), np.zeros(2), np.array(c, dtype=float)) == pytest.approx(degrees)


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
def test_a_hinge_opens_at_its_rate(fps: float) -> None:
    """30 degrees a second from 100 degrees, at every sampling rate, on both sides and in the mirror."""
    poses = motions.hinge(fps, 100, 30)
    for clip in (poses, motions.mirrored(poses)):
        for side in ("left", "right"):
            np.testing.assert_allclose(knee_angle(clip, side), 100 + 30 * poses.times, atol=1e-6)


def test_angles_are_taken_in_pixels_not_in_shares_of_the_picture() -> None:
    """A right angle is 90 degrees in a wide image too."""
    poses = motions.hinge(30, 90, 0)
    assert knee_angle(poses, "left")[0] == pytest.approx(90)


def test_hands_that_hang_have_no_speed() -> None:
    """Nor do those of a body that travels."""
    poses = motions.still(30)
    poses.image[..., 0] += 200 * poses.times[:, None]
    assert hand_speeds(poses)[1].max() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_a_hand_on_a_circle_has_the_circle_s_speed(fps: float) -> None:
    """0.9 torso of arm at 90 degrees a second moves 1.41 torsos a second."""
    poses = motions.still(fps)
    motions.point_arm(poses, "left", np.radians(90) * poses.times)
    _, speeds = hand_speeds(poses)
    assert np.median(speeds[:, 0]) == pytest.approx(0.9 * np.pi / 2, rel=0.02)
    assert speeds[:, 1].max() == pytest.approx(0, abs=1e-6)


def test_travel_has_the_sign_of_the_way() -> None:
    """To the right 1, in the mirror -1, on the spot 0."""
    poses = motions.still(30)
    assert travel(poses) == 0
    poses.image[..., 0] += 150 * poses.times[:, None]
    assert travel(poses) == 1
    assert travel(motions.mirrored(poses)) == -1


def test_feet_below_the_picture_are_not_in_view() -> None:
    """MediaPipe extrapolates them beyond the edge."""
    assert feet_in_view(motions.still(30))
    assert not feet_in_view(motions.hidden(motions.still(30), "ankle", "heel", "foot"))


def test_the_rate_comes_from_time_stamps() -> None:
    """One dropped frame of 91 hardly changes it; frames sampled at 10 from 25 a second are 10 a second."""
    poses = motions.still(30)
    assert frame_rate(select_frames(poses, np.arange(len(poses)) != 7)) == pytest.approx(30, rel=0.02)
    uneven = motions.still(25)
    nearest = np.unique(np.rint(np.arange(0, 3, 0.1) * 25).astype(int))
    sampled = select_frames(uneven, np.isin(np.arange(len(uneven)), nearest))
    assert frame_rate(sampled) == pytest.approx(10, rel=0.01)
