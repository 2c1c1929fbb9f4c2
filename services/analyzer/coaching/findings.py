"""Turns measurements into findings, by the thresholds and the advice of `knowledge/*.yaml`.

A fault is found if a score (or a value) is below its threshold; the shortfall decides the severity. A number that was
not measured gives no finding.
"""

from typing import TypedDict

from services.analyzer.biomechanics.model import Measurements, Metric, Unit
from services.analyzer.biomechanics.registry import guidance
from services.analyzer.coaching.model import FilmCode, Finding, Findings, Level
from services.analyzer.knowledge.loader import Advice, Drill, Fault, FaultCode, Guidance, Severity, shared

WORST_FIRST = (Severity.HIGH, Severity.MEDIUM, Severity.LOW)
# With fewer confident metrics a video without a fault is no proof of a high level.
FEWEST_FOR_HIGH = 2


class _Words(TypedDict):
    title: str
    why: str
    source: str
    cues: tuple[str, ...]
    drills: tuple[Drill, ...]


def find(measurements: Measurements, discipline: str) -> Findings:
    """The findings of one video, most severe first. Raises GuidanceError for an unknown discipline."""
    film = _film_finding(measurements)
    found = _faults(measurements, guidance(discipline)) if film is None else [film]
    found.sort(key=lambda finding: WORST_FIRST.index(finding.severity))
    return Findings(_level(found, measurements), tuple(found))


def _faults(measurements: Measurements, guide: Guidance) -> list[Finding]:
    found = []
    for code, fault in guide.faults.items():
        metric = measurements.metrics[fault.metric]
        reached = metric.score if fault.compare == "score" else metric.value
        if metric.value is not None and reached is not None and reached < fault.threshold:
            found.append(_fault_finding(code, fault, metric, metric.value, fault.threshold - reached))
    return found


def _fault_finding(code: FaultCode, fault: Fault, metric: Metric, value: float, shortfall: float) -> Finding:
    confident = metric.confidence >= shared().sure_from_confidence
    return Finding(
        code=code,
        severity=shared().severity(shortfall),
        **_words(fault, confident),
        metric=metric.spec,
        value=value,
        unit=metric.unit,
        score=metric.score,
        threshold=fault.threshold,
        confidence=metric.confidence,
        time_seconds=metric.evidence[0].time_seconds if metric.evidence else None,
    )


def _film_finding(measurements: Measurements) -> Finding | None:
    """The finding about a film with too few detections of the player; None if it has enough.

    It replaces all others: numbers from such a film are not judged.
    """
    least = shared().reliable_from_detection_rate_percent
    nothing_measured = not measurements.present()
    if not nothing_measured and measurements.detection_rate_percent >= least:
        return None
    shortfall = (least - measurements.detection_rate_percent) / 100
    return Finding(
        code=FilmCode.INSUFFICIENT_POSE_VISIBILITY,
        severity=Severity.HIGH if nothing_measured else shared().severity(shortfall),
        **_words(shared().insufficient_visibility, confident=True),
        metric=None,
        value=measurements.detection_rate_percent,
        unit=Unit.PERCENT_OF_FRAMES,
        score=None,
        threshold=least,
        confidence=1.0,
        time_seconds=None,
    )


def _words(advice: Advice, confident: bool) -> _Words:
    """The words of an advice; a finding of low confidence has a title that calls it a possibility."""
    title = advice.title if confident else f"{shared().hedge}: {advice.title[0].lower()}{advice.title[1:]}"
    return _Words(title=title, why=advice.why, source=advice.source, cues=advice.cues, drills=advice.drills)


def _level(found: list[Finding], measurements: Measurements) -> Level:
    """LOW with a severe finding. HIGH with at most mild ones and two confident metrics or more. Else MEDIUM.

    A film with too few detections of the player is never HIGH.
    """
    severities = {finding.severity for finding in found}
    if Severity.HIGH in severities:
        return Level.LOW
    confident = [m for m in measurements.present() if m.confidence >= shared().sure_from_confidence]
    enough = len(confident) >= FEWEST_FOR_HIGH and not any(finding.metric is None for finding in found)
    return Level.HIGH if Severity.MEDIUM not in severities and enough else Level.MEDIUM
