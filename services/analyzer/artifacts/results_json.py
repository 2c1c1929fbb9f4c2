"""Converts a typed result into the JSON of results.json, and shortens it for the row in the database.

    AnalysisResult ─▶ document ─▶ results.json
                          └─────▶ row_copy ─▶ Job.results

docs/results.schema.json describes the shape. The order of keys is part of it. NaN and infinities become null.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from services.analyzer.artifacts.result import peak_memory_bytes, versions
from services.analyzer.cpu_time import by_stage
from services.rules.limits import MAX_RESULTS_BYTES, results_bytes

# Lazy: a worker imports this module before the first pose.
if TYPE_CHECKING:
    from services.analyzer.artifacts.result import AnalysisResult, ClipSummary, Run
    from services.analyzer.biomechanics.events import Event
    from services.analyzer.biomechanics.model import Measurements, Metric, Repetition
    from services.analyzer.coaching.model import Day, Finding, Report
    from services.analyzer.knowledge.loader import Drill, Mark

Json = dict[str, Any]
# The document of results.json, as callers store and send it.
Results = Json
# Version of docs/results.schema.json. A version gains keys; it never removes one or changes its meaning.
VERSION = 1
# Keys of lists that grow with the length of a film.
LISTS = frozenset({"evidence", "repetitions", "events", "cuts", "pans"})


def document(result: AnalysisResult) -> Json:
    """results.json of one stage, without per-frame data."""
    measurements = result.measurements
    marks = dict(result.findings.marks)
    summary = {**_clip(result.clip), **_measurements(measurements), "marks": marks, "run": _run(result.run)}
    shape: Json = plain(
        {
            "pose": {"pose_summary": summary},
            "metrics": {name: _metric(metric) for name, metric in measurements.metrics.items()},
            "findings": {
                "overall_level": result.findings.overall_level,
                "not_assessed_reason": result.findings.not_assessed_reason,
                "findings": [_finding(finding) for finding in result.findings.findings],
            },
            "report": _report(result.report),
        }
    )
    return shape


def _clip(clip: ClipSummary) -> Json:
    return {
        "results_version": VERSION,
        "total_frames": clip.total_frames,
        "sampled_frames": clip.sampled_frames,
        "frames_with_pose": clip.frames_with_pose,
        "detection_rate_percent": round(clip.detection_rate_percent, 1),
        "video_fps": round(clip.video_fps, 3),
        "declared_fps": clip.declared_fps,
        "capture_fps": clip.capture_fps,
        "clock": clip.clock,
        "model": clip.model,
        "width": clip.width,
        "height": clip.height,
        "rotation_degrees": clip.rotation_degrees,
        "duration_seconds": round(clip.duration_seconds, 3),
        "container": clip.container,
        "codec": clip.codec,
        "pixel_format": clip.pixel_format,
        "hdr": clip.hdr,
        "mirrored": clip.mirrored,
        "longest_gap_seconds": round(clip.longest_gap_seconds, 3),
        "damaged": clip.damage is not None,
        "damage": clip.damage,
        "people_in_view": clip.people_in_view,
        "athlete": {
            "chosen_by": clip.chosen_by,
            "certainty": round(clip.certainty, 2),
            "candidates": [[round(side, 3) for side in box] for box in clip.candidates],
        },
        "camera": {
            "cuts": [round(cut, 3) for cut in clip.cuts],
            "pans": [{"from_seconds": start, "to_seconds": end} for start, end in clip.pans],
        },
    }


def _measurements(measurements: Measurements) -> Json:
    return {
        "front_leg": measurements.front_leg,
        "throwing_arm": measurements.throwing_arm,
        "reliability": measurements.reliability,
        "actions": measurements.actions,
        "notes": list(measurements.notes),
        "end_on": measurements.end_on,
        "view_contradiction": measurements.contradiction,
        "events": [_event(event) for event in measurements.events],
        "repetitions": [_repetition(repetition) for repetition in measurements.repetitions],
        "measures": {name: _measure(metric) for name, metric in measurements.measures.items()},
        "errors": {name: metric.error for name, metric in measurements.metrics.items()},
        "scatter": {name: metric.scatter for name, metric in measurements.everything.items()},
    }


def _metric(metric: Metric) -> Json:
    return {
        "value": metric.value,
        "unit": metric.unit,
        "score": metric.score,
        "confidence": metric.confidence,
        "plane": metric.spec.plane,
        "frames_used": metric.frames_used,
        "evidence": [moment._asdict() for moment in metric.evidence],
        "absent_reason": metric.absent_reason,
    }


def _measure(metric: Metric) -> Json:
    """A metric without its score, with its error."""
    shape = _metric(metric)
    del shape["score"]
    return {**shape, "error": metric.error}


def _event(event: Event) -> Json:
    return {
        "name": event.name,
        "time_seconds": round(event.time_seconds, 3),
        "confidence": round(event.confidence, 2),
        "side": event.side,
        "given": event.given,
        "frame_seconds": None if event.frame_seconds is None else round(event.frame_seconds, 3),
    }


def _repetition(repetition: Repetition) -> Json:
    from services.analyzer.biomechanics.labels import claim  # lazy: the first pose does not wait for it

    contact = repetition.contact_seconds
    return {
        "name": repetition.name,
        "time_seconds": round(repetition.time_seconds, 3),
        "contact_seconds": None if contact is None else round(contact, 3),
        "front_leg": repetition.front_leg,
        "side": repetition.side,
        "claim": claim(repetition),
        "values": repetition.values,
    }


def _run(run: Run) -> Json:
    """The run, with the process's peak memory so far and the versions of the packages."""
    return {
        "stage": run.stage,
        "provisional": run.provisional,
        "accelerator": run.accelerator,
        "accelerator_reason": run.accelerator_reason,
        "seconds": {step: round(seconds, 3) for step, seconds in run.seconds.items()},
        "cpu_seconds": {stage: round(seconds, 3) for stage, seconds in by_stage().items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": versions(),
    }


def _finding(finding: Finding) -> Json:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "title": finding.title,
        "why": finding.why,
        "source": finding.why_source or "our judgement",
        "cues": list(finding.cues),
        "drills": _drills(finding.drills),
        "metric": finding.metric and finding.metric.name,
        "value": finding.value,
        "unit": finding.unit,
        "score": finding.score,
        "threshold": finding.threshold,
        "mark": _mark(finding.mark),
        "confidence": finding.confidence,
        "time_seconds": finding.time_seconds,
    }


def _mark(mark: Mark | None) -> Json | None:
    return mark.stated.model_dump(by_alias=True) if mark else None


def _report(report: Report) -> Json:
    return {
        "summary": report.summary,
        "top_issues": [_issue(issue) for issue in report.top_issues],
        "drills": _drills(report.drills),
        "one_week_plan": [_day(day) for day in report.one_week_plan],
        "reliability_warning": report.reliability_warning,
    }


def _issue(finding: Finding) -> Json:
    shape = _finding(finding)
    return {key: shape[key] for key in ("code", "severity", "title", "metric", "time_seconds")}


def _day(day: Day) -> Json:
    return {"day": day.day, "focus": day.focus, "cue": day.cue, "drills": _drills(day.drills)}


def _drills(drills: tuple[Drill, ...]) -> list[Json]:
    return [drill.model_dump() for drill in drills]


def plain(value: Any) -> Any:
    """The value for JSON: NumPy scalars and arrays as Python's, enums as their values, NaN and infinities as None."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def row_copy(results: Json) -> Json:
    """The document for the database's row: without frames, and with shortened lists if it is too large.

    A shortened document has the longest list's length in its summary, as `shortened_to`.
    """
    row: Json = {**results, "pose": {"pose_summary": results["pose"]["pose_summary"]}}
    for most in (200, 50, 20, 5, 1, 0):
        if results_bytes(row) <= MAX_RESULTS_BYTES:
            break
        row = _shortened(row, most)
        row["pose"]["pose_summary"]["shortened_to"] = most
    return row


def _shortened(value: Any, most: int) -> Any:
    if isinstance(value, dict):
        return {
            key: _shortened(item[:most] if key in LISTS and isinstance(item, list) else item, most)
            for key, item in value.items()
        }
    return value
