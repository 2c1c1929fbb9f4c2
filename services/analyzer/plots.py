"""Draws one curve over time as inline SVG: points in, shapes for a template out; no library, no script, no network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.analyzer.events import Event
from services.analyzer.kinematics import body_length, feet, feet_in_view, head, middle
from services.analyzer.landing import Landing, find_landing, front_knee
from services.analyzer.series import Floats, Poses
from services.analyzer.smooth import lowpass, resample, tidy

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 60, 40
FEWEST_POINTS = 4
KNEE_SECONDS_AFTER = 0.4
EVENT_WORDS = {
    "front_foot_contact": "front foot down",
    "release": "release",
    "fastest_hands": "fastest hands",
}


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the picture's units."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """An event: a vertical line with its name, on one of two rows so that neighbours don't overprint."""

    at: float
    label: str
    row: int


@dataclass(frozen=True)
class Plot:
    """A curve ready to be drawn: `pieces` are the SVG `points` of unbroken stretches, `dots` the samples."""

    title: str
    unit: str
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


def action_plot(whole: Poses, closeups: Sequence[Poses], events: Sequence[Event]) -> Plot | None:
    """The front knee from contact on where there is one, else the head's sideways way; None with too little to draw.

    The first action is shown, from its close-up if there is one.
    """
    source = tidy(_showing(whole, closeups, events))
    if (knee := _knee(source, events)) is not None:
        return _plot("Front knee in the picture", "degrees, 180 is straight", *knee, 20.0, events)
    if (sway := _head(source, body_length(tidy(whole)))) is not None:
        return _plot("Head over the feet, along the picture", "body lengths", *sway, 0.1, events)
    return None


def _showing(whole: Poses, closeups: Sequence[Poses], events: Sequence[Event]) -> Poses:
    first = events[0].time_seconds if events else 0.0
    return next((c for c in closeups if len(c) and c.times[0] <= first <= c.times[-1]), whole)


def _knee(poses: Poses, events: Sequence[Event]) -> tuple[Floats, Floats] | None:
    contact = next((event for event in events if event.name == "front_foot_contact"), None)
    action = next((event for event in events if event.name in ("release", "fastest_hands")), None)
    if contact is None or action is None:
        return None
    landing = find_landing(poses, action.time_seconds)
    if not isinstance(landing, Landing):
        return None
    times, degrees = front_knee(poses, landing, landing.time_seconds + KNEE_SECONDS_AFTER)
    return (times, degrees) if len(times) >= FEWEST_POINTS else None


def _head(poses: Poses, body: float) -> tuple[Floats, Floats] | None:
    base = feet(poses) if feet_in_view(poses) else middle(poses, "hip")
    times, across = resample(poses.times, (head(poses) - base)[:, 0] / body)
    if len(times) < FEWEST_POINTS:
        return None
    smooth = lowpass(across, 3.0)
    return times, smooth - float(np.nanmean(smooth))


def _plot(title: str, unit: str, times: Floats, values: Floats, least_height: float, events: Sequence[Event]) -> Plot:
    known = np.isfinite(values)
    span = (float(times[known][0]) - 0.05, float(times[known][-1]) + 0.05)
    low, high = _room(values[known], least_height)

    def across(t: float) -> float:
        return round(LEFT + (t - span[0]) / (span[1] - span[0]) * (WIDTH - LEFT - RIGHT), 1)

    def down(v: float) -> float:
        return round(HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    spots = [(across(t), down(v)) if ok else None for t, v, ok in zip(times, values, known, strict=True)]
    shown = [event for event in events if span[0] <= event.time_seconds <= span[1]]
    sparse = len(times) <= 40
    return Plot(
        title=title,
        unit=unit,
        pieces=_pieces(spots),
        dots=tuple(spot for spot in spots if spot is not None) if sparse else (),
        x_ticks=tuple(Tick(across(t), f"{t:.1f} s") for t in _round_values(*span)),
        y_ticks=tuple(Tick(down(v), f"{v:g}") for v in _round_values(low, high)),
        marks=tuple(
            Mark(across(event.time_seconds), EVENT_WORDS.get(event.name, event.name), row % 2)
            for row, event in enumerate(shown)
        ),
    )


def _room(values: Floats, least: float) -> tuple[float, float]:
    """A range a little wider than the values, and of a height at which noise looks like noise."""
    low, high = float(values.min()), float(values.max())
    margin = max(0.1 * (high - low), (least - (high - low)) / 2)
    return low - margin, high + margin


def _round_values(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two."""
    rough = (high - low) / 5
    size = 10 ** np.floor(np.log10(rough))
    step = float(size * min(k for k in (1, 2, 5, 10) if k * size >= rough))
    return [round(float(v), 6) for v in np.arange(np.ceil(low / step) * step, high + 1e-9, step)]


def _pieces(spots: Sequence[tuple[float, float] | None]) -> tuple[str, ...]:
    pieces: list[list[str]] = [[]]
    for spot in spots:
        if spot is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{spot[0]},{spot[1]}")
    return tuple(" ".join(piece) for piece in pieces if len(piece) > 1)
