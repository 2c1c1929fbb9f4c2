"""Which frames are looked at: those nearest to the ticks of an even clock, so that 10 asked is 10 got at any rate."""

import numpy as np
from numpy.typing import NDArray

from services.analyzer.pose.landmarks import Floats

Indices = NDArray[np.intp]
# A stroke is resolved; more would cost time and change no number.
CLOSEUP_FPS = 60.0
# Time stamps are whole ticks of a container's clock: a tick that falls this little after the last frame still is on it.
TICK_SECONDS = 1e-6


def on_grid(times: Floats, fps: float, start: float = 0.0, end: float = float("inf")) -> Indices:
    """Indices of the frames nearest to k / fps in start..end; each once, so a slower source gives all it has.

    times: (n,) seconds since the first frame, increasing.
    """
    last = min(end, float(times[-1]))
    ticks = np.arange(np.ceil((start - TICK_SECONDS) * fps), np.floor((last + TICK_SECONDS) * fps) + 1) / fps
    after = np.searchsorted(times, ticks).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    nearest = np.where(ticks - times[before] <= times[after] - ticks, before, after)
    # They never decrease. numpy.unique would import all of numpy.ma before the first pose.
    return nearest[np.diff(nearest, prepend=-1) > 0]


def every(times: Floats, start: float, end: float, most_fps: float = CLOSEUP_FPS) -> Indices:
    """Indices of every frame in start..end seconds; of a source faster than that, those on a `most_fps` grid."""
    inside = np.flatnonzero((times >= start - TICK_SECONDS) & (times <= end + TICK_SECONDS))
    if len(inside) > 1 and 1 / float(np.median(np.diff(times[inside]))) > most_fps * 1.05:
        return on_grid(times, most_fps, start, end)
    return inside
