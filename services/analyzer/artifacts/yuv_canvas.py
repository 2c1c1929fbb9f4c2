"""Draws lines, arcs and text into a YUV 4:2:0 picture, as H.264 stores it: luma, and chroma at half the size.

All other pixels keep their exact values, because the picture is never converted to RGB.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.video.frames import PlanarPicture

Colour = tuple[int, int, int]
WHITE = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of a capital letter at scale 1, in pixels.
FONT_HEIGHT = 22.0
# OpenCV takes coordinates in units of 1 / 2**4 pixel, up to this many pixels.
SHIFT, MAX_COORDINATE = 4, 30_000.0
# The share of the contrast that remains behind text.
DIMMED = 0.3


class Canvas:
    """Draws into one picture. Points are (x, y) in its pixels; colours are RGB."""

    def __init__(self, picture: PlanarPicture) -> None:
        self.width, self.height = picture.width, picture.height
        luma, blue, red = picture.planes
        self._luma = luma
        self._planes = ((luma, 1.0), (blue, 0.5), (red, 0.5))

    def draw_lines(self, ends: Floats, colour: Colour, width: float) -> None:
        """Draw straight lines. ends: (n, 2, 2), two points each. width in pixels."""
        for (plane, scale), level in zip(self._planes, _to_yuv(colour), strict=True):
            thickness = max(1, round(width * scale))
            cv2.polylines(plane, list(_to_fixed_point(ends, scale)), False, level, thickness, cv2.LINE_AA, SHIFT)

    def draw_arc(self, corner: Floats, a: Floats, b: Floats, radius: float, colour: Colour) -> None:
        """Draw the smaller arc around `corner` from the direction of `a` to that of `b`."""
        start, end = (math.degrees(math.atan2(p[1] - corner[1], p[0] - corner[0])) for p in (a, b))
        turn = (end - start + 180) % 360 - 180
        for (plane, scale), level in zip(self._planes, _to_yuv(colour), strict=True):
            axes = (round(radius * scale * 2**SHIFT),) * 2
            centre = _to_fixed_point(corner, scale).tolist()
            cv2.ellipse(plane, centre, axes, 0, start, start + turn, level, 1, cv2.LINE_AA, SHIFT)

    def draw_text(self, text: str, left: float, baseline: float, height: float) -> None:
        """Draw white text on a dark plate, moved to lie inside the picture. height: of a capital letter, in pixels."""
        size, thickness, pad = height / FONT_HEIGHT, _text_thickness(height), height * 0.4
        width = text_width(text, height)
        left = min(max(left, pad), max(self.width - width - pad, pad))
        baseline = min(max(baseline, height + pad), self.height - pad)
        sides = np.array([baseline - height - pad, baseline + pad, left - pad, left + width + pad])
        for plane, scale in self._planes:
            top, bottom, start, end = np.round(sides * scale).clip(0).astype(int)
            plate, black = plane[top:bottom, start:end], 16 if plane is self._luma else 128
            plate[:] = black + DIMMED * (plate.astype(np.float32) - black)
        origin, level = (round(left), round(baseline)), _to_yuv(WHITE)[0]
        cv2.putText(self._luma, text, origin, FONT, size, level, thickness, cv2.LINE_AA)


def text_width(text: str, height: float) -> float:
    """Width of a text in pixels. height: of a capital letter."""
    (width, _), _ = cv2.getTextSize(text, FONT, height / FONT_HEIGHT, _text_thickness(height))
    return float(width)


def _text_thickness(height: float) -> int:
    return max(1, round(height / 9))


def _to_yuv(colour: Colour) -> tuple[int, int, int]:
    """Y, U, V in the limited range: ITU-R BT.709, 3."""
    r, g, b = (value / 255 for value in colour)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return round(16 + 219 * y), round(128 + 224 * (b - y) / 1.8556), round(128 + 224 * (r - y) / 1.5748)


def _to_fixed_point(points: Floats, scale: float) -> NDArray[np.int32]:
    scaled = np.clip(points * scale, -MAX_COORDINATE, MAX_COORDINATE)
    return np.asarray(np.round(scaled * 2**SHIFT), dtype=np.int32)
