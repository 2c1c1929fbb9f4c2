"""One page that compares a player's analyses: the films at the same event, and each number over time with its error.

It is one file that asks nothing of a network. Its content policy allows its own style and script, by hash, and the
films inside it; every text goes through autoescape, and none of it names an attribute or an element.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crease.jobs.v1.job_pb2 import CompareJobsResponse, MetricChange, MetricComparison, MetricReading
from services.cli.ui import console

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, SIDE, TOP, BOTTOM = 280, 130, 34, 26, 36
# The events that films are stopped at, in the order of an action.
EVENTS = {
    "front_foot_contact": "Front-foot contact",
    "fastest_hands": "Hands at their fastest",
    "release": "Ball release",
    "throw": "Throw",
    "take": "Take",
}


@dataclass(frozen=True)
class Compared:
    """One of the analyses. film: overlay.mp4, empty with the reason in `no_film`; events: name to seconds."""

    title: str
    date: str
    level: str = "not known"
    provisional: bool = False
    film: bytes = b""
    no_film: str = ""
    events: Mapping[str, float] = field(default_factory=dict)


def page(analyses: Sequence[Compared], compared: CompareJobsResponse) -> str:
    """The page. analyses: in the order of `compared`."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("compare.css", "compare.js"))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    named = {name for analysis in analyses for name in analysis.events}
    dates = [f"{place}: {' '.join(analysis.date.split()[:2])}" for place, analysis in enumerate(analyses, start=1)]
    return environment.get_template("compare.html").render(
        title=f"{', '.join(compared.player_ids) or 'One player'}: what changed",
        style=Markup(style),  # noqa: S704 - our own files, and the policy holds their hashes
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        caveats=compared.caveats,
        jobs=[_film(analysis) for analysis in analyses],
        events=[(_attribute(name), words) for name, words in EVENTS.items() if name in named],
        metrics=[_metric(metric, dates) for metric in sorted(compared.metrics, key=_order) if _has_numbers(metric)],
        width=WIDTH,
        height=HEIGHT,
    )


def change_words(change: MetricChange) -> tuple[str, str]:
    """What became of a number from the first analysis to the last: `clear`, `same` or `unknown`, and a sentence."""
    if change.absent_reason:
        return "unknown", "Not comparable."
    unit = {"unit": change.unit}
    by, needed = (console.quantity({"value": value, **unit}) for value in (abs(change.value), change.detectable))
    way = "Up" if change.value > 0 else "Down"
    if not change.clear:
        return "same", f"{way} {by}: within the {needed} that errors alone can make."
    score = f" Score {change.score:+.2f}." if change.HasField("score") else ""
    return "clear", f"{way} {by}, more than the {needed} that errors can make.{score}"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _attribute(event: str) -> str:
    return event.replace("_", "-")


def _film(analysis: Compared) -> dict[str, Any]:
    film = "data:video/mp4;base64," + base64.b64encode(analysis.film).decode() if analysis.film else ""
    events = {_attribute(name): f"{at:.3f}" for name, at in analysis.events.items() if name in EVENTS}
    known = {name: getattr(analysis, name) for name in ("title", "date", "level", "provisional", "no_film")}
    return {**known, "film": film, "events": events}


def _order(metric: MetricComparison) -> tuple[bool, int, str]:
    """What can be compared before what can't, the scored metrics before the rest."""
    known = list(console.METRICS)
    place = known.index(metric.name) if metric.name in known else len(known)
    return bool(metric.overall.absent_reason), place, metric.name


def _has_numbers(metric: MetricComparison) -> bool:
    return any(reading.HasField("value") for reading in metric.readings)


def _metric(metric: MetricComparison, dates: Sequence[str]) -> dict[str, Any]:
    kind, words = change_words(metric.overall)
    readings = list(metric.readings)
    measured = sum(not _absent(reading) for reading in readings)
    notes = [
        f"{place}: {reading.absent_reason if _absent(reading) else _said(reading)}."
        for place, reading in enumerate(readings, 1)
        if _absent(reading) or measured == 1
    ]
    if kind == "unknown" and not notes:
        notes = [f"{metric.overall.absent_reason}."]
    spoken = [f"{date}, {_said(reading)}" for date, reading in zip(dates, readings, strict=True)]
    return {
        "name": console.metric_words(metric.name),
        "kind": kind,
        "words": words,
        "plot": _plot(readings, dates) if measured > 1 else None,
        "spoken": "; ".join(spoken),
        "notes": notes,
    }


def _absent(reading: MetricReading) -> bool:
    return not reading.HasField("value")


def _said(reading: MetricReading) -> str:
    if _absent(reading):
        return "not measured"
    error = reading.error if reading.HasField("error") else None
    return console.quantity({"value": reading.value, "unit": reading.unit}, error)


def _plot(readings: Sequence[MetricReading], dates: Sequence[str]) -> dict[str, Any]:
    """Places in the drawing: even steps along, the values and their errors upwards; a gap where there is no value."""
    ends = [end for r in readings if not _absent(r) for end in (r.value - r.error, r.value + r.error)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def x(place: int) -> float:
        return round(SIDE + (WIDTH - 2 * SIDE) * (place / (len(readings) - 1)), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / span, 1)

    points, pieces, piece = [], [], list[str]()
    for k, reading in enumerate(readings):
        if _absent(reading):
            pieces.append(piece)
            piece = []
            continue
        at = (x(k), y(reading.value))
        piece.append(f"{at[0]},{at[1]}")
        bar = (y(reading.value - reading.error), y(reading.value + reading.error)) if reading.error else None
        top = min(bar) if bar else at[1]
        shown = (
            console.quantity({"value": reading.value, "unit": ""}) if reading.unit != "deg" else f"{reading.value:.0f}°"
        )
        points.append({"x": at[0], "y": at[1], "bar": bar, "label_y": round(top - 7, 1), "shown": shown})
    pieces.append(piece)
    # Of many dates the first and the last are written.
    chosen = range(len(dates)) if len(dates) <= 4 else (0, len(dates) - 1)
    anchors: dict[int, tuple[str, float]] = {0: ("start", 4), len(dates) - 1: ("end", WIDTH - 4)}
    labels = []
    for place in chosen:
        anchor, along = anchors.get(place, ("middle", x(place)))
        labels.append({"x": along, "anchor": anchor, "words": dates[place]})
    return {"points": points, "pieces": [" ".join(part) for part in pieces if len(part) > 1], "labels": labels}
