"""Writes the report's sentences by fixed rules: the summary, the level, the warning about a film.

Each adjective has its number beside it, and each sentence stands once in a report.
"""

from services.analyzer.biomechanics.labels import action_noun
from services.analyzer.biomechanics.model import Measurements
from services.analyzer.biomechanics.registry import guidance
from services.analyzer.coaching.model import Finding, Findings, Report
from services.analyzer.coaching.phrases import (
    count_phrase,
    lower_first,
    missed_phrase,
    nearest_to_mark,
    number_phrase,
    reached_phrase,
    whose_mark,
)
from services.analyzer.coaching.week import not_assessed, plan_week
from services.analyzer.knowledge.loader import Drill, shared

MOST_ISSUES = 3
LEADS = ("First work on this", "Then", "And then")


def compose(measurements: Measurements, findings: Findings, discipline: str) -> Report:
    """The sentences, drills and week plan of one video; without drills if it is not assessed."""
    top = findings.findings[:MOST_ISSUES]
    if findings.not_assessed_reason:
        return Report(_not_assessed(findings), top, (), not_assessed(), _warning(measurements))
    drills = _drills(top) or guidance(discipline).maintenance
    return Report(
        summary=_summary(measurements, findings, discipline),
        top_issues=top,
        drills=drills,
        one_week_plan=plan_week(measurements, top, drills, discipline, findings.too_close),
        reliability_warning=None,
    )


def level_sentence(measurements: Measurements, findings: Findings, discipline: str) -> str:
    """The overall level with the numbers that decide it; without a level the summary says why."""
    if findings.overall_level is None:
        return "Not assessed"
    result = _result(measurements, findings, discipline)
    return f"{findings.overall_level.capitalize()}: {result}{_too_close_clause(findings)}"


def _result(measurements: Measurements, findings: Findings, discipline: str) -> str:
    """`one of four numbers misses our mark`."""
    measured = len(measurements.present())
    if findings.findings:
        return missed_phrase(len(findings.findings), measured, discipline)
    return reached_phrase(measured - len(findings.too_close), measured, discipline)


def _too_close_clause(findings: Findings) -> str:
    count = len(findings.too_close)
    return f"; {count_phrase(count)} {'is' if count == 1 else 'are'} too close to call" if count else ""


def _not_assessed(findings: Findings) -> str:
    """The reason why a video is not judged, and the one thing to change."""
    return f"Not assessed: {findings.not_assessed_reason}. {findings.remedy}"


def _summary(measurements: Measurements, findings: Findings, discipline: str) -> str:
    measured = measurements.present()
    faults = findings.findings
    sentences = [f"{_place(measurements.actions, discipline)}, {_result(measurements, findings, discipline)}."]
    if faults:
        sentences += [_advice(*pair, measurements, discipline) for pair in zip(LEADS, faults, strict=False)]
    elif nearest := nearest_to_mark(measurements, discipline, findings.too_close):
        part = lower_first(nearest.spec.label)
        sentences.append(f"Nearest to {whose_mark(discipline)} is the {part}: {number_phrase(nearest, discipline)}.")
    sentences += [
        f"Too close to call: {lower_first(metric.spec.label)} {number_phrase(metric, discipline)}."
        for metric in findings.too_close
    ]
    if missing := len(measurements.metrics) - len(measured):
        total = count_phrase(len(measurements.metrics))
        sentences.append(f"{count_phrase(missing).capitalize()} of {total} numbers could not be measured.")
    return " ".join(sentences)


def _place(actions: int, discipline: str) -> str:
    """`In two strokes`."""
    noun = action_noun(discipline)
    return f"In {count_phrase(actions)} {noun.singular if actions == 1 else noun.plural}"


def _advice(lead: str, finding: Finding, measurements: Measurements, discipline: str) -> str:
    """One fault with its number, its worst moment and its mark."""
    assert finding.metric is not None  # noqa: S101 - callers pass faults
    hedge = f"{shared().hedge}: "
    lead = f"{lead}, perhaps" if finding.title.startswith(hedge) else lead
    number = number_phrase(measurements.metrics[finding.metric.name], discipline, finding.time_seconds)
    return f"{lead}: {lower_first(finding.title.removeprefix(hedge))} ({number})."


def _drills(issues: tuple[Finding, ...]) -> tuple[Drill, ...]:
    """The issues' drills without duplicates: the first of each issue, then the second of each."""
    most = max((len(issue.drills) for issue in issues), default=0)
    rounds = [issue.drills[k] for k in range(most) for issue in issues if k < len(issue.drills)]
    return tuple({drill.name: drill for drill in rounds}.values())


def _warning(measurements: Measurements) -> str | None:
    """The warning about a film with too few detections; None if it has enough."""
    least = shared().reliable_from_detection_rate_percent
    if measurements.detection_rate_percent >= least:
        return None
    seen = f"The player was seen in {measurements.detection_rate_percent:.0f} % of the frames looked at"
    if not measurements.present():
        return f"{seen}. Nothing could be measured."
    return f"{seen}, under the {least:.0f} % that these numbers need. Take them as a hint, and film again if you can."
