"""Holds a person's landmarks over time, one row a frame, NaN in frames without the person."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.analyzer.arrays import Flags, Floats

# MediaPipe's names in MediaPipe's order; left and right are the athlete's own.
LANDMARKS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
INDEX = {name: i for i, name in enumerate(LANDMARKS)}
# The fields of Poses that have one row a frame.
PER_FRAME = ("times", "image", "world", "visibility", "presence", "people")
# For each landmark, the index of its counterpart on the other side; a landmark in the middle is its own counterpart.
OTHER_SIDE = [INDEX[n.replace("left", "right") if "left" in n else n.replace("right", "left")] for n in LANDMARKS]


@dataclass(frozen=True)
class Poses:
    """Landmarks of one person.

    times: (n,) seconds since the first frame of the video, increasing, from the time stamps.
    image: (n, 33, 2) pixels of the upright picture, x right and y down.
    world: (n, 33, 3) metres from the middle of the hips, as MediaPipe estimates them.
    visibility, presence: (n, 33) 0..1, the probability that a landmark is not hidden, and that it is in the picture.
    people: (n,) how many people the detector found.
    """

    times: Floats
    image: Floats
    world: Floats
    visibility: Floats
    presence: Floats
    people: Floats
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.times)

    @property
    def detected(self) -> Flags:
        """(n,) whether the frame shows the athlete."""
        return np.isfinite(self.image[:, 0, 0])

    def point(self, name: str) -> Floats:
        """(n, 2) pixels of one landmark."""
        return self.image[:, INDEX[name]]

    def seen(self, name: str) -> Floats:
        """(n,) visibility of one landmark."""
        return self.visibility[:, INDEX[name]]


def select_frames(poses: Poses, keep: Flags) -> Poses:
    """The same person in the kept frames only. keep: (n,)."""
    kept: dict[str, Any] = {name: getattr(poses, name)[keep] for name in PER_FRAME}
    return replace(poses, **kept)


def merge_poses(whole: Poses, closeups: list[Poses]) -> Poses:
    """Each frame once, in order of time: the close-ups' frames, and the whole clip's frames outside of them."""
    parts = [part for part in closeups if len(part)]
    outside = np.ones(len(whole), dtype=bool)
    for part in parts:
        outside &= (whole.times < part.times[0]) | (whole.times > part.times[-1])
    order = np.argsort(np.concatenate([whole.times[outside], *(part.times for part in parts)]), kind="stable")

    def merge(name: str) -> Floats:
        values = [getattr(whole, name)[outside], *(getattr(part, name) for part in parts)]
        return np.asarray(np.concatenate(values)[order], dtype=float)

    fields: dict[str, Any] = {name: merge(name) for name in PER_FRAME}
    return replace(whole, **fields)
