"""Prepares the rows of the report's tables: numbers, repetitions, absent numbers and facts of the video."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from services.analyzer.artifacts.result import AnalysisResult, versions
from services.analyzer.biomechanics.labels import action_noun, format_length, format_mark, mark_name
from services.analyzer.biomechanics.model import Measurements, Metric
from services.analyzer.coaching.model import Finding
from services.analyzer.coaching.phrases import confidence_word
from services.analyzer.coaching.summary import MOST_ISSUES
from services.analyzer.knowledge.loader import Mark
from services.analyzer.report.metadata import Metadata
from services.rules.numbers import Unit, format_rounded

BAR_WIDTH = 100
Marks = Mapping[str, Mark | None]


@dataclass(frozen=True)
class NumberRow:
    """A measured number. bar: width of its score's bar, in units of the SVG."""

    metric: Metric
    shown: str
    confidence: str
    mark: str | None
    threshold: float | None
    bar: int | None

    @property
    def margin(self) -> float:
        """Score less threshold; infinite without them."""
        score = self.metric.score
        return math.inf if score is None or self.threshold is None else score - self.threshold


@dataclass(frozen=True)
class FindingCard:
    """A finding with its number and its mark in words."""

    finding: Finding
    number: str
    mark: str | None


@dataclass(frozen=True)
class RepetitionTable:
    """The values of each action. cells: as text, one for each column, None if not measured."""

    noun: str
    columns: tuple[Metric, ...]
    rows: tuple[tuple[float, tuple[str | None, ...]], ...]


def number_rows(metrics: Iterable[Metric], marks: Marks, height_cm: float | None = None) -> list[NumberRow]:
    """A row for each number that was measured."""
    return [
        NumberRow(
            metric=metric,
            shown=format_length(metric.value, metric.unit, metric.error, height_cm),
            confidence=confidence_word(metric.confidence),
            mark=_mark_words(marks.get(metric.spec.name), metric.unit, height_cm),
            threshold=mark.threshold if (mark := marks.get(metric.spec.name)) else None,
            bar=None if metric.score is None else round(BAR_WIDTH * metric.score),
        )
        for metric in metrics
        if metric.value is not None
    ]


def nearest_to_marks(rows: Iterable[NumberRow], too_close: Collection[Metric] = ()) -> list[NumberRow]:
    """The three numbers with the least score above their marks, without those `too_close` to call."""
    clear = (row for row in rows if math.isfinite(row.margin) and row.metric not in too_close)
    return sorted(clear, key=lambda row: row.margin)[:MOST_ISSUES]


def finding_cards(
    findings: Iterable[Finding], measurements: Measurements, marks: Marks, height_cm: float | None = None
) -> list[FindingCard]:
    """A card for each finding."""
    return [_card(finding, measurements, marks, height_cm) for finding in findings]


def _card(finding: Finding, measurements: Measurements, marks: Marks, height_cm: float | None) -> FindingCard:
    name = finding.metric.name if finding.metric else ""
    error = measurements.metrics[name].error if name else None
    mark = marks.get(name)
    shown = format_length(finding.value, finding.unit, error, height_cm)
    return FindingCard(finding, shown, _mark_words(mark, finding.unit, height_cm))


def _mark_words(mark: Mark | None, unit: Unit, height_cm: float | None) -> str | None:
    """`our mark 120° or more`."""
    return f"{mark_name(mark)} {format_mark(mark, unit, height_cm)}" if mark else None


def repetition_table(measurements: Measurements, discipline: str) -> RepetitionTable | None:
    """The values of each action, a row an action; None without at least two actions."""
    repetitions = measurements.repetitions
    if len(repetitions) < 2:
        return None
    columns = [
        metric
        for name, metric in measurements.everything.items()
        if any(repetition.values.get(name) is not None for repetition in repetitions)
    ]
    rows = tuple(
        (each.time_seconds, tuple(_cell(each.values.get(metric.spec.name), metric) for metric in columns))
        for each in repetitions
    )
    return RepetitionTable(action_noun(discipline).singular.capitalize(), tuple(columns), rows)


def _cell(value: float | None, metric: Metric) -> str | None:
    return None if value is None else format_rounded(value, metric.unit, metric.error)


def absent_numbers(metrics: Iterable[Metric], discipline: str) -> list[tuple[str, str]]:
    """(reason, labels): each reason once, with all numbers of the discipline that it holds for."""
    labels: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.absent_reason and discipline in metric.spec.disciplines:
            labels.setdefault(metric.absent_reason, []).append(metric.spec.label)
    return [(reason, ", ".join(names)) for reason, names in labels.items()]


def facts(result: AnalysisResult, metadata: Metadata) -> list[tuple[str, str]]:
    """(name, fact) of the video, the pose model and the software."""
    clip = result.clip
    return [
        *([("File", metadata.file_name)] if metadata.file_name else []),
        ("Picture", f"{clip.width} x {clip.height} pixels"),
        ("Length", f"{clip.duration_seconds:.1f} s at {clip.video_fps:.0f} frames a second"),
        *([("Damage", clip.damage)] if clip.damage else []),
        ("First pass", f"{clip.sampled_frames} of {clip.total_frames} frames"),
        ("Player seen in", f"{clip.detection_rate_percent:.0f} % of the first pass"),
        ("Pose model", clip.model),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
