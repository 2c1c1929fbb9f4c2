"""Reads chosen frames of a video as upright pictures with their true times.

    file ─▶ decoder (`decoder.py`, in the sandbox, a few pictures ahead) ─▶ shared memory ─▶ caller

Every requested frame that does not decode is counted in `Losses`.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from services.analyzer.arrays import Indices, Pixels
from services.analyzer.cpu_time import CPU_SECONDS
from services.analyzer.sandbox.client import run_in_sandbox
from services.analyzer.sandbox.protocol import Message
from services.analyzer.settings import Limits
from services.analyzer.video.probe import Video

# Pixels of shape (height, width, 3).
RGB = Pixels
# The decoder shrinks a picture above this: shrinking costs less than it saves only above 1080p.
LONG_SIDE = 1920
# A picture that is shrunk by this factor hides the artefacts of fast decoding.
FAST_DECODING_SHRINK = 1.9


@dataclass(frozen=True)
class Picture:
    """time_seconds since the video's first frame; rgb: (height, width, 3), contiguous, upright."""

    index: int
    time_seconds: float
    rgb: RGB


@dataclass(frozen=True)
class PlanarPicture:
    """A picture as H.264 stores it. width and height are even; flat: (height * 3 / 2 * width,) Y, then U and V."""

    index: int
    time_seconds: float
    width: int
    height: int
    flat: Pixels

    @property
    def planes(self) -> tuple[Pixels, Pixels, Pixels]:
        """Writable views of `flat`: Y, (height, width), then U and V, (height / 2, width / 2)."""
        area, half = self.width * self.height, (self.height // 2, self.width // 2)
        luma, blue, red = np.split(self.flat, [area, area * 5 // 4])
        return luma.reshape(self.height, self.width), blue.reshape(half), red.reshape(half)


@dataclass
class Losses:
    """Counts the requested frames that did not decode, and keeps the decoder's first error.

    resized_seconds: the first picture of another shape than the video's, None if all have the same.
    """

    missing: int = 0
    first_error: str | None = None
    resized_seconds: float | None = None

    @property
    def message(self) -> str | None:
        """A sentence for people, None if nothing was lost."""
        reason = f" ({self.first_error})" if self.first_error else ""
        if self.missing:
            return f"{self.missing} frames could not be decoded{reason}"
        return f"parts of the video are broken{reason}" if reason else None


def pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int = LONG_SIDE
) -> Generator[Picture, None, None]:
    """The wanted frames in order, each a copy that the caller owns; `wanted` are increasing indices into video.pts.

    Adds frames that do not decode to `losses`. Raises BadInput when decoding exceeds its limits.
    """
    for picture in borrowed_pictures(video, wanted, limits, losses, long_side):
        yield Picture(picture.index, picture.time_seconds, picture.rgb.copy())


def borrowed_pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int = LONG_SIDE
) -> Generator[Picture, None, None]:
    """`pictures` without the copy: each picture's pixels stay valid until the caller takes the next but one."""
    for index, rgb in _decode(video, wanted, limits, losses, fit_size(video, long_side), "rgb24"):
        yield Picture(index, float(video.times[index]), rgb)


def planar_pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int, *, exact: bool = False
) -> Generator[PlanarPicture, None, None]:
    """The wanted frames as H.264 stores them, each a copy that the caller owns. exact: never decode faster."""
    width, height = even_size(video, long_side)
    fast = video.width >= FAST_DECODING_SHRINK * width and not exact
    for index, flat in _decode(video, wanted, limits, losses, (width, height), "yuv420p", fast=fast):
        yield PlanarPicture(index, float(video.times[index]), width, height, flat.copy())


def _decode(
    video: Video,
    wanted: Indices,
    limits: Limits,
    losses: Losses,
    size: tuple[int, int],
    layout: str,
    *,
    fast: bool = False,
) -> Generator[tuple[int, Pixels], None, None]:
    """Yield (index, borrowed pixels) of each decoded frame; then add the losses and the decoder's CPU time."""
    arguments = {
        "path": str(video.path.absolute()),
        "pts": [int(stamp) for stamp in video.pts[wanted]],
        # In other containers, seeking may land after the requested stamp.
        # Joined recordings are read from the beginning, where their clock begins.
        "seek": bool(wanted[:1].any()) and video.container.startswith(("mov", "matroska")) and not video.joins,
        "size": size,
        "orientation": video.orientation,
        "interlaced": video.interlaced,
        "hdr": video.hdr,
        "layout": layout,
        "fast": fast,
    }
    result = yield from _run_decoder(arguments, wanted, limits, 3 * size[0] * size[1])
    for stage, seconds in result["cpu_seconds"].items():
        CPU_SECONDS[stage] += seconds
    losses.missing += result["missing"]
    losses.first_error = losses.first_error or result["first_error"]
    if result["resized"] is not None:
        resized = float(video.times[wanted[result["resized"]]])
        losses.resized_seconds = min(resized, losses.resized_seconds or resized)


def _run_decoder(
    arguments: Message, wanted: Indices, limits: Limits, picture_bytes: int
) -> Generator[tuple[int, Pixels], None, Message]:
    decoding = run_in_sandbox("decode", arguments, limits.for_sandbox, picture_bytes)
    try:
        while True:
            item, pixels = next(decoding)
            yield int(wanted[item["index"]]), pixels
    except StopIteration as end:
        result: Message = end.value
        return result
    finally:
        decoding.close()


def even_size(video: Video, long_side: int) -> tuple[int, int]:
    """`fit_size` for planes: both sides are even."""
    width, height = fit_size(video, long_side)
    return max(width - width % 2, 2), max(height - height % 2, 2)


def fit_size(video: Video, long_side: int) -> tuple[int, int]:
    """Width and height of the video's upright pictures, shrunk so that the longer side is at most `long_side`."""
    shrink = min(1.0, long_side / max(video.width, video.height))
    return max(round(video.width * shrink), 1), max(round(video.height * shrink), 1)
