"""Reads each metric off one action: a value in the athlete's own lengths or in degrees, worst moments, a confidence.

A reading that cannot be made is `Missing` with its reason. Everything hangs on a window in seconds about contact or
release, with soft edges, so that an event that is off by a frame moves little.
"""

from dataclasses import dataclass, replace

import numpy as np

from services.analyzer.biomechanics.action_window import Look
from services.analyzer.biomechanics.events import LEAST_SEEN, Action
from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.biomechanics.foot_contact import Landing, Missing, front_knee
from services.analyzer.biomechanics.kinematics import (
    BODY_PER_STATURE,
    FOOT,
    HEAD,
    SIDES,
    feet,
    feet_in_view,
    frame_rate,
    head,
    middle,
    other,
)
from services.analyzer.biomechanics.landmark_noise import tremor
from services.analyzer.pose.landmarks import INDEX, Floats

KNEE_AFTER_CONTACT_SECONDS = 0.3

SWAY_CUT_OFF_HZ, ANGLE_CUT_OFF_HZ = 3.0, 6.0
LEAST_VISIBILITY = 0.5
HIPS_FOR_FEET_CONFIDENCE = 0.5
GUESSED_ARM_CONFIDENCE = 0.5
# Thigh or shank, of trunk + thigh + shank (Drillis and Contini 1966).
BONE_PER_BODY = 0.246 / BODY_PER_STATURE
MOMENTS_APART_SECONDS, MOST_MOMENTS = 0.3, 3
# Typical errors, as docs/metrics.md measured them: of the value; body lengths; degrees.
HEAD_ERROR_SHARE, BALANCE_ERROR_SHARE, LEAST_SWAY_ERROR = 0.05, 0.10, 0.002
ELBOW_ERROR, KNEE_ERROR_DEG = 0.015, 3.0
NOT_SIDE_ON = Missing("view not side-on")


@dataclass(frozen=True)
class Reading:
    """One metric in one action: `moments` are (seconds, value), worst first; frames seen in the window.

    error: by how much the value scatters from film to film of one movement, in its unit; two of three are nearer.
    unsure: what its moment, off by as much as moments are, adds to that.
    curve: (n,) seconds and (n,) values over time that the number was read off; None for one of a single moment.
    """

    value: float
    moments: list[tuple[float, float]]
    frames: int
    confidence: float
    error: float
    curve: tuple[Floats, Floats] | None = None
    unsure: float = 0.0


def head_stability(look: Look) -> Reading | Missing:
    """RMS distance of the head from its mean place over the feet, in bodies."""
    base, joints, trust = _ground(look)
    offset = (head(look.poses) - base) / look.body
    return _spread(look, offset, [*HEAD, *joints], trust, "head", HEAD_ERROR_SHARE)


def balance_drift(look: Look) -> Reading | Missing:
    """RMS of the trunk's sideways distance from its mean place over the feet, in bodies."""
    if look.end_on:
        return NOT_SIDE_ON
    base, joints, trust = _ground(look)
    trunk = (middle(look.poses, "hip") + middle(look.poses, "shoulder")) / 2
    offset = (trunk - base)[:, :1] / look.body
    joints = [f"{side}_{part}" for side in SIDES for part in ("hip", "shoulder")] + joints
    return _spread(look, offset, joints, trust, "trunk", BALANCE_ERROR_SHARE)


def _ground(look: Look) -> tuple[Floats, list[str], float]:
    """What sway is measured against: the feet; where they are out of the picture the hips, and then trusted less."""
    if feet_in_view(look.inside):
        return feet(look.poses), [f"{side}_{part}" for side in SIDES for part in FOOT], 1.0
    return middle(look.poses, "hip"), [], HIPS_FOR_FEET_CONFIDENCE


def elbow_drop(look: Look) -> Reading | Missing:
    """Weighted mean of how far the elbow is below the shoulder, in bodies; negative is above.

    The front arm's in batting and bowling, else the one with the faster hand.
    """
    if isinstance(look.action, Missing):
        return look.action
    if look.bowling_arm:
        return _elbow_of(look, other(look.bowling_arm))  # the bowling elbow swings from low to high anyway
    if look.discipline != "batting":
        return _elbow_of(look, look.action.side)
    if look.front_leg:
        return _elbow_of(look, look.front_leg)
    # Side unknown: the top hand's elbow is the higher one in nearly every grip, but that is a guess.
    both = [reading for side in SIDES if isinstance(reading := _elbow_of(look, side), Reading)]
    if not both:
        return Missing("front arm not visible")
    top = min(both, key=lambda reading: reading.value)
    return replace(top, confidence=GUESSED_ARM_CONFIDENCE * top.confidence)


def _elbow_of(look: Look, side: str) -> Reading | Missing:
    joints = [f"{side}_elbow", f"{side}_shoulder"]
    drop = (look.poses.point(joints[0]) - look.poses.point(joints[1]))[:, 1:] / look.body
    series = _series(look, drop, joints, f"{side} arm")
    if isinstance(series, Missing):
        return series
    times, values, weights, confidence = series
    value = float(np.average(values[:, 0], weights=weights))
    drops, error = values[:, 0], ELBOW_ERROR * look.coarseness
    return Reading(value, worst(times, drops, weights), _frames(look), confidence, error, (times, drops))


def front_knee_brace(look: Look) -> Reading | Missing:
    """Smallest angle of the front knee between front-foot contact and release (batting: 0.3 s later), in degrees."""
    series = standing_knee(look)
    if isinstance(series, Missing):
        return series
    times, degrees, confidence = series
    grid, angle = _smooth_angle(look, times, degrees)
    smallest = float(np.nanmin(angle))
    moments = worst(grid, -angle, np.ones(len(grid)), -1)
    unsure = float(np.hypot(_knee_tremor(look), _hangs_on_one_frame(look, times, degrees, smallest)))
    return Reading(smallest, moments, len(times), confidence, KNEE_ERROR_DEG * look.coarseness, (grid, angle), unsure)


def _smooth_angle(look: Look, times: Floats, degrees: Floats) -> tuple[Floats, Floats]:
    """An angle on the even grid, filtered: (m,) seconds and (m,) degrees."""
    grid, angle = resample(times, degrees)
    return grid, lowpass(angle, min(ANGLE_CUT_OFF_HZ, 0.4 * frame_rate(look.poses)))


def _hangs_on_one_frame(look: Look, times: Floats, degrees: Floats, smallest: float) -> float:
    """Degrees by which the smallest angle is larger without the frame it is smallest in: mixed-up legs last for one."""
    k = int(np.argmin(degrees))
    if k in (0, len(degrees) - 1):
        return 0.0  # it opens or closes all the way, and the end is a moment of its own
    _, without = _smooth_angle(look, np.delete(times, k), np.delete(degrees, k))
    return float(np.nanmin(without)) - smallest


def _knee_tremor(look: Look) -> float:
    """Degrees by which the filtered knee trembles: by about that the smallest angle comes out too small.

    A straight leg's knee moves the angle through thigh and shank at once, hip and ankle through one each.
    """
    hip, knee, ankle = (tremor(look.poses)[INDEX[f"{look.front_leg}_{part}"]] for part in ("hip", "knee", "ankle"))
    bone = look.body * BONE_PER_BODY
    passed = min(1.0, 2 * ANGLE_CUT_OFF_HZ / frame_rate(look.poses))
    return float(np.degrees(np.sqrt((hip**2 + 4 * knee**2 + ankle**2) * passed) / bone))


def standing(look: Look) -> tuple[float, float]:
    """Seconds of contact, and of release (batting: 0.3 s later): the stretch that the front leg is read in."""
    assert isinstance(look.landing, Landing)  # noqa: S101 - else no leg stands
    assert isinstance(look.action, Action)  # noqa: S101
    contact = look.landing.time_seconds
    return contact, look.action.time_seconds if look.bowling_arm else contact + KNEE_AFTER_CONTACT_SECONDS


def standing_knee(look: Look) -> tuple[Floats, Floats, float] | Missing:
    """The front knee from contact to release (batting: 0.3 s on): (n,) seconds, (n,) degrees, confidence."""
    if isinstance(look.action, Missing):
        return look.action
    if isinstance(look.landing, Missing):
        return look.landing
    if look.end_on:
        return NOT_SIDE_ON
    contact, until = standing(look)
    times, degrees = front_knee(look.poses, look.landing, until)
    expected = (until - contact) * frame_rate(look.poses)
    if len(times) < max(3, LEAST_SEEN * expected):
        return Missing("front knee not seen between contact and release")
    knee = [f"{look.landing.side}_{part}" for part in ("hip", "knee", "ankle")]
    return times, degrees, look.trust * visibility(look, knee)


def _spread(look: Look, offset: Floats, joints: list[str], trust: float, what: str, share: float) -> Reading | Missing:
    """Weighted RMS about the weighted mean of an (n, k) path; share: its error, of the value."""
    if look.too_coarse:
        return look.too_coarse
    series = _series(look, offset, joints, what)
    if isinstance(series, Missing):
        return series
    times, path, weights, confidence = series
    away = np.linalg.norm(path - np.average(path, axis=0, weights=weights), axis=1)
    value = float(np.sqrt(np.average(away**2, weights=weights)))
    error = max(share * value, LEAST_SWAY_ERROR) * look.coarseness
    return Reading(value, worst(times, away, weights), _frames(look), trust * confidence, error, (times, away))


def _series(look: Look, path: Floats, joints: list[str], what: str) -> tuple[Floats, Floats, Floats, float] | Missing:
    """The path on the grid where it has weight: seconds, values, weights, confidence; Missing if too little is seen."""
    likely = visibility(look, joints)
    if likely < LEAST_VISIBILITY:
        return Missing(f"{what} not visible")
    times, values = resample(look.poses.times, path)
    values = lowpass(values, SWAY_CUT_OFF_HZ)
    weights = look.weights(times)
    use = (weights > 0) & np.isfinite(values).all(axis=1)
    wanted = (look.end - look.start) * GRID_HZ
    seen = float(weights[use & (weights == 1)].sum() / wanted) if wanted > 0 else 0.0
    if seen < LEAST_SEEN:
        return Missing("too few frames with the athlete in view")
    return times[use], values[use], weights[use], look.trust * likely * min(1.0, seen)


def visibility(look: Look, joints: list[str]) -> float:
    """Median over joints and frames of the window; 0 where nobody is in it."""
    values = look.inside.visibility[:, [INDEX[joint] for joint in joints]]
    return float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0


def _frames(look: Look) -> int:
    return int(look.inside.detected.sum())


def worst(times: Floats, badness: Floats, weights: Floats, sign: int = 1) -> list[tuple[float, float]]:
    """The worst moments, at least 0.3 s apart: (seconds, badness * sign), inside the window proper."""
    moments: list[tuple[float, float]] = []
    for k in np.argsort(-np.where(weights == 1, badness, -np.inf)):
        if len(moments) == MOST_MOMENTS or weights[k] < 1 or not np.isfinite(badness[k]):
            break
        if all(abs(times[k] - at) >= MOMENTS_APART_SECONDS for at, _ in moments):
            moments.append((float(times[k]), float(badness[k] * sign)))
    return moments
