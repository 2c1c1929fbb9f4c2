"""Writes `report.html`, the page a coach opens: one file for phone, projector and paper, offline.

results, courses, poses, key frames ─▶ what the template shows ─▶ page.html + report.html + page.css + report.js
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.analyzer.biomechanics.events import Event
from services.analyzer.biomechanics.measurement import Course
from services.analyzer.coaching.summary import ACTION_WORDS, METRIC_WORDS, MOST_ISSUES, level, mark_words, shown, trust
from services.analyzer.knowledge.loader import DISCIPLINES, Mark, guidance
from services.analyzer.pose.landmarks import INDEX, Floats, Poses
from services.analyzer.pose.skeleton import BONES, side_of
from services.analyzer.report.annotations import Drawn
from services.analyzer.report.html import data_block, write_page
from services.analyzer.report.metadata import About
from services.analyzer.report.player import Still, player
from services.analyzer.report.plots import BOTTOM, EVENT_WORDS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, action_plots

MOST_KEY_FRAMES = 6
LEAST_VISIBILITY = 0.5
# More of a coach's notes than this is folded.
NOTES_SHOWN = 280
BAR_WIDTH = 100
# What a moment shows of a number that is of a whole stretch.
HERE_WORDS = {
    "head_stability_score": "head {} from its mean place",
    "balance_drift_score": "trunk {} from its mean place",
    "elbow_drop_score": "elbow {} under the shoulder",
}
LEVEL_SIGNS = {"high": "●●●", "medium": "●●○", "low": "●○○"}
SEVERITY_SIGNS = {"high": "▲▲▲", "medium": "▲▲", "low": "▲"}


@dataclass(frozen=True)
class KeyFrame:
    """One picture for the report. jpeg: its bytes; points: (33, 2) pixels of that JPEG, NaN where nobody was seen;
    visibility: (33,) 0..1; caption: what happens there; moment_seconds: the moment it stands for, to which
    `time_seconds` is the nearest frame; marks: the numbers drawn in it.
    """

    time_seconds: float
    jpeg: bytes
    width: int
    height: int
    points: Floats
    visibility: Floats
    caption: str = ""
    moment_seconds: float | None = None
    marks: tuple[Drawn, ...] = ()


def render(
    results: dict[str, Any],
    courses: Sequence[Course],
    posed: Poses,
    key_frames: Sequence[KeyFrame] = (),
    about: About | None = None,
    stills: Sequence[Still] = (),
) -> str:
    """`report.html` of a results dict. courses: what its plots draw; posed, stills: what is stepped through."""
    about = about or About()
    summary = results["pose"]["pose_summary"]
    marks = _asked(about.discipline)
    groups = _groups(results, courses, marks, about.discipline)
    box = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
    stepped = player(posed, [group["span"] for group in groups], _plots(groups), stills)
    scored = [_row(name, metric, summary, marks) for name, metric in results["metrics"].items()]
    frames = [_picture(frame, k) for k, frame in enumerate(key_frames[:MOST_KEY_FRAMES])]
    return write_page(
        "report.html",
        script="report.js",
        about=about,
        title=about.title or f"{about.discipline or 'video'} analysis".capitalize(),
        who=[", ".join(about.players), about.discipline.capitalize(), _view(about.camera_view), about.analysed_at],
        notes=(about.notes[:NOTES_SHOWN], about.notes[NOTES_SHOWN:]),
        level=level(results),
        level_name="" if results["report"]["reliability_warning"] else results["findings"]["overall_level"],
        level_sign=LEVEL_SIGNS[results["findings"]["overall_level"]],
        hero=_hero(results, frames),
        frames=sorted(frames, key=lambda frame: frame["moment"]),
        issues=[_finding(finding, summary, marks) for finding in results["findings"]["findings"]],
        severity_signs=SEVERITY_SIGNS,
        groups=groups,
        plot_box=box,
        event_words=EVENT_WORDS,
        stepped=bool(posed.detected.any()),
        events=summary.get("events", []),
        data=data_block({**stepped, "box": box}),
        scored=scored,
        nearest=_nearest(scored),
        measures=[_row(name, metric, summary, {}) for name, metric in summary.get("measures", {}).items()],
        repetitions=_repetitions(results, about.discipline),
        unmeasured=_unmeasured(results),
        report=results["report"],
        summary=summary,
        facts=_facts(summary, about),
    )


def _view(camera_view: str) -> str:
    return f"filmed from {camera_view}" if camera_view else ""


def _asked(discipline: str) -> dict[str, Mark | None]:
    """The mark of each metric that has one."""
    guide = guidance(discipline) if discipline in DISCIPLINES else None
    return {name: guide.mark(name) for name in METRIC_WORDS} if guide else {}


def _finding(finding: dict[str, Any], summary: dict[str, Any], marks: dict[str, Mark | None]) -> dict[str, Any]:
    """A finding with its number and its mark in words."""
    error = summary.get("errors", {}).get(finding["metric"])
    mark = marks.get(finding["metric"])
    return {
        **finding,
        "number": shown(finding["value"], finding["unit"], error),
        "mark": mark_words(mark, finding["unit"]) if mark else None,
        "part": METRIC_WORDS[finding["metric"]][0] if finding["metric"] else "Player in view",
    }


def _row(name: str, metric: dict[str, Any], summary: dict[str, Any], marks: dict[str, Mark | None]) -> dict[str, Any]:
    """A number for the tables; `bar` and `tick` are widths of its score and its threshold."""
    label, meaning = METRIC_WORDS.get(name, (name, ""))
    error = metric.get("error", summary.get("errors", {}).get(name))
    mark, score = marks.get(name), metric.get("score")
    return {
        **metric,
        "name": name,
        "label": label,
        "meaning": meaning,
        "shown": None if metric["value"] is None else shown(metric["value"], metric["unit"], error),
        "trust": trust(metric["confidence"]),
        "mark": mark_words(mark, metric["unit"]) if mark else None,
        "threshold": mark.threshold if mark else None,
        "bar": None if score is None else round(BAR_WIDTH * score),
    }


def _nearest(scored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The three numbers least over their marks."""
    judged = [row for row in scored if row["score"] is not None and row["threshold"] is not None]
    return sorted(judged, key=lambda row: float(row["score"] - row["threshold"]))[:MOST_ISSUES]


def _groups(
    results: dict[str, Any], courses: Sequence[Course], marks: dict[str, Mark | None], discipline: str
) -> list[dict[str, Any]]:
    """The plots, an action a group; open is the one in which the first finding is worst."""
    events = [Event(e["name"], e["time_seconds"], e["confidence"]) for e in results["pose"]["pose_summary"]["events"]]
    worst = {
        name: [(moment["time_seconds"], moment["value"]) for moment in metric["evidence"]]
        for name, metric in results["metrics"].items()
    }
    plots = [drawn for course in courses if (drawn := action_plots(course, events, marks, worst))]
    times = [f["time_seconds"] for f in results["findings"]["findings"] if f["time_seconds"] is not None]
    shows = next((k for k, (plot, *_) in enumerate(plots) if times and plot.span[0] <= times[0] <= plot.span[1]), 0)
    noun = ACTION_WORDS.get(discipline, ("action",))[0].capitalize()
    return [
        {"name": f"{noun} {k + 1} of {len(plots)}", "span": group[0].span, "plots": group, "open": k == shows}
        for k, group in enumerate(plots)
    ]


def _plots(groups: list[dict[str, Any]]) -> list[Plot]:
    return [plot for group in groups for plot in group["plots"]]


def _repetitions(results: dict[str, Any], discipline: str) -> dict[str, Any] | None:
    """Each action's values, a row an action; None where there are not several."""
    listed = results["pose"]["pose_summary"].get("repetitions", [])
    if len(listed) < 2:
        return None
    everything = {**results["metrics"], **results["pose"]["pose_summary"].get("measures", {})}
    names = [name for name in METRIC_WORDS if any(each["values"].get(name) is not None for each in listed)]
    rows = [
        {
            "time_seconds": each["time_seconds"],
            "cells": [
                {"name": name, "shown": _cell(each["values"].get(name), everything[name]["unit"])} for name in names
            ],
        }
        for each in listed
    ]
    noun = ACTION_WORDS.get(discipline, ("action",))[0].capitalize()
    columns = [{"label": METRIC_WORDS[name][0], "unit": everything[name]["unit"]} for name in names]
    return {"noun": noun, "columns": columns, "rows": rows}


def _cell(value: float | None, unit: str) -> str | None:
    return None if value is None else shown(value, unit).split(" ")[0]


def _unmeasured(results: dict[str, Any]) -> list[tuple[str, str]]:
    """(reason, numbers): each reason once, with all that it holds for."""
    everything = {**results["metrics"], **results["pose"]["pose_summary"].get("measures", {})}
    reasons: dict[str, list[str]] = {}
    for name, metric in everything.items():
        if metric["absent_reason"]:
            reasons.setdefault(metric["absent_reason"], []).append(METRIC_WORDS.get(name, (name,))[0])
    return [(reason, ", ".join(names)) for reason, names in reasons.items()]


def _picture(frame: KeyFrame, number: int) -> dict[str, Any]:
    """A key frame for the template: the JPEG as a data address, the bones as lines with the side they belong to."""
    bones = []
    for start, end in BONES:
        a, b = INDEX[start], INDEX[end]
        drawable = np.isfinite(frame.points[[a, b]]).all() and frame.visibility[[a, b]].min() >= LEAST_VISIBILITY
        if drawable:
            ends = [round(float(v), 1) for v in (*frame.points[a], *frame.points[b])]
            bones.append((side_of(start, end), ends))
    box = _crop(frame)
    moment = frame.time_seconds if frame.moment_seconds is None else frame.moment_seconds
    return {
        "id": f"frame-{number}",
        "moment": moment,
        "time_seconds": frame.time_seconds,
        "caption": frame.caption,
        "size": (frame.width, frame.height),
        "box": " ".join(f"{side:.0f}" for side in box),
        "thick": box[2] / 120,
        "bones": bones,
        "marks": frame.marks,
        "numbers": _numbers(frame),
        "alt": ", ".join(filter(None, [frame.caption or "Key moment", _numbers(frame)])),
        "href": "data:image/jpeg;base64," + base64.b64encode(frame.jpeg).decode(),
    }


def _numbers(frame: KeyFrame) -> str:
    """What is drawn there, in words."""
    words = (HERE_WORDS.get(mark.metric, METRIC_WORDS[mark.metric][0].lower() + " {}") for mark in frame.marks)
    return ", ".join(word.format(shown(mark.value, mark.unit)) for word, mark in zip(words, frame.marks, strict=True))


def _hero(results: dict[str, Any], frames: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The picture at the top: of the first finding, else the one that shows an angle and most numbers."""
    times = [f["time_seconds"] for f in results["findings"]["findings"] if f["time_seconds"] is not None]
    if not frames:
        return None
    if times:
        return min(frames, key=lambda frame: abs(frame["moment"] - times[0]))
    return max(frames, key=lambda frame: (any(mark.degrees for mark in frame["marks"]), len(frame["marks"])))


def _crop(frame: KeyFrame) -> tuple[float, float, float, float]:
    """(x, y, width, height) of a square around the athlete with room to breathe; the whole picture if nobody is seen.

    From the side a cricketer often fills a tenth of the picture, too little to see a knee on a phone.
    """
    points = frame.points[np.isfinite(frame.points).all(axis=1)]
    if not len(points):
        return 0.0, 0.0, float(frame.width), float(frame.height)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    side = 1.4 * max(right - left, bottom - top, frame.height / 6)
    width, height = min(side, frame.width), min(side, frame.height)
    x = np.clip((left + right - width) / 2, 0, frame.width - width)
    y = np.clip((top + bottom - height) / 2, 0, frame.height - height)
    return float(x), float(y), float(width), float(height)


def _facts(summary: dict[str, Any], about: About) -> list[tuple[str, str]]:
    """The small print: what the video was and what read it; facts that are not known are left out."""
    known = {key: value for key, value in summary.items() if value is not None}
    facts: list[tuple[str, str]] = []
    if about.file_name:
        facts.append(("File", about.file_name))
    if "width" in known and "height" in known:
        facts.append(("Picture", f"{known['width']} x {known['height']} pixels"))
    if "duration_seconds" in known:
        facts.append(
            ("Length", f"{known['duration_seconds']:.1f} s at {known.get('video_fps', 0):.0f} frames a second")
        )
    if known.get("damaged"):
        facts.append(("Damage", str(known.get("damage") or "the file is damaged; part of it could not be read")))
    facts.append(("Looked at", f"{known.get('sampled_frames', 0)} frames of {known.get('total_frames', 0)}"))
    facts.append(("Player seen in", f"{known.get('detection_rate_percent', 0):.0f} % of them"))
    if "model" in known:
        facts.append(("Pose model", str(known["model"])))
    versions = about.versions or known.get("run", {}).get("versions", {})
    if versions:
        facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return facts
