"""Draws each number's curve over time as inline SVG: points in, shapes for a template out; no library, no network.

What is drawn is what was measured: the curves come with the measurements, and the mark is the threshold in the number's
own unit. All plots of one action share their stretch of time, so that one cursor goes through them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.analyzer.biomechanics.events import Event
from services.analyzer.biomechanics.filtering import GRID_HZ
from services.analyzer.biomechanics.measurement import Course
from services.analyzer.knowledge.loader import Mark
from services.analyzer.pose.landmarks import Floats

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 38, 24
FEWEST_POINTS = 4
ROOM_SECONDS = 0.1
# A cursor reads the curve at this rate; the page's data stay small.
READOUT_HZ = 30.0
EVENT_WORDS = {
    "front_foot_contact": "front foot down",
    "release": "release",
    "fastest_hands": "fastest hands",
    "throw": "throw",
    "take": "take",
}
# What is drawn, and over what height noise should look like noise.
CURVES = {
    "front_knee_brace_score": ("Front knee", "degrees; 180 is straight", 30.0),
    "head_stability_score": ("Head off its mean place over the feet", "body lengths", 0.1),
    "balance_drift_score": ("Trunk off its mean place over the feet", "body lengths", 0.1),
    "elbow_drop_score": ("Elbow below the shoulder", "body lengths", 0.1),
}


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the picture's units."""

    at: float
    label: str


@dataclass(frozen=True)
class Sign:
    """An event: a vertical line with its name, on one of two rows so that neighbours don't overprint."""

    at: float
    label: str
    row: int
    anchor: str


@dataclass(frozen=True)
class Plot:
    """A curve ready to be drawn: `pieces` are the SVG `points` of unbroken stretches, `worst` the moments shown.

    span: seconds at the plot's left and right edge. window: left and right of what was measured. mark: the height of
    the threshold, with its words; they stand at the end where the curve is farther away. readout: (seconds, value) for
    a cursor.
    """

    metric: str
    title: str
    unit: str
    span: tuple[float, float]
    pieces: tuple[str, ...]
    worst: tuple[tuple[float, float], ...]
    window: tuple[float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    events: tuple[Sign, ...]
    mark: Tick | None
    mark_at_left: bool
    readout: tuple[tuple[float, float], ...]


def action_plots(
    course: Course,
    events: Sequence[Event],
    marks: dict[str, Mark | None],
    worst: dict[str, list[tuple[float, float]]],
) -> list[Plot]:
    """A plot for each number that has a curve in this action. worst: (seconds, value) of its worst moments."""
    drawn = {name: course.curves[name] for name in CURVES if len(course.curves.get(name, ((), ()))[0]) >= FEWEST_POINTS}
    if not drawn:
        return []
    first = min(float(times[0]) for times, _ in drawn.values()) - ROOM_SECONDS
    last = max(float(times[-1]) for times, _ in drawn.values()) + ROOM_SECONDS
    inside = [event for event in events if first <= event.time_seconds <= last]
    axis = _Axis(first, last)
    return [_plot(name, axis, course, drawn[name], inside, marks.get(name), worst[name]) for name in drawn]


@dataclass(frozen=True)
class _Axis:
    """From seconds to the picture's x."""

    first: float
    last: float

    def across(self, t: float) -> float:
        part = float(np.clip((t - self.first) / (self.last - self.first), 0, 1))
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)


def _plot(
    name: str,
    axis: _Axis,
    course: Course,
    curve: tuple[Floats, Floats],
    events: Sequence[Event],
    mark: Mark | None,
    worst: Sequence[tuple[float, float]],
) -> Plot:
    title, unit, least_height = CURVES[name]
    times, values = curve
    known = np.isfinite(values)
    reach = values[known] if mark is None else np.append(values[known], mark.value)
    low, high = _room(reach, least_height)

    def down(v: float) -> float:
        return round(HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    inside = [(t, v) for t, v in worst if times[0] - 0.02 <= t <= times[-1] + 0.02]
    step = max(1, round(GRID_HZ / READOUT_HZ))
    return Plot(
        metric=name,
        title=title,
        unit=unit,
        span=(axis.first, axis.last),
        pieces=_pieces(times, [(axis.across(t), down(v)) for t, v in zip(times, values, strict=True)], known),
        worst=tuple((axis.across(t), down(float(np.interp(t, times[known], values[known])))) for t, _ in inside),
        window=(axis.across(course.start), axis.across(course.end)),
        x_ticks=tuple(Tick(axis.across(t), f"{t:g}") for t in _round_values(axis.first, axis.last, 4)),
        y_ticks=tuple(Tick(down(v), f"{v:g}") for v in _round_values(low, high, 4)),
        events=tuple(_sign(axis.across(e.time_seconds), e.name, row % 2) for row, e in enumerate(events)),
        mark=Tick(down(mark.value), f"mark {mark.value:.3g}") if mark else None,
        mark_at_left=mark is not None
        and bool(abs(values[known][0] - mark.value) > abs(values[known][-1] - mark.value)),
        readout=tuple((round(float(t), 3), round(float(v), 3)) for t, v in zip(times, values, strict=True))[::step],
    )


def _sign(at: float, name: str, row: int) -> Sign:
    anchor = "start" if at < LEFT + 45 else "end" if at > WIDTH - RIGHT - 45 else "middle"
    return Sign(at, EVENT_WORDS.get(name, name.replace("_", " ")), row, anchor)


def _room(values: Floats, least: float) -> tuple[float, float]:
    """A range a little wider than the values, and of a height at which noise looks like noise."""
    low, high = float(values.min()), float(values.max())
    margin = max(0.1 * (high - low), (least - (high - low)) / 2)
    return low - margin, high + margin


def _round_values(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two, `about` so many."""
    rough = (high - low) / about
    size = 10 ** np.floor(np.log10(rough))
    step = float(size * min(k for k in (1, 2, 5, 10) if k * size >= rough))
    return [round(float(v), 6) + 0.0 for v in np.arange(np.ceil(low / step) * step, high + 1e-9, step)]


def _pieces(times: Floats, spots: Sequence[tuple[float, float]], known: np.ndarray) -> tuple[str, ...]:
    """The spots as SVG points, broken where values are unknown or time leaps."""
    pieces: list[list[str]] = [[]]
    for k, (x, y) in enumerate(spots):
        if not known[k] or (k and times[k] - times[k - 1] > 2.5 / GRID_HZ):
            pieces.append([])
        if known[k]:
            pieces[-1].append(f"{x},{y}")
    return tuple(" ".join(piece) for piece in pieces if len(piece) > 1)
