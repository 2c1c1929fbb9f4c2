"""Reads each number of a stroke that only a camera along the pitch shows, in the image plane.

The front foot steps towards this camera, so that its landing is not seen. The moment of these numbers is the bottom of
the swing, when the hands are lowest: bat and ball meet 0.02 to 0.07 s later. Every function returns `Missing` with the
reason if the number cannot be measured.
"""

from collections.abc import Sequence

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.action_window import ActionWindow
from services.analyzer.biomechanics.actions.strokes import HANDS_CUT_OFF_HZ, LONGEST_DOWNSWING_SECONDS
from services.analyzer.biomechanics.events import Action
from services.analyzer.biomechanics.filtering import lowpass, resample
from services.analyzer.biomechanics.foot_contact import Missing
from services.analyzer.biomechanics.kinematics import FOOT, HEAD, SIDES, both_sides, feet, foot, head, middle
from services.analyzer.biomechanics.metrics.unscored import reading, stature, value_at
from services.analyzer.biomechanics.model import Reading
from services.analyzer.pose.landmarks import Poses

NO_STROKE = Missing("no stroke")
NOT_ALONG_PITCH = Missing("view not along the pitch")
# Hands may wait at the top: they have left it below this share of their way.
NEAR_TOP = 0.9
# The toes show the off side if they lie this share of a body beside the heels.
CLEARLY_ASIDE_BODIES = 0.02
OFF_SIDE_NOT_SEEN = Missing("the feet do not show where the off side is")
# Typical errors, measured in docs/metrics.md: bodies, statures, degrees, seconds.
HEAD_ERROR, HEIGHT_ERROR, BASE_ERROR, LEAN_ERROR_DEG, PATH_ERROR, DOWNSWING_ERROR = 0.03, 0.04, 0.02, 4.0, 0.07, 0.07


def head_over_feet(window: ActionWindow) -> Reading | Missing:
    """Distance of the head from the middle of the feet across the pitch, in bodies; over 0 towards the off side."""
    offset = (head(window.poses) - feet(window.poses))[:, 0] / window.body
    return _towards_off_side(window, offset, (*HEAD, *both_sides(*FOOT)), HEAD_ERROR)


def head_height(window: ActionWindow) -> Reading | Missing:
    """Height of the head over the lower sole, in statures."""
    soles = [window.poses.point(name)[:, 1] for name in both_sides(*FOOT)]
    height = (np.max(soles, axis=0) - head(window.poses)[:, 1]) / stature(window)
    return _at_bottom(window, height, HEAD, HEIGHT_ERROR)


def base_width(window: ActionWindow) -> Reading | Missing:
    """Distance between the feet across the pitch, in statures."""
    left, right = (foot(window.poses, side)[:, 0] for side in SIDES)
    return _at_bottom(window, np.abs(left - right) / stature(window), both_sides(*FOOT), BASE_ERROR)


def trunk_lean(window: ActionWindow) -> Reading | Missing:
    """Lean of the trunk across the pitch, in degrees; over 0 towards the off side."""
    trunk = middle(window.poses, "shoulder") - middle(window.poses, "hip")
    lean = np.degrees(np.arctan2(trunk[:, 0], -trunk[:, 1]))
    return _towards_off_side(window, lean, both_sides("hip", "shoulder"), LEAN_ERROR_DEG)


def hands_path_width(window: ActionWindow) -> Reading | Missing:
    """How far the hands go across the pitch in the downswing, against the hips, in bodies."""
    if isinstance(action := _stroke(window), Missing):
        return action
    times, path = _hands(window.poses)
    left = _departure(times, path, action.landed_by)
    across = path[(times >= left) & (times <= action.landed_by), 0]
    width = float(np.ptp(across)) / window.body if len(across) else float("nan")
    return reading(window, width, action.landed_by, both_sides("wrist"), PATH_ERROR)


def downswing_time(window: ActionWindow) -> Reading | Missing:
    """From the moment that the hands leave their top to their lowest point, in seconds."""
    if isinstance(action := _stroke(window), Missing):
        return action
    seconds = action.landed_by - _departure(*_hands(window.poses), action.landed_by)
    return reading(window, seconds, action.landed_by, both_sides("wrist"), DOWNSWING_ERROR)


def _stroke(window: ActionWindow) -> Action | Missing:
    if isinstance(window.action, Missing):
        return window.action
    return window.action if window.end_on else NOT_ALONG_PITCH


def _at_bottom(window: ActionWindow, values: Floats, joints: Sequence[str], error: float) -> Reading | Missing:
    """The reading of (n,) values at the bottom of the swing."""
    if isinstance(action := _stroke(window), Missing):
        return action
    bottom = action.landed_by
    return reading(window, value_at(window.poses, values, bottom), bottom, joints, error)


def _towards_off_side(window: ActionWindow, values: Floats, joints: Sequence[str], error: float) -> Reading | Missing:
    """As `_at_bottom`, for values that grow to the right of the picture. A batter's toes point to the off side."""
    if isinstance(action := _stroke(window), Missing):
        return action
    poses = window.inside
    toes = [poses.point(f"{side}_foot_index") - poses.point(f"{side}_heel") for side in SIDES]
    aside = np.mean(toes, axis=0)[poses.detected, 0] / window.body
    if not len(aside) or abs(way := float(np.median(aside))) < CLEARLY_ASIDE_BODIES:
        return OFF_SIDE_NOT_SEEN
    return _at_bottom(window, np.sign(way) * values, joints, error)


def _hands(poses: Poses) -> tuple[Floats, Floats]:
    """(m,) seconds on the even grid, (m, 2) pixels: the middle of the hands against that of the hips."""
    times, path = resample(poses.times, middle(poses, "wrist") - middle(poses, "hip"))
    return times, lowpass(path, HANDS_CUT_OFF_HZ) if len(times) else path


def _departure(times: Floats, path: Floats, bottom: float) -> float:
    """Seconds at which the hands leave their highest place before the bottom of the swing; NaN if they are not seen."""
    before = (times >= bottom - LONGEST_DOWNSWING_SECONDS) & (times <= bottom) & np.isfinite(path[:, 1])
    if not before.any():
        return float("nan")
    height = -path[before, 1]
    edge = height.min() + NEAR_TOP * np.ptp(height)
    last = int(np.flatnonzero(height >= edge)[-1])
    return float(np.interp(-edge, -height[last : last + 2], times[before][last : last + 2]))
