"""Defines the skeleton's bones and colours, and interpolates its position at a time."""

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.pose.landmarks import Poses

BONES = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("left_wrist", "left_index"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("right_wrist", "right_index"),
    ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_hip", "right_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("left_ankle", "left_heel"),
    ("left_heel", "left_foot_index"), ("right_ankle", "right_heel"), ("right_heel", "right_foot_index"),
    ("left_ear", "nose"), ("right_ear", "nose"),
)  # fmt: skip
# RGB by the athlete's side. The colours differ in lightness too, for people who cannot tell orange from blue.
COLOURS = {"left": (255, 176, 32), "right": (40, 120, 255), "middle": (240, 240, 240)}
# A longer gap between two posed frames gets no skeleton, because fast motion cannot be interpolated across it.
LONGEST_BRIDGE_SECONDS = 0.25
FAINT = 0.5


def skeleton_at(poses: Poses, time_seconds: float) -> tuple[Floats, Floats]:
    """(33, 2) pixels and (33,) visibility at a time, by linear interpolation between the two frames around it.

    NaN if either frame has no athlete, or the frames are too far apart.
    """
    unknown = np.full((33, 2), np.nan), np.zeros(33)
    if not len(poses) or not poses.times[0] - 0.05 <= time_seconds <= poses.times[-1] + 0.05:
        return unknown
    right = min(int(np.searchsorted(poses.times, time_seconds)), len(poses) - 1)
    left = max(right - 1, 0)
    span = float(poses.times[right] - poses.times[left])
    part = float(np.clip((time_seconds - poses.times[left]) / span, 0, 1)) if span else 1.0
    if 0 < part < 1 and span > LONGEST_BRIDGE_SECONDS:
        return unknown
    near, far = (left, right) if part < 1 else (right, right)
    mix = part if near != far else 1.0
    image = poses.image[near] + mix * (poses.image[far] - poses.image[near]) if mix else poses.image[near]
    return image, poses.visibility[far if mix > FAINT else near]


def side_of(start: str, end: str) -> str:
    """The side of a bone: `left`, `right`, or `middle` if it joins both sides."""

    sides = {name.split("_")[0] for name in (start, end)} & {"left", "right"}
    return sides.pop() if len(sides) == 1 else "middle"
