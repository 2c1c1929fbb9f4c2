"""Changes between jobs of one player, metric by metric, from the results as stored.

A change is the later value minus the earlier. Its confidence is the lower one of both, and the smallest change that
their errors allow to detect stands beside it. A change is absent, with its reason, if a reading or its error is
missing, or if the two readings are not comparable.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from crease.jobs.v1 import job_pb2
from services.jobs.domain.records import Job, Player, Session
from services.jobs.domain.states import ResultStage
from services.rules.changes import detectable_change

NOT_MEASURED = "not measured by this analysis"
NO_ERROR = "the error of this number was not recorded"
# The quick stage samples 10 frames a second, the deep stage every frame up to 60. Two rates whose ratio is at most
# SAME_RATE count as equal.
QUICK_FPS, MAX_FPS, SAME_RATE = 10.0, 60.0, 1.25


@dataclass(frozen=True, slots=True)
class Analysis:
    """The part of a done job that is compared.

    metrics: scored and unscored, by name, as in the results. errors: by the same names, where they were recorded.
    scatter: the part of each error that two films of one movement do not share; older results do not tell it apart.
    fps: frames a second within an action, None if not known. whole_clip: no action was found, so that the whole clip
    was measured. not_assessed_reason: why the analyzer gave no verdict; empty if it gave one.
    marks: the values to reach, by the same names.
    """

    job_id: str
    results_stage: ResultStage | None
    discipline: str
    camera_view: str
    player_ids: tuple[str, ...]
    metrics: Mapping[str, Any]
    errors: Mapping[str, Any]
    fps: float | None
    whole_clip: bool
    model: str
    not_assessed_reason: str = ""
    players: tuple[Player, ...] = ()
    marks: Mapping[str, float] = field(default_factory=dict)
    scatter: Mapping[str, Any] = field(default_factory=dict)


# Two analyses are comparable only if each of these is equal.
KINDS: dict[str, Callable[[Analysis], str]] = {
    "disciplines": lambda analysis: analysis.discipline or "not given",
    "camera views": lambda analysis: analysis.camera_view or "not given",
    "kinds of film": lambda analysis: "without an action" if analysis.whole_clip else "with an action",
    "pose models": lambda analysis: analysis.model or "not given",
}
# A reading, and the analysis that it comes from.
Source = tuple[Analysis, job_pb2.MetricReading]


def analysis(job: Job, session: Session) -> Analysis:
    """The analysis of a done job. A row from before two-phase uploads may hold any results, or none."""
    results = _mapping(job.results)
    summary = _mapping(_mapping(results.get("pose")).get("pose_summary"))
    measures = _mapping(summary.get("measures"))
    errors = {name: _mapping(measure).get("error") for name, measure in measures.items()}
    unassessed = _text(_mapping(results.get("findings")).get("not_assessed_reason"))
    return Analysis(
        job_id=str(job.id),
        results_stage=job.results_stage,
        discipline=job.discipline or session.discipline,
        camera_view=session.camera_view,
        player_ids=session.player_ids,
        metrics=_mapping(results.get("metrics")) | measures,
        errors=_mapping(summary.get("errors")) | errors,
        fps=_action_fps(_number(summary.get("video_fps")), job.results_stage),
        whole_clip=summary.get("actions") == 0 and not unassessed,
        model=_text(summary.get("model")),
        not_assessed_reason=unassessed,
        players=session.players,
        marks=_marks(summary, _mapping(results.get("findings")).get("findings")),
        scatter=_mapping(summary.get("scatter")),
    )


def _marks(summary: Mapping[str, Any], findings: Any) -> dict[str, float]:
    """The mark of each metric. Older results have only the marks that were missed, in their findings."""
    stated = dict(_mapping(summary.get("marks")))
    for finding in findings if isinstance(findings, list) else ():
        mark = _mapping(_mapping(finding).get("mark")).get("value")
        stated.setdefault(_text(_mapping(finding).get("metric")), mark)
    return {name: number for name, mark in stated.items() if (number := _number(mark)) is not None}


def common_players(analyses: Sequence[Analysis]) -> list[str]:
    """The players that every session names, in the first session's order."""
    others = [set(analysis.player_ids) for analysis in analyses[1:]]
    return [
        player for player in dict.fromkeys(analyses[0].player_ids) if player and all(player in ids for ids in others)
    ]


def caveats(analyses: Sequence[Analysis]) -> list[str]:
    """The differences between the jobs that limit their comparison, a sentence each."""
    sentences = [
        f"The analyses are of different {words}: {', '.join(found)}"
        for words, kind in KINDS.items()
        if len(found := dict.fromkeys(kind(analysis) for analysis in analyses)) > 1
    ]
    sentences += [sentence for analysis in analyses if (sentence := _not_assessed(analysis))]
    if any(_rates_differ(*pair) for pair in pairwise(analyses)):
        sentences.append(
            f"The analyses are of different frame rates: {', '.join(_rate(analysis) for analysis in analyses)}"
        )
    players = common_players(analyses)
    if len(players) > 1:
        sentences.append(f"The films name {len(players)} players in common, and may show different ones")
    if len({analysis.results_stage for analysis in analyses}) > 1:
        quick = [analysis.job_id for analysis in analyses if analysis.results_stage == ResultStage.QUICK]
        sentences.append(f"Only a first look, which is provisional, was taken by {', '.join(quick)}")
    return sentences


def compare(analyses: Sequence[Analysis]) -> list[job_pb2.MetricComparison]:
    """Every metric that any of the jobs has, with its readings in the order of the jobs."""
    names = dict.fromkeys(name for analysis in analyses for name in analysis.metrics)
    return [_metric(name, [(analysis, reading(analysis, name)) for analysis in analyses]) for name in names]


def _metric(name: str, readings: list[Source]) -> job_pb2.MetricComparison:
    return job_pb2.MetricComparison(
        name=name,
        readings=[reading for _, reading in readings],
        overall=_change(name, readings[0], readings[-1]),
        steps=[_change(name, earlier, later) for earlier, later in pairwise(readings)],
    )


def reading(analysis: Analysis, name: str) -> job_pb2.MetricReading:
    """What an analysis read of one metric; absent_reason is set if it read nothing."""
    metric = analysis.metrics.get(name)
    if not isinstance(metric, dict):
        return job_pb2.MetricReading(job_id=analysis.job_id, absent_reason=NOT_MEASURED)
    found = job_pb2.MetricReading(
        job_id=analysis.job_id,
        unit=_text(metric.get("unit")),
        confidence=_number(metric.get("confidence")) or 0.0,
        plane=_text(metric.get("plane")),
    )
    value, reason = _number(metric.get("value")), _text(metric.get("absent_reason"))
    if value is None or reason:
        found.absent_reason = reason or NOT_MEASURED
        return found
    found.value = value
    error = _number(analysis.errors.get(name))
    if error is not None and error > 0:
        found.error = error
    score = _number(metric.get("score"))
    if score is not None:
        found.score = score
    return found


def _change(name: str, one: Source, other: Source) -> job_pb2.MetricChange:
    (_, earlier), (_, later) = one, other
    change = job_pb2.MetricChange(from_job_id=earlier.job_id, to_job_id=later.job_id)
    change.absent_reason = _incomparable(one, other)
    if change.absent_reason:
        return change
    change.value = later.value - earlier.value
    change.unit = later.unit
    change.confidence = min(earlier.confidence, later.confidence)
    change.detectable = detectable_change(_scatter(*one, name), _scatter(*other, name))
    change.clear = abs(change.value) > change.detectable
    if earlier.HasField("score") and later.HasField("score"):
        change.score = later.score - earlier.score
    return change


def _scatter(analysis: Analysis, reading: job_pb2.MetricReading, name: str) -> float:
    """How far the value may be off in another film of the movement: both share the bias of the pose model."""
    scatter = _number(analysis.scatter.get(name))
    return reading.error if scatter is None else scatter


def _incomparable(one: Source, other: Source) -> str:
    """Why two readings cannot be subtracted; empty if they can."""
    missing = [f"job {reading.job_id}: {reading.absent_reason}" for _, reading in (one, other) if reading.absent_reason]
    if missing:
        return "; ".join(missing)
    if unassessed := [sentence for analysis, _ in (one, other) if (sentence := _not_assessed(analysis))]:
        return "; ".join(unassessed)
    for kind, first, second in (("units", one[1].unit, other[1].unit), ("planes", one[1].plane, other[1].plane)):
        if first != second:
            return f"different {kind}: {first or 'none'} and {second or 'none'}"
    for words, kind_of in KINDS.items():
        if kind_of(one[0]) != kind_of(other[0]):
            return f"different {words}: {kind_of(one[0])} and {kind_of(other[0])}"
    if _rates_differ(one[0], other[0]):
        return f"different frame rates: {_rate(one[0])} and {_rate(other[0])}"
    unknown = [f"job {reading.job_id}: {NO_ERROR}" for _, reading in (one, other) if not reading.HasField("error")]
    return "; ".join(unknown)


def _not_assessed(analysis: Analysis) -> str:
    """Why an analysis has no verdict, so that nothing is subtracted from its numbers; empty if it has one."""
    reason = analysis.not_assessed_reason
    return f"job {analysis.job_id} was not assessed: {reason}" if reason else ""


def _action_fps(video_fps: float | None, stage: ResultStage | None) -> float | None:
    if video_fps is None:
        return None
    return min(video_fps, QUICK_FPS if stage == ResultStage.QUICK else MAX_FPS)


def _rates_differ(one: Analysis, other: Analysis) -> bool:
    if one.fps is None or other.fps is None:
        return False
    return max(one.fps, other.fps) > SAME_RATE * min(one.fps, other.fps)


def _rate(analysis: Analysis) -> str:
    return "not known" if analysis.fps is None else f"{analysis.fps:.0f} a second"


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping, or an empty one for any other JSON value."""
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    """A finite number, or None for any other JSON value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
