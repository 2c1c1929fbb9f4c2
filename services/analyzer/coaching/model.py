"""Defines the types of advice: findings, the report's sentences and the week's plan."""

from dataclasses import dataclass
from enum import StrEnum

from services.analyzer.biomechanics.model import Metric, MetricSpec
from services.analyzer.knowledge.loader import Drill, FaultCode, Mark, Severity
from services.rules.numbers import Unit


class Level(StrEnum):
    """Overall level of a player in one video."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class FilmCode(StrEnum):
    """Codes of findings about the film, not the player."""

    INSUFFICIENT_POSE_VISIBILITY = "INSUFFICIENT_POSE_VISIBILITY"


@dataclass(frozen=True)
class Finding:
    """A number below its threshold, with advice. time_seconds: its worst moment, if it has one.

    metric: None for a finding about the film; value, unit and threshold are then of the detection rate. score: 0..1,
    None for a finding about the film. threshold: of the score, or of the value if score is None. mark: of the metric.
    why_source: the publication that holds what `why` says, None for coaching practice.
    """

    code: FaultCode | FilmCode
    severity: Severity
    title: str
    why: str
    why_source: str | None
    cues: tuple[str, ...]
    drills: tuple[Drill, ...]
    metric: MetricSpec | None
    value: float
    unit: Unit
    score: float | None
    threshold: float
    mark: Mark | None
    confidence: float
    time_seconds: float | None

    @property
    def shortfall(self) -> float:
        """Threshold less score, or less value if there is no score."""
        return self.threshold - (self.value if self.score is None else self.score)


@dataclass(frozen=True)
class Findings:
    """The verdict on one video, which every report, list and comparison repeats.

    overall_level: None exactly if not_assessed_reason is set, a clause. findings: most severe first. too_close: numbers
    whose error reaches their mark, so that neither reached nor missed is said of them.
    """

    overall_level: Level | None
    findings: tuple[Finding, ...]
    not_assessed_reason: str | None = None
    remedy: str = ""
    too_close: tuple[Metric, ...] = ()

    @property
    def first_moment(self) -> float | None:
        """Seconds of the first finding that has a moment."""
        return next((each.time_seconds for each in self.findings if each.time_seconds is not None), None)


@dataclass(frozen=True)
class Day:
    """One day of the week's plan. day: from 1."""

    day: int
    focus: str
    cue: str | None
    drills: tuple[Drill, ...]


@dataclass(frozen=True)
class Report:
    """The sentences of one video's report. top_issues: the findings to work on first."""

    summary: str
    top_issues: tuple[Finding, ...]
    drills: tuple[Drill, ...]
    one_week_plan: tuple[Day, ...]
    reliability_warning: str | None
