"""Brings chosen frames of a video as upright RGB pictures with their true times.

    file ─▶ decoder (`decoder.py`, in the sandbox, a few pictures ahead) ─▶ shared memory ─▶ caller

What was asked for and did not come is counted, never passed over.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.analyzer.probe import Video
from services.analyzer.sampling import Indices
from services.analyzer.sandbox import Message, apart
from services.analyzer.settings import Limits
from services.analyzer.spent import SPENT

RGB = NDArray[np.uint8]
# Pictures larger than this are made smaller on the way: it costs less than it saves only above 1080p.
LONG_SIDE = 1920


@dataclass(frozen=True)
class Picture:
    """time_seconds since the video's first frame; rgb: (height, width, 3), contiguous, upright."""

    index: int
    time_seconds: float
    rgb: RGB


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
    """The same without copying: each picture's pixels are good until the next one is asked for."""
    width, height = fitted(video, long_side)
    asked = {
        "path": str(video.path.absolute()),
        "pts": [int(stamp) for stamp in video.pts[wanted]],
        # Elsewhere seeking may land behind what is asked for.
        "seek": bool(wanted[:1].any()) and video.container.startswith(("mov", "matroska")),
        "size": (width, height),
        "orientation": video.orientation,
    }
    lost = yield from _pictures(asked, video, wanted, limits, 3 * width * height)
    for stage, seconds in lost["spent"].items():
        SPENT[stage] += seconds
    losses.missing += lost["missing"]
    losses.complaint = losses.complaint or lost["complaint"]


def _pictures(
    asked: Message, video: Video, wanted: Indices, limits: Limits, picture_bytes: int
) -> Generator[Picture, None, Message]:
    decoding = apart("decode", asked, limits.bounds, picture_bytes)
    try:
        while True:
            item, rgb = next(decoding)
            index = int(wanted[item["place"]])
            yield Picture(index, float(video.times[index]), rgb)
    except StopIteration as end:
        lost: Message = end.value
        return lost
    finally:
        decoding.close()


def fitted(video: Video, long_side: int) -> tuple[int, int]:
    """Width and height of its upright pictures with the longer side at most `long_side`."""
    shrink = min(1.0, long_side / max(video.width, video.height))
    return max(round(video.width * shrink), 1), max(round(video.height * shrink), 1)
