"""Brings chosen frames of a video as upright pictures with their true times.

    file ─▶ decoder (`decoder.py`, in the sandbox, a few pictures ahead) ─▶ shared memory ─▶ caller

What was asked for and did not come is counted, never passed over.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.analyzer.cpu_time import SPENT
from services.analyzer.sandbox.client import Message, apart
from services.analyzer.settings import Limits
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import Indices

RGB = NDArray[np.uint8]
# Pictures larger than this are made smaller on the way: it costs less than it saves only above 1080p.
LONG_SIDE = 1920
# Shrunk so much, a picture hides what a hasty decoder leaves undone.
HALF = 1.9


@dataclass(frozen=True)
class Picture:
    """time_seconds since the video's first frame; rgb: (height, width, 3), contiguous, upright."""

    index: int
    time_seconds: float
    rgb: RGB


@dataclass(frozen=True)
class Planar:
    """The same as H.264 stores it. width and height are even; flat: (height * 3 / 2 * width,) Y, then U and V."""

    index: int
    time_seconds: float
    width: int
    height: int
    flat: NDArray[np.uint8]

    @property
    def planes(self) -> tuple[RGB, RGB, RGB]:
        """Y, (height, width), and U and V, (height / 2, width / 2), each to be drawn into."""
        area, half = self.width * self.height, (self.height // 2, self.width // 2)
        luma, blue, red = np.split(self.flat, [area, area * 5 // 4])
        return luma.reshape(self.height, self.width), blue.reshape(half), red.reshape(half)


@dataclass
class Losses:
    """What did not decode: how many frames were asked for and never came, and the decoder's first complaint."""

    missing: int = 0
    complaint: str | None = None

    @property
    def sentence(self) -> str | None:
        """What a person is told, None where nothing was lost."""
        why = f" ({self.complaint})" if self.complaint else ""
        if self.missing:
            return f"{self.missing} frames could not be decoded{why}"
        return f"parts of the video are broken{why}" if why else None


def pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int = LONG_SIDE
) -> Generator[Picture, None, None]:
    """The wanted frames in order, each the caller's own; `wanted` are increasing indices into video.pts.

    Frames that do not come are added to `losses`. Raises BadInput when decoding takes longer or more than is allowed.
    """
    for picture in lent_pictures(video, wanted, limits, losses, long_side):
        yield Picture(picture.index, picture.time_seconds, picture.rgb.copy())


def lent_pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int = LONG_SIDE
) -> Generator[Picture, None, None]:
    """The same without copying: each picture's pixels are good until the next but one is asked for."""
    for index, rgb in _lent(video, wanted, limits, losses, fitted(video, long_side), "rgb24"):
        yield Picture(index, float(video.times[index]), rgb)


def planar_pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int
) -> Generator[Planar, None, None]:
    """The wanted frames as H.264 stores them, each the caller's own."""
    width, height = (max(side - side % 2, 2) for side in fitted(video, long_side))
    hasty = video.width >= HALF * width
    for index, flat in _lent(video, wanted, limits, losses, (width, height), "yuv420p", hasty=hasty):
        yield Planar(index, float(video.times[index]), width, height, flat.copy())


def _lent(
    video: Video,
    wanted: Indices,
    limits: Limits,
    losses: Losses,
    size: tuple[int, int],
    layout: str,
    *,
    hasty: bool = False,
) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
    asked = {
        "path": str(video.path.absolute()),
        "pts": [int(stamp) for stamp in video.pts[wanted]],
        # Elsewhere seeking may land behind what is asked for.
        "seek": bool(wanted[:1].any()) and video.container.startswith(("mov", "matroska")),
        "size": size,
        "orientation": video.orientation,
        "layout": layout,
        "hasty": hasty,
    }
    lost = yield from _decoded(asked, wanted, limits, 3 * size[0] * size[1])
    for stage, seconds in lost["spent"].items():
        SPENT[stage] += seconds
    losses.missing += lost["missing"]
    losses.complaint = losses.complaint or lost["complaint"]


def _decoded(
    asked: Message, wanted: Indices, limits: Limits, picture_bytes: int
) -> Generator[tuple[int, NDArray[np.uint8]], None, Message]:
    decoding = apart("decode", asked, limits.bounds, picture_bytes)
    try:
        while True:
            item, pixels = next(decoding)
            yield int(wanted[item["place"]]), pixels
    except StopIteration as end:
        lost: Message = end.value
        return lost
    finally:
        decoding.close()


def fitted(video: Video, long_side: int) -> tuple[int, int]:
    """Width and height of its upright pictures with the longer side at most `long_side`."""
    shrink = min(1.0, long_side / max(video.width, video.height))
    return max(round(video.width * shrink), 1), max(round(video.height * shrink), 1)
