"""Turns measurements into findings, by the thresholds and the advice of `knowledge/*.yaml`.

    obstacle, or too few detections ─▶ not assessed: no level, no fault, no drill
    no sign and no client tells what the action is ─▶ not assessed
    else each number against its mark ─▶ a fault beyond its error, too close to call, or the mark reached

A fault is found if a number misses its mark by more than its error. The shortfall of its score decides the severity,
which is bounded for an unsure number, and for some numbers of a player under 18. A level needs a sure fault, or two
sure numbers. A number that was not measured gives no finding.
"""

from typing import TypedDict

from services.analyzer.biomechanics.events import SIGNED
from services.analyzer.biomechanics.foot_contact import FEET_NOT_SEEN
from services.analyzer.biomechanics.metrics.scored import NOT_SIDE_ON
from services.analyzer.biomechanics.model import Measurements, Metric
from services.analyzer.biomechanics.registry import guidance
from services.analyzer.coaching.model import FilmCode, Finding, Findings, Level
from services.analyzer.coaching.phrases import count_phrase
from services.analyzer.knowledge.loader import Advice, Drill, Fault, FaultCode, Guidance, Mark, Severity, shared
from services.rules.numbers import Unit
from services.rules.options import Correction

WORST_FIRST = (Severity.HIGH, Severity.MEDIUM, Severity.LOW)
# With fewer confident metrics a video without a fault is no proof of a high level.
FEWEST_FOR_HIGH = 2
UNKNOWN_KIND = "no sign tells a throw or take from another movement, so no number is judged"
GIVE_THE_MOMENT = f"Give the moment of the throw or take: {Correction.MOMENT.place}."
CLOSE_TO_MARKS = "The film is good enough: the numbers lie within their errors of the marks."
FILM_THE_FEET = "Film the whole player, with both feet in the picture."
FILM_FROM_THE_SIDE = "Film from the side, square to the pitch."
LOOK_CLOSER = "A full analysis looks at all of the film, and at every frame around the action."
FILM_SURER = "Film the whole player larger in the picture, in daylight, with 60 frames a second if the camera has them."


class _Words(TypedDict):
    title: str
    why: str
    why_source: str | None
    cues: tuple[str, ...]
    drills: tuple[Drill, ...]


def find(measurements: Measurements, discipline: str, *, under_18: bool = False, first_look: bool = False) -> Findings:
    """The verdict on one video. under_18: whether the player may be. Raises GuidanceError for an unknown discipline.

    first_look: whether the numbers come from a quick look at few frames, so that nothing shows a fault of the film.
    """
    guide = guidance(discipline)
    obstacle = measurements.obstacle
    if first_look and obstacle and obstacle.unclear:
        return Findings(None, (), obstacle.reason, LOOK_CLOSER)
    if obstacle and measurements.detection_rate_percent >= shared().reliable_from_detection_rate_percent:
        return Findings(None, (), obstacle.reason, obstacle.remedy)
    if film := _film_finding(measurements):
        return Findings(None, (film,), _film_reason(measurements, film), _film_remedy(measurements, film))
    if discipline not in SIGNED and not _are_given(measurements):
        return Findings(None, (), UNKNOWN_KIND, GIVE_THE_MOMENT)
    too_close = tuple(metric for metric in measurements.present() if _is_too_close(metric, guide))
    found = _faults(measurements, guide, too_close, under_18=under_18)
    if not any(_is_sure(finding) for finding in found) and (reason := _too_unsure(measurements, too_close)):
        return Findings(None, (), reason, LOOK_CLOSER if first_look else _surer_film(measurements))
    found.sort(key=lambda finding: WORST_FIRST.index(finding.severity))
    names = [metric.spec.name for metric in measurements.present()]
    marks = {name: mark.value for name in names if (mark := guide.mark(name))}
    return Findings(_level(found), tuple(found), too_close=too_close, marks=marks)


def _are_given(measurements: Measurements) -> bool:
    """Whether the client gave the moment of each action."""
    return all(each.name in each.given for each in measurements.repetitions) and bool(measurements.repetitions)


def _film_reason(measurements: Measurements, film: Finding) -> str:
    if not measurements.present():
        return measurements.obstacle.reason if measurements.obstacle else "no number could be measured in this film"
    return f"the player was seen in {film.value:.0f} % of the frames, and {film.threshold:.0f} % are needed"


def _film_remedy(measurements: Measurements, film: Finding) -> str:
    """The one thing to change: what the obstacle asks for where it is the reason, else the first cue."""
    if measurements.obstacle and not measurements.present():
        return measurements.obstacle.remedy
    return f"{film.cues[0]}."


def _is_too_close(metric: Metric, guide: Guidance) -> bool:
    """Whether a number's error reaches its mark."""
    mark = guide.mark(metric.spec.name)
    if mark is None or metric.value is None or metric.error is None:
        return False
    return abs(metric.value - mark.value) <= metric.error


def _faults(
    measurements: Measurements, guide: Guidance, too_close: tuple[Metric, ...], *, under_18: bool
) -> list[Finding]:
    found = []
    for code, fault in guide.faults.items():
        metric, mark = measurements.metrics[fault.metric], guide.mark(fault.metric)
        if metric.value is None or metric.score is None or mark is None or metric in too_close:
            continue
        if metric.score < mark.threshold:
            severity = _severity(metric, mark.threshold - metric.score, under_18=under_18)
            found.append(_fault_finding(code, severity, fault, metric, metric.value, metric.score, mark))
    return found


def _severity(metric: Metric, shortfall: float, *, under_18: bool) -> Severity:
    bounds = [shared().worst_under_18.get(metric.spec.name)] if under_18 else []
    bounds += [] if _is_sure(metric) else [shared().worst_unsure]
    return max((shared().severity(shortfall), *filter(None, bounds)), key=WORST_FIRST.index)


def _is_sure(of: Metric | Finding) -> bool:
    return of.confidence >= shared().sure_from_confidence


def _fault_finding(
    code: FaultCode, severity: Severity, fault: Fault, metric: Metric, value: float, score: float, mark: Mark
) -> Finding:
    return Finding(
        code=code,
        severity=severity,
        **_words(fault, _is_sure(metric)),
        metric=metric.spec,
        value=value,
        unit=metric.unit,
        score=score,
        threshold=mark.threshold,
        mark=mark,
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
        mark=None,
        confidence=1.0,
        time_seconds=None,
    )


def _words(advice: Advice, confident: bool) -> _Words:
    """The words of an advice; a finding of low confidence has a title that calls it a possibility."""
    title = advice.title if confident else f"{shared().hedge}: {advice.title[0].lower()}{advice.title[1:]}"
    return _Words(title=title, why=advice.why, why_source=advice.why_source, cues=advice.cues, drills=advice.drills)


def _too_unsure(measurements: Measurements, too_close: tuple[Metric, ...]) -> str | None:
    """Why a video without a fault proves nothing: too few of its numbers are sure and clear; None if enough are."""
    measured, sure = measurements.present(), _sure(measurements)
    confident = sum(metric not in too_close for metric in sure)
    if confident >= FEWEST_FOR_HIGH:
        return None
    enough = "sure enough" if confident == len(sure) else "sure and clear of its mark"
    if len(measured) == 1:
        return "only one number could be measured"
    if len(measured) == 2 and not confident:
        return f"neither number is {enough}"
    few = f"only {count_phrase(confident)}" if confident else "none"
    return f"{few} of {count_phrase(len(measured))} numbers is {enough}"


def _sure(measurements: Measurements) -> list[Metric]:
    """The numbers that are sure, near their marks or not."""
    return [metric for metric in measurements.present() if _is_sure(metric)]


def _surer_film(measurements: Measurements) -> str:
    """The one thing to change where too few numbers are sure and clear: what an absent one lacks."""
    measurable = [metric for metric in measurements.metrics.values() if metric.spec.absent_reason is None]
    reasons = {metric.absent_reason for metric in measurable}
    if reasons == {None} and len(_sure(measurements)) == len(measurable):
        return CLOSE_TO_MARKS
    if FEET_NOT_SEEN.reason in reasons:
        return FILM_THE_FEET
    return FILM_FROM_THE_SIDE if NOT_SIDE_ON.reason in reasons else FILM_SURER


def _level(found: list[Finding]) -> Level:
    """LOW with a severe finding, HIGH with none but mild ones, else MEDIUM."""
    severities = {finding.severity for finding in found}
    if Severity.HIGH in severities:
        return Level.LOW
    return Level.MEDIUM if Severity.MEDIUM in severities else Level.HIGH
