"""Detects frames that repeat the picture before, as converted video and video with dropped frames has them.

A speed would fall to zero at a duplicate. Landmarks cannot show it, because the pose model moves them on an unchanged
picture, so pixels decide. A still athlete makes no duplicates: the frames around are as still. The pose model still
gets the duplicates, because it tracks its own last box and loses it when frames are missing; they are removed later.
"""

from collections.abc import Generator, Iterable

import cv2
import numpy as np

from services.analyzer.arrays import Flags, Pixels
from services.analyzer.video.frames import Picture

# Green levels, in the block of 32 x 32 pixels that changed most. Coding noise between equal pictures reached 1.2.
MAX_DUPLICATE_CHANGE = 1.3
# A duplicate changes by less than a fifth of the step before or after it; it was a tenth in all videos measured.
RATIO_TO_ONE_STEP = 5.0
# In coarsely coded video a duplicate changed by up to 5.3, a twelfth of the steps on both sides or less. No athlete
# stops for one frame and continues as fast: the larger of two steps was up to three times the smaller.
RATIO_TO_BOTH_STEPS = 8.0
STRIDE, BLOCK = 2, 16


class DuplicateDetector:
    """Measures how much each picture of a stream differs from the one before."""

    def __init__(self) -> None:
        self._changes: list[float] = []

    def observe(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """Pass the pictures through, in order."""
        last: Pixels | None = None
        for picture in pictures:
            green = np.ascontiguousarray(picture.rgb[::STRIDE, ::STRIDE, 1])
            self._changes.append(float("nan") if last is None else largest_change(last, green))
            last = green
            yield picture

    def duplicates(self) -> Flags:
        """(n,) whether each observed picture is a duplicate."""
        changes = np.array([0.0, *self._changes, 0.0])
        before, now, after = changes[:-2], changes[1:-1], changes[2:]
        still = (now < MAX_DUPLICATE_CHANGE) & (np.fmax(before, after) > RATIO_TO_ONE_STEP * now)
        between = np.minimum(before, after) > RATIO_TO_BOTH_STEPS * np.fmax(now, MAX_DUPLICATE_CHANGE)
        return np.asarray(still | between)


def largest_change(before: Pixels, now: Pixels) -> float:
    """Mean absolute difference in the block that changed most; both pictures are (height, width) levels.

    Integers take a third of the time, and a block's sum fits into 16 bits.
    """

    rows, columns = (size // BLOCK for size in now.shape)
    moved = cv2.absdiff(before, now)[: rows * BLOCK, : columns * BLOCK]
    across = moved.reshape(rows, BLOCK, columns * BLOCK).sum(axis=1, dtype=np.uint16)
    blocks = across.reshape(rows, columns, BLOCK).sum(axis=2, dtype=np.uint16)
    return float(blocks.max(initial=0)) / BLOCK**2
