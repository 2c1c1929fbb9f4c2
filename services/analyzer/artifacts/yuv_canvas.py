"""Draws lines, angles and words into a picture as H.264 stores it: lightness, and colour at half the size.

The picture stays as it was filmed wherever nothing is drawn: it never goes through RGB.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from services.analyzer.pose.landmarks import Floats
from services.analyzer.video.frames import Planar

Colour = tuple[int, int, int]
WHITE = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of a capital letter at scale 1, in pixels.
FONT_HEIGHT = 22.0
# OpenCV takes places in parts of a pixel, 1 / 2**4, and no farther out than this.
SHIFT, FARTHEST = 4, 30_000.0
# What remains of the light and of the colour behind words.
DIMMED = 0.3


class Ink:
    """Draws into one picture; places are (x, y) in its pixels, colours RGB."""

    def __init__(self, picture: Planar) -> None:
        self.width, self.height = picture.width, picture.height
        luma, blue, red = picture.planes
        self._luma = luma
        self._planes = ((luma, 1.0), (blue, 0.5), (red, 0.5))

    def lines(self, ends: Floats, colour: Colour, width: float) -> None:
        """Straight lines. ends: (n, 2, 2), two places each."""
        for (plane, scale), shade in zip(self._planes, _stored(colour), strict=True):
            thick = max(1, round(width * scale))
            cv2.polylines(plane, list(_fixed(ends, scale)), False, shade, thick, cv2.LINE_AA, SHIFT)

    def arc(self, corner: Floats, a: Floats, b: Floats, radius: float, colour: Colour) -> None:
        """The smaller arc about `corner` from the direction of `a` to that of `b`."""
        start, end = (math.degrees(math.atan2(p[1] - corner[1], p[0] - corner[0])) for p in (a, b))
        turn = (end - start + 180) % 360 - 180
        for (plane, scale), shade in zip(self._planes, _stored(colour), strict=True):
            axes = (round(radius * scale * 2**SHIFT),) * 2
            middle = _fixed(corner, scale).tolist()
            cv2.ellipse(plane, middle, axes, 0, start, start + turn, shade, 1, cv2.LINE_AA, SHIFT)

    def words(self, text: str, left: float, baseline: float, height: float) -> None:
        """White text on a dark plate, moved into the picture where it would stick out. height: of a capital letter."""
        size, thick, pad, wide = height / FONT_HEIGHT, _stroke(height), height * 0.4, text_width(text, height)
        left = min(max(left, pad), max(self.width - wide - pad, pad))
        baseline = min(max(baseline, height + pad), self.height - pad)
        sides = np.array([baseline - height - pad, baseline + pad, left - pad, left + wide + pad])
        for plane, scale in self._planes:
            top, bottom, start, end = np.round(sides * scale).clip(0).astype(int)
            plate, black = plane[top:bottom, start:end], 16 if plane is self._luma else 128
            plate[:] = black + DIMMED * (plate.astype(np.float32) - black)
        cv2.putText(self._luma, text, (round(left), round(baseline)), FONT, size, _stored(WHITE)[0], thick, cv2.LINE_AA)


def text_width(text: str, height: float) -> float:
    """Pixels that a text takes."""
    (width, _), _ = cv2.getTextSize(text, FONT, height / FONT_HEIGHT, _stroke(height))
    return float(width)


def _stroke(height: float) -> int:
    return max(1, round(height / 9))


def _stored(colour: Colour) -> tuple[int, int, int]:
    """Y, U, V in the limited range. ITU-R BT.709, 3."""
    r, g, b = (value / 255 for value in colour)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return round(16 + 219 * y), round(128 + 224 * (b - y) / 1.8556), round(128 + 224 * (r - y) / 1.5748)


def _fixed(places: Floats, scale: float) -> NDArray[np.int32]:
    fixed = np.round(np.clip(places * scale, -FARTHEST, FARTHEST) * 2**SHIFT)
    return np.asarray(fixed, dtype=np.int32)
