"""Reads what a coach asks beside the five metrics: numbers without a score, since what is good in them is his to say.

Each is read off one action and in the picture's plane; one that cannot be made is `Missing` with its reason. Heights
are the athlete's own stature, from the length of trunk and leg by body proportions.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.analyzer.biomechanics.action_window import Look
from services.analyzer.biomechanics.events import LEAST_SEEN
from services.analyzer.biomechanics.filtering import LONGEST_BRIDGE_SECONDS, rows
from services.analyzer.biomechanics.foot_contact import Landing, Missing, front_leg
from services.analyzer.biomechanics.kinematics import (
    BODY_PER_STATURE,
    FOOT,
    SIDES,
    elbow_angle,
    foot,
    frame_rate,
    middle,
    other,
    torso_length,
)
from services.analyzer.biomechanics.scored_metrics import (
    LEAST_VISIBILITY,
    NOT_SIDE_ON,
    Reading,
    standing,
    standing_knee,
)
from services.analyzer.pose.landmarks import INDEX, Floats, Poses

# What is read at a moment is the mean over this long about it, or the nearest sample.
MOMENT_SECONDS = 0.05
STRAIGHT_DEG = 180.0  # no angle in the picture is more
RUN_UP_SECONDS, SLOWEST_RUN_UP_STATURES_PER_SECOND = 0.5, 0.5
CAMERA_DRIFT_TORSOS, STANDS_AFTER_RELEASE_SECONDS = 0.2, 0.1
# Under these an elbow in the picture is off by 80 degrees, or by 30 to 36.
SHORTEST_ARM, LEAST_ELBOW_VISIBILITY = 0.7, 0.9
SURE_ARM, SURE_ELBOW_VISIBILITY = 0.85, 0.98
ARM_SURE_DEG, ARM_UNSURE_DEG = 20.0, 35.0
ARM_RAISE_SECONDS = 0.3
LOWEST_ELBOW_RATE_FPS = 19.5  # the arm is up a tenth of a second after it was level
NO_DELIVERY = Missing("no delivery")

# Typical errors, as docs/metrics.md measured them: statures, 1/s, degrees.
# And of moments, seconds: a number that changes fast there is as unsure as they are.
CONTACT_ERROR_SECONDS, RELEASE_ERROR_SECONDS = 0.033, 0.015
STRIDE_ERROR, HEIGHT_ERROR, TREND_ERROR = 0.02, 0.035, 0.15
KNEE_ERROR_DEG, KNEE_CHANGE_ERROR_DEG, LEAN_ERROR_DEG = 4.0, 6.0, 5.0


def stride_length(look: Look) -> Reading | Missing:
    """Distance between the feet along the picture when the front foot is down, in statures."""
    if isinstance(look.landing, Missing):
        return look.landing
    if look.end_on:
        return NOT_SIDE_ON
    apart = np.abs(foot(look.poses, "left") - foot(look.poses, "right"))[:, 0]
    at, times = look.landing.time_seconds, look.poses.times
    width = max(MOMENT_SECONDS, 1.01 / frame_rate(look.poses))

    def stride(at: float) -> float:
        near = apart[(times >= at) & (times <= at + width)]
        return float(np.nanmean(near)) / _stature(look) if np.isfinite(near).any() else float("nan")

    joints = [f"{side}_{part}" for side in SIDES for part in FOOT]
    return _reading(look, stride(at), at, joints, STRIDE_ERROR, _moved(stride, at, CONTACT_ERROR_SECONDS))


def run_up_speed_trend(look: Look) -> Reading | Missing:
    """How fast the hips gain speed in the half second before front-foot contact: share of their mean speed a second.

    By a parabola through their places, so that noise is averaged over the whole stretch. A camera that moves would
    be in it: then the standing front foot drifts through the picture.
    """
    if isinstance(look.action, Missing) or look.bowling_arm is None:
        return NO_DELIVERY
    if isinstance(look.landing, Missing):
        return look.landing
    if look.end_on:
        return NOT_SIDE_ON
    if _camera_moves(look, look.landing, look.action.time_seconds + STANDS_AFTER_RELEASE_SECONDS):
        return Missing("the camera moves")
    end = look.landing.time_seconds
    if len(_run_up(look, end)) < LEAST_SEEN * RUN_UP_SECONDS * frame_rate(look.poses):
        return Missing("too few frames of the run-up")
    speed, trend = _speed(look, end)
    if abs(speed) < SLOWEST_RUN_UP_STATURES_PER_SECOND:
        return Missing("no run-up seen")
    unsure = _moved(lambda at: _speed(look, at)[1], end, CONTACT_ERROR_SECONDS)
    return _reading(look, trend, end, ["left_hip", "right_hip"], TREND_ERROR, unsure)


def _run_up(look: Look, end: float) -> Poses:
    """The frames of the last half second before a moment in which somebody was seen."""
    poses = look.poses
    return rows(poses, (poses.times >= end - RUN_UP_SECONDS) & (poses.times <= end) & poses.detected)


def _speed(look: Look, end: float) -> tuple[float, float]:
    """Of the hips over the last half second before a moment: mean, statures a second, and its gain as a share."""
    poses = _run_up(look, end)
    times = poses.times
    if len(times) < 3:
        return 0.0, float("nan")
    x = middle(poses, "hip")[:, 0] / _stature(look)
    bend, _, _ = np.polyfit(times - times.mean(), x, 2)
    speed = float((x[-1] - x[0]) / (times[-1] - times[0]))
    return speed, float(2 * bend / speed) if speed else float("nan")


def release_height(look: Look) -> Reading | Missing:
    """Height of the bowling wrist over the standing front foot at release, in statures; the ball is a hand higher."""
    if isinstance(look.action, Missing) or look.bowling_arm is None:
        return NO_DELIVERY
    if isinstance(look.landing, Missing):
        return look.landing
    leg = front_leg(look.poses, look.landing, look.action.time_seconds)
    if not len(leg.times):
        return Missing("feet not visible")
    soles = np.stack([np.max([look.poses.point(f"{side}_{p}")[:, 1] for p in FOOT], axis=0) for side in SIDES])
    ground = float(np.median(soles[leg.labels, leg.samples]))
    wrist, release = f"{look.bowling_arm}_wrist", look.action.time_seconds

    def height(at: float) -> float:
        return (ground - _at(look.poses, look.poses.point(wrist)[:, 1], at)) / _stature(look)

    unsure = _moved(height, release, RELEASE_ERROR_SECONDS)
    return _reading(look, height(release), release, [wrist], HEIGHT_ERROR, unsure)


def trunk_lateral_flexion(look: Look) -> Reading | Missing:
    """Lean of the trunk away from the bowling arm at release, in degrees from upright; seen only along the pitch."""
    if isinstance(look.action, Missing) or look.bowling_arm is None:
        return NO_DELIVERY
    if not look.end_on:
        return Missing("view not from the front or behind")
    poses = look.poses
    trunk = middle(poses, "shoulder") - middle(poses, "hip")
    across = poses.point(f"{other(look.bowling_arm)}_shoulder") - poses.point(f"{look.bowling_arm}_shoulder")
    away = np.sign(np.nanmedian(across[np.abs(poses.times - look.action.time_seconds) <= 2 * MOMENT_SECONDS, 0]))
    lean = np.degrees(np.arctan2(away * trunk[:, 0], -trunk[:, 1]))
    joints = [f"{side}_{part}" for side in SIDES for part in ("hip", "shoulder")]
    return _reading(look, _at(poses, lean, look.action.time_seconds), look.action.time_seconds, joints, LEAN_ERROR_DEG)


def front_knee_at_contact(look: Look) -> Reading | Missing:
    """Angle of the front knee as the foot lands, in degrees."""
    return _knee(look, lambda start, _: start, KNEE_ERROR_DEG, at=0)


def front_knee_at_release(look: Look) -> Reading | Missing:
    """Angle of the front knee at release (batting: 0.3 s after contact), in degrees."""
    return _knee(look, lambda _, end: end, KNEE_ERROR_DEG, at=-1)


def front_knee_change(look: Look) -> Reading | Missing:
    """How far the front knee opened from contact to release, in degrees; under 0 it gave way."""
    return _knee(look, lambda start, end: end - start, KNEE_CHANGE_ERROR_DEG, at=-1)


def elbow_extension(look: Look) -> Reading | Missing:
    """How far the bowling elbow straightened from the arm level to release, in degrees of the picture.

    A camera sees the elbow's carrying angle and the arm's turn as extension too: this is no verdict on an action.
    """
    arm = look.bowling_arm
    if isinstance(look.action, Missing) or arm is None:
        return NO_DELIVERY
    poses, release = look.poses, look.action.time_seconds
    if frame_rate(poses) < LOWEST_ELBOW_RATE_FPS:
        return Missing("too few frames: under 20 a second around the action")
    level = _arm_level(poses, arm, release)
    if level is None:
        return Missing("arm not seen level before release")
    stretch = _between(poses, level, release)
    seen = float(np.nanmin(poses.seen(f"{arm}_elbow")[stretch], initial=1))
    if seen < LEAST_ELBOW_VISIBILITY:
        return Missing("elbow not visible")
    length = _arm_share(poses, arm, stretch)
    if length < SHORTEST_ARM:
        return Missing("arm points at the camera")
    sure = seen > SURE_ELBOW_VISIBILITY and length > SURE_ARM
    angle = elbow_angle(poses, arm)
    value = _at(poses, angle, release) - _at(poses, angle, level)
    joints = [f"{arm}_{part}" for part in ("shoulder", "elbow", "wrist")]
    return _reading(look, value, release, joints, ARM_SURE_DEG if sure else ARM_UNSURE_DEG)


def _knee(look: Look, of: Callable[[float, float], float], error: float, at: int) -> Reading | Missing:
    """A number from the knee at contact and at the end; shown at the first or last sample."""
    series = standing_knee(look)
    if isinstance(series, Missing):
        return series
    times, degrees, confidence = series
    start, end = _ends(times, degrees, standing(look), max(MOMENT_SECONDS, 0.6 / frame_rate(look.poses)))
    value = of(min(start, STRAIGHT_DEG), min(end, STRAIGHT_DEG))
    return Reading(value, [(float(times[at]), value)], len(times), confidence, error * look.coarseness)


def _ends(times: Floats, values: Floats, moments: tuple[float, float], width: float) -> tuple[float, float]:
    """Values at two moments, the first and last of a series: means over a width, which lie inside, carried outwards at
    the rate between them.
    """
    first, last = times <= times[0] + width, times >= times[-1] - width
    start, end = float(values[first].mean()), float(values[last].mean())
    from_start, to_end = float(times[first].mean()), float(times[last].mean())
    rate = (end - start) / max(to_end - from_start, MOMENT_SECONDS)
    return start - rate * (from_start - moments[0]), end + rate * (moments[1] - to_end)


def _moved(of: Callable[[float], float], at: float, off: float) -> float:
    """By how much a number read at a moment changes where the moment is off by so many seconds, either way."""
    return float(np.nanmax([abs(of(at + way * off) - of(at)) for way in (-1, 1)] + [0.0]))


def _reading(
    look: Look, value: float, at: float, joints: list[str], error: float, unsure: float = 0.0
) -> Reading | Missing:
    """A number read at one moment; Missing where the joints are not seen there, or the number is none."""
    near = rows(look.poses, np.abs(look.poses.times - at) <= max(MOMENT_SECONDS, 1.01 / frame_rate(look.poses)))
    values = near.visibility[:, [INDEX[joint] for joint in joints]]
    likely = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    if likely < LEAST_VISIBILITY or not np.isfinite(value):
        return Missing(f"{joints[0].split('_')[-1]} not visible")
    frames = int(near.detected.sum())
    return Reading(
        float(value), [(at, float(value))], frames, look.trust * likely, error * look.coarseness, unsure=unsure
    )


def _stature(look: Look) -> float:
    """Pixels."""
    return look.body / BODY_PER_STATURE


def _at(poses: Poses, values: Floats, at: float) -> float:
    """(n,) values at a moment, by the curve through their samples; NaN where they were not seen about it."""
    near = np.isfinite(values) & (np.abs(poses.times - at) <= LONGEST_BRIDGE_SECONDS)
    if near.sum() < 2 or not poses.times[near][0] <= at <= poses.times[near][-1]:
        return float("nan")
    from scipy.interpolate import PchipInterpolator  # SciPy takes a second to import, and the first pose need not wait

    return float(PchipInterpolator(poses.times[near], values[near])(at))


def _between(poses: Poses, start: float, end: float) -> NDArray[np.bool_]:
    """(n,) the samples of a stretch of time, half a step more at both ends."""
    half_step = 0.5 / frame_rate(poses)
    return (poses.times >= start - half_step) & (poses.times <= end + half_step) & poses.detected


def _camera_moves(look: Look, landing: Landing, until: float) -> bool:
    """Whether the standing front foot wanders through the picture: then it is the picture that moves."""
    leg = front_leg(look.poses, landing, until)
    x = leg.place[:, 0] / torso_length(look.poses)
    return len(x) > 3 and abs(float(np.median(x[-2:]) - np.median(x[:2]))) > CAMERA_DRIFT_TORSOS


def _arm_level(poses: Poses, arm: str, release: float) -> float | None:
    """When the arm was last level on its way up to release; None if that was not seen."""
    rise = (poses.point(f"{arm}_shoulder") - poses.point(f"{arm}_wrist"))[:, 1]
    before = np.flatnonzero((poses.times >= release - ARM_RAISE_SECONDS) & (poses.times <= release) & poses.detected)
    for a, b in reversed(list(pairwise(before))):
        if rise[a] < 0 <= rise[b]:
            return float(np.interp(0, [rise[a], rise[b]], [poses.times[a], poses.times[b]]))
    return None


def _arm_share(poses: Poses, arm: str, stretch: NDArray[np.bool_]) -> float:
    """The arm's shortest length in a stretch over its longest in the clip, both in the picture, along its two bones."""
    bones = [("shoulder", "elbow"), ("elbow", "wrist")]
    lengths = sum(np.linalg.norm(poses.point(f"{arm}_{a}") - poses.point(f"{arm}_{b}"), axis=1) for a, b in bones)
    return float(np.nanmin(lengths[stretch]) / np.nanmax(lengths)) if stretch.any() else 0.0
