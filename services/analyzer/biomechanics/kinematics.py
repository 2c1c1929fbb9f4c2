"""Computes lengths, angles and speeds of a body in the image plane, one pure function each.

Coordinates are pixels of the upright image. Callers divide lengths by the athlete's own length, which removes camera
distance and resolution. A *torso* is the clip's median distance from shoulders to hips. A *body* is trunk, thigh and
shank, added along the bones.
"""

from collections.abc import Iterable
from enum import StrEnum

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.pose.landmarks import INDEX, Poses


class Side(StrEnum):
    """The athlete's own left or right."""

    LEFT = "left"
    RIGHT = "right"


SIDES = (Side.LEFT, Side.RIGHT)
HEAD = ("nose", "left_ear", "right_ear")
FOOT = ("ankle", "heel", "foot_index")
# Parts of one side that make a joint angle; the vertex is in the middle.
KNEE = ("hip", "knee", "ankle")
HIP = ("shoulder", "hip", "knee")
ELBOW = ("shoulder", "elbow", "wrist")
HAND_CUT_OFF_HZ = 4.0
CLEARLY_APART_METRES = 0.4
# Trunk, thigh and shank are 0.288, 0.245 and 0.246 of stature: Drillis and Contini 1966, in Winter (2009), figure 4.1.
BODY_PER_STATURE = 0.288 + 0.245 + 0.246
BODY_PER_TORSO = BODY_PER_STATURE / 0.288


def other(side: str) -> Side:
    """The opposite side."""
    return Side.RIGHT if side == Side.LEFT else Side.LEFT


def landmarks_of(side: str, parts: Iterable[str]) -> tuple[str, ...]:
    """Landmark names of the parts on one side: ("hip", "knee") of the left is ("left_hip", "left_knee")."""
    return tuple(f"{side}_{part}" for part in parts)


def both_sides(*parts: str) -> tuple[str, ...]:
    """Landmark names of the parts on the left, then on the right."""
    return tuple(name for side in SIDES for name in landmarks_of(side, parts))


def middle(poses: Poses, part: str) -> Floats:
    """(n, 2) pixels of the midpoint between the left and right landmark of a part ("hip", "shoulder")."""
    return (poses.point(f"left_{part}") + poses.point(f"right_{part}")) / 2


def head(poses: Poses) -> Floats:
    """(n, 2) pixels: mean of nose and both ears."""
    return np.asarray(np.mean([poses.point(name) for name in HEAD], axis=0))


def foot(poses: Poses, side: str) -> Floats:
    """(n, 2) pixels: mean of ankle, heel and toe."""
    return np.asarray(np.mean([poses.point(name) for name in landmarks_of(side, FOOT)], axis=0))


def feet(poses: Poses) -> Floats:
    """(n, 2) pixels of the midpoint between both feet; it does not change if MediaPipe swaps left and right."""
    return (foot(poses, Side.LEFT) + foot(poses, Side.RIGHT)) / 2


def torso_length(poses: Poses) -> float:
    """Pixels from mid-shoulder to mid-hip, median over the clip; NaN if no athlete was detected."""
    lengths = np.linalg.norm(middle(poses, "shoulder") - middle(poses, "hip"), axis=1)
    length = float(np.nanmedian(lengths)) if np.isfinite(lengths).any() else 0.0
    return length or float("nan")


def body_length(poses: Poses) -> float:
    """Pixels of trunk, thigh and shank along the longer leg: the 90th percentile over the clip, robust to bending.

    Legs outside the image: torso length times body proportions. NaN if no athlete was detected.
    """
    lengths = [
        sum(
            np.linalg.norm(poses.point(f"{side}_{a}") - poses.point(f"{side}_{b}"), axis=1)
            for a, b in (("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"))
        )
        for side in SIDES
    ]
    longest = np.max(lengths, axis=0)[np.isfinite(poses.image[:, 0, 0])]
    if not len(longest):
        return float("nan")
    if not feet_in_view(poses):
        return BODY_PER_TORSO * torso_length(poses)
    return float(np.percentile(longest, 90)) or float("nan")


def feet_in_view(poses: Poses) -> bool:
    """Whether the knee, ankle and foot of at least one side are in view."""
    return any(in_view(poses, landmarks_of(side, ("knee", *FOOT))) for side in SIDES)


def in_view(poses: Poses, names: Iterable[str]) -> bool:
    """Whether the median of each landmark lies inside the image with a visibility of 0.5 or more.

    MediaPipe extrapolates joints beyond the image edge, so coordinates alone do not show that a joint is in view.
    """
    detected = np.flatnonzero(poses.detected)
    if not len(detected):
        return False
    columns = [INDEX[name] for name in names]
    points = np.median(poses.image[detected][:, columns], axis=0)
    inside = (points >= 0).all() and (points <= (poses.width, poses.height)).all()
    return bool(inside and (np.median(poses.visibility[detected][:, columns], axis=0) >= 0.5).all())


def stance_turn(series: Iterable[Poses]) -> float:
    """Angle, 0 to 90 degrees, between the main direction of the line through the feet and the image plane.

    Uses MediaPipe's world landmarks, the only depth available. Each frame of the series counts by the square of the
    feet's distance. NaN if the feet are under 0.4 m apart in every frame.
    """
    left, right = ([INDEX[name] for name in landmarks_of(side, FOOT)] for side in SIDES)
    lines = [(poses.world[:, left] - poses.world[:, right]).mean(axis=1) for poses in series]
    apart = np.concatenate([np.empty((0, 3)), *lines])[:, [0, 2]]
    apart = apart[np.isfinite(apart).all(axis=1)]
    if not (np.hypot(*apart.T) >= CLEARLY_APART_METRES).any():
        return float("nan")
    _, directions = np.linalg.eigh(apart.T @ apart)
    along, depth = np.abs(directions[:, -1])
    return float(np.degrees(np.arctan2(depth, along)))


def joint_angle(a: Floats, b: Floats, c: Floats) -> Floats:
    """(n,) degrees at b between a and c, each (n, 2 or 3); 180 is straight. NaN input gives NaN."""
    u, v = a - b, c - b
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (u * v).sum(axis=-1) / (np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1))
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def angle_of(poses: Poses, joints: tuple[str, ...]) -> Floats:
    """(n,) degrees in the image plane at the second of three landmarks; 180 is straight."""
    first, vertex, last = (poses.point(name) for name in joints)
    return joint_angle(first, vertex, last)


def knee_angle(poses: Poses, side: str) -> Floats:
    """(n,) degrees of a knee in the image plane; 180 is straight. This is not the joint's flexion in space."""
    return angle_of(poses, landmarks_of(side, KNEE))


def hip_angle(poses: Poses, side: str) -> Floats:
    """(n,) degrees of a hip in the image plane, from shoulder to knee."""
    return angle_of(poses, landmarks_of(side, HIP))


def elbow_angle(poses: Poses, side: str) -> Floats:
    """(n,) degrees of an elbow in the image plane."""
    return angle_of(poses, landmarks_of(side, ELBOW))


def hand_velocities(poses: Poses) -> tuple[Floats, Floats]:
    """Wrist velocities relative to the hips: (m,) seconds on the even grid, (m, 2, 2) torsos per second, left first.

    Differentiated after the filter: differences of raw samples would grow with frame rate and noise.
    """
    wrists = np.stack([poses.point(f"{side}_wrist") for side in SIDES], axis=1) - middle(poses, "hip")[:, None]
    grid, path = resample(poses.times, wrists / torso_length(poses))
    if len(grid) < 3:
        return grid, np.zeros((len(grid), 2, 2))
    velocity = np.nan_to_num(np.gradient(lowpass(path, HAND_CUT_OFF_HZ), 1 / GRID_HZ, axis=0))
    velocity[[0, -1]] = 0  # one-sided differences are unreliable
    return grid, np.asarray(velocity)


def hand_speeds(poses: Poses) -> tuple[Floats, Floats]:
    """Wrist speeds relative to the hips: (m,) seconds on the even grid, (m, 2) torsos per second, left first."""
    grid, velocity = hand_velocities(poses)
    return grid, np.asarray(np.linalg.norm(velocity, axis=-1))


def travel(poses: Poses) -> int:
    """+1 if the hips move right by over a torso, -1 if left, else 0: medians of the last against the first fifth."""
    x = middle(poses, "hip")[poses.detected, 0]
    if len(x) < 2:
        return 0
    fifth = max(1, len(x) // 5)
    moved = (np.median(x[-fifth:]) - np.median(x[:fifth])) / torso_length(poses)
    return int(np.sign(moved)) if abs(moved) > 1 else 0


def frame_rate(poses: Poses) -> float:
    """Frames per second on average; 0 with fewer than two frames.

    The median step would be 8.3 a second for frames sampled at 10 from 25 a second, which lie 2 or 3 apart.
    """
    return float((len(poses) - 1) / (poses.times[-1] - poses.times[0])) if len(poses) > 1 else 0.0
