"""Packs the data of the page's player: the skeleton of every posed frame, the film behind it, each cursor's values.

Coordinates are whole numbers without names: half a minute with its actions takes about 200 KB. Outside of actions a
long video loses frames, so that the page stays small enough to mail.
"""

import base64
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.pose.landmarks import INDEX, Poses
from services.analyzer.pose.skeleton import BONES, side_of
from services.analyzer.report.model import Still
from services.analyzer.report.plots import Plot
from services.rules.numbers import digits

MOST_FRAMES = 1500
FAINT = 0.5
# Length of the image's longer side in the player's units; whole numbers are then precise enough.
UNITS = 1000
MARGIN = 0.15
Span = tuple[float, float]


class CloseUp(TypedDict):
    """The stretch of an action, and the [x, y, width, height] that the player shows of it."""

    span: Span
    box: list[int]


class Cursor(TypedDict):
    """The (seconds, value) pairs of a plot's cursor. digits, sign: how a value is written."""

    span: Span
    readout: tuple[tuple[float, float], ...]
    digits: int
    sign: str


class FilmStill(TypedDict):
    """A still in the player's units. jpeg: base64."""

    time: float
    box: list[float]
    jpeg: str


class PlayerData(TypedDict):
    """JSON for `report.js`.

    bones: indices of both ends, and the side. frames: x and y of each joint in turn, None without a detection.
    faint: indices of the joints of low visibility.
    """

    size: list[int]
    bones: list[tuple[int, int, str]]
    times: list[float]
    frames: list[list[int] | None]
    faint: list[list[int]]
    boxes: list[CloseUp]
    plots: list[Cursor]
    stills: list[FilmStill]


def player(posed: Poses, spans: Sequence[Span], plots: Sequence[Plot], stills: Sequence[Still] = ()) -> PlayerData:
    """The data of the player. spans: (from, to) in seconds of each action, which the player shows close up."""
    names = sorted({name for bone in BONES for name in bone}, key=lambda name: INDEX[name])
    kept = _kept_frames(posed, spans)
    scale = UNITS / max(posed.width, posed.height)
    columns = [INDEX[name] for name in names]
    points = posed.image[kept][:, columns] * scale
    faint = posed.visibility[kept][:, columns] < FAINT
    times = posed.times[kept]
    return {
        "size": [round(posed.width * scale), round(posed.height * scale)],
        "bones": [(names.index(a), names.index(b), side_of(a, b)) for a, b in BONES],
        "times": [round(float(time), 3) for time in times],
        "frames": [_flat(frame) for frame in points],
        "faint": [np.flatnonzero(row).tolist() if np.isfinite(points[k]).all() else [] for k, row in enumerate(faint)],
        "boxes": [{"span": span, "box": box} for span in spans if (box := _box(times, points, span))],
        "plots": [_plot(plot) for plot in plots],
        "stills": [_still(still, posed.width * scale, posed.height * scale) for still in stills],
    }


def _kept_frames(posed: Poses, spans: Sequence[Span]) -> NDArray[np.intp]:
    """Indices of all frames of the actions, and of evenly chosen others up to the limit."""
    inside = np.zeros(len(posed), dtype=bool)
    for start, end in spans:
        inside |= (posed.times >= start) & (posed.times <= end)
    others = np.flatnonzero(~inside)
    room = max(MOST_FRAMES - int(inside.sum()), 1)
    others = others[:: max(1, -(-len(others) // room))]
    return np.sort(np.concatenate([np.flatnonzero(inside), others]))


def _plot(plot: Plot) -> Cursor:
    unit = plot.spec.unit
    return {"span": plot.span, "readout": plot.readout, "digits": digits(unit), "sign": unit.sign}


def _still(still: Still, width: float, height: float) -> FilmStill:
    x, y, across, down = still.box
    box = [round(x * width, 1), round(y * height, 1), round(across * width, 1), round(down * height, 1)]
    return {"time": round(still.time_seconds, 3), "box": box, "jpeg": base64.b64encode(still.jpeg).decode()}


def _flat(frame: Floats) -> list[int] | None:
    return np.round(frame).astype(int).ravel().tolist() if np.isfinite(frame).all() else None


def _box(times: Floats, points: Floats, span: Span) -> list[int] | None:
    """[x, y, width, height] around the athlete through an action, with a margin; None without a detection."""
    inside = points[(times >= span[0]) & (times <= span[1])].reshape(-1, 2)
    inside = inside[np.isfinite(inside).all(axis=1)]
    if not len(inside):
        return None
    (left, top), (right, bottom) = inside.min(axis=0), inside.max(axis=0)
    margin = MARGIN * max(right - left, bottom - top)
    sides = (left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin)
    return [round(float(side)) for side in sides]
