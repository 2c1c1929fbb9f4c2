"""Looks a file over before a single picture is kept: what it is, how long, how large, whether it is whole.

path ─▶ size ─▶ container, time stamps, first picture (`container.py`, in the sandbox) ─▶ Video
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.analyzer.errors import BadInput
from services.analyzer.pose.landmarks import Floats
from services.analyzer.sandbox.client import apart
from services.analyzer.settings import Limits

# A stream may end this much before its container says, of rounding; more is a file that broke off.
SLACK_SECONDS, SLACK_FRAMES = 0.01, 0.5
# Frames that are missing from a file leave a hole in its times this many times as long as a frame.
HOLE_FRAMES = 2.5


@dataclass(frozen=True)
class Video:
    """One readable video file.

    width, height: pixels of the upright picture, square ones. orientation: which stored picture stands upright as:
    axes swapped, left and right changed, top and bottom changed. hdr: "pq", "hlg" or None. colors: primaries, transfer
    and matrix by the numbers of ITU-T H.273. pts: (n,) presentation stamps of all frames in the file, increasing, in
    units of time_base; end: that of the last frame's end. declared_*: what the file says of itself, None where it
    doesn't. complaint: what was wrong with the packets, else None.
    """

    path: Path
    size_bytes: int
    container: str
    codec: str
    pixel_format: str
    hdr: str | None
    colors: tuple[int, int, int]
    width: int
    height: int
    orientation: tuple[bool, bool, bool]
    declared_fps: float | None
    declared_seconds: float | None
    declared_frames: int
    time_base: Fraction
    pts: NDArray[np.int64]
    end: int
    complaint: str | None

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
    def end_seconds(self) -> float:
        """When the last frame ends, as its file has it, since the first frame."""
        return max(float((self.end - self.pts[0]) * self.time_base), float(self.times[-1]))

    @property
    def _step(self) -> float:
        """Seconds from one frame to the next, as it is most of the time."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0

    @property
    def longest_gap_seconds(self) -> float:
        """The longest time that one frame stands for, the last one apart."""
        return float(np.diff(self.times).max(initial=0.0))

    @property
    def mirrored(self) -> bool:
        """Whether the stored picture is a mirror image of what is to be seen."""
        return sum(self.orientation) % 2 == 1

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes the stored picture upright; a mirrored one is turned after it was mirrored."""
        swap, left_right, top_bottom = self.orientation
        if swap:
            return 90 if left_right else 270
        return 180 if top_bottom else 0

    @property
    def damage(self) -> str | None:
        """What is missing from the file by its own account, None where it is whole."""
        ends = max(self.duration_seconds, float((self.end - self.pts[0]) * self.time_base))
        if self.declared_seconds and ends + SLACK_SECONDS + SLACK_FRAMES / self.fps < self.declared_seconds:
            return f"the video ends at {ends:.2f} s of the {self.declared_seconds:.2f} s it declares"
        # An edit list takes frames away as well, but only from the ends.
        if len(self.pts) < self.declared_frames and self.longest_gap_seconds > HOLE_FRAMES * self._step:
            return f"the file holds {len(self.pts)} of the {self.declared_frames} frames it declares"
        return f"the file is broken: {self.complaint}" if self.complaint else None


def probe(path: Path, limits: Limits) -> Video:
    """Look a file over. Raises BadInput with a sentence that names the file."""
    size = _weigh(path, limits)
    video = _video(path, size, limits)
    if video.duration_seconds > limits.max_video_seconds:
        lasts = f"lasts {video.duration_seconds:.0f} s; at most {limits.max_video_seconds:.0f} s can be analysed"
        raise BadInput("TOO_LONG", f"{path.name} {lasts}")
    return video


def _video(path: Path, size: int, limits: Limits) -> Video:
    looking = apart("inspect", {"path": str(path.absolute())}, limits.bounds)
    try:
        next(looking)
    except StopIteration as end:
        facts = end.value
    facts["time_base"] = Fraction(*facts["time_base"])
    facts["orientation"] = tuple(facts["orientation"])
    facts["pts"] = np.array(facts["pts"], dtype=np.int64)
    return Video(path=path, size_bytes=size, **facts)


def _weigh(path: Path, limits: Limits) -> int:
    if not path.is_file():
        raise BadInput("FILE_MISSING", f"{path.name} is not there" if not path.exists() else f"{path.name} is no file")
    size = path.stat().st_size
    if size == 0:
        raise BadInput("FILE_EMPTY", f"{path.name} is empty")
    if size > limits.max_video_bytes:
        raise BadInput("FILE_TOO_LARGE", f"{path.name} has {size} bytes; at most {limits.max_video_bytes} are taken")
    return size
