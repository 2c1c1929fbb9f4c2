"""Turns metrics into findings: which fault, how bad, why it matters, what to do. All words and thresholds are data.

A fault is found where a score (or a value) falls short of its threshold; by how much decides the severity. What was not
measured is neither good nor bad, and finds nothing.
"""

from typing import Any

from services.analyzer.biomechanics.measurement import Measurements, Metric
from services.analyzer.knowledge.loader import Advice, Fault, Guidance, Severity, guidance, shared

WORST_FIRST: tuple[Severity, ...] = ("high", "medium", "low")
# With fewer sure metrics than this nobody should be told that all is well.
FEWEST_FOR_HIGH = 2


def find(measurements: Measurements, discipline: str) -> dict[str, Any]:
    """`findings` of the results: {overall_level, findings}, worst first, plain JSON types.

    Raises GuidanceError for an unknown discipline.
    """
    unseen = _unseen(measurements)
    found = _faults(measurements, guidance(discipline)) if unseen is None else [unseen]
    found.sort(key=lambda finding: WORST_FIRST.index(finding["severity"]))
    return {"overall_level": _level(found, measurements), "findings": found}


def _faults(measurements: Measurements, guide: Guidance) -> list[dict[str, Any]]:
    found = []
    for code, fault in guide.faults.items():
        metric = measurements.metrics[fault.metric]
        reached = metric.score if fault.compare == "score" else metric.value
        if reached is not None and reached < fault.threshold:
            found.append(_finding(code, fault, metric, fault.threshold - reached))
    return found


def _finding(code: str, fault: Fault, metric: Metric, shortfall: float) -> dict[str, Any]:
    sure = metric.confidence >= shared().sure_from_confidence
    return {
        "code": code,
        "severity": shared().severity(shortfall),
        **_words(fault, sure),
        "metric": fault.metric,
        "value": metric.value,
        "unit": metric.unit,
        "score": metric.score,
        "threshold": fault.threshold,
        "confidence": metric.confidence,
        "time_seconds": metric.evidence[0][0] if metric.evidence else None,
    }


def _unseen(measurements: Measurements) -> dict[str, Any] | None:
    """The finding about the film itself, where the athlete was seen too little; None where enough was seen.

    It stands alone: what was hardly seen is nothing to be told about.
    """
    least = shared().reliable_from_detection_rate_percent
    blind = not _measured(measurements)
    if not blind and measurements.detection_rate_percent >= least:
        return None
    shortfall = (least - measurements.detection_rate_percent) / 100
    return {
        "code": "INSUFFICIENT_POSE_VISIBILITY",
        "severity": "high" if blind else shared().severity(shortfall),
        **_words(shared().insufficient_visibility, sure=True),
        "metric": None,
        "value": measurements.detection_rate_percent,
        "unit": "percent of frames",
        "score": None,
        "threshold": least,
        "confidence": 1.0,
        "time_seconds": None,
    }


def _words(advice: Advice, sure: bool) -> dict[str, Any]:
    """The advice as JSON; a finding that is not sure is worded as a possibility."""
    title = advice.title if sure else f"{shared().hedge}: {advice.title[0].lower()}{advice.title[1:]}"
    return {
        "title": title,
        "why": advice.why,
        "source": advice.source,
        "cues": list(advice.cues),
        "drills": [drill.model_dump() for drill in advice.drills],
    }


def _level(found: list[dict[str, Any]], measurements: Measurements) -> str:
    """high where nothing worse than a small fault was found, low with a severe one.

    A film that shows too little is never high: its only finding says so.
    """
    severities = {finding["severity"] for finding in found}
    if "high" in severities:
        return "low"
    sure = [m for m in _measured(measurements) if m.confidence >= shared().sure_from_confidence]
    enough = len(sure) >= FEWEST_FOR_HIGH and not any(finding["metric"] is None for finding in found)
    return "high" if "medium" not in severities and enough else "medium"


def _measured(measurements: Measurements) -> list[Metric]:
    return [metric for metric in measurements.metrics.values() if metric.value is not None]
