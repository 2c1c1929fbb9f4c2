"""Deliveries of movements that were made to be one, or to lack one sign of it."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.deliveries import find_deliveries, find_passages, has_rival
from services.analyzer.biomechanics.actions.evidence import weakest
from services.analyzer.biomechanics.kinematics import SIDES, Side, torso_length, travel
from services.analyzer.pose.landmarks import INDEX, Poses
from testing.data import motions


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
@pytest.mark.parametrize("speed", [520, 700, 1000])
def test_slow_and_quick_arms_deliver(fps: float, speed: float) -> None:
    """From 156 to 300 degrees in the 0.3 s around upright; the slower, the less sure."""
    poses = _at_speed(fps, speed)
    [one] = find_deliveries(find_passages(poses))
    assert one.release_seconds == pytest.approx(1.43, abs=0.01)
    assert one.sweep == pytest.approx(0.3 * speed, rel=0.1)
    assert (one.confidence < 0.8) == (speed < 600)


def test_a_swing_of_the_run_up_is_no_delivery() -> None:
    """130 degrees in 0.3 s are the least; the sign that fails is named."""
    poses = _at_speed(30, 400)
    assert find_deliveries(find_passages(poses)) == []
    [seen] = find_passages(poses)
    assert seen.confidence == 0
    assert weakest(seen.signs).name == "the arm sweeps over the top"


def test_hands_that_stay_together_bowl_nothing() -> None:
    """A golfer's or a batter's arms go over the top too."""
    poses = motions.delivery(30)
    motions.point_arm(poses, "left", np.radians(np.clip(1000 * (poses.times - 1.4), -185, 185)))
    assert find_deliveries(find_passages(poses)) == []


@pytest.mark.parametrize("side", ["left", "right"])
def test_swapped_labels_do_not_change_the_bowling_arm(side: str) -> None:
    """Around the top, where the pose model swaps them in quick deliveries."""
    poses = motions.arms_swapped(motions.delivery(30, side=side), 1.34, 1.48)
    [one] = find_deliveries(find_passages(poses))
    assert one.side == Side(side)
    assert one.release_seconds == pytest.approx(1.43, abs=0.01)


def test_the_other_arm_a_moment_later_is_a_rival() -> None:
    """Both as clear, over one landed foot: nobody can say which was the ball."""
    poses = motions.delivery(30, upright=1.4)
    motions.point_arm(poses, "left", np.radians(np.clip(1000 * (poses.times - 1.65), -185, 185)))
    seen = find_passages(poses)
    assert any(has_rival(one, seen) for one in find_deliveries(find_passages(poses)))


@pytest.mark.parametrize(
    ("earlier", "bent_deg", "is_front_arm"), [(0.15, 120, True), (0.15, 180, False), (-0.15, 120, False)]
)
def test_the_front_arm_comes_over_the_top_earlier_and_lower(
    earlier: float, bent_deg: float, *, is_front_arm: bool
) -> None:
    """Then the later and higher arm has bowled; an arm that is only one of both is a rival."""
    poses = motions.delivery(30, upright=1.4, landing=1.2)
    turn = np.radians(np.clip(1000 * (poses.times - 1.4 + earlier), -185, 185))
    motions.point_arm(poses, "left", turn, bent_deg)
    seen = find_passages(poses)
    assert {one.side for one in seen if one.confidence > 0} == {"left", "right"}
    bowled = [one.side for one in find_deliveries(seen) if not has_rival(one, seen)]
    assert bowled == (["right"] if is_front_arm else [])


def _at_speed(fps: float, degrees_per_second: float) -> Poses:
    """A delivery whose arm turns at this speed, all the way round, upright at 1.4 s."""
    poses = motions.delivery(fps, upright=1.4)
    turn = np.clip(degrees_per_second * (poses.times - 1.4), -185, 185)
    motions.point_arm(poses, "right", np.radians(turn))
    return poses


def test_a_reversed_film_has_no_delivery() -> None:
    """Arm and travel are both reversed, so the arm still comes over the top; the toes point backwards."""
    poses = motions.bowler(30)
    for side in SIDES:
        heel, toe = INDEX[f"{side}_heel"], INDEX[f"{side}_foot_index"]
        poses.image[:, toe, 0] = poses.image[:, heel, 0] + travel(poses) * 0.3 * torso_length(poses)
    assert find_deliveries(find_passages(poses))
    backwards = replace(poses, image=poses.image[::-1].copy())
    passages = find_passages(backwards)
    assert passages
    assert find_deliveries(passages) == []
    assert {weakest(passage.signs).name for passage in passages} == {"the feet point the way of travel"}
