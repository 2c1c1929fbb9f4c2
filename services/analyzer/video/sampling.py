"""Chooses the frames to analyse: those nearest to the ticks of an even clock, so that 10 fps means 10 at any rate."""

import numpy as np

from services.analyzer.arrays import Floats, Indices

# Enough to resolve a stroke; a higher rate costs time and changes no number.
CLOSEUP_FPS = 60.0
# Time stamps are whole ticks of a container's clock: a tick this little after the last frame still belongs to it.
TICK_SECONDS = 1e-6


def on_grid(times: Floats, fps: float, start: float = 0.0, end: float = float("inf")) -> Indices:
    """Indices of the frames nearest to k / fps in start..end seconds, each once: a slower source gives all its frames.

    times: (n,) seconds since the first frame, increasing.
    """
    last = min(end, float(times[-1]))
    ticks = np.arange(np.ceil((start - TICK_SECONDS) * fps), np.floor((last + TICK_SECONDS) * fps) + 1) / fps
    after = np.searchsorted(times, ticks).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    nearest = np.where(ticks - times[before] <= times[after] - ticks, before, after)
    # The indices never decrease. numpy.unique would import all of numpy.ma before the first pose.
    return nearest[np.diff(nearest, prepend=-1) > 0]


def nearest(times: Floats, seconds: float) -> int:
    """Index of the frame nearest to a moment: every picture of that moment shows this frame."""
    return int(np.argmin(np.abs(times - seconds)))


def every(times: Floats, start: float, end: float, most_fps: float = CLOSEUP_FPS) -> Indices:
    """Indices of all frames in start..end seconds; if the source is faster than `most_fps`, those on a grid of it."""
    inside = np.flatnonzero((times >= start - TICK_SECONDS) & (times <= end + TICK_SECONDS))
    if len(inside) > 1 and 1 / float(np.median(np.diff(times[inside]))) > most_fps * 1.05:
        return on_grid(times, most_fps, start, end)
    return inside
