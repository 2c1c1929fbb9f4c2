"""The page that compares a player's analyses: videos at the same event, and each metric over time with its error.

One file. Its content security policy allows only its own style and script, by hash, and its videos: inside it for a
file on disk, or at S3 for a page that a server shows. Every text goes through autoescape, and none of it names an
attribute or an element.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import json_format
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crease.jobs.v1.job_pb2 import STAGE_QUICK, CompareJobsResponse, Job, MetricComparison, MetricReading
from crease.jobs.v1.session_pb2 import Session
from services.comparison.changes import change_of, in_order
from services.naming import EVENT_LABELS, event_label
from services.rules import numbers
from services.rules.changes import Verdict, summarize
from services.rules.numbers import Better
from services.rules.players import player_names

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, SIDE, TOP, BOTTOM = 280, 140, 34, 40, 36
# The rate of a film of 30 frames a second or more, as the analyzer writes it.
OVERLAY_FPS = 30.0
# Each verdict has a sign, so that none rests on its colour.
SIGNS = {
    Verdict.BETTER: "✔",
    Verdict.WORSE: "✘",
    Verdict.CHANGED: "↔",
    Verdict.NO_CLEAR_CHANGE: "=",
    Verdict.NOT_COMPARABLE: "?",
}


@dataclass(frozen=True)
class ComparedAnalysis:
    """One analysis. `video`: the address of overlay.mp4, or empty with `video_absent_reason`.

    `time`: the date for the script, which writes it in the reader's zone: `2026-05-03T09:30:00Z`; empty: it stays.
    `events`: seconds by name; `given`: those that the client stated. `frames`: by name, the seconds of the frame that
    shows the event, where it is known. `fps`: frames a second of the video, 0 if not known.
    """

    title: str
    date: str
    level: str = "not known"
    provisional: bool = False
    video: str = ""
    video_absent_reason: str = ""
    events: Mapping[str, float] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    frames: Mapping[str, float] = field(default_factory=dict)
    fps: float = 0.0
    time: str = ""


class _Date(NamedTuple):
    """An analysis by its place in the page and its day. `time` as in ComparedAnalysis."""

    number: int
    day: str
    time: str


def analysis_of(
    job: Job, session: Session, date: str, video: str, video_absent_reason: str, *, time: str = ""
) -> ComparedAnalysis:
    """The analysis of a job with results. `date`: as its reader writes it; `video`: an address, or empty."""
    results: dict[str, Any] = json_format.MessageToDict(job.results)
    summary, findings = results.get("pose", {}).get("pose_summary", {}), results.get("findings", {})
    level, events = str(findings.get("overall_level") or "not known"), summary.get("events", [])
    return ComparedAnalysis(
        title="Anonymous" if job.anonymous else session.title,
        date=date,
        time=time,
        level="not assessed" if findings.get("not_assessed_reason") else level,
        provisional=job.results_stage == STAGE_QUICK,
        video=video,
        video_absent_reason=video_absent_reason,
        # The events of the first action.
        events={event["name"]: event["time_seconds"] for event in reversed(events)},
        given=frozenset(event["name"] for event in events if event.get("given")),
        frames={event["name"]: event["frame_seconds"] for event in reversed(events) if event.get("frame_seconds")},
        fps=summary.get("video_fps") or 0.0,
    )


def embed(video: bytes) -> str:
    """A video as an address inside the page; empty for an empty one."""
    return "data:video/mp4;base64," + base64.b64encode(video).decode() if video else ""


def render(analyses: Sequence[ComparedAnalysis], compared: CompareJobsResponse, video_source: str = "data:") -> str:
    """The page as HTML. `analyses` are in the order of `compared`. `video_source`: the policy's source of videos."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("compare.css", "compare.js"))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    named = {name for analysis in analyses for name in analysis.events}
    given = frozenset[str]().union(*(analysis.given for analysis in analyses))
    dates = [
        _Date(number, " ".join(analysis.date.split()[:2]), analysis.time)
        for number, analysis in enumerate(analyses, start=1)
    ]
    metrics = [metric for metric in in_order(compared.metrics) if _has_numbers(metric)]
    changes = [change_of(metric) for metric in metrics]
    return environment.get_template("compare.html").render(
        title=f"{', '.join(player_names(compared.player_ids, compared.players)) or 'One player'}: what changed",
        style=Markup(style),  # noqa: S704 - our own files; the policy contains their hashes
        script=Markup(script),  # noqa: S704
        video_source=video_source,
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        caveats=[_sentence(caveat, compared) for caveat in compared.caveats],
        span=(dates[0], dates[-1]),
        summary=[(verdict, said) for verdict in Verdict if (said := summarize(changes, verdict))],
        signs=SIGNS,
        step=round(1 / min(OVERLAY_FPS, max((analysis.fps for analysis in analyses), default=0) or OVERLAY_FPS), 4),
        jobs=[_prepare_video(analysis) for analysis in analyses],
        events=[(_to_attribute(name), event_label(name, name in given)) for name in EVENT_LABELS if name in named],
        metrics=[_prepare_metric(metric, dates, compared) for metric in metrics],
        width=WIDTH,
        height=HEIGHT,
    )


def _csp_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _to_attribute(event: str) -> str:
    return event.replace("_", "-")


def _prepare_video(analysis: ComparedAnalysis) -> dict[str, Any]:
    events = {
        _to_attribute(name): f"{at:.3f} {analysis.frames.get(name, at):.3f}"
        for name, at in analysis.events.items()
        if name in EVENT_LABELS
    }
    return {
        "title": analysis.title,
        "date": analysis.date,
        "time": analysis.time,
        "level": analysis.level,
        "provisional": analysis.provisional,
        "video": analysis.video,
        "video_absent_reason": analysis.video_absent_reason,
        "events": events,
    }


def _with_numbers(text: str, compared: CompareJobsResponse) -> str:
    """A sentence that names each analysis by its number in the page instead of its job's id."""
    ids = [reading.job_id for metric in compared.metrics[:1] for reading in metric.readings]
    for number, job_id in enumerate(ids, start=1):
        text = text.replace(f"job {job_id}", f"analysis {number}").replace(job_id, f"analysis {number}")
    return text


def _sentence(clause: str, compared: CompareJobsResponse) -> str:
    """A clause as a sentence, which names each analysis by its number in the page."""
    words = _with_numbers(clause, compared)
    return f"{words[:1].upper()}{words[1:]}."


def _has_numbers(metric: MetricComparison) -> bool:
    return any(reading.HasField("value") for reading in metric.readings)


def _prepare_metric(metric: MetricComparison, dates: Sequence[_Date], compared: CompareJobsResponse) -> dict[str, Any]:
    change = change_of(metric)
    readings = list(metric.readings)
    measured = sum(not _is_absent(reading) for reading in readings)
    notes = [
        f"{number}: {reading.absent_reason if _is_absent(reading) else _describe_reading(reading)}."
        for number, reading in enumerate(readings, 1)
        if _is_absent(reading) or measured == 1
    ]
    if change.absent_reason and not notes:
        notes = [_sentence(change.absent_reason, compared)]
    spoken = [f"{date.number}: {_describe_reading(reading)}" for date, reading in zip(dates, readings, strict=True)]
    return {
        "name": numbers.label(metric.name),
        "meaning": numbers.meaning(metric.name),
        "verdict": change.verdict,
        "sentence": change.sentence,
        "plot": _prepare_plot(readings, dates) if measured > 1 else None,
        "better": {Better.HIGHER: "↑ up is better", Better.LOWER: "↓ down is better"}.get(
            numbers.better(metric.name), "neither way is better"
        ),
        "spoken": "; ".join(spoken),
        "notes": notes,
    }


def _is_absent(reading: MetricReading) -> bool:
    return not reading.HasField("value")


def _describe_reading(reading: MetricReading) -> str:
    if _is_absent(reading):
        return "not measured"
    error = reading.error if reading.HasField("error") else None
    return numbers.format_value(reading.value, reading.unit, error)


def _prepare_plot(readings: Sequence[MetricReading], dates: Sequence[_Date]) -> dict[str, Any]:
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
        shown = numbers.format_rounded(reading.value, reading.unit, reading.error)
        points.append({"x": at[0], "y": at[1], "bar": bar, "label_y": round(top - 7, 1), "shown": shown})
    pieces.append(piece)
    # More than four dates do not fit, nor more than two of one day, to which the script adds their time.
    days = {date.day for date in dates}
    fit = len(dates) <= 4 and len(days) == len(dates)
    chosen = range(len(dates)) if fit else (0, len(dates) - 1)
    anchors: dict[int, tuple[str, float]] = {0: ("start", 4), len(dates) - 1: ("end", WIDTH - 4)}
    labels = []
    for index in chosen:
        anchor, position = anchors.get(index, ("middle", x(index)))
        labels.append({"x": position, "anchor": anchor, "date": dates[index]})
    return {"points": points, "pieces": [" ".join(part) for part in pieces if len(part) > 1], "labels": labels}
