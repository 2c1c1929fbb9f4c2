"""Reads each number without a score off one action, in the image plane.

Every function returns `Missing` with the reason if the number cannot be measured. Heights are shares of the athlete's
stature, which body proportions give from trunk and leg length.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.action_window import ActionWindow
from services.analyzer.biomechanics.events import LEAST_SEEN
from services.analyzer.biomechanics.filtering import LONGEST_BRIDGE_SECONDS
from services.analyzer.biomechanics.foot_contact import Landing, Missing, front_leg
from services.analyzer.biomechanics.kinematics import (
    BODY_PER_STATURE,
    ELBOW,
    FOOT,
    SIDES,
    Side,
    angle_of,
    both_sides,
    foot,
    frame_rate,
    landmarks_of,
    middle,
    other,
    torso_length,
)
from services.analyzer.biomechanics.metrics.scored import (
    FRONT_LEG_LOST,
    KNEE_ERROR_DEG,
    LEAST_VISIBILITY,
    NOT_SIDE_ON,
    joints_over_time,
    standing_knee,
    standing_seconds,
    visibility,
)
from services.analyzer.biomechanics.model import Evidence, MeasuredJoints, Reading
from services.analyzer.pose.landmarks import Poses, select_frames

# A value at a moment is the mean over this stretch around it, or the nearest sample.
MOMENT_SECONDS = 0.05
STRAIGHT_DEG = 180.0  # upper bound of an angle in the image
RUN_UP_SECONDS, SLOWEST_RUN_UP_STATURES_PER_SECOND = 0.5, 0.5
CAMERA_DRIFT_TORSOS, STANDS_AFTER_RELEASE_SECONDS = 0.2, 0.1
# Measured: below the first pair an elbow angle in the image is off by 80 degrees, below the second by 30 to 36.
SHORTEST_ARM, LEAST_ELBOW_VISIBILITY = 0.7, 0.9
SURE_ARM, SURE_ELBOW_VISIBILITY = 0.85, 0.98
ARM_SURE_DEG, ARM_UNSURE_DEG = 20.0, 35.0
ARM_RAISE_SECONDS = 0.3
LOWEST_ELBOW_RATE_FPS = 19.5  # the arm takes a tenth of a second from level to upright
TOO_FEW_FOR_AN_ELBOW = "too few frames: under 20 a second around the action"
NO_DELIVERY = Missing("no delivery")

# Typical errors, measured in docs/metrics.md: statures, 1/s, degrees.
# The stride's is the RMS over eight rendered films (0.015) and three codings of a real delivery (0.075): in one of them
# the model misplaces the rear foot.
STRIDE_ERROR, HEIGHT_ERROR, TREND_ERROR = 0.04, 0.035, 0.15
LEAN_ERROR_DEG = 5.0
# The model misses the knee's angle by one bias all through an action: its change is off by no more.
KNEE_CHANGE_ERROR_DEG = 3.0
# With an error of more degrees the front knee at a moment, and its change, are absent.
MOST_KNEE_ERROR_DEG, MOST_KNEE_CHANGE_ERROR_DEG = 10.0, 15.0


def stride_length(window: ActionWindow) -> Reading | Missing:
    """Distance between the feet along the image at front-foot contact, in statures."""
    if window.end_on:
        return NOT_SIDE_ON
    if isinstance(window.landing, Missing):
        return window.landing
    apart = np.abs(foot(window.poses, Side.LEFT) - foot(window.poses, Side.RIGHT))[:, 0]
    contact, times = window.landing.time_seconds, window.poses.times
    width = max(MOMENT_SECONDS, 1.01 / frame_rate(window.poses))
    near = apart[(times >= contact) & (times <= contact + width)]
    stride = float(np.nanmean(near)) / stature(window) if np.isfinite(near).any() else float("nan")
    return reading(window, stride, contact, both_sides(*FOOT), STRIDE_ERROR)


def run_up_speed_trend(window: ActionWindow) -> Reading | Missing:
    """Acceleration of the hips in the 0.5 s before front-foot contact over their mean speed, in 1/s.

    From a parabola through their positions, which averages noise over the stretch. Absent if the standing front
    foot drifts, as it does if the camera moves.
    """
    if isinstance(window.action, Missing) or window.bowling_arm is None:
        return NO_DELIVERY
    if window.end_on:
        return NOT_SIDE_ON
    if isinstance(window.landing, Missing):
        return window.landing
    if _camera_moves(window, window.landing, window.action.time_seconds + STANDS_AFTER_RELEASE_SECONDS):
        return Missing("the standing foot drifts in the picture: the foot slides, or the camera moves")
    contact = window.landing.time_seconds
    if len(_run_up(window, contact)) < LEAST_SEEN * RUN_UP_SECONDS * frame_rate(window.poses):
        return Missing("too few frames of the run-up")
    speed, trend = _speed_and_trend(window, contact)
    if abs(speed) < SLOWEST_RUN_UP_STATURES_PER_SECOND:
        return Missing("the player hardly moves across the picture before the front foot lands")
    return reading(window, trend, contact, both_sides("hip"), TREND_ERROR)


def _run_up(window: ActionWindow, end: float) -> Poses:
    """The frames with a detection in the last half second before a moment."""
    poses = window.poses
    return select_frames(poses, (poses.times >= end - RUN_UP_SECONDS) & (poses.times <= end) & poses.detected)


def _speed_and_trend(window: ActionWindow, end: float) -> tuple[float, float]:
    """Mean speed of the hips over the last half second, in statures a second, and acceleration over speed, in 1/s."""
    poses = _run_up(window, end)
    times = poses.times
    if len(times) < 3:
        return 0.0, float("nan")
    x = middle(poses, "hip")[:, 0] / stature(window)
    half_acceleration, _, _ = np.polyfit(times - times.mean(), x, 2)
    speed = float((x[-1] - x[0]) / (times[-1] - times[0]))
    return speed, float(2 * half_acceleration / speed) if speed else float("nan")


def release_height(window: ActionWindow) -> Reading | Missing:
    """Height of the bowling wrist over the front sole at release, in statures; the ball is a hand higher."""
    if isinstance(window.action, Missing) or window.bowling_arm is None:
        return NO_DELIVERY
    if isinstance(window.landing, Missing):
        return window.landing
    leg = front_leg(window.poses, window.landing, window.action.time_seconds)
    if not len(leg.times):
        return FRONT_LEG_LOST
    soles = np.stack(
        [np.max([window.poses.point(name)[:, 1] for name in landmarks_of(side, FOOT)], axis=0) for side in SIDES]
    )
    ground = float(np.median(soles[leg.labels, leg.samples]))
    wrist, release = f"{window.bowling_arm}_wrist", window.action.time_seconds
    height = (ground - value_at(window.poses, window.poses.point(wrist)[:, 1], release)) / stature(window)
    return reading(window, height, release, (wrist,), HEIGHT_ERROR)


def trunk_lateral_flexion(window: ActionWindow) -> Reading | Missing:
    """Lean of the trunk away from the bowling arm at release, in degrees; visible only along the pitch."""
    if isinstance(window.action, Missing) or window.bowling_arm is None:
        return NO_DELIVERY
    if not window.end_on:
        return Missing("view not from the front or behind")
    poses, release = window.poses, window.action.time_seconds
    trunk = middle(poses, "shoulder") - middle(poses, "hip")
    across = poses.point(f"{other(window.bowling_arm)}_shoulder") - poses.point(f"{window.bowling_arm}_shoulder")
    away = np.sign(np.nanmedian(across[np.abs(poses.times - release) <= 2 * MOMENT_SECONDS, 0]))
    lean = np.degrees(np.arctan2(away * trunk[:, 0], -trunk[:, 1]))
    joints = both_sides("hip", "shoulder")
    return reading(window, value_at(poses, lean, release), release, joints, LEAN_ERROR_DEG)


def front_knee_at_contact(window: ActionWindow) -> Reading | Missing:
    """Angle of the front knee at front-foot contact, in degrees."""
    return _knee(window, lambda contact, _: contact, KNEE_ERROR_DEG, MOST_KNEE_ERROR_DEG, moment=0)


def front_knee_at_release(window: ActionWindow) -> Reading | Missing:
    """Angle of the front knee at release (batting: 0.3 s after contact), in degrees."""
    return _knee(window, lambda _, release: release, KNEE_ERROR_DEG, MOST_KNEE_ERROR_DEG, moment=-1)


def front_knee_change(window: ActionWindow) -> Reading | Missing:
    """Angle of the front knee at release less that at contact, in degrees; negative if the knee gives way."""
    change, most = KNEE_CHANGE_ERROR_DEG, MOST_KNEE_CHANGE_ERROR_DEG
    return _knee(window, lambda contact, release: release - contact, change, most, moment=-1)


def elbow_extension(window: ActionWindow) -> Reading | Missing:
    """Angle of the bowling elbow at release less that with the arm level, in degrees of the image.

    One camera also sees the elbow's carrying angle and the arm's rotation as extension: the number does not decide
    whether an action is legal.
    """
    arm = window.bowling_arm
    if isinstance(window.action, Missing) or arm is None:
        return NO_DELIVERY
    poses, release = window.poses, window.action.time_seconds
    if frame_rate(poses) < LOWEST_ELBOW_RATE_FPS:
        return Missing(TOO_FEW_FOR_AN_ELBOW)
    level = _arm_level_seconds(poses, arm, release)
    if level is None:
        return Missing("arm not seen level before release")
    stretch = _between(poses, level, release)
    visible = float(np.nanmin(poses.seen(f"{arm}_elbow")[stretch], initial=1))
    if visible < LEAST_ELBOW_VISIBILITY:
        return Missing("the elbow is not seen clearly")
    length = _arm_length_share(poses, arm, stretch)
    if length < SHORTEST_ARM:
        return Missing("the arm looks too short: it points towards the camera, or its joints are misplaced")
    sure = visible > SURE_ELBOW_VISIBILITY and length > SURE_ARM
    joints = landmarks_of(arm, ELBOW)
    angle = angle_of(poses, joints)
    value = value_at(poses, angle, release) - value_at(poses, angle, level)
    return reading(window, value, release, joints, ARM_SURE_DEG if sure else ARM_UNSURE_DEG)


def _knee(
    window: ActionWindow, value_of: Callable[[float, float], float], error: float, most_error: float, moment: int
) -> Reading | Missing:
    """A number from the front knee's angles at contact and at release. moment: index of the sample that shows it."""
    standing = standing_knee(window)
    if isinstance(standing, Missing):
        return standing
    knee, confidence = standing
    width = max(MOMENT_SECONDS, 0.6 / frame_rate(window.poses))
    contact, release = _ends(knee.times, knee.degrees, standing_seconds(window), width)
    value = value_of(min(contact, STRAIGHT_DEG), min(release, STRAIGHT_DEG))
    return Reading(
        value=value,
        moments=[Evidence(float(knee.times[moment]), value)],
        frames=len(knee.times),
        confidence=confidence,
        error=error * window.coarseness,
        joints=joints_over_time(knee),
        most_error=most_error * window.coarseness,
    )


def _ends(times: Floats, values: Floats, moments: tuple[float, float], width: float) -> tuple[float, float]:
    """Values at two moments near the ends of a series: means over the first and last `width` seconds, extrapolated."""
    first, last = times <= times[0] + width, times >= times[-1] - width
    start, end = float(values[first].mean()), float(values[last].mean())
    from_start, to_end = float(times[first].mean()), float(times[last].mean())
    rate = (end - start) / max(to_end - from_start, MOMENT_SECONDS)
    return start - rate * (from_start - moments[0]), end + rate * (moments[1] - to_end)


def reading(
    window: ActionWindow,
    value: float,
    moment: float,
    joints: Sequence[str],
    error: float,
) -> Reading | Missing:
    """The reading of one moment; Missing if the joints are not visible at it, or the value is not finite."""
    width = max(MOMENT_SECONDS, 1.01 / frame_rate(window.poses))
    near = select_frames(window.poses, np.abs(window.poses.times - moment) <= width)
    joint_visibility = visibility(near, joints)
    if joint_visibility < LEAST_VISIBILITY or not np.isfinite(value):
        return Missing(f"{joints[0].split('_')[-1]} not visible")
    return Reading(
        value=float(value),
        moments=[Evidence(moment, float(value))],
        frames=int(near.detected.sum()),
        confidence=window.moment_confidence * joint_visibility,
        error=error * window.coarseness,
        joints=(MeasuredJoints(moment, tuple(joints)),),
    )


def stature(window: ActionWindow) -> float:
    """Pixels."""
    return window.body / BODY_PER_STATURE


def value_at(poses: Poses, values: Floats, moment: float) -> float:
    """(n,) values interpolated at a moment by pchip; NaN without known samples around it."""
    near = np.isfinite(values) & (np.abs(poses.times - moment) <= LONGEST_BRIDGE_SECONDS)
    if near.sum() < 2 or not poses.times[near][0] <= moment <= poses.times[near][-1]:
        return float("nan")
    from scipy.interpolate import PchipInterpolator  # lazy: SciPy takes a second to import, which delays the first pose

    return float(PchipInterpolator(poses.times[near], values[near])(moment))


def _between(poses: Poses, start: float, end: float) -> NDArray[np.bool_]:
    """(n,) whether a detection lies in a stretch of time, extended by half a step at both ends."""
    half_step = 0.5 / frame_rate(poses)
    return (poses.times >= start - half_step) & (poses.times <= end + half_step) & poses.detected


def _camera_moves(window: ActionWindow, landing: Landing, until: float) -> bool:
    """Whether the standing front foot drifts through the image by over 0.2 torso."""
    leg = front_leg(window.poses, landing, until)
    x = leg.place[:, 0] / torso_length(window.poses)
    return len(x) > 3 and abs(float(np.median(x[-2:]) - np.median(x[:2]))) > CAMERA_DRIFT_TORSOS


def _arm_level_seconds(poses: Poses, arm: Side, release: float) -> float | None:
    """When the rising arm was last level in the 0.3 s before release; None if no two samples enclose that."""
    rise = (poses.point(f"{arm}_shoulder") - poses.point(f"{arm}_wrist"))[:, 1]
    before = np.flatnonzero((poses.times >= release - ARM_RAISE_SECONDS) & (poses.times <= release) & poses.detected)
    for a, b in reversed(list(pairwise(before))):
        if rise[a] < 0 <= rise[b]:
            return float(np.interp(0, [rise[a], rise[b]], [poses.times[a], poses.times[b]]))
    return None


def _arm_length_share(poses: Poses, arm: Side, stretch: NDArray[np.bool_]) -> float:
    """The arm's shortest length in a stretch over its longest in the clip, both in the image, along its two bones."""
    bones = pairwise(landmarks_of(arm, ELBOW))
    lengths = sum(np.linalg.norm(poses.point(a) - poses.point(b), axis=1) for a, b in bones)
    return float(np.nanmin(lengths[stretch]) / np.nanmax(lengths)) if stretch.any() else 0.0
