"""Reads what a file says about itself and what its packets say, which may differ, before a single picture is kept.

    path ─▶ size ─▶ container ─▶ picture size ─▶ time stamps of all packets ─▶ first picture ─▶ Video

Only plain containers are opened: a playlist that calls itself a video could make FFmpeg read other files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.analyzer.faults import BadInput
from services.analyzer.series import Floats
from services.analyzer.settings import Limits

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
# A stream may end a little before its container says; more than this is a file that broke off.
SLACK_SECONDS = 0.25


@dataclass(frozen=True)
class Video:
    """One readable video file.

    width, height: pixels of the upright picture, square ones. rotation_degrees: clockwise turn that makes the stored
    picture upright. pts: (n,) presentation stamps of all frames in the file, increasing, in units of time_base.
    declared_seconds: how long the file says it is, None where it doesn't. damage: why it is less, None where it isn't.
    """

    path: Path
    size_bytes: int
    container: str
    codec: str
    width: int
    height: int
    rotation_degrees: int
    declared_fps: float | None
    declared_seconds: float | None
    declared_frames: int
    time_base: Fraction
    pts: NDArray[np.int64]

    @cached_property
    def times(self) -> Floats:
        """(n,) seconds since the first frame."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base), dtype=float)

    @property
    def fps(self) -> float:
        """Frames per second as the time stamps have it; for one frame, as declared."""
        span = float(self.times[-1])
        return (len(self.pts) - 1) / span if span > 0 else (self.declared_fps or 1.0)

    @property
    def duration_seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.times[-1]) + 1 / self.fps

    @property
    def damage(self) -> str | None:
        """What is missing from the file by its own account."""
        if self.declared_seconds and self.duration_seconds < self.declared_seconds - SLACK_SECONDS:
            return f"the video ends at {self.duration_seconds:.1f} s of the {self.declared_seconds:.1f} s it declares"
        if len(self.pts) < 0.98 * self.declared_frames:
            return f"the file holds {len(self.pts)} of the {self.declared_frames} frames it declares"
        return None


def probe(path: Path, limits: Limits) -> Video:
    """Look a file over. Raises BadInput with a sentence that names the file."""
    size = _weigh(path, limits)
    with opened(path, limits) as (container, stream):
        _check_pixels(path, stream.width, stream.height, limits)
        declared = _declared_seconds(container, stream)
        stamps = _stamps(path, container, stream, limits)
    with opened(path, limits) as (container, stream):
        first = _first_picture(path, container, stream)
        turn = clockwise(first)
        width, height = upright_size(first, stream)
        video = Video(
            path=path,
            size_bytes=size,
            container=container.format.name,
            codec=stream.codec_context.name,
            width=width,
            height=height,
            rotation_degrees=turn,
            declared_fps=float(stream.average_rate) if stream.average_rate else None,
            declared_seconds=declared,
            declared_frames=stream.frames,
            time_base=stream.time_base or Fraction(1, 1000),
            pts=stamps,
        )
    if video.duration_seconds > limits.max_video_seconds:
        lasts = f"lasts {video.duration_seconds:.0f} s; at most {limits.max_video_seconds:.0f} s can be analysed"
        raise BadInput("TOO_LONG", f"{path.name} {lasts}")
    return video


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file's container and its first moving picture, for as long as the block runs. Raises BadInput."""
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(limits.max_video_pixels)}
    try:
        container = av.open(str(path), options=options)
    except (av.FFmpegError, ValueError) as error:
        raise BadInput("NOT_A_VIDEO", f"{path.name} is not a video that can be read") from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not moving:
            raise BadInput("NO_VIDEO_STREAM", f"{path.name} holds no video, only other streams")
        yield container, moving[0]


def clockwise(frame: VideoFrame) -> int:
    """Degrees, a multiple of 90, by which a stored picture is to be turned clockwise to stand upright."""
    return round(-frame.rotation / 90) * 90 % 360


def upright_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height of the picture with square pixels, turned upright."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = round(frame.width * aspect) if aspect > 0 else frame.width
    return (frame.height, width) if clockwise(frame) % 180 else (width, frame.height)


def _weigh(path: Path, limits: Limits) -> int:
    if not path.is_file():
        raise BadInput("FILE_MISSING", f"{path.name} is not there" if not path.exists() else f"{path.name} is no file")
    size = path.stat().st_size
    if size == 0:
        raise BadInput("FILE_EMPTY", f"{path.name} is empty")
    if size > limits.max_video_bytes:
        raise BadInput("FILE_TOO_LARGE", f"{path.name} has {size} bytes; at most {limits.max_video_bytes} are taken")
    return size


def _check_pixels(path: Path, width: int, height: int, limits: Limits) -> None:
    if width <= 0 or height <= 0:
        raise BadInput("NOT_DECODABLE", f"{path.name} does not say how large its pictures are")
    if width * height > limits.max_video_pixels:
        sentence = f"{path.name} is {width}x{height}; at most {limits.max_video_pixels} pixels a picture are taken"
        raise BadInput("TOO_MANY_PIXELS", sentence)


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """What the file says; of the stream if it says so (a sound track may be longer), else of the whole."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska: 00:00:03.500000000
    if tag.count(":") == 2:
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
        return 3600 * hours + 60 * minutes + seconds
    return container.duration / av.time_base if container.duration else None


def _stamps(path: Path, container: InputContainer, stream: VideoStream, limits: Limits) -> NDArray[np.int64]:
    """Presentation stamps of all frames, without decoding them; what an edit list cuts away is not among them."""
    stamps: list[int] = []
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                stamps.append(packet.pts)
            if len(stamps) > limits.max_video_frames:
                sentence = f"{path.name} has over {limits.max_video_frames} frames; no more can be analysed"
                raise BadInput("TOO_MANY_FRAMES", sentence)
    except av.FFmpegError:
        pass  # What was read counts; that it is short of what is declared is found later and said.
    if not stamps:
        raise BadInput("NOT_DECODABLE", f"{path.name} holds no pictures with time stamps")
    return np.unique(np.array(stamps, dtype=np.int64))


def _first_picture(path: Path, container: InputContainer, stream: VideoStream) -> VideoFrame:
    """The first picture that decodes; one broken packet does not condemn the rest."""
    reason = "no picture in it can be decoded"
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame
            except av.FFmpegError as error:
                reason = f"it breaks off or cannot be decoded ({error.strerror})"
    except av.FFmpegError as error:
        reason = f"it cannot be read to its first picture ({error.strerror})"
    raise BadInput("NOT_DECODABLE", f"{path.name} is not usable: {reason}")
