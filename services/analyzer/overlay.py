"""Writes the video again, upright, smaller, at its true times and with the athlete's skeleton in it."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from services.analyzer.decode import RGB, Losses, Picture, lent_pictures
from services.analyzer.drawing import skeleton, skeleton_at
from services.analyzer.probe import Video
from services.analyzer.sampling import Indices
from services.analyzer.series import Floats, Poses
from services.analyzer.settings import Limits

LONG_SIDE = 960
# Told how far the work is, 0 to 1.
Progress = Callable[[float], None]
CLOCK = Fraction(1, 90_000)
# Fast first: the file is looked at for a week and thrown away.
ENCODER = {"preset": "veryfast", "crf": "25"}


def write_overlay(video: Video, poses: Poses, chosen: Indices, limits: Limits, out: Path, progress: Progress) -> None:
    """The chosen frames of `video` as H.264 (yuv420p, index first) in `out`; `chosen` are indices into video.pts."""
    source = lent_pictures(video, chosen, limits, Losses(), LONG_SIDE)
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(video.fps).limit_denominator(1001), options=ENCODER)
        stream.pix_fmt, stream.codec_context.time_base, stream.codec_context.thread_count = "yuv420p", CLOCK, 2
        for picture in source:
            frame = av.VideoFrame.from_ndarray(_drawn(picture, poses), format="rgb24")
            if not stream.codec_context.is_open:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base = round(picture.time_seconds / CLOCK), CLOCK
            container.mux(stream.encode(frame))
            progress(picture.time_seconds / video.duration_seconds)
        container.mux(stream.encode())


def _drawn(picture: Picture, poses: Poses) -> RGB:
    """The picture with its skeleton, an even number of pixels each way, as H.264 wants it."""
    points, visibility = skeleton_at(poses, picture.time_seconds)
    height, width = picture.rgb.shape[:2]
    drawn = skeleton(picture.rgb, points * (width / poses.width, height / poses.height), visibility)
    return np.ascontiguousarray(drawn[: height - height % 2, : width - width % 2])


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

    fields: dict[str, Any] = {name: joined(name) for name in ("times", "image", "world", "visibility", "people")}
    return replace(whole, **fields)
