"""What changed between jobs of one player, metric by metric, from the results as stored.

A change is the later value less the earlier, as sure as the less sure of both, and always beside the smallest change
that their errors let one see. Where a reading or its error is missing, or the two are not of one kind, the change is
absent and says why: nothing is ever subtracted from a guess.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from crease.jobs.v1 import job_pb2
from services.jobs.store.database import Row

NOT_MEASURED = "not measured by this analysis"
NO_ERROR = "the error of this number was not recorded"
# Minimal detectable change with 95 % confidence: 1.96 standard errors of a difference. Weir, Journal of Strength and
# Conditioning Research 19 (2005) 231-240.
CONFIDENCE_95 = 1.96
# A quick look takes 10 frames a second, a close one every frame up to 60. Rates nearer than this are one.
QUICK_FPS, MOST_FPS, SAME_RATE = 10.0, 60.0, 1.25


@dataclass(frozen=True)
class Analysis:
    """A done job as it is compared: `metrics` (with measures) by name as in its results, each with its error where one
    was recorded; the rest from its row and its session. fps: frames a second at which an action was looked at, None
    where that is not known. whole_clip: no action was found, and the whole clip measured instead.
    """

    job_id: str
    results_stage: str
    discipline: str
    camera_view: str
    player_ids: tuple[str, ...]
    metrics: Mapping[str, Any]
    errors: Mapping[str, Any]
    fps: float | None
    whole_clip: bool
    model: str


# What two analyses must have in common for their numbers to be of one kind.
KINDS: dict[str, Callable[[Analysis], str]] = {
    "disciplines": lambda analysis: analysis.discipline or "not said",
    "camera views": lambda analysis: analysis.camera_view or "not said",
    "extents": lambda analysis: "a whole clip" if analysis.whole_clip else "actions",
    "pose models": lambda analysis: analysis.model or "not said",
}
# A reading with the analysis that it is from.
Read = tuple[Analysis, job_pb2.MetricReading]


def analysis(job: Row, session: Row) -> Analysis:
    """A done job with its session. Rows from before two-phase uploads may hold any results, or none."""
    results = _mapping(job["results"])
    summary = _mapping(_mapping(results.get("pose")).get("pose_summary"))
    measures = _mapping(summary.get("measures"))
    errors = {name: _mapping(measure).get("error") for name, measure in measures.items()}
    return Analysis(
        job_id=str(job["id"]),
        results_stage=job["results_stage"] or "",
        discipline=session["discipline"],
        camera_view=session["camera_view"],
        player_ids=tuple(session["player_ids"]),
        metrics=_mapping(results.get("metrics")) | measures,
        errors=_mapping(summary.get("errors")) | errors,
        fps=_looked_at(_number(summary.get("video_fps")), job["results_stage"] or ""),
        whole_clip=summary.get("actions") == 0,
        model=_text(summary.get("model")),
    )


def common_players(analyses: Sequence[Analysis]) -> list[str]:
    """Whom every session names, in the first one's order."""
    others = [set(analysis.player_ids) for analysis in analyses[1:]]
    return [
        player for player in dict.fromkeys(analyses[0].player_ids) if player and all(player in ids for ids in others)
    ]


def caveats(analyses: Sequence[Analysis]) -> list[str]:
    """What makes the jobs less alike than their numbers look, a sentence each."""
    said = [
        f"The jobs are of different {words}: {', '.join(found)}"
        for words, kind in KINDS.items()
        if len(found := dict.fromkeys(kind(analysis) for analysis in analyses)) > 1
    ]
    if any(_other_rate(*pair) for pair in pairwise(analyses)):
        said.append(f"The jobs are of different frame rates: {', '.join(_rate(analysis) for analysis in analyses)}")
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
    return [_metric(name, [(analysis, _reading(analysis, name)) for analysis in analyses]) for name in names]


def _metric(name: str, readings: list[Read]) -> job_pb2.MetricComparison:
    return job_pb2.MetricComparison(
        name=name,
        readings=[reading for _, reading in readings],
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
    error = _number(analysis.errors.get(name))
    if error is not None and error > 0:
        reading.error = error
    score = _number(metric.get("score"))
    if score is not None:
        reading.score = score
    return reading


def _change(one: Read, other: Read) -> job_pb2.MetricChange:
    (_, earlier), (_, later) = one, other
    change = job_pb2.MetricChange(from_job_id=earlier.job_id, to_job_id=later.job_id)
    change.absent_reason = _obstacle(one, other)
    if change.absent_reason:
        return change
    change.value = later.value - earlier.value
    change.unit = later.unit
    change.confidence = min(earlier.confidence, later.confidence)
    change.detectable = CONFIDENCE_95 * math.hypot(earlier.error, later.error)
    change.clear = abs(change.value) > change.detectable
    if earlier.HasField("score") and later.HasField("score"):
        change.score = later.score - earlier.score
    return change


def _obstacle(one: Read, other: Read) -> str:
    """Why two readings have no difference; empty where they have one."""
    missing = [f"job {reading.job_id}: {reading.absent_reason}" for _, reading in (one, other) if reading.absent_reason]
    if missing:
        return "; ".join(missing)
    for kind, first, second in (("units", one[1].unit, other[1].unit), ("planes", one[1].plane, other[1].plane)):
        if first != second:
            return f"different {kind}: {first or 'none'} and {second or 'none'}"
    for words, kind_of in KINDS.items():
        if kind_of(one[0]) != kind_of(other[0]):
            return f"different {words}: {kind_of(one[0])} and {kind_of(other[0])}"
    if _other_rate(one[0], other[0]):
        return f"different frame rates: {_rate(one[0])} and {_rate(other[0])}"
    unknown = [f"job {reading.job_id}: {NO_ERROR}" for _, reading in (one, other) if not reading.HasField("error")]
    return "; ".join(unknown)


def _looked_at(video_fps: float | None, stage: str) -> float | None:
    if video_fps is None:
        return None
    return min(video_fps, QUICK_FPS if stage == "quick" else MOST_FPS)


def _other_rate(one: Analysis, other: Analysis) -> bool:
    if one.fps is None or other.fps is None:
        return False
    return max(one.fps, other.fps) > SAME_RATE * min(one.fps, other.fps)


def _rate(analysis: Analysis) -> str:
    return "not known" if analysis.fps is None else f"{analysis.fps:.0f} a second"


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping, or an empty one for anything else that a row may hold."""
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else that a row may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
