"""Reads each scored number off one action, as lengths in bodies or degrees in the image plane.

Every function returns `Missing` with the reason if the number cannot be measured. Windows around contact or release
have soft edges, so that an event that is off by a frame changes a number little.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.action_window import ActionWindow
from services.analyzer.biomechanics.events import LEAST_SEEN, Action
from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.biomechanics.foot_contact import FrontKnee, Landing, Missing, front_knee
from services.analyzer.biomechanics.kinematics import (
    BODY_PER_STATURE,
    FOOT,
    HEAD,
    KNEE,
    SIDES,
    Side,
    both_sides,
    feet,
    feet_in_view,
    frame_rate,
    head,
    landmarks_of,
    middle,
    other,
)
from services.analyzer.biomechanics.landmark_noise import landmark_noise
from services.analyzer.biomechanics.model import Curve, Evidence, MeasuredJoints, Reading
from services.analyzer.pose.landmarks import INDEX, Poses
from services.naming import Discipline

KNEE_AFTER_CONTACT_SECONDS = 0.3
# A thigh or shank 45 degrees out of the image has 0.7 of its longest length: the knee has no angle in the image. Legs
# that rendered bowlers kept in the image plane had 0.78 or more.
LEAST_LIMB_SHARE, LONGEST_PERCENT = 0.7, 95
LIMB_TOWARDS_CAMERA = Missing("the front leg points at the camera")
FRONT_LEG_LOST = Missing("the front leg could not be followed after its foot landed")

SWAY_CUT_OFF_HZ, ANGLE_CUT_OFF_HZ = 3.0, 6.0
LEAST_VISIBILITY = 0.5
HIPS_FOR_FEET_CONFIDENCE = 0.5
GUESSED_ARM_CONFIDENCE = 0.5
# Thigh or shank over trunk + thigh + shank (Drillis and Contini 1966).
BONE_PER_BODY = 0.246 / BODY_PER_STATURE
MOMENTS_APART_SECONDS, MOST_MOMENTS = 0.3, 3
# Scatter of the pose model in bodies; degrees by which it misses the knees of rendered films.
ELBOW_ERROR, KNEE_ERROR_DEG = 0.015, 3.0
MOST_SWAY_ERROR = 0.005
NOT_SIDE_ON = Missing("view not side-on")


class _SwayError(NamedTuple):
    """How far a spread is off.

    model: scatter in bodies, which is one for all values: up to 0.004 between copies of real films. share: of the
    value; the length of a body has 0.02 over eight rendered films. sampling: share of the value, by which it is off
    with few frames a second: real bowlers filmed at 10. most: with an error over this share, the number is absent.
    """

    model: float
    share: float
    sampling: float
    most: float

    def at(self, value: float, coarseness: float) -> float:
        """The error of a value; coarseness: of the frame rate."""
        missed = self.sampling * value * math.sqrt(coarseness**2 - 1)
        return math.hypot(self.model * coarseness, self.share * value * coarseness, missed)

    def largest(self, value: float, coarseness: float) -> float:
        """The largest error with which a value is of use."""
        return max(self.most * value, MOST_SWAY_ERROR) * coarseness


# The head's share is 0.02 over the rendered films, but not where it is hidden for a moment: altered films ask for 0.05.
HEAD_SWAY_ERROR, TRUNK_SWAY_ERROR = _SwayError(0.002, 0.05, 0.0, 0.25), _SwayError(0.003, 0.02, 0.115, 0.25)


class _Base(NamedTuple):
    """The reference of sway. path: (n, 2) pixels; joints: its landmarks; confidence: 0..1."""

    path: Floats
    joints: tuple[str, ...]
    confidence: float


class _Series(NamedTuple):
    """A path on the even grid: (n,) seconds, (n, k) values, (n,) window weights, and its confidence, 0..1."""

    times: Floats
    values: Floats
    weights: Floats
    confidence: float


def head_stability(window: ActionWindow) -> Reading | Missing:
    """RMS distance of the head from its mean position relative to the feet, in bodies."""
    base = _sway_base(window)
    offset = (head(window.poses) - base.path) / window.body
    return _spread(window, offset, HEAD, base, "head", HEAD_SWAY_ERROR)


def balance_drift(window: ActionWindow) -> Reading | Missing:
    """RMS of the trunk's horizontal distance from its mean position relative to the feet, in bodies."""
    if window.end_on:
        return NOT_SIDE_ON
    base = _sway_base(window)
    trunk = (middle(window.poses, "hip") + middle(window.poses, "shoulder")) / 2
    offset = (trunk - base.path)[:, :1] / window.body
    return _spread(window, offset, both_sides("hip", "shoulder"), base, "trunk", TRUNK_SWAY_ERROR)


def _sway_base(window: ActionWindow) -> _Base:
    """The feet; the hips at lower confidence if the feet are out of view."""
    if feet_in_view(window.inside):
        return _Base(feet(window.poses), both_sides(*FOOT), 1.0)
    return _Base(middle(window.poses, "hip"), (), HIPS_FOR_FEET_CONFIDENCE)


def elbow_drop(window: ActionWindow) -> Reading | Missing:
    """Weighted mean of how far the elbow is below the shoulder, in bodies; negative is above.

    Batting and bowling: the front arm. Fielding and wicketkeeping: the arm with the faster hand.
    """
    if isinstance(window.action, Missing):
        return window.action
    if window.bowling_arm:
        return _elbow_drop_of(window, other(window.bowling_arm))  # the bowling elbow always swings from low to high
    if window.discipline != Discipline.BATTING:
        return _elbow_drop_of(window, window.action.side)
    if window.front_leg:
        return _elbow_drop_of(window, window.front_leg)
    # Front side unknown: the top hand's elbow is the higher one in nearly every grip.
    both = [reading for side in SIDES if isinstance(reading := _elbow_drop_of(window, side), Reading)]
    if not both:
        return Missing("front arm not visible")
    top = min(both, key=lambda reading: reading.value)
    return replace(top, confidence=GUESSED_ARM_CONFIDENCE * top.confidence)


def _elbow_drop_of(window: ActionWindow, side: Side) -> Reading | Missing:
    elbow, shoulder = joints = landmarks_of(side, ("elbow", "shoulder"))
    drop = (window.poses.point(elbow) - window.poses.point(shoulder))[:, 1:] / window.body
    series = _series(window, drop, joints, f"{side} arm")
    if isinstance(series, Missing):
        return series
    drops = series.values[:, 0]
    return Reading(
        value=float(np.average(drops, weights=series.weights)),
        moments=worst_moments(series.times, drops, series.weights),
        frames=_frames(window),
        confidence=series.confidence,
        error=ELBOW_ERROR * window.coarseness,
        joints=(MeasuredJoints(window.middle, joints),),
        curve=Curve(series.times, drops),
    )


def front_knee_brace(window: ActionWindow) -> Reading | Missing:
    """Smallest angle of the front knee from contact to release (batting: 0.3 s after contact), in degrees."""
    standing = standing_knee(window)
    if isinstance(standing, Missing):
        return standing
    knee, confidence = standing
    grid, angle = _smooth_angle(window, knee.times, knee.degrees)
    smallest = float(np.nanmin(angle))
    return Reading(
        value=smallest,
        moments=worst_moments(grid, -angle, np.ones(len(grid)), -1),
        frames=len(knee.times),
        confidence=confidence,
        error=KNEE_ERROR_DEG * window.coarseness,
        joints=joints_over_time(knee),
        curve=Curve(grid, angle),
        film_error=float(np.hypot(_knee_noise(window), _single_frame_error(window, knee, smallest))),
    )


def joints_over_time(knee: FrontKnee) -> tuple[MeasuredJoints, ...]:
    """The landmarks of the front knee, sample by sample: labels may be swapped in some."""
    return tuple(MeasuredJoints(float(time), names) for time, names in zip(knee.times, knee.joints, strict=True))


def _smooth_angle(window: ActionWindow, times: Floats, degrees: Floats) -> tuple[Floats, Floats]:
    """An angle on the even grid, filtered: (m,) seconds and (m,) degrees."""
    grid, angle = resample(times, degrees)
    return grid, lowpass(angle, min(ANGLE_CUT_OFF_HZ, 0.4 * frame_rate(window.poses)))


def _single_frame_error(window: ActionWindow, knee: FrontKnee, smallest: float) -> float:
    """Degrees by which the smallest angle grows without its lowest frame: swapped legs often last for one frame."""
    k = int(np.argmin(knee.degrees))
    if k in (0, len(knee.degrees) - 1):
        return 0.0  # the angle is monotonic, and its lowest frame is an end of the stretch
    _, without = _smooth_angle(window, np.delete(knee.times, k), np.delete(knee.degrees, k))
    return float(np.nanmin(without)) - smallest


def _knee_noise(window: ActionWindow) -> float:
    """Degrees of noise in the filtered knee angle, about the bias of its minimum.

    Of a straight leg, the knee's noise acts on the angle through thigh and shank, those of hip and ankle through one.
    """
    noise = landmark_noise(window.poses)
    hip, knee, ankle = (noise[INDEX[f"{window.front_leg}_{part}"]] for part in KNEE)
    bone = window.body * BONE_PER_BODY
    passed = min(1.0, 2 * ANGLE_CUT_OFF_HZ / frame_rate(window.poses))
    return float(np.degrees(np.sqrt((hip**2 + 4 * knee**2 + ankle**2) * passed) / bone))


def standing_seconds(window: ActionWindow) -> tuple[float, float]:
    """Seconds of contact, and of release (batting: 0.3 s later): the stretch that the front leg is measured in."""
    assert isinstance(window.landing, Landing)  # noqa: S101 - callers check that the front foot landed
    assert isinstance(window.action, Action)  # noqa: S101
    contact = window.landing.time_seconds
    return contact, window.action.time_seconds if window.bowling_arm else contact + KNEE_AFTER_CONTACT_SECONDS


def standing_knee(window: ActionWindow) -> tuple[FrontKnee, float] | Missing:
    """The front knee from contact to release (batting: 0.3 s later), and its confidence, 0..1."""
    if isinstance(window.action, Missing):
        return window.action
    if window.end_on:
        return NOT_SIDE_ON
    if isinstance(window.landing, Missing):
        return window.landing
    contact, until = standing_seconds(window)
    knee = front_knee(window.poses, window.landing, until)
    expected = (until - contact) * frame_rate(window.poses)
    if len(knee.times) < max(3, LEAST_SEEN * expected):
        return FRONT_LEG_LOST
    if foreshortening(window.poses, knee) < LEAST_LIMB_SHARE:
        return LIMB_TOWARDS_CAMERA
    joints = landmarks_of(window.landing.side, KNEE)
    return knee, window.moment_confidence * visibility(window.inside, joints)


def foreshortening(poses: Poses, knee: FrontKnee) -> float:
    """The shorter of thigh and shank in the image over its longest in the clip, median over the knee's samples."""
    at = np.searchsorted(poses.times, knee.times)
    labels = [int(hip == landmarks_of(Side.RIGHT, KNEE)[0]) for hip, _, _ in knee.joints]
    shares = []
    for bone in pairwise(KNEE):
        ends = [[poses.point(name) for name in landmarks_of(side, bone)] for side in SIDES]
        lengths = np.stack([np.linalg.norm(upper - lower, axis=1) for upper, lower in ends])
        shares.append(float(np.median(lengths[labels, at]) / np.nanpercentile(lengths, LONGEST_PERCENT)))
    return min(shares)


def _spread(
    window: ActionWindow, offset: Floats, joints: tuple[str, ...], base: _Base, part: str, error: _SwayError
) -> Reading | Missing:
    """Weighted RMS of an (n, k) path about its weighted mean."""
    if window.too_coarse:
        return window.too_coarse
    series = _series(window, offset, (*joints, *base.joints), part)
    if isinstance(series, Missing):
        return series
    distances = np.linalg.norm(series.values - np.average(series.values, axis=0, weights=series.weights), axis=1)
    value = float(np.sqrt(np.average(distances**2, weights=series.weights)))
    return Reading(
        value=value,
        moments=worst_moments(series.times, distances, series.weights),
        frames=_frames(window),
        confidence=base.confidence * series.confidence,
        error=error.at(value, window.coarseness),
        joints=(MeasuredJoints(window.middle, joints),),
        curve=Curve(series.times, distances),
        most_error=error.largest(value, window.coarseness),
    )


def _series(window: ActionWindow, path: Floats, joints: Sequence[str], part: str) -> _Series | Missing:
    """The filtered path on the grid, for all times of positive weight; Missing if too little of it is detected."""
    joint_visibility = visibility(window.inside, joints)
    if joint_visibility < LEAST_VISIBILITY:
        return Missing(f"{part} not visible")
    times, values = resample(window.poses.times, path)
    values = lowpass(values, SWAY_CUT_OFF_HZ)
    weights = window.weights(times)
    use = (weights > 0) & np.isfinite(values).all(axis=1)
    expected = (window.end - window.start) * GRID_HZ
    seen = float(weights[use & (weights == 1)].sum() / expected) if expected > 0 else 0.0
    if seen < LEAST_SEEN:
        return Missing("too few frames with the athlete in view")
    confidence = window.moment_confidence * joint_visibility * min(1.0, seen)
    return _Series(times[use], values[use], weights[use], confidence)


def visibility(poses: Poses, joints: Sequence[str]) -> float:
    """Median over the joints and the frames, 0..1; 0 without a detection."""
    values = poses.visibility[:, [INDEX[joint] for joint in joints]]
    return float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0


def _frames(window: ActionWindow) -> int:
    return int(window.inside.detected.sum())


def worst_moments(times: Floats, badness: Floats, weights: Floats, sign: int = 1) -> list[Evidence]:
    """At most three moments of most badness inside the window, 0.3 s or more apart; value is badness * sign."""
    moments: list[Evidence] = []
    for k in np.argsort(-np.where(weights == 1, badness, -np.inf)):
        if len(moments) == MOST_MOMENTS or weights[k] < 1 or not np.isfinite(badness[k]):
            break
        if all(abs(times[k] - moment.time_seconds) >= MOMENTS_APART_SECONDS for moment in moments):
            moments.append(Evidence(float(times[k]), float(badness[k] * sign)))
    return moments
