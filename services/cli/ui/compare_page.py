"""The page that compares a player's analyses: videos at the same event, and each metric over time with its error.

One file, which makes no network request. Its content security policy allows only its own style and script, by hash,
and the videos inside it. Every text goes through autoescape, and none of it names an attribute or an element.
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
from services.cli.ui import job_results
from services.rules.players import player_names

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, SIDE, TOP, BOTTOM = 280, 130, 34, 26, 36
# The events that the page can show, in the order of an action.
EVENTS = {
    "front_foot_contact": "Front-foot contact",
    "fastest_hands": "Hands at their fastest",
    "release": "Ball release",
    "throw": "Throw",
    "take": "Take",
}


@dataclass(frozen=True)
class ComparedAnalysis:
    """One analysis. `video`: overlay.mp4, or empty with `video_absent_reason`. `events`: seconds by name."""

    title: str
    date: str
    level: str = "not known"
    provisional: bool = False
    video: bytes = b""
    video_absent_reason: str = ""
    events: Mapping[str, float] = field(default_factory=dict)


def render(analyses: Sequence[ComparedAnalysis], compared: CompareJobsResponse) -> str:
    """The page as HTML. `analyses` are in the order of `compared`."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("compare.css", "compare.js"))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    named = {name for analysis in analyses for name in analysis.events}
    dates = [f"{number}: {' '.join(analysis.date.split()[:2])}" for number, analysis in enumerate(analyses, start=1)]
    return environment.get_template("compare.html").render(
        title=f"{', '.join(player_names(compared.player_ids, compared.players)) or 'One player'}: what changed",
        style=Markup(style),  # noqa: S704 - our own files; the policy contains their hashes
        script=Markup(script),  # noqa: S704
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        caveats=compared.caveats,
        jobs=[_prepare_video(analysis) for analysis in analyses],
        events=[(_to_attribute(name), words) for name, words in EVENTS.items() if name in named],
        metrics=[
            _prepare_metric(metric, dates) for metric in sorted(compared.metrics, key=_sort_key) if _has_numbers(metric)
        ],
        width=WIDTH,
        height=HEIGHT,
    )


def describe_change(change: MetricChange) -> tuple[str, str]:
    """The change of a metric from the first analysis to the last: `clear`, `same` or `unknown`, and a sentence."""
    if change.absent_reason:
        return "unknown", "Not comparable."
    unit = {"unit": change.unit}
    size, detectable = (
        job_results.format_quantity({"value": value, **unit}) for value in (abs(change.value), change.detectable)
    )
    direction = "Up" if change.value > 0 else "Down"
    if not change.clear:
        return "same", f"{direction} {size}: within the {detectable} that errors alone can cause."
    score = f" Score {change.score:+.2f}." if change.HasField("score") else ""
    return "clear", f"{direction} {size}, more than the {detectable} that errors can cause.{score}"


def _csp_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _to_attribute(event: str) -> str:
    return event.replace("_", "-")


def _prepare_video(analysis: ComparedAnalysis) -> dict[str, Any]:
    video = "data:video/mp4;base64," + base64.b64encode(analysis.video).decode() if analysis.video else ""
    events = {_to_attribute(name): f"{at:.3f}" for name, at in analysis.events.items() if name in EVENTS}
    return {
        "title": analysis.title,
        "date": analysis.date,
        "level": analysis.level,
        "provisional": analysis.provisional,
        "video": video,
        "video_absent_reason": analysis.video_absent_reason,
        "events": events,
    }


def _sort_key(metric: MetricComparison) -> tuple[bool, bool, str]:
    """Comparable metrics first, scored metrics before the others, then by name."""
    is_scored = any(reading.HasField("score") for reading in metric.readings)
    return bool(metric.overall.absent_reason), not is_scored, metric.name


def _has_numbers(metric: MetricComparison) -> bool:
    return any(reading.HasField("value") for reading in metric.readings)


def _prepare_metric(metric: MetricComparison, dates: Sequence[str]) -> dict[str, Any]:
    kind, sentence = describe_change(metric.overall)
    readings = list(metric.readings)
    measured = sum(not _is_absent(reading) for reading in readings)
    notes = [
        f"{number}: {reading.absent_reason if _is_absent(reading) else _describe_reading(reading)}."
        for number, reading in enumerate(readings, 1)
        if _is_absent(reading) or measured == 1
    ]
    if kind == "unknown" and not notes:
        notes = [f"{metric.overall.absent_reason}."]
    spoken = [f"{date}, {_describe_reading(reading)}" for date, reading in zip(dates, readings, strict=True)]
    return {
        "name": job_results.describe_metric(metric.name),
        "kind": kind,
        "sentence": sentence,
        "plot": _prepare_plot(readings, dates) if measured > 1 else None,
        "spoken": "; ".join(spoken),
        "notes": notes,
    }


def _is_absent(reading: MetricReading) -> bool:
    return not reading.HasField("value")


def _describe_reading(reading: MetricReading) -> str:
    if _is_absent(reading):
        return "not measured"
    error = reading.error if reading.HasField("error") else None
    return job_results.format_quantity({"value": reading.value, "unit": reading.unit}, error)


def _prepare_plot(readings: Sequence[MetricReading], dates: Sequence[str]) -> dict[str, Any]:
    """Coordinates in the drawing: analyses at even steps along x, values with errors along y; a gap if absent."""
    ends = [end for r in readings if not _is_absent(r) for end in (r.value - r.error, r.value + r.error)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def x(index: int) -> float:
        return round(SIDE + (WIDTH - 2 * SIDE) * (index / (len(readings) - 1)), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / span, 1)

    points, pieces, piece = [], [], list[str]()
    for k, reading in enumerate(readings):
        if _is_absent(reading):
            pieces.append(piece)
            piece = []
            continue
        at = (x(k), y(reading.value))
        piece.append(f"{at[0]},{at[1]}")
        bar = (y(reading.value - reading.error), y(reading.value + reading.error)) if reading.error else None
        top = min(bar) if bar else at[1]
        shown = (
            job_results.format_quantity({"value": reading.value, "unit": ""})
            if reading.unit != "deg"
            else f"{reading.value:.0f}°"
        )
        points.append({"x": at[0], "y": at[1], "bar": bar, "label_y": round(top - 7, 1), "shown": shown})
    pieces.append(piece)
    # More than four dates do not fit: label the first and the last.
    chosen = range(len(dates)) if len(dates) <= 4 else (0, len(dates) - 1)
    anchors: dict[int, tuple[str, float]] = {0: ("start", 4), len(dates) - 1: ("end", WIDTH - 4)}
    labels = []
    for index in chosen:
        anchor, position = anchors.get(index, ("middle", x(index)))
        labels.append({"x": position, "anchor": anchor, "text": dates[index]})
    return {"points": points, "pieces": [" ".join(part) for part in pieces if len(part) > 1], "labels": labels}
