"""Makes videos of two people with known paths: the rendered batter, and a cut-out copy that moves past him.

batter ─▶ his outline, from his true joints ─┐
copy   ─▶ mirrored, with a red shirt ────────┴─▶ pasted behind or in front, at a chosen place and size
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from services.analyzer.arrays import Floats, Pixels
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
    """The second person: the batter mirrored, in another shirt, at `scale` of his size.

    path: (seconds, pixels to the right of the batter's first place) pairs, interpolated linearly.
    """

    scale: float
    path: tuple[tuple[float, float], ...]
    in_front: bool = False

    def offset(self, seconds: float) -> float:
        times, offsets = np.array(self.path, dtype=float).T
        return float(np.interp(seconds, times, offsets))


def batter_frames() -> list[RGB]:
    """All frames of the sample."""
    video = probe(BATTER, Limits())
    return [picture.rgb for picture in pictures(video, np.arange(FRAMES), Limits(), Losses())]


def joints(frame: int) -> dict[str, tuple[float, float]]:
    """The batter's true joints, in pixels."""
    return {name: (x, y) for name, (x, y) in truth()["frames"][frame]["joints_2d_px"].items()}


def trunk(points: dict[str, tuple[float, float]]) -> Floats:
    """(2,) the centre of shoulders and hips."""
    corners = [points[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip")]
    return np.asarray(np.mean(corners, axis=0))


def outline(points: dict[str, tuple[float, float]]) -> Pixels:
    """(HEIGHT, WIDTH) 255 inside the batter: limbs as thick lines, trunk and head as filled shapes."""
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


def compose(batter: list[RGB], other: Other, still: int = 0) -> Iterator[tuple[RGB, Floats, Floats]]:
    """Every frame: picture, the batter's true trunk, the other's; the other has the batter's pose of frame `still`."""
    points = joints(still)
    mirrored = batter[still][:, ::-1].copy()
    red, blue = mirrored[..., 0].astype(int), mirrored[..., 2].astype(int)
    shirt = blue > red + 25
    mirrored[shirt] = mirrored[shirt][:, ::-1]  # the blue shirt becomes red
    size = (round(WIDTH * other.scale), round(HEIGHT * other.scale))
    cutout = cv2.resize(np.ascontiguousarray(mirrored), size)
    mask = cv2.resize(np.ascontiguousarray(outline(points)[:, ::-1]), size)
    own = trunk(points)
    place = np.array([WIDTH - own[0], own[1]]) * other.scale
    feet = max(y for _, y in points.values())
    for k, picture in enumerate(batter):
        wanted_x = trunk(joints(0))[0] + other.offset(k / 30)
        shift = np.array([wanted_x - place[0], feet - feet * other.scale])
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], dtype=np.float32)
        moved = np.asarray(cv2.warpAffine(cutout, matrix, (WIDTH, HEIGHT)), dtype=np.uint8)
        visible = np.asarray(cv2.warpAffine(mask, matrix, (WIDTH, HEIGHT))) > 127
        if not other.in_front:
            visible &= outline(joints(k)) == 0
        yield np.where(visible[..., None], moved, picture), trunk(joints(k)), place + shift


def write_composite(path: Path, batter: list[RGB], other: Other) -> tuple[Floats, Floats]:
    """Write the video; returns (FRAMES, 2) true trunks of the batter and of the other."""
    batter_trunks, other_trunks = [], []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for rgb, batter_trunk, other_trunk in compose(batter, other):
            batter_trunks.append(batter_trunk)
            other_trunks.append(other_trunk)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return np.array(batter_trunks), np.array(other_trunks)
