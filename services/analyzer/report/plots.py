"""Turns each number's curve into the shapes of an inline SVG plot, which a template writes.

The curves come with the measurements; the mark is the threshold in the number's own unit. All plots of one action share
their time axis, so that one cursor goes through them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.events import Event
from services.analyzer.biomechanics.filtering import GRID_HZ
from services.analyzer.biomechanics.labels import short_event_caption
from services.analyzer.biomechanics.model import Curve, CurveSpec, Evidence, Measurements, MetricSpec, Trace
from services.analyzer.knowledge.loader import Mark, MarkOrigin

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 38, 24
FEWEST_POINTS = 4
MARGIN_SECONDS = 0.1
WORST_TOLERANCE_SECONDS = 0.02
# Rate of a cursor's values; it bounds the size of the page.
READOUT_HZ = 30.0
# A label nearer to the edge is aligned with it.
EDGE = 45


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis, in units of the SVG."""

    at: float
    label: str


@dataclass(frozen=True)
class EventLine:
    """A vertical line with the name of an event. row: 0 or 1, so that neighbours do not overlap."""

    at: float
    label: str
    row: int
    anchor: str


@dataclass(frozen=True)
class Plot:
    """One curve as shapes, in units of the SVG.

    span: seconds at the left and right edge. pieces: `points` of its unbroken polylines. worst: the worst moments.
    window: left and right of the measured window. mark: height and text of the threshold where the curve itself is
    compared with it, at the left end if the curve is farther away there. readout: (seconds, value) for the cursor.
    """

    spec: MetricSpec
    title: str
    y_axis: str
    span: tuple[float, float]
    pieces: tuple[str, ...]
    worst: tuple[tuple[float, float], ...]
    window: tuple[float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    events: tuple[EventLine, ...]
    mark: Tick | None
    mark_at_left: bool
    readout: tuple[tuple[float, float], ...]


def action_plots(trace: Trace, measurements: Measurements, marks: Mapping[str, Mark | None]) -> list[Plot]:
    """A plot for each number with a curve in this action, by rank. marks: by name of the number."""
    curves = _curves(trace, measurements)
    if not curves:
        return []
    first = min(float(curve.times[0]) for _, _, curve in curves) - MARGIN_SECONDS
    last = max(float(curve.times[-1]) for _, _, curve in curves) + MARGIN_SECONDS
    events = [event for event in measurements.events if first <= event.time_seconds <= last]
    axis = _TimeAxis(first, last)
    return [
        _plot(spec, how, curve, axis, trace, events, marks.get(spec.name), measurements.everything[spec.name].evidence)
        for spec, how, curve in curves
    ]


def _curves(trace: Trace, measurements: Measurements) -> list[tuple[MetricSpec, CurveSpec, Curve]]:
    """The curves of an action that are long enough to draw, by rank."""
    found = [
        (metric.spec, metric.spec.curve, trace.curves[name])
        for name, metric in measurements.everything.items()
        if metric.spec.curve and name in trace.curves and len(trace.curves[name].times) >= FEWEST_POINTS
    ]
    return sorted(found, key=lambda each: each[1].rank)


@dataclass(frozen=True)
class _TimeAxis:
    """Maps seconds to x."""

    first: float
    last: float

    def x(self, seconds: float) -> float:
        share = float(np.clip((seconds - self.first) / (self.last - self.first), 0, 1))
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _plot(
    spec: MetricSpec,
    how: CurveSpec,
    curve: Curve,
    axis: _TimeAxis,
    trace: Trace,
    events: Sequence[Event],
    mark: Mark | None,
    evidence: Sequence[Evidence],
) -> Plot:
    times, values = curve
    mark = mark if how.compared else None
    known = np.isfinite(values)
    low, high = _range(values[known] if mark is None else np.append(values[known], mark.value), how.least_range)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    start, end = times[0] - WORST_TOLERANCE_SECONDS, times[-1] + WORST_TOLERANCE_SECONDS
    worst = [moment.time_seconds for moment in evidence if start <= moment.time_seconds <= end]
    step = max(1, round(GRID_HZ / READOUT_HZ))
    return Plot(
        spec=spec,
        title=how.title,
        y_axis=how.y_axis,
        span=(axis.first, axis.last),
        pieces=_pieces(times, [(axis.x(t), y(v)) for t, v in zip(times, values, strict=True)], known),
        worst=tuple((axis.x(t), y(float(np.interp(t, times[known], values[known])))) for t in worst),
        window=(axis.x(trace.start), axis.x(trace.end)),
        x_ticks=tuple(Tick(axis.x(t), f"{t:g}") for t in _round_values(axis.first, axis.last, 4)),
        y_ticks=tuple(Tick(y(v), f"{v:g}") for v in _round_values(low, high, 4)),
        events=tuple(_event_line(axis.x(each.time_seconds), each, row % 2) for row, each in enumerate(events)),
        mark=Tick(y(mark.value), f"{_mark_word(mark)} {mark.value:.3g}") if mark else None,
        mark_at_left=mark is not None
        and bool(abs(values[known][0] - mark.value) > abs(values[known][-1] - mark.value)),
        readout=_readout(
            times[::step], values[::step], [moment for moment in evidence if moment.time_seconds in worst]
        ),
    )


def _readout(times: Floats, values: Floats, worst: Sequence[Evidence]) -> tuple[tuple[float, float], ...]:
    """The values of a cursor, with those of the worst moments: beside a ring stands the value of the ring."""
    samples = {round(float(t), 3): round(float(v), 3) for t, v in zip(times, values, strict=True)}
    return tuple(sorted((samples | {t: round(value, 3) for t, value in worst}).items()))


def _mark_word(mark: Mark) -> str:
    return "our mark" if mark.stated.origin is MarkOrigin.JUDGEMENT else "mark"


def _event_line(x: float, event: Event, row: int) -> EventLine:
    anchor = "start" if x < LEFT + EDGE else "end" if x > WIDTH - RIGHT - EDGE else "middle"
    return EventLine(x, short_event_caption(event), row, anchor)


def _range(values: Floats, least: float) -> tuple[float, float]:
    """A range wider than the values by a margin, and `least` or more."""
    low, high = float(values.min()), float(values.max())
    margin = max(0.1 * (high - low), (least - (high - low)) / 2)
    return low - margin, high + margin


def _round_values(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between two."""
    rough = (high - low) / count
    size = 10 ** np.floor(np.log10(rough))
    step = float(size * min(k for k in (1, 2, 5, 10) if k * size >= rough))
    return [round(float(v), 6) + 0.0 for v in np.arange(np.ceil(low / step) * step, high + 1e-9, step)]


def _pieces(times: Floats, points: Sequence[tuple[float, float]], known: NDArray[np.bool_]) -> tuple[str, ...]:
    """The points as polylines, broken at unknown values and at gaps in time."""
    pieces: list[list[str]] = [[]]
    for k, (x, y) in enumerate(points):
        if not known[k] or (k and times[k] - times[k - 1] > 2.5 / GRID_HZ):
            pieces.append([])
        if known[k]:
            pieces[-1].append(f"{x},{y}")
    return tuple(" ".join(piece) for piece in pieces if len(piece) > 1)
