"""What the pose stage hands on: a person's landmarks over time, one row a sampled frame, NaN where nobody was seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# MediaPipe's names in MediaPipe's order; left and right are the athlete's own.
LANDMARKS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
INDEX = {name: i for i, name in enumerate(LANDMARKS)}
# What has a row a frame.
PER_FRAME = ("times", "image", "world", "visibility", "presence", "people")
# Of each landmark, the one of the other side; what lies in the middle is its own. What is left in a mirror was right.
OTHER_SIDE = [INDEX[n.replace("left", "right") if "left" in n else n.replace("right", "left")] for n in LANDMARKS]


@dataclass(frozen=True)
class Poses:
    """Landmarks of one person.

    times: (n,) seconds since the first frame of the video, increasing, true timestamps.
    image: (n, 33, 2) pixels of the upright picture, x right and y down.
    world: (n, 33, 3) metres about the hips' middle, as MediaPipe estimates them.
    visibility, presence: (n, 33) 0..1, how likely each is not hidden, and is in the picture at all.
    people: (n,) how many people the detector saw.
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
    def detected(self) -> NDArray[np.bool_]:
        """(n,) whether the athlete was found in the frame."""
        return np.isfinite(self.image[:, 0, 0])

    def point(self, name: str) -> Floats:
        """(n, 2) pixels of one landmark."""
        return self.image[:, INDEX[name]]

    def seen(self, name: str) -> Floats:
        """(n,) visibility of one landmark."""
        return self.visibility[:, INDEX[name]]
