"""Writes overlay.mp4: the video upright and smaller, at its true times, with skeleton, angles and events drawn in.

file ─▶ decoder, as H.264 stores it ─▶ canvas ─▶ encoder ─▶ overlay.mp4
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from services.analyzer.arrays import Floats, Indices
from services.analyzer.artifacts.anonymization import Anonymizer
from services.analyzer.artifacts.yuv_canvas import WHITE, Canvas, text_width
from services.analyzer.pose.landmarks import INDEX, Poses
from services.analyzer.pose.skeleton import BONES, COLOURS, FAINT, side_of, skeleton_at
from services.analyzer.progress import Progress
from services.analyzer.settings import Limits
from services.analyzer.video.encoder import Encoder
from services.analyzer.video.frames import Losses, PlanarPicture, planar_pictures
from services.analyzer.video.probe import Video

LONG_SIDE = 960
# Speed matters more than size: the file is needed for a week.
OPTIONS = {"preset": "ultrafast", "crf": "24"}
# How long the label of an event stays in the picture.
LABEL_SECONDS = 0.6
BONE_ENDS = np.array([[INDEX[name] for name in bone] for bone in BONES])
BONE_SIDES = np.array([side_of(*bone) for bone in BONES])
# Joints, each with the two ends of the limbs that form its angle.
ANGLES = [[INDEX[f"{side}_{part}"] for part in parts] for side in ("left", "right")
          for parts in (("knee", "hip", "ankle"), ("elbow", "shoulder", "wrist"))]  # fmt: skip
# A shorter limb points at the camera, and its angle is not visible. Below the second value a joint counts as straight.
MIN_LIMB_PIXELS, NEARLY_STRAIGHT = 6.0, 0.1


@dataclass(frozen=True)
class Label:
    """The text of an event in the picture, ASCII, the event's time, and that of the frame that shows it."""

    time_seconds: float
    text: str
    frame_seconds: float


def write_overlay(
    video: Video,
    poses: Poses,
    chosen: Indices,
    limits: Limits,
    out: Path,
    progress: Progress,
    labels: Sequence[Label] = (),
    anonymizer: Anonymizer | None = None,
) -> None:
    """Write the chosen frames to `out` as H.264 (yuv420p, index first); `chosen` are indices into video.pts.

    Each frame has its own time since the video's first frame, and lasts until the next frame or the video's end.
    """
    source = planar_pictures(video, chosen, limits, Losses(), LONG_SIDE)
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        encoder: Encoder | None = None
        for picture in source:
            encoder = encoder or Encoder(container, _add_stream(container, video, picture), video, chosen)
            if anonymizer:
                anonymizer.anonymize(picture.planes, picture.time_seconds)
            _annotate(picture, poses, labels)
            encoder.write(picture)
            progress(picture.time_seconds / video.duration_seconds)
        if encoder:
            encoder.finish()


def _add_stream(container: OutputContainer, video: Video, picture: PlanarPicture) -> VideoStream:
    rate = Fraction(video.fps).limit_denominator(1001)
    stream: VideoStream = container.add_stream("libx264", rate=rate, options=OPTIONS)
    stream.width, stream.height = picture.width, picture.height
    stream.codec_context.thread_count = 1  # the decoder uses the other core
    return stream


def _annotate(picture: PlanarPicture, poses: Poses, labels: Sequence[Label]) -> None:
    canvas = Canvas(picture)
    points, visibility = skeleton_at(poses, picture.time_seconds)
    if np.isfinite(points).all():
        points = points * (picture.width / poses.width, picture.height / poses.height)
        _draw_skeleton(canvas, points, visibility)
        for joint, *ends in ANGLES:
            if visibility[[joint, *ends]].min() >= FAINT:
                _draw_angle(canvas, points[joint], *points[ends])
    _draw_labels(canvas, [label for label in labels if 0 <= picture.time_seconds - label.frame_seconds < LABEL_SECONDS])


def _draw_skeleton(canvas: Canvas, points: Floats, visibility: Floats) -> None:
    thickness, clear = max(canvas.width, canvas.height) / 320, visibility[BONE_ENDS].min(axis=1) >= FAINT
    for side, colour in COLOURS.items():
        for shown, width in ((clear, thickness), (~clear, 1.0)):
            chosen = BONE_ENDS[shown & (side == BONE_SIDES)]
            if len(chosen):
                canvas.draw_lines(points[chosen], colour, width)


def _draw_angle(canvas: Canvas, corner: Floats, a: Floats, b: Floats) -> None:
    """Draw an arc inside the joint, and its degrees on the outer side. corner, a, b: (2,) pixels."""
    long_side, limbs = max(canvas.width, canvas.height), np.array([a - corner, b - corner])
    lengths = np.hypot(*limbs.T)
    if lengths.min() < MIN_LIMB_PIXELS:
        return
    first, second = limbs / lengths[:, None]
    degrees = np.degrees(np.arccos(np.clip(first @ second, -1, 1)))
    canvas.draw_arc(corner, a, b, min(lengths.min() / 3, long_side / 40), WHITE)
    height, text = long_side / 70, f"{degrees:.0f}°"
    outwards = -(first + second)
    if np.hypot(*outwards) < NEARLY_STRAIGHT:
        outwards = np.array([second[1], -second[0]])
    x, y = corner + outwards / np.hypot(*outwards) * height * 2.5
    canvas.draw_text(text, x - text_width(text, height) / 2, y + height / 2, height)


def _draw_labels(canvas: Canvas, shown: Sequence[Label]) -> None:
    height = max(canvas.width, canvas.height) / 45
    for row, label in enumerate(shown, start=1):
        text = f"{label.text}  {label.time_seconds:.2f} s"
        fitting_height = height * min(1.0, (canvas.width - 2 * height) / text_width(text, height))
        canvas.draw_text(text, height, row * height * 2.2, fitting_height)
