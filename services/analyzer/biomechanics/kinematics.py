"""Lengths, angles and speeds of a body in the picture: one small pure function each.

Pixels of the upright picture everywhere; lengths are then divided by the athlete's own, so that neither the camera's
distance nor its resolution is in a number. The two units: a *torso* is the clip's median shoulder-to-hip distance, a
*body* the length of trunk, thigh and shank stretched out.
"""

import numpy as np

from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.pose.landmarks import INDEX, Floats, Poses

SIDES = ("left", "right")
HEAD = ("nose", "left_ear", "right_ear")
FOOT = ("ankle", "heel", "foot_index")
HAND_CUT_OFF_HZ = 4.0
CLEARLY_APART_METRES = 0.4
# Trunk, thigh and shank over trunk, where legs are out of the picture: 0.288, 0.245 and 0.246 of stature.
# Drillis and Contini 1966, as tabled by Winter (2009), figure 4.1.
BODY_PER_STATURE = 0.288 + 0.245 + 0.246
BODY_PER_TORSO = BODY_PER_STATURE / 0.288


def other(side: str) -> str:
    """left for right, right for left."""
    return SIDES[1 - SIDES.index(side)]


def middle(poses: Poses, part: str) -> Floats:
    """(n, 2) pixels half-way between the left and right landmark of a part ("hip", "shoulder")."""
    return (poses.point(f"left_{part}") + poses.point(f"right_{part}")) / 2


def head(poses: Poses) -> Floats:
    """(n, 2) pixels of the mean of nose and both ears."""
    return np.asarray(np.mean([poses.point(name) for name in HEAD], axis=0))


def foot(poses: Poses, side: str) -> Floats:
    """(n, 2) pixels of the mean of ankle, heel and toe."""
    return np.asarray(np.mean([poses.point(f"{side}_{part}") for part in FOOT], axis=0))


def feet(poses: Poses) -> Floats:
    """(n, 2) pixels half-way between both feet: the same point if MediaPipe swaps left and right."""
    return (foot(poses, "left") + foot(poses, "right")) / 2


def torso_length(poses: Poses) -> float:
    """Pixels from shoulder-middle to hip-middle, median over the clip; NaN where nobody of any size is seen."""
    lengths = np.linalg.norm(middle(poses, "shoulder") - middle(poses, "hip"), axis=1)
    length = float(np.nanmedian(lengths)) if np.isfinite(lengths).any() else 0.0
    return length or float("nan")


def body_length(poses: Poses) -> float:
    """Pixels of trunk + thigh + shank, longer leg, 90th percentile over the clip (bending hardly shortens that).

    From the torso by body proportions where the legs are not in the picture; NaN where nobody is seen.
    """
    chain = [
        sum(
            np.linalg.norm(poses.point(f"{side}_{a}") - poses.point(f"{side}_{b}"), axis=1)
            for a, b in (("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"))
        )
        for side in SIDES
    ]
    longest = np.max(chain, axis=0)[np.isfinite(poses.image[:, 0, 0])]
    if not len(longest):
        return float("nan")
    if not feet_in_view(poses):
        return BODY_PER_TORSO * torso_length(poses)
    return float(np.percentile(longest, 90)) or float("nan")


def feet_in_view(poses: Poses) -> bool:
    """Whether at least one knee, ankle and foot are, for most of the time, inside the picture and likely visible."""
    return any(in_view(poses, [f"{side}_{part}" for part in ("knee", *FOOT)]) for side in SIDES)


def in_view(poses: Poses, names: list[str]) -> bool:
    """Whether each of these landmarks is, in the median, inside the picture with a visibility of 0.5 or more.

    MediaPipe goes on guessing joints that the picture's edge cuts off, with coordinates beyond that edge.
    """
    there = np.flatnonzero(poses.detected)
    if not len(there):
        return False
    at = [INDEX[name] for name in names]
    points = np.median(poses.image[there][:, at], axis=0)
    inside = (points >= 0).all() and (points <= (poses.width, poses.height)).all()
    return bool(inside and (np.median(poses.visibility[there][:, at], axis=0) >= 0.5).all())


def stance_turn(poses: Poses) -> float:
    """Degrees, 0 to 90, by which the line between the feet turns away from the picture's plane, in the median.

    From MediaPipe's space, for want of another; NaN where the feet are under 0.4 m apart, too near to have a line.
    """
    apart = np.mean(
        [poses.world[:, INDEX[f"left_{part}"]] - poses.world[:, INDEX[f"right_{part}"]] for part in FOOT], axis=0
    )
    apart = apart[np.hypot(apart[:, 0], apart[:, 2]) >= CLEARLY_APART_METRES]
    if not len(apart):
        return float("nan")
    return float(np.median(np.degrees(np.arctan2(np.abs(apart[:, 2]), np.abs(apart[:, 0])))))


def joint_angle(a: Floats, b: Floats, c: Floats) -> Floats:
    """(n,) degrees at b between a and c, each (n, 2 or 3); 180 is straight. NaN in, NaN out."""
    u, v = a - b, c - b
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (u * v).sum(axis=-1) / (np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1))
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def knee_angle(poses: Poses, side: str) -> Floats:
    """(n,) degrees of a knee in the picture, 180 = straight; not the joint's flexion in space."""
    return joint_angle(poses.point(f"{side}_hip"), poses.point(f"{side}_knee"), poses.point(f"{side}_ankle"))


def hip_angle(poses: Poses, side: str) -> Floats:
    """(n,) degrees of a hip in the picture, shoulder to knee."""
    return joint_angle(poses.point(f"{side}_shoulder"), poses.point(f"{side}_hip"), poses.point(f"{side}_knee"))


def elbow_angle(poses: Poses, side: str) -> Floats:
    """(n,) degrees of an elbow in the picture."""
    return joint_angle(poses.point(f"{side}_shoulder"), poses.point(f"{side}_elbow"), poses.point(f"{side}_wrist"))


def hand_velocities(poses: Poses) -> tuple[Floats, Floats]:
    """Of each wrist against the hips: (m,) seconds on the even grid and (m, 2, 2) torsos per second, left and right.

    Differences of raw samples would grow with the frame rate and with noise, so they are taken after the filter.
    """
    wrists = np.stack([poses.point(f"{side}_wrist") for side in SIDES], axis=1) - middle(poses, "hip")[:, None]
    grid, path = resample(poses.times, wrists / torso_length(poses))
    if len(grid) < 3:
        return grid, np.zeros((len(grid), 2, 2))
    velocity = np.nan_to_num(np.gradient(lowpass(path, HAND_CUT_OFF_HZ), 1 / GRID_HZ, axis=0))
    velocity[[0, -1]] = 0  # one-sided differences at the ends are guesses
    return grid, np.asarray(velocity)


def hand_speeds(poses: Poses) -> tuple[Floats, Floats]:
    """The same as sizes: (m,) seconds on the even grid and (m, 2) torsos per second, left and right."""
    grid, velocity = hand_velocities(poses)
    return grid, np.asarray(np.linalg.norm(velocity, axis=-1))


def travel(poses: Poses) -> int:
    """+1 if the hips cross the picture to the right by over a torso, -1 to the left, 0 if they stay.

    First and last fifth of the clip are compared, in medians.
    """
    x = middle(poses, "hip")[poses.detected, 0]
    if len(x) < 2:
        return 0
    fifth = max(1, len(x) // 5)
    moved = (np.median(x[-fifth:]) - np.median(x[:fifth])) / torso_length(poses)
    return int(np.sign(moved)) if abs(moved) > 1 else 0


def frame_rate(poses: Poses) -> float:
    """Frames per second, from the median step of the time stamps; 0 with fewer than two frames."""
    return float(1 / np.median(np.diff(poses.times))) if len(poses) > 1 else 0.0
