"""Films of two people whose paths are known: the rendered batter where he is, somebody else cut out and moved past him.

batter ─▶ his outline, from his true joints ─┐
other  ─▶ what differs from the still field ─┴─▶ pasted behind or in front, at a place and size of our choice
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from services.analyzer.settings import Limits
from services.analyzer.video.frames import RGB, Losses, pictures
from services.analyzer.video.probe import probe
from testing.data.videos import BATTER, truth

FRAMES, WIDTH, HEIGHT = 105, 960, 540
LIMBS = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
)  # fmt: skip


@dataclass(frozen=True)
class Other:
    """Whom we add: the batter again, in another shirt and mirrored, `scale` of his size.

    path: (seconds, pixels to the right of the batter's first place) pairs, straight in between.
    """

    scale: float
    path: tuple[tuple[float, float], ...]
    in_front: bool = False

    def offset(self, seconds: float) -> float:
        return float(np.interp(seconds, *zip(*self.path, strict=True)))


def batter_frames() -> list[RGB]:
    """All frames of the sample."""
    video = probe(BATTER, Limits())
    return [picture.rgb for picture in pictures(video, np.arange(FRAMES), Limits(), Losses())]


def joints(frame: int) -> dict[str, tuple[float, float]]:
    """The batter's true joints, in pixels."""
    return {name: (x, y) for name, (x, y) in truth()["frames"][frame]["joints_2d_px"].items()}


def trunk(points: dict[str, tuple[float, float]]) -> np.ndarray:
    """(2,) the middle of shoulders and hips."""
    return np.mean([points[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip")], axis=0)


def outline(points: dict[str, tuple[float, float]]) -> np.ndarray:
    """(HEIGHT, WIDTH) 255 where the batter is: limbs as thick lines, trunk and head as filled shapes."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    at = {name: (round(x), round(y)) for name, (x, y) in points.items()}
    for start, end in LIMBS:
        cv2.line(mask, at[start], at[end], 255, 30)
    body = np.array([at["left_shoulder"], at["right_shoulder"], at["right_hip"], at["left_hip"]])
    cv2.drawContours(mask, [cv2.convexHull(body)], -1, 255, -1)
    cv2.polylines(mask, [cv2.convexHull(body)], True, 255, 40)
    cv2.circle(mask, at["nose"], 32, 255, -1)
    neck = tuple((np.array(at["left_shoulder"]) + np.array(at["right_shoulder"])) // 2)
    cv2.line(mask, at["nose"], (int(neck[0]), int(neck[1])), 255, 30)
    for side in ("left", "right"):
        x, y = at[f"{side}_ankle"]
        cv2.ellipse(mask, (x, y + 10), (24, 18), 0, 0, 360, 255, -1)
    return mask


def compose(batter: list[RGB], other: Other, still: int = 0) -> Iterator[tuple[RGB, np.ndarray, np.ndarray]]:
    """Every frame: picture, the batter's true trunk, the other's; the other stands as the batter in frame `still`."""
    points = joints(still)
    cutout = batter[still][:, ::-1].copy()  # mirrored, and his blue shirt red
    red, blue = cutout[..., 0].astype(int), cutout[..., 2].astype(int)
    shirt = blue > red + 25
    cutout[shirt] = cutout[shirt][:, ::-1]
    mask = outline(points)[:, ::-1]
    size = (round(WIDTH * other.scale), round(HEIGHT * other.scale))
    cutout, mask = cv2.resize(np.ascontiguousarray(cutout), size), cv2.resize(np.ascontiguousarray(mask), size)
    own = trunk(points)
    place = np.array([WIDTH - own[0], own[1]]) * other.scale
    feet = max(y for _, y in points.values())
    for k, picture in enumerate(batter):
        wanted_x = trunk(joints(0))[0] + other.offset(k / 30)
        shift = np.array([wanted_x - place[0], feet - feet * other.scale])
        matrix = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
        moved = cv2.warpAffine(cutout, matrix, (WIDTH, HEIGHT))
        there = cv2.warpAffine(mask, matrix, (WIDTH, HEIGHT)) > 127
        if not other.in_front:
            there &= outline(joints(k)) == 0
        yield np.where(there[..., None], moved, picture), trunk(joints(k)), place + shift


def write_composite(path: Path, batter: list[RGB], other: Other) -> tuple[np.ndarray, np.ndarray]:
    """The film; returns (FRAMES, 2) true trunks of the batter and of the other."""
    mine, theirs = [], []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for rgb, own, other_s in compose(batter, other):
            mine.append(own)
            theirs.append(other_s)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return np.array(mine), np.array(theirs)
