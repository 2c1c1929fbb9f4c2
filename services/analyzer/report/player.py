"""Packs what the page's player draws: the skeleton in every posed frame, the film under it, what each cursor reads.

Whole pixels and names left out: half a minute with its actions takes about 200 KB. A long video is thinned where there
is no action, so that the page stays small enough to be mailed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.analyzer.pose.landmarks import INDEX, Floats, Poses
from services.analyzer.pose.skeleton import BONES, side_of
from services.analyzer.report.plots import Plot

MOST_FRAMES = 1500
FAINT = 0.5
# The picture's longer side in the player's own units: a whole number is then fine enough.
UNITS = 1000
Span = tuple[float, float]


@dataclass(frozen=True)
class Still:
    """A frame of the film. jpeg: its bytes; box: (x, y, width, height) of it, as shares of the whole picture."""

    time_seconds: float
    jpeg: bytes
    box: tuple[float, float, float, float]


def player(posed: Poses, spans: Sequence[Span], plots: Sequence[Plot], stills: Sequence[Still] = ()) -> dict[str, Any]:
    """Plain JSON for `report.js`. spans: seconds of each action, which is shown close up."""
    names = sorted({name for bone in BONES for name in bone}, key=lambda name: INDEX[name])
    keep = _thinned(posed, spans)
    scale = UNITS / max(posed.width, posed.height)
    points = posed.image[keep][:, [INDEX[name] for name in names]] * scale
    faint = posed.visibility[keep][:, [INDEX[name] for name in names]] < FAINT
    times = posed.times[keep]
    return {
        "size": [round(posed.width * scale), round(posed.height * scale)],
        "bones": [[names.index(a), names.index(b), side_of(a, b)] for a, b in BONES],
        "times": [round(float(t), 3) for t in times],
        "frames": [_flat(frame) for frame in points],
        "faint": [np.flatnonzero(row).tolist() if np.isfinite(points[k]).all() else [] for k, row in enumerate(faint)],
        "boxes": [{"span": span, "box": box} for span in spans if (box := _box(times, points, span))],
        "plots": [{"span": plot.span, "readout": plot.readout} for plot in plots],
        "stills": [_still(still, posed.width * scale, posed.height * scale) for still in stills],
    }


def _thinned(posed: Poses, spans: Sequence[Span]) -> NDArray[np.intp]:
    """Indices of the frames to keep: all of an action, and as many others as there is room for."""
    inside = np.zeros(len(posed), dtype=bool)
    for start, end in spans:
        inside |= (posed.times >= start) & (posed.times <= end)
    others = np.flatnonzero(~inside)
    room = max(MOST_FRAMES - int(inside.sum()), 1)
    others = others[:: max(1, -(-len(others) // room))]
    return np.sort(np.concatenate([np.flatnonzero(inside), others]))


def _still(still: Still, width: float, height: float) -> dict[str, Any]:
    x, y, across, down = still.box
    place = [round(x * width, 1), round(y * height, 1), round(across * width, 1), round(down * height, 1)]
    return {"time": round(still.time_seconds, 3), "box": place, "jpeg": base64.b64encode(still.jpeg).decode()}


def _flat(frame: Floats) -> list[int] | None:
    return np.round(frame).astype(int).ravel().tolist() if np.isfinite(frame).all() else None


def _box(times: Floats, points: Floats, span: Span) -> list[int] | None:
    """[x, y, width, height] about the athlete through an action, with room to breathe; None where nobody was seen."""
    there = points[(times >= span[0]) & (times <= span[1])].reshape(-1, 2)
    there = there[np.isfinite(there).all(axis=1)]
    if not len(there):
        return None
    (left, top), (right, bottom) = there.min(axis=0), there.max(axis=0)
    room = 0.15 * max(right - left, bottom - top)
    sides = (left - room, top - room, right - left + 2 * room, bottom - top + 2 * room)
    return [round(float(side)) for side in sides]
