"""Detects cuts and pans from the pictures alone.

pictures ─▶ small grey copies ─▶ shift of the background (phase correlation) ─▶ pans
                            └──▶ correlation after undoing that shift ────────▶ cuts
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
# The picture is split into parts, across and down, each with its own shift: most show the background, few the athlete.
PARTS = (4, 2)
# A part's shift counts if the peak of its phase correlation is at least this high.
MIN_PEAK = 0.2
# The background's shift needs this many such parts, most of which may differ from the median by this much.
MIN_PARTS, MAX_DIFFERENCE_PIXELS = 4, 1.0
# Two pictures that correlate less have a cut between them; an athlete at full speed leaves over 0.6.
MIN_CORRELATION = 0.35
# A pan moves at least this many widths a second, one way, for this long; a shaking hand changes direction sooner.
PAN_PER_SECOND, PAN_SECONDS = 0.04, 0.4


@dataclass(frozen=True)
class CameraMotion:
    """cuts: seconds of the first picture after each cut. pans: (start, end) in seconds, each in one direction."""

    cuts: tuple[float, ...] = ()
    pans: tuple[tuple[float, float], ...] = ()


@dataclass
class CameraMotionDetector:
    """Measures the motion in a stream of pictures.

    From each picture to the next: shifts, (x, y) in shares of the width; correlations, -1 to 1.
    """

    times: list[float] = field(default_factory=list)
    shifts: list[tuple[float, float]] = field(default_factory=list)
    correlations: list[float] = field(default_factory=list)
    _last: Grey | None = None

    def observe(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """Pass the pictures through, in order."""
        for picture in pictures:
            step = max(1, picture.rgb.shape[1] // (2 * SMALL[0]))
            grey = cv2.cvtColor(np.ascontiguousarray(picture.rgb[::step, ::step]), cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
            if self._last is not None:
                self._compare(self._last, small)
            self._last = small
            self.times.append(picture.time_seconds)
            yield picture

    def motion(self) -> CameraMotion:
        """The cuts and pans in all pictures so far."""
        cuts = tuple(self.times[k + 1] for k, value in enumerate(self.correlations) if value < MIN_CORRELATION)
        return CameraMotion(cuts, tuple(self._find_pans()))

    def _compare(self, before: Grey, now: Grey) -> None:
        x, y = _measure_shift(before, now)
        self.shifts.append((x / SMALL[0], y / SMALL[0]))
        translation = np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)
        moved = cv2.warpAffine(before, translation, SMALL, borderMode=cv2.BORDER_REPLICATE)
        self.correlations.append(max(_correlate(before, now), _correlate(moved, now)))

    def _find_pans(self) -> Generator[tuple[float, float], None, None]:
        """(start, end) of each stretch in which the picture moves in one direction, fast and long enough."""
        steps = np.diff(self.times)
        speeds = np.array([x for x, _ in self.shifts]) / np.maximum(steps, 1e-3) if len(steps) else np.empty(0)
        direction = np.where(np.abs(speeds) >= PAN_PER_SECOND, np.sign(speeds), 0)
        start = 0
        for k in range(1, len(direction) + 1):
            if k == len(direction) or direction[k] != direction[start]:
                if direction[start] and self.times[k] - self.times[start] >= PAN_SECONDS:
                    yield round(self.times[start], 3), round(self.times[k], 3)
                start = k


def _measure_shift(before: Grey, now: Grey) -> tuple[float, float]:
    """Pixels by which the background moved, right and down; (0, 0) if the parts disagree."""
    width, height = SMALL[0] // PARTS[0], SMALL[1] // PARTS[1]
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shifts = []
    for left in range(0, SMALL[0], width):
        for top in range(0, SMALL[1], height):
            part = np.s_[top : top + height, left : left + width]
            shift, peak = cv2.phaseCorrelate(
                np.ascontiguousarray(before[part]), np.ascontiguousarray(now[part]), window
            )
            if peak >= MIN_PEAK:
                shifts.append(shift)
    if len(shifts) < MIN_PARTS:
        return 0.0, 0.0
    median = np.median(shifts, axis=0)
    agree = np.abs(np.array(shifts) - median).max(axis=1) <= MAX_DIFFERENCE_PIXELS
    return (float(median[0]), float(median[1])) if agree.mean() > 0.6 else (0.0, 0.0)


def _correlate(one: Grey, other: Grey) -> float:
    """Correlation of two pictures of the same size; of two uniform ones, 1 if they are equally bright, else 0."""

    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if size < 1e-3 * one.size:
        return 1.0 if abs(float(one.mean() - other.mean())) < 16 else 0.0
    return float((a * b).sum()) / size
