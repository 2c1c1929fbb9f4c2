"""Cleans, resamples and filters landmark series, so that no number depends on the frame rate.

Input is timestamps in seconds, never frame numbers. Samples inside a long gap are NaN, and no filter runs across one.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.pose.landmarks import Poses

GRID_HZ = 60.0
# Shorter runs of detections are false positives: one such run doubled a head metric.
SHORTEST_RUN_FRAMES = 3
# From one frame with the athlete to the next, plus half a frame: sampled frames lie up to that far off their tick.
LONGEST_BRIDGE_SECONDS, OFF_TICK_SECONDS = 0.2, 0.021
# Upper bound of trunk speed: a sprinter's 12 m/s over a body of 1.4 m; a panning camera only reduces it. A faster leap
# and return is a swap of people or a false positive. Torsos per body: Drillis and Contini 1966.
FASTEST_BODIES_PER_SECOND, TORSOS_PER_BODY = 9.0, 2.7
# Two passes of an order-2 Butterworth reach -3 dB below the designed cut-off, by this factor. Winter, Biomechanics
# and Motor Control of Human Movement, 4th ed. (2009), section 3.4.4: (2^(1/2) - 1)^(1/4).
WINTER_ORDER_2 = 0.802


def tidy(poses: Poses) -> Poses:
    """The series with outlier detections set to NaN: isolated ones, leaps, and a head below the hips."""
    keep = poses.detected & ~_head_below_hips(poses)
    keep[_leaps(poses, np.flatnonzero(keep))] = False
    for run in _runs(keep):
        if run.stop - run.start < min(SHORTEST_RUN_FRAMES, len(poses)):
            keep[run] = False
    return _blank(poses, ~keep)


def rejected(poses: Poses, tidied: Poses) -> NDArray[np.bool_]:
    """(n,) whether `tidy` dropped the frame's detection as an outlier."""
    return np.asarray(poses.detected & ~tidied.detected)


def bridged(tidied: Poses) -> NDArray[np.bool_]:
    """(n,) whether a frame without a valid detection lies in a gap that is short enough to interpolate."""
    short = np.zeros(len(tidied), dtype=bool)
    for before, after in pairwise(np.flatnonzero(tidied.detected)):
        short[before + 1 : after] = tidied.times[after] - tidied.times[before] <= _longest_bridge(tidied.times)
    return short


def resample(times: Floats, values: Floats, hz: float = GRID_HZ) -> tuple[Floats, Floats]:
    """Values on an even grid of `hz`, by a cubic without overshoot (pchip: Fritsch and Carlson 1980).

    times: (n,) seconds; values: (n, ...), NaN where unknown. Returns (m,) seconds and (m, ...) values, NaN inside gaps
    too long to interpolate. Both are empty with fewer than two known samples.
    """
    from scipy.interpolate import PchipInterpolator  # lazy: SciPy takes a second to import, which delays the first pose

    known = _known(values)
    if known.sum() < 2:
        return np.empty(0), np.empty((0, *values.shape[1:]))
    t = times[known]
    grid = np.arange(t[0], t[-1] + 1e-9, 1 / hz)
    out: Floats = np.asarray(PchipInterpolator(t, values[known], axis=0)(grid), dtype=float)
    longest = _longest_bridge(times)
    for start, end in pairwise(t):
        if end - start > longest:
            out[(grid > start) & (grid < end)] = np.nan
    return grid, out


def lowpass(values: Floats, cut_off_hz: float, hz: float = GRID_HZ) -> Floats:
    """Zero-phase Butterworth filter of order 2 along the first axis of evenly sampled values, each gap-free run alone.

    cut_off_hz: -3 dB of both passes together; from 0.4 `hz` up the values are returned unfiltered.
    """
    from scipy.signal import butter, sosfiltfilt

    if cut_off_hz >= 0.4 * hz:
        return values
    sections = butter(2, min(cut_off_hz / WINTER_ORDER_2 / (hz / 2), 0.99), output="sos")
    out = values.copy()
    for run in _runs(_known(values)):
        length = run.stop - run.start
        if length > 2:
            pad = min(length - 1, int(hz / cut_off_hz) + 3)
            out[run] = sosfiltfilt(sections, values[run], axis=0, padlen=pad)
    return out


def despike(path: Floats, size: float) -> Floats:
    """A copy of an (n, 2) path without single-frame spikes, which is how a swap of left and right for one frame looks.

    A sample over `size` from both neighbours becomes their midpoint if the neighbours are within `size` of each other.
    """
    out = path.copy()
    for k in range(1, len(path) - 1):
        before, after = out[k - 1], path[k + 1]
        off = min(np.linalg.norm(path[k] - before), np.linalg.norm(path[k] - after))
        if np.linalg.norm(after - before) < size < off:
            out[k] = (before + after) / 2
    return out


def _longest_bridge(times: Floats) -> float:
    """Longest gap in seconds that is interpolated; at least 1.5 sampling steps. times: (n,), n > 1."""
    return max(LONGEST_BRIDGE_SECONDS + OFF_TICK_SECONDS, 1.5 * float(np.median(np.diff(times))))


def _leaps(poses: Poses, known: NDArray[np.intp]) -> NDArray[np.intp]:
    """Indices of known frames in which the trunk leaps away and returns within an interpolated gap.

    A trunk that does not return has moved, and is no outlier.
    """
    shoulders, hips = ((poses.point(f"left_{part}") + poses.point(f"right_{part}")) / 2 for part in ("shoulder", "hip"))
    places, times = ((shoulders + hips) / 2)[known], poses.times[known]
    torso = float(np.median(np.linalg.norm(shoulders - hips, axis=1)[known])) if len(known) else 0.0
    fastest = FASTEST_BODIES_PER_SECOND * TORSOS_PER_BODY * torso

    def reached(start: int, end: int) -> bool:
        return bool(np.linalg.norm(places[end] - places[start]) <= fastest * (times[end] - times[start]))

    leaps: list[int] = []
    last = 0
    while last + 1 < len(known):
        soon = int(np.searchsorted(times, times[last] + LONGEST_BRIDGE_SECONDS + OFF_TICK_SECONDS, "right"))
        back = last + 1
        if not reached(last, back):
            back = next((k for k in range(back + 1, soon) if reached(last, k) and not reached(k - 1, k)), back)
        leaps += range(last + 1, back)
        last = back
    return known[leaps]


def _head_below_hips(poses: Poses) -> NDArray[np.bool_]:
    hips = (poses.point("left_hip") + poses.point("right_hip")) / 2
    below: NDArray[np.bool_] = poses.point("nose")[:, 1] > hips[:, 1]  # y points down; NaN compares false
    return below


def _known(values: Floats) -> NDArray[np.bool_]:
    """(n,) whether every value of a row is finite."""
    return np.asarray(np.isfinite(values).all(axis=tuple(range(1, values.ndim))))


def _runs(flags: NDArray[np.bool_]) -> Iterator[slice]:
    """Slices of consecutive true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(start), int(stop))


def _blank(poses: Poses, gone: NDArray[np.bool_]) -> Poses:
    left: dict[str, Any] = {}
    for name in ("image", "world", "visibility", "presence"):
        left[name] = getattr(poses, name).copy()
        left[name][gone] = np.nan
    return replace(poses, **left)
