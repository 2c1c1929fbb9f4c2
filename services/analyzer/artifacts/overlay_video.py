"""Writes the video again, upright, smaller, at its true times, with the athlete's skeleton, angles and events in it.

file ─▶ decoder, as H.264 stores it ─▶ ink ─▶ encoder ─▶ overlay.mp4
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from services.analyzer.artifacts.anonymization import Veil
from services.analyzer.artifacts.yuv_canvas import WHITE, Ink, text_width
from services.analyzer.pose.landmarks import INDEX, PER_FRAME, Floats, Poses
from services.analyzer.pose.skeleton import BONES, COLOURS, FAINT, side_of, skeleton_at
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, Planar, planar_pictures
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import Indices

LONG_SIDE = 960
# Told how far the work is, 0 to 1.
Progress = Callable[[float], None]
CLOCK = Fraction(1, 90_000)
# Fast first: the file is looked at for a week and thrown away.
ENCODER = {"preset": "ultrafast", "crf": "24"}
# How long the name of an event stays in the picture.
SHOWN_SECONDS = 0.6
BONE_ENDS = np.array([[INDEX[name] for name in bone] for bone in BONES])
BONE_SIDES = np.array([side_of(*bone) for bone in BONES])
# Joints, each with the two ends of its angle.
ANGLES = [[INDEX[f"{side}_{part}"] for part in parts] for side in ("left", "right")
          for parts in (("knee", "hip", "ankle"), ("elbow", "shoulder", "wrist"))]  # fmt: skip
# Of a limb that points at the camera no angle can be seen.
SHORTEST_LIMB_PIXELS, NEARLY_STRAIGHT = 6.0, 0.1


@dataclass(frozen=True)
class Label:
    """What happens at a moment, for the picture: ASCII."""

    time_seconds: float
    words: str


def write_overlay(
    video: Video,
    poses: Poses,
    chosen: Indices,
    limits: Limits,
    out: Path,
    progress: Progress,
    labels: Sequence[Label] = (),
    veil: Veil | None = None,
) -> None:
    """The chosen frames of `video` as H.264 (yuv420p, index first) in `out`; `chosen` are indices into video.pts.

    Each frame has its own time, since the first of the video, and lasts until the next, or its end.
    """
    source = planar_pictures(video, chosen, limits, Losses(), LONG_SIDE)
    ticks = np.round(np.append(video.times[chosen], video.end_seconds) / float(CLOCK)).astype(int).tolist()
    starts = dict(zip(chosen.tolist(), ticks, strict=False))
    # The encoder passes no lengths on, and a last frame may stay for as long as it likes.
    lengths = {start: end - start for start, end in pairwise(ticks)}
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: VideoStream | None = None
        for picture in source:
            stream = stream or _stream(container, video, picture)
            if veil:
                veil.hide(picture.planes, picture.time_seconds)
            _draw(picture, poses, labels)
            frame = av.VideoFrame.from_ndarray(picture.flat.reshape(-1, picture.width), format="yuv420p")
            frame.pts, frame.time_base = starts[picture.index], CLOCK
            _mux(container, stream.encode(frame), lengths)
            progress(picture.time_seconds / video.duration_seconds)
        if stream:
            _mux(container, stream.encode(), lengths)


def _mux(container: OutputContainer, packets: "list[Packet[VideoStream]]", lengths: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = lengths.get(packet.pts or 0, 0)
        container.mux(packet)


def _stream(container: OutputContainer, video: Video, picture: Planar) -> VideoStream:
    rate = Fraction(video.fps).limit_denominator(1001)
    stream: VideoStream = container.add_stream("libx264", rate=rate, options=ENCODER)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    context = stream.codec_context
    context.time_base, context.thread_count = CLOCK, 1  # the decoder has the other core
    context.color_primaries, context.color_trc, context.colorspace = video.colors
    return stream


def _draw(picture: Planar, poses: Poses, labels: Sequence[Label]) -> None:
    ink = Ink(picture)
    points, visibility = skeleton_at(poses, picture.time_seconds)
    if np.isfinite(points).all():
        points = points * (picture.width / poses.width, picture.height / poses.height)
        _skeleton(ink, points, visibility)
        for joint, *ends in ANGLES:
            if visibility[[joint, *ends]].min() >= FAINT:
                _angle(ink, points[joint], *points[ends])
    _labels(ink, [label for label in labels if 0 <= picture.time_seconds - label.time_seconds < SHOWN_SECONDS])


def _skeleton(ink: Ink, points: Floats, visibility: Floats) -> None:
    thick, clear = max(ink.width, ink.height) / 320, visibility[BONE_ENDS].min(axis=1) >= FAINT
    for side, colour in COLOURS.items():
        for shown, width in ((clear, thick), (~clear, 1.0)):
            chosen = BONE_ENDS[shown & (side == BONE_SIDES)]
            if len(chosen):
                ink.lines(points[chosen], colour, width)


def _angle(ink: Ink, corner: Floats, a: Floats, b: Floats) -> None:
    """An arc in the joint and its degrees on the outer side."""
    long_side, limbs = max(ink.width, ink.height), np.array([a - corner, b - corner])
    lengths = np.hypot(*limbs.T)
    if lengths.min() < SHORTEST_LIMB_PIXELS:
        return
    first, second = limbs / lengths[:, None]
    degrees = np.degrees(np.arccos(np.clip(first @ second, -1, 1)))
    ink.arc(corner, a, b, min(lengths.min() / 3, long_side / 40), WHITE)
    height, text = long_side / 70, f"{degrees:.0f}°"
    outwards = -(first + second)
    if np.hypot(*outwards) < NEARLY_STRAIGHT:
        outwards = np.array([second[1], -second[0]])
    x, y = corner + outwards / np.hypot(*outwards) * height * 2.5
    ink.words(text, x - text_width(text, height) / 2, y + height / 2, height)


def _labels(ink: Ink, shown: Sequence[Label]) -> None:
    height = max(ink.width, ink.height) / 45
    for row, label in enumerate(shown, start=1):
        text = f"{label.words}  {label.time_seconds:.2f} s"
        fitting = height * min(1.0, (ink.width - 2 * height) / text_width(text, height))
        ink.words(text, height, row * height * 2.2, fitting)


def blend(whole: Poses, closeups: list[Poses]) -> Poses:
    """Every posed frame once, in order of time: those of a close-up, and of the whole clip where there is none."""
    parts = [part for part in closeups if len(part)]
    outside = np.ones(len(whole), dtype=bool)
    for part in parts:
        outside &= (whole.times < part.times[0]) | (whole.times > part.times[-1])
    order = np.argsort(np.concatenate([whole.times[outside], *(part.times for part in parts)]), kind="stable")

    def joined(name: str) -> Floats:
        values = [getattr(whole, name)[outside], *(getattr(part, name) for part in parts)]
        return np.asarray(np.concatenate(values)[order], dtype=float)

    fields: dict[str, Any] = {name: joined(name) for name in PER_FRAME}
    return replace(whole, **fields)
