"""Reads a file's format, length, picture size and damage, before any picture is analysed.

path ─▶ size ─▶ container, time stamps, first picture (`container.py`, in the sandbox) ─▶ Video
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.errors import BadInput
from services.analyzer.sandbox.client import run_in_sandbox
from services.analyzer.settings import Limits
from services.rules.film_limits import too_large, too_long

# A stream may end this much before its declared end, by rounding; a larger difference means a truncated file.
SLACK_SECONDS, SLACK_FRAMES = 0.01, 0.5
# A gap in the time stamps, in frames, that shows missing frames.
MISSING_FRAMES_GAP = 2.5
# A capture rate this near to the file's own is the same rate: 30 and 29.97, or a phone's uneven frames.
SAME_RATE = 0.1


@dataclass(frozen=True)
class Video:
    """One readable video file.

    width, height: square pixels of the upright picture. orientation: how to turn a stored picture upright: swap the
    axes, then flip left-right, then flip top-bottom. hdr: "pq", "hlg" or None. colors: primaries, transfer and matrix
    by the numbers of ITU-T H.273. interlaced: whether each frame is two pictures, one of each field. pts: (n,)
    presentation stamps of all pictures, increasing, in units of time_base. end: the stamp at which the last one ends.
    declared_*: the file's own metadata, None if absent; declared_frames: 0 if an edit list hides some. capture_fps: the
    rate at which the camera recorded, by the client or by the file's tag, None if unknown. packet_error: the first
    error in the packets, else None. clock_begins: where a player's clock begins, in seconds of the stamps. joins:
    stamps at which further recordings begin. tracks: how many video tracks the file has. ignored_recordings: how many
    recordings after the first are not read. slowed: whether an edit list shows the film at another speed.

    All times and rates are of real time, also of a slow-motion file, except those that a name says are the file's.
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
    interlaced: bool
    declared_fps: float | None
    capture_fps: float | None
    declared_seconds: float | None
    declared_frames: int
    time_base: Fraction
    pts: NDArray[np.int64]
    end: int
    packet_error: str | None
    clock_begins: float
    joins: tuple[int, ...]
    tracks: int
    ignored_recordings: int
    slowed: bool

    @cached_property
    def slowdown(self) -> float:
        """How many times slower than life the file plays; 1 if it plays in real time or nothing else is known."""
        file_span = float((self.pts[-1] - self.pts[0]) * self.time_base)
        if self.capture_fps is None or not file_span:
            return 1.0
        ratio = self.capture_fps * file_span / (len(self.pts) - 1)
        return 1.0 if abs(ratio - 1) <= SAME_RATE else ratio

    @cached_property
    def times(self) -> Floats:
        """(n,) seconds since the first frame."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base) / self.slowdown, dtype=float)

    @property
    def fps(self) -> float:
        """Frames per second by the time stamps; of a video with one frame, the declared rate."""
        span = float(self.times[-1])
        return (len(self.pts) - 1) / span if span > 0 else (self.declared_fps or 1.0)

    @property
    def duration_seconds(self) -> float:
        """From the first frame to the end of the last, which is taken to last as long as the mean."""
        return float(self.times[-1]) + 1 / self.fps

    @property
    def end_seconds(self) -> float:
        """When the last frame ends by its packet, in seconds since the first frame."""
        return max(float((self.end - self.pts[0]) * self.time_base) / self.slowdown, float(self.times[-1]))

    @property
    def file_seconds(self) -> float:
        """How long the file plays."""
        return self.duration_seconds * self.slowdown

    @property
    def _median_step_seconds(self) -> float:
        """The median time from one frame to the next."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0

    @property
    def longest_gap_seconds(self) -> float:
        """The longest time from one frame to the next."""
        return float(np.diff(self.times).max(initial=0.0))

    @property
    def join_seconds(self) -> tuple[float, ...]:
        """When further recordings begin, in seconds since the first frame."""
        stamps = [join - self.pts[0] for join in self.joins]
        return tuple(round(float(stamp * self.time_base) / self.slowdown, 3) for stamp in stamps)

    @property
    def late_seconds(self) -> float:
        """By how much a player's clock is ahead of `times`: it begins with the sound, or before the first picture."""
        return float(self.pts[0] * self.time_base) - self.clock_begins

    @property
    def mirrored(self) -> bool:
        """Whether the stored picture is a mirror image of the upright one."""
        return sum(self.orientation) % 2 == 1

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes the stored picture upright; a mirrored picture is mirrored first."""
        swap, left_right, top_bottom = self.orientation
        if swap:
            return 90 if left_right else 270
        return 180 if top_bottom else 0

    @property
    def damage(self) -> str | None:
        """A sentence that says how the file differs from its own metadata, None if it is complete."""
        ends = max(self.file_seconds, self.end_seconds * self.slowdown)
        slack = SLACK_SECONDS + SLACK_FRAMES / self.fps * self.slowdown
        if self.declared_seconds and ends + slack < self.declared_seconds:
            return f"the video ends at {ends:.2f} s of the {self.declared_seconds:.2f} s it declares"
        # Where nothing else is wrong, frames without a gap between them are all there.
        gap = self.longest_gap_seconds > MISSING_FRAMES_GAP * self._median_step_seconds
        if len(self.pts) < self.declared_frames and gap:
            return f"the file holds {len(self.pts)} of the {self.declared_frames} frames it declares"
        return f"the file is broken: {self.packet_error}" if self.packet_error else None


def probe(path: Path, limits: Limits, capture_fps: float = 0) -> Video:
    """Inspect a file. Raises BadInput with a message that names the file.

    capture_fps: the rate at which the camera recorded, as the client states it; 0: as the file says.
    """
    size = _check_size(path, limits)
    video = _inspect(path, size, limits, capture_fps)
    if video.file_seconds > limits.max_video_seconds:
        raise BadInput("TOO_LONG", too_long(path.name, video.file_seconds, limits.max_video_seconds))
    return video


def _inspect(path: Path, size: int, limits: Limits, capture_fps: float) -> Video:
    inspection = run_in_sandbox("inspect", {"path": str(path.absolute())}, limits.for_sandbox)
    try:
        next(inspection)
    except StopIteration as end:
        facts = end.value
    facts["capture_fps"] = capture_fps or facts["capture_fps"]
    facts["time_base"] = Fraction(*facts["time_base"])
    facts["orientation"] = tuple(facts["orientation"])
    facts["joins"] = tuple(facts["joins"])
    facts["colors"] = tuple(facts["colors"])
    facts["pts"] = np.array(facts["pts"], dtype=np.int64)
    return Video(path=path, size_bytes=size, **facts)


def _check_size(path: Path, limits: Limits) -> int:
    """Bytes of a regular file, within the limits. Checked first, because opening a pipe would wait forever."""
    if not path.is_file():
        fault = "is not a regular file" if path.exists() else "does not exist"
        raise BadInput("FILE_MISSING", f"{path.name} {fault}")
    size = path.stat().st_size
    if size == 0:
        raise BadInput("FILE_EMPTY", f"{path.name} is empty")
    if size > limits.max_video_bytes:
        raise BadInput("FILE_TOO_LARGE", too_large(path.name, size, limits.max_video_bytes))
    return size
