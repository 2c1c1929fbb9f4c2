"""Arms whose labels the pose model swaps, and wrists that leap, of movements whose truth is known."""

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.arm_tracks import relabel_arms, turning
from services.analyzer.pose.landmarks import Poses
from testing.data import motions


@pytest.mark.parametrize(("start", "end"), [(1.30, 1.42), (1.36, 1.37), (1.34, 1.48)])
@pytest.mark.parametrize("fps", [30, 60])
def test_swapped_arms_get_their_labels_back(fps: float, start: float, end: float) -> None:
    """For the frames of a swap, and no other."""
    truth = motions.delivery(fps)
    found = relabel_arms(motions.arms_swapped(truth, start, end))
    np.testing.assert_allclose(found.image, truth.image)


def test_arms_that_were_never_swapped_keep_their_labels() -> None:
    """Also where they pass each other, as a walker's do at every step."""
    for poses in (
        motions.delivery(30),
        motions.walker(30),
        motions.stroke(30),
        motions.noisy(motions.delivery(30), 0.01),
    ):
        np.testing.assert_array_equal(relabel_arms(poses).image, poses.image)


def test_nobody_has_no_arms() -> None:
    """Nothing to relabel, nothing that turns."""
    poses = motions.undetected(30)
    assert relabel_arms(poses) is poses
    assert not len(turning(poses, "left", 1).times)


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
def test_an_arm_at_1000_degrees_a_second_turns_300_in_0_3_s(fps: float) -> None:
    """At every rate, though at 10 frames a second it turns 100 degrees a frame."""
    turn = turning(motions.delivery(fps, upright=1.4), "right", 1)
    assert turn.turned(1.25, 1.55) == pytest.approx(300, rel=0.06)


@pytest.mark.parametrize("frame", [40, 42, 44])
def test_a_wrist_that_leaps_does_not_turn_the_arm(frame: int) -> None:
    """One bad sample, which would add 360 degrees, is left out."""
    poses = motions.delivery(30, upright=1.4)
    clean = turning(poses, "right", 1).turned(1.25, 1.55)
    _leap(poses, frame)
    assert turning(poses, "right", 1).turned(1.25, 1.55) == pytest.approx(clean, abs=15)


def _leap(poses: Poses, frame: int) -> None:
    """Puts the right wrist of a frame to the other side of its shoulder."""
    shoulder = poses.point("right_shoulder")[frame]
    poses.point("right_wrist")[frame] = 2 * shoulder - poses.point("right_wrist")[frame]
