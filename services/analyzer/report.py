"""Writes the report: the plain words and the week's plan, and one self-contained HTML file for phone and paper.

The file asks nothing of a network and runs no script: its content policy allows its own style sheet, by hash, and
pictures inside it. Every text goes through autoescape; titles and names come from strangers.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.analyzer.drawing import BONES
from services.analyzer.events import Event
from services.analyzer.guidance import guidance, shared
from services.analyzer.measure import Measurements
from services.analyzer.plots import HEIGHT, TOP, WIDTH, action_plot
from services.analyzer.series import INDEX, Floats, Poses

TEMPLATES = Path(__file__).parent / "templates"
MOST_ISSUES, MOST_KEY_FRAMES = 3, 6
LEAST_VISIBILITY = 0.5
UNSEEN = "INSUFFICIENT_POSE_VISIBILITY"

METRIC_WORDS = {
    "head_stability_score": ("Head stability", "how far the head moves over the feet"),
    "balance_drift_score": ("Balance", "how far the trunk moves off the feet, along the picture"),
    "front_knee_brace_score": ("Front knee", "its smallest angle after the front foot is down; 180 is straight"),
    "hip_shoulder_separation_timing": ("Hip-shoulder timing", "how long the shoulders turn after the hips"),
    "elbow_drop_score": ("Elbow height", "how far the elbow is below the shoulder"),
}
LEVEL_WORDS = {
    "high": "Strong: nothing seen that needs urgent work",
    "medium": "Sound, with something to work on",
    "low": "Work to do: start with the first point below",
}
UNSURE_WORDS = "Nothing stood out, but too little was seen to be sure"
UNSEEN_WORDS = "Not assessed: the player could not be followed in this film"
# Two days to learn, a rest, two days to repeat, a game, and a film to see what changed.
WEEK = ("learn", "learn", "repeat", "rest", "repeat", "game", "film")
WEEK_WORDS = {
    "learn": "Learn it slowly",
    "repeat": "Repeat it at match pace",
    "rest": "Rest, or light catching and running",
    "game": "Take it into a net or a game: one cue only",
    "film": "Film again from the same place and compare",
}
KEEP_UP_WORDS = {
    "learn": "Keep it sharp",
    "repeat": "Keep it sharp at match pace",
    "game": "Take it into a net or a game",
}


@dataclass(frozen=True)
class KeyFrame:
    """One picture for the report. jpeg: its bytes; points: (33, 2) pixels of that JPEG, NaN where nobody was seen;
    visibility: (33,) 0..1; caption: what happens there.
    """

    time_seconds: float
    jpeg: bytes
    width: int
    height: int
    points: Floats
    visibility: Floats
    caption: str = ""


@dataclass(frozen=True)
class About:
    """Who, what and when. Whatever is empty is left out. analysed_at: as it should be read."""

    title: str = ""
    players: tuple[str, ...] = ()
    discipline: str = ""
    camera_view: str = ""
    file_name: str = ""
    analysed_at: str = ""
    notes: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def compose(measurements: Measurements, findings: dict[str, Any], discipline: str) -> dict[str, Any]:
    """`report` of the results: {summary, top_issues, drills, one_week_plan, reliability_warning}, plain JSON types."""
    top = findings["findings"][:MOST_ISSUES]
    drills = _drills(top) or [drill.model_dump() for drill in guidance(discipline).maintenance]
    return {
        "summary": _summary(measurements, findings, discipline),
        "top_issues": [
            {key: issue[key] for key in ("code", "severity", "title", "metric", "time_seconds")} for issue in top
        ],
        "drills": drills,
        "one_week_plan": _week(top, drills),
        "reliability_warning": _warning(measurements),
    }


def render(
    results: dict[str, Any],
    whole: Poses,
    closeups: Sequence[Poses],
    key_frames: Sequence[KeyFrame] = (),
    about: About | None = None,
) -> str:
    """`report.html` of a results dict, with one plot from its landmarks and the key frames with their skeletons."""
    about = about or About()
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    summary = results["pose"]["pose_summary"]
    events = [Event(e["name"], e["time_seconds"], e["confidence"]) for e in summary.get("events", [])]
    return (
        _environment()
        .get_template("report.html")
        .render(
            about=about,
            style=Markup(style),  # noqa: S704 - our own file, and the policy holds its hash
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            level=_level_words(results["findings"]),
            metrics=[_metric_row(name, metric) for name, metric in results["metrics"].items()],
            plot=action_plot(whole, closeups, events),
            plot_size=(WIDTH, HEIGHT, TOP),
            key_frames=[_picture(frame) for frame in key_frames[:MOST_KEY_FRAMES]],
            findings=results["findings"],
            report=results["report"],
            summary=summary,
            facts=_facts(summary, about),
        )
    )


def _summary(measurements: Measurements, findings: dict[str, Any], discipline: str) -> str:
    found = findings["findings"]
    measured = [name for name, metric in measurements.metrics.items() if metric.value is not None]
    if not measured:
        return "The player could not be followed in this film, so nothing was measured. Film again and have another go."
    counted = f"{measurements.actions} action{'s' if measurements.actions != 1 else ''}"
    where = f"{counted} measured" if measurements.actions else "No clear action found, so the whole clip was measured"
    faults = [finding for finding in found if finding["code"] != UNSEEN]
    if faults:
        what = f"First thing to work on: {_lower(faults[0]['title'])}."
        if len(faults) > 1:
            what += f" Then: {'; '.join(_lower(finding['title']) for finding in faults[1:MOST_ISSUES])}."
    else:
        what = "Nothing stood out that needs work."
    missing = len(measurements.metrics) - len(measured)
    rest = f" {missing} of {len(measurements.metrics)} numbers could not be measured." if missing else ""
    return f"{discipline.capitalize()}: {where[0].lower()}{where[1:]}. {what}{rest}"


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _drills(issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The issues' drills, the first of each issue first, none twice."""
    most = max((len(issue["drills"]) for issue in issues), default=0)
    rounds = [issue["drills"][k] for k in range(most) for issue in issues if k < len(issue["drills"])]
    return list({drill["name"]: drill for drill in rounds}.values())


def _week(issues: list[dict[str, Any]], drills: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seven days {day, focus, cue, drills}; the drills go round. A film of nobody needs only another film."""
    if issues and all(issue["code"] == UNSEEN for issue in issues):
        return [{"day": 1, "focus": WEEK_WORDS["film"], "cue": issues[0]["cues"][0], "drills": drills}]
    cues = [issue["cues"][0] for issue in issues if issue["code"] != UNSEEN] or [None]
    words = WEEK_WORDS if issues else {**WEEK_WORDS, **KEEP_UP_WORDS}
    days, turn = [], 0
    for day, kind in enumerate(WEEK, start=1):
        works = kind in ("learn", "repeat")
        todays = [drills[(turn + k) % len(drills)] for k in range(min(2, len(drills)))] if works else []
        cue = cues[turn % len(cues)] if works or kind == "game" else None
        turn += works
        days.append({"day": day, "focus": words[kind], "cue": cue, "drills": todays})
    return days


def _warning(measurements: Measurements) -> str | None:
    least = shared().reliable_from_detection_rate_percent
    if measurements.detection_rate_percent >= least:
        return None
    seen = f"The player was seen in {measurements.detection_rate_percent:.0f} % of the frames looked at"
    if all(metric.value is None for metric in measurements.metrics.values()):
        return f"{seen}. Nothing could be measured."
    return f"{seen}, under the {least:.0f} % that these numbers need. Take them as a hint, and film again if you can."


def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _level_words(findings: dict[str, Any]) -> str:
    codes = [finding["code"] for finding in findings["findings"]]
    if codes == [UNSEEN]:
        return UNSEEN_WORDS
    return LEVEL_WORDS[findings["overall_level"]] if codes or findings["overall_level"] == "high" else UNSURE_WORDS


def _metric_row(name: str, metric: dict[str, Any]) -> dict[str, Any]:
    label, meaning = METRIC_WORDS.get(name, (name, ""))
    value = None if metric["value"] is None else f"{metric['value']:.{0 if metric['unit'] == 'deg' else 3}f}"
    return {**metric, "label": label, "meaning": meaning, "shown": value, "trust": _trust(metric["confidence"])}


def _trust(confidence: float) -> str:
    return "high" if confidence >= 0.75 else "medium" if confidence >= shared().sure_from_confidence else "low"


def _picture(frame: KeyFrame) -> dict[str, Any]:
    """A key frame for the template: the JPEG as a data address, the bones as lines with the side they belong to."""
    bones = []
    for start, end in BONES:
        a, b = INDEX[start], INDEX[end]
        drawable = np.isfinite(frame.points[[a, b]]).all() and frame.visibility[[a, b]].min() >= LEAST_VISIBILITY
        if drawable:
            sides = {name.split("_")[0] for name in (start, end)} & {"left", "right"}
            ends = [round(float(v), 1) for v in (*frame.points[a], *frame.points[b])]
            bones.append((sides.pop() if len(sides) == 1 else "middle", ends))
    box = _crop(frame)
    return {
        "time_seconds": frame.time_seconds,
        "caption": frame.caption,
        "size": (frame.width, frame.height),
        "box": " ".join(f"{side:.0f}" for side in box),
        "thick": box[2] / 120,
        "bones": bones,
        "href": "data:image/jpeg;base64," + base64.b64encode(frame.jpeg).decode(),
    }


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
