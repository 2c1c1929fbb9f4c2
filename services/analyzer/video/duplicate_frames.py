"""Tells which frames show the picture before once more, as converted and dropped-frame video does.

Speeds would fall to zero there. Landmarks can't tell, since the pose model moves on while the picture stands; so pixels
decide. A still athlete is no repeat: his neighbours in time are as still as he is. Repeats are posed all the same, for
the model follows its own last box and loses it when frames are missing, and are left out afterwards.
"""

from collections.abc import Generator, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from services.analyzer.video.frames import RGB, Picture

# Of green levels, in the block of 32 x 32 pixels that changed most. Coding noise between equal pictures reached 1.2.
STILL_LEVELS = 1.3
# And a true repeat changed by less than a fifth of what the step before or after it did; it was a tenth in all seen.
STANDS_OUT = 5.0
# Coarsely coded, a repeat changed by up to 5.3: no more than a twelfth of what both steps about it did. No athlete
# stops for one frame and goes on as fast as before: of his steps the larger was up to three times the smaller.
STANDS_OUT_OF_BOTH = 8.0
STRIDE, BLOCK = 2, 16


class Stillness:
    """Watches pictures pass by and remembers how much each differs from the one before."""

    def __init__(self) -> None:
        self._changes: list[float] = []

    def noting(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """The same pictures in the same order."""
        last: RGB | None = None
        for picture in pictures:
            thin = np.ascontiguousarray(picture.rgb[::STRIDE, ::STRIDE, 1])
            self._changes.append(float("nan") if last is None else change(last, thin))
            last = thin
            yield picture

    def repeats(self) -> NDArray[np.bool_]:
        """(n,) whether each picture that passed was a repeat."""
        changes = np.array([0.0, *self._changes, 0.0])
        before, now, after = changes[:-2], changes[1:-1], changes[2:]
        still = (now < STILL_LEVELS) & (np.fmax(before, after) > STANDS_OUT * now)
        between = np.minimum(before, after) > STANDS_OUT_OF_BOTH * np.fmax(now, STILL_LEVELS)
        return np.asarray(still | between)


def change(before: RGB, now: RGB) -> float:
    """Mean absolute difference of the block that changed most; both (height, width) levels.

    In whole numbers: a block's sum fits into sixteen bits, and it is a third of the work.
    """
    rows, columns = (size // BLOCK for size in now.shape)
    moved = cv2.absdiff(before, now)[: rows * BLOCK, : columns * BLOCK]
    across = moved.reshape(rows, BLOCK, columns * BLOCK).sum(axis=1, dtype=np.uint16)
    blocks = across.reshape(rows, columns, BLOCK).sum(axis=2, dtype=np.uint16)
    return float(blocks.max(initial=0)) / BLOCK**2
