"""Tells from the pictures alone what the camera did: cuts from one scene to another, pans.

pictures ─▶ small grey copies ─▶ how far the field moved (phase correlation) ─▶ pans
                            └──▶ how much is still unlike after that ─────────▶ cuts
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.analyzer.video.frames import Picture

Grey = NDArray[Any]
SMALL = (192, 108)
# Parts of the picture, across and down, each of which says how far it moved; the field fills most, the athlete few.
PARTS = (4, 2)
# How sure a part must be of its shift (phase correlation's peak), how many must be, and agree within so many pixels.
CLEAR, FEWEST_CLEAR, AGREE_PIXELS = 0.2, 4, 1.0
# After a cut, two pictures are no more alike than strangers; an athlete at full speed leaves over 0.6.
ALIKE = 0.35
# A camera that follows the athlete, in widths; a hand that shakes moves to and fro.
PAN_PER_SECOND, PAN_SECONDS = 0.04, 0.4


@dataclass(frozen=True)
class Steadiness:
    """cuts: seconds of the first picture after each. pans: (from, to) in seconds, the camera turning one way."""

    cuts: tuple[float, ...] = ()
    pans: tuple[tuple[float, float], ...] = ()


@dataclass
class Camera:
    """Watches pictures pass by. shifts: (2,) of the width, and alikeness -1 to 1, from each picture to the next."""

    times: list[float] = field(default_factory=list)
    shifts: list[tuple[float, float]] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)
    _last: Grey | None = None

    def noting(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """The same pictures in the same order."""
        for picture in pictures:
            step = max(1, picture.rgb.shape[1] // (2 * SMALL[0]))
            grey = cv2.cvtColor(np.ascontiguousarray(picture.rgb[::step, ::step]), cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
            if self._last is not None:
                self._compare(self._last, small)
            self._last = small
            self.times.append(picture.time_seconds)
            yield picture

    def steadiness(self) -> Steadiness:
        """What the camera did in all that passed."""
        cuts = tuple(self.times[k + 1] for k, alike in enumerate(self.alike) if alike < ALIKE)
        return Steadiness(cuts, tuple(self._pans()))

    def _compare(self, before: Grey, now: Grey) -> None:
        x, y = _shift(before, now)
        self.shifts.append((x / SMALL[0], y / SMALL[0]))
        by = np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)
        moved = cv2.warpAffine(before, by, SMALL, borderMode=cv2.BORDER_REPLICATE)
        self.alike.append(max(_likeness(before, now), _likeness(moved, now)))

    def _pans(self) -> Generator[tuple[float, float], None, None]:
        """Stretches in which the picture moves one way, fast and long enough."""
        steps = np.diff(self.times)
        speeds = np.array([x for x, _ in self.shifts]) / np.maximum(steps, 1e-3) if len(steps) else np.empty(0)
        way = np.where(np.abs(speeds) >= PAN_PER_SECOND, np.sign(speeds), 0)
        start = 0
        for k in range(1, len(way) + 1):
            if k == len(way) or way[k] != way[start]:
                if way[start] and self.times[k] - self.times[start] >= PAN_SECONDS:
                    yield round(self.times[start], 3), round(self.times[k], 3)
                start = k


def _shift(before: Grey, now: Grey) -> tuple[float, float]:
    """Pixels by which the field moved, right and down; nothing where its parts do not agree."""
    width, height = SMALL[0] // PARTS[0], SMALL[1] // PARTS[1]
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    found = []
    for left in range(0, SMALL[0], width):
        for top in range(0, SMALL[1], height):
            part = np.s_[top : top + height, left : left + width]
            shift, clear = cv2.phaseCorrelate(
                np.ascontiguousarray(before[part]), np.ascontiguousarray(now[part]), window
            )
            if clear >= CLEAR:
                found.append(shift)
    if len(found) < FEWEST_CLEAR:
        return 0.0, 0.0
    middle = np.median(found, axis=0)
    agree = np.abs(np.array(found) - middle).max(axis=1) <= AGREE_PIXELS
    return (float(middle[0]), float(middle[1])) if agree.mean() > 0.6 else (0.0, 0.0)


def _likeness(one: Grey, other: Grey) -> float:
    """Correlation of two pictures of the same size; of two even ones, whether they are equally bright."""
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if size < 1e-3 * one.size:
        return 1.0 if abs(float(one.mean() - other.mean())) < 16 else 0.0
    return float((a * b).sum()) / size
