"""Strokes of movements that were made to be one, or to lack one sign of it."""

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.evidence import weakest
from services.analyzer.biomechanics.actions.strokes import Swing, find_strokes, find_swings
from services.analyzer.pose.landmarks import INDEX, Poses
from testing.data import motions


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
def test_a_stroke_has_a_lowest_point_where_its_hands_are_fastest(fps: float) -> None:
    """Drawn so, at 1.65 s, whatever the rate."""
    [one] = _strokes(motions.stroke(fps, hands=1.65))
    assert one.bottom == pytest.approx(1.65, abs=0.04)
    assert one.fastest == pytest.approx(1.65, abs=0.04)
    assert one.start < one.top < one.bottom


def test_lowering_the_bat_is_no_stroke() -> None:
    """The bat was up when the film began, and comes down: nothing lifted it."""
    poses = motions.still(30)
    _swing(poses, np.radians(60) / (1 + np.exp((poses.times - 1.5) / 0.05)))
    assert _strokes(poses) == []


def test_a_leave_is_no_stroke() -> None:
    """The bat is lifted, held for a moment and comes down to where it was."""
    poses = motions.still(30)
    up = 1 / (1 + np.exp(-(poses.times - 1.0) / 0.04)) - 1 / (1 + np.exp(-(poses.times - 1.6) / 0.04))
    _swing(poses, np.radians(70) * up)
    assert _strokes(poses) == []


def test_a_practice_swing_is_no_stroke() -> None:
    """It has all of a stroke but a step."""
    poses = motions.still(30)
    _swing(poses, motions.swing(poses.times, 1.65))
    assert _strokes(poses) == []
    assert weakest(find_swings(poses)[0].signs).name == "the feet or the weight move"


def test_a_tap_is_no_stroke() -> None:
    """The bat goes up a hand's breadth and down."""
    poses = motions.stroke(30)
    _swing(poses, np.radians(15) * np.exp(-(((poses.times - 1.2) / 0.15) ** 2)))
    assert _strokes(poses) == []


def test_hands_apart_play_no_stroke() -> None:
    """A bat holds both."""
    poses = motions.stroke(30)
    poses.image[:, INDEX["left_wrist"], 0] += 90
    assert _strokes(poses) == []


def _strokes(poses: Poses) -> list[Swing]:
    return find_strokes(find_swings(poses))


def _swing(poses: Poses, turn: np.ndarray) -> None:
    """Turns both arms by (n,) radians from straight down."""
    for side in ("left", "right"):
        motions.point_arm(poses, side, np.pi - turn)
