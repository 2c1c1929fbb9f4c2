"""What changed between jobs of one player, metric by metric, from the results as stored.

A change is the later value less the earlier, and as sure as the less sure of both. Where one of them is missing, or
they are not of one kind, the change is absent and says why: nothing is ever subtracted from a guess.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from crease.jobs.v1 import job_pb2
from services.jobs.database import Row

NOT_MEASURED = "not measured by this analysis"


@dataclass(frozen=True)
class Analysis:
    """A done job as it is compared: `metrics` by name as in its results, the rest from its row and its session."""

    job_id: str
    results_stage: str
    discipline: str
    camera_view: str
    player_ids: tuple[str, ...]
    metrics: Mapping[str, Any]


def analysis(job: Row, session: Row) -> Analysis:
    """A done job with its session. Rows from before two-phase uploads may hold any results, or none."""
    results = job["results"] if isinstance(job["results"], dict) else {}
    metrics = results.get("metrics")
    return Analysis(
        job_id=str(job["id"]),
        results_stage=job["results_stage"] or "",
        discipline=session["discipline"],
        camera_view=session["camera_view"],
        player_ids=tuple(session["player_ids"]),
        metrics=metrics if isinstance(metrics, dict) else {},
    )


def common_players(analyses: Sequence[Analysis]) -> list[str]:
    """Whom every session names, in the first one's order."""
    others = [set(analysis.player_ids) for analysis in analyses[1:]]
    return [
        player for player in dict.fromkeys(analyses[0].player_ids) if player and all(player in ids for ids in others)
    ]


def caveats(analyses: Sequence[Analysis]) -> list[str]:
    """What makes the jobs less alike than their numbers look, a sentence each."""
    said = []
    for attribute, words in (("discipline", "disciplines"), ("camera_view", "camera views")):
        found = dict.fromkeys(getattr(analysis, attribute) or "not said" for analysis in analyses)
        if len(found) > 1:
            said.append(f"The jobs are of different {words}: {', '.join(found)}")
    players = common_players(analyses)
    if len(players) > 1:
        said.append(f"The sessions have {len(players)} players in common: the jobs may show different ones")
    if len({analysis.results_stage for analysis in analyses}) > 1:
        quick = [analysis.job_id for analysis in analyses if analysis.results_stage == "quick"]
        said.append(f"Only the quick stage, which is provisional, was run by: {', '.join(quick)}")
    return said


def compare(analyses: Sequence[Analysis]) -> list[job_pb2.MetricComparison]:
    """Every metric that any of the jobs names, through all of them in their order."""
    names = dict.fromkeys(name for analysis in analyses for name in analysis.metrics)
    return [_metric(name, [_reading(analysis, name) for analysis in analyses]) for name in names]


def _metric(name: str, readings: list[job_pb2.MetricReading]) -> job_pb2.MetricComparison:
    return job_pb2.MetricComparison(
        name=name,
        readings=readings,
        overall=_change(readings[0], readings[-1]),
        steps=[_change(earlier, later) for earlier, later in pairwise(readings)],
    )


def _reading(analysis: Analysis, name: str) -> job_pb2.MetricReading:
    metric = analysis.metrics.get(name)
    if not isinstance(metric, dict):
        return job_pb2.MetricReading(job_id=analysis.job_id, absent_reason=NOT_MEASURED)
    reading = job_pb2.MetricReading(
        job_id=analysis.job_id,
        unit=_text(metric.get("unit")),
        confidence=_number(metric.get("confidence")) or 0.0,
        plane=_text(metric.get("plane")),
    )
    value, reason = _number(metric.get("value")), _text(metric.get("absent_reason"))
    if value is None or reason:
        reading.absent_reason = reason or NOT_MEASURED
        return reading
    reading.value = value
    score = _number(metric.get("score"))
    if score is not None:
        reading.score = score
    return reading


def _change(earlier: job_pb2.MetricReading, later: job_pb2.MetricReading) -> job_pb2.MetricChange:
    change = job_pb2.MetricChange(from_job_id=earlier.job_id, to_job_id=later.job_id)
    change.absent_reason = _obstacle(earlier, later)
    if change.absent_reason:
        return change
    change.value = later.value - earlier.value
    change.unit = later.unit
    change.confidence = min(earlier.confidence, later.confidence)
    if earlier.HasField("score") and later.HasField("score"):
        change.score = later.score - earlier.score
    return change


def _obstacle(earlier: job_pb2.MetricReading, later: job_pb2.MetricReading) -> str:
    """Why two readings have no difference; empty where they have one."""
    missing = [
        f"job {reading.job_id}: {reading.absent_reason}" for reading in (earlier, later) if reading.absent_reason
    ]
    if missing:
        return "; ".join(missing)
    for kind, first, second in (("units", earlier.unit, later.unit), ("planes", earlier.plane, later.plane)):
        if first != second:
            return f"different {kind}: {first or 'none'} and {second or 'none'}"
    return ""


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else that a row may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
