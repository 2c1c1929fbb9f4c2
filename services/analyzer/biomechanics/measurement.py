"""Turns landmarks into the five metrics, each a number with its uncertainty or a sentence saying why there is none.

    whole clip (first pass) ──▶ torso and body lengths, detection rate
    close-ups (second pass, every frame) ──▶ actions ──▶ one `Look` an action ──▶ one `Reading` a metric and action
                                                                    └──▶ median over actions ──▶ `Metric`

Lengths are in bodies, angles in degrees of the picture, windows in seconds, so that neither camera nor frame rate is
in a number; horizontal signs never matter, so that a mirrored clip measures the same.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median, stdev

from services.analyzer.biomechanics import scored_metrics as metrics
from services.analyzer.biomechanics import unscored_metrics as measures
from services.analyzer.biomechanics.action_window import Look, again, looks
from services.analyzer.biomechanics.events import Action, Event, rate_confidence
from services.analyzer.biomechanics.filtering import tidy
from services.analyzer.biomechanics.foot_contact import Landing, Missing, front_leg
from services.analyzer.biomechanics.kinematics import SIDES, feet_in_view
from services.analyzer.biomechanics.landmark_noise import scatter, shaken
from services.analyzer.biomechanics.scored_metrics import Reading
from services.analyzer.knowledge.loader import Scale, guidance, shared
from services.analyzer.pose.landmarks import Floats, Poses

NOBODY = "nobody in view"
TIMING_REASON = "hip and shoulder rotation cannot be separated to 0.03 s from one camera with this pose model"
Read = Callable[[Look], Reading | Missing]
# Name, unit, how it is read off an action. The five have a score; the measures are numbers for the coach to judge.
METRICS: dict[str, tuple[str, Read]] = {
    "head_stability_score": ("body lengths", metrics.head_stability),
    "balance_drift_score": ("body lengths", metrics.balance_drift),
    "front_knee_brace_score": ("deg", metrics.front_knee_brace),
    "hip_shoulder_separation_timing": ("s", lambda _: Missing(TIMING_REASON)),
    "elbow_drop_score": ("body lengths", metrics.elbow_drop),
}
MEASURES: dict[str, tuple[str, Read]] = {
    "stride_length": ("body heights", measures.stride_length),
    "run_up_speed_trend": ("1/s", measures.run_up_speed_trend),
    "release_height": ("body heights", measures.release_height),
    "trunk_lateral_flexion_at_release": ("deg", measures.trunk_lateral_flexion),
    "front_knee_at_contact": ("deg", measures.front_knee_at_contact),
    "front_knee_at_release": ("deg", measures.front_knee_at_release),
    "front_knee_change": ("deg", measures.front_knee_change),
    "bowling_elbow_extension": ("deg", measures.elbow_extension),
}
UNITS = {name: unit for name, (unit, _) in METRICS.items()}

# A median of n is less sure than a mean by this, where they scatter evenly.
MEDIAN_PER_MEAN_ERROR = 1.2533
FEWEST_FRAMES = 5
# An error so many times the typical one leaves nothing to tell a coach; nor does a number that trembling takes away.
MOST_TIMES_TYPICAL, LEAST_SHARE_OF_COPIES = 2.5, 0.5
UNSTEADY = "the joints are too unsteady in this film: it could be far off"


@dataclass(frozen=True)
class Metric:
    """One number for the coach. `value` (in `unit`) is None exactly when `absent_reason` is set; so is `score` (0..1,
    1 is best), which a measure never has. `evidence` is (seconds of the video, value then), worst first.

    error: by how much the value scatters from film to film of one movement, in its unit; None without a value.
    """

    value: float | None
    unit: str
    score: float | None
    confidence: float
    frames_used: int
    evidence: tuple[tuple[float, float], ...] = ()
    absent_reason: str | None = None
    plane: str = "image"
    error: float | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "value": self.value,
            "unit": self.unit,
            "score": self.score,
            "confidence": self.confidence,
            "plane": self.plane,
            "frames_used": self.frames_used,
            "evidence": [{"time_seconds": t, "value": v} for t, v in self.evidence],
            "absent_reason": self.absent_reason,
        }

    def as_measure(self) -> dict[str, object]:
        """The same without a score, with its error."""
        shape = {**self.as_dict(), "error": self.error}
        del shape["score"]
        return shape


@dataclass(frozen=True)
class Repetition:
    """One action of several: its moment, the sides, and each value by name, None where it has none."""

    name: str
    time_seconds: float
    contact_seconds: float | None
    front_leg: str | None
    values: dict[str, float | None]

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "time_seconds": round(self.time_seconds, 3),
            "contact_seconds": None if self.contact_seconds is None else round(self.contact_seconds, 3),
            "front_leg": self.front_leg,
            "values": self.values,
        }


@dataclass(frozen=True)
class Course:
    """How one action, or the whole clip, went: what a page draws of it.

    start, end: the window in seconds that spreads were measured in. curves: by metric, (n,) seconds and (n,) values.
    standing: (seconds, `left` or `right`), the label of the leg that stands where the front foot landed.
    """

    start: float
    end: float
    curves: dict[str, tuple[Floats, Floats]]
    standing: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Measurements:
    """All that was measured in one video.

    reliability: `high`, `medium` or `low`, of the whole. notes: sentences that a reader of the numbers must know.
    repetitions: every action that was counted, in order of time. courses: the same actions, or the whole clip.
    """

    metrics: dict[str, Metric]
    events: list[Event]
    front_leg: str | None
    throwing_arm: str | None
    detection_rate_percent: float
    reliability: str
    actions: int
    notes: tuple[str, ...] = ()
    measures: dict[str, Metric] = field(default_factory=dict)
    repetitions: tuple[Repetition, ...] = ()
    courses: tuple[Course, ...] = ()

    def summary(self) -> dict[str, object]:
        """What pose_summary says of the athlete."""
        return {
            "front_leg": self.front_leg,
            "throwing_arm": self.throwing_arm,
            "reliability": self.reliability,
            "actions": self.actions,
            "notes": list(self.notes),
            "events": [event.as_dict() for event in self.events],
            "repetitions": [repetition.as_dict() for repetition in self.repetitions],
            "measures": {name: measure.as_measure() for name, measure in self.measures.items()},
            "errors": {name: metric.error for name, metric in self.metrics.items()},
        }


def measure(whole: Poses, closeups: list[Poses], discipline: str) -> Measurements:
    """Metrics, events and sides of one video from its first pass and, where it has them, its close-ups.

    Raises GuidanceError for a discipline that nobody wrote guidance for.
    """
    clip = tidy(whole)
    rate = 100.0 * float(whole.detected.mean()) if len(whole) else 0.0
    if clip.detected.sum() < FEWEST_FRAMES:
        return _nothing(discipline, rate)
    seen = looks(clip, [tidy(closeup) for closeup in closeups], discipline)
    readings = _readings(seen)
    scales = guidance(discipline).scales
    acted = [look for look in seen if isinstance(look.action, Action)]
    return Measurements(
        metrics={name: _combine(readings[name], unit, scales.get(name)) for name, unit in UNITS.items()},  # type: ignore[call-overload]
        events=_events(acted),
        front_leg=_commonest([look.front_leg for look in acted]),
        throwing_arm=_commonest([look.bowling_arm for look in acted]),
        detection_rate_percent=round(rate, 1),
        reliability=_reliability(100.0 * float(clip.detected.mean()), bool(acted and closeups)),
        actions=len(acted),
        notes=_notes(seen),
        measures={name: _combine(readings[name], unit, None) for name, (unit, _) in MEASURES.items()},
        repetitions=tuple(_repetition(look, i, readings) for i, look in enumerate(acted)),
        courses=tuple(_course(look, i, readings) for i, look in enumerate(seen)),
    )


def _readings(seen: list[Look]) -> dict[str, list[Reading | Missing]]:
    """Each number of each look, its error with what trembling joints add to it."""
    copies = [[again(look, poses) for poses in shaken(look.poses)] for look in seen]
    return {
        name: [_steady(read(look), [read(copy) for copy in of_it]) for look, of_it in zip(seen, copies, strict=True)]
        for name, (_, read) in (METRICS | MEASURES).items()
    }


def _steady(reading: Reading | Missing, copies: list[Reading | Missing]) -> Reading | Missing:
    """The reading with its whole error; Missing where that is large beside what such a number is worth.

    copies: the same read off joints that tremble more; none where they don't tremble.
    """
    if isinstance(reading, Missing):
        return reading
    values = [copy.value for copy in copies if isinstance(copy, Reading)]
    error = math.hypot(reading.error, reading.unsure, scatter(reading.value, values))
    if len(values) < LEAST_SHARE_OF_COPIES * len(copies) or error > MOST_TIMES_TYPICAL * reading.error:
        return Missing(UNSTEADY)
    return replace(reading, error=error)


def _nothing(discipline: str, rate: float) -> Measurements:
    guidance(discipline)
    found = {name: _absent(unit, TIMING_REASON if unit == "s" else NOBODY) for name, unit in UNITS.items()}
    others = {name: _absent(unit, NOBODY) for name, (unit, _) in MEASURES.items()}
    return Measurements(found, [], None, None, round(rate, 1), "low", 0, measures=others)


def _combine(readings: list[Reading | Missing], unit: str, scale: Scale | None) -> Metric:
    """The median over actions. With several, the evidence lists every action: its worst moment and its value."""
    found = [reading for reading in readings if isinstance(reading, Reading)]
    if not found:
        return _absent(unit, next(r.reason for r in readings if isinstance(r, Missing)))
    values = [reading.value for reading in found]
    value, error = median(values), median(reading.error for reading in found)
    if len(found) == 1:
        evidence = found[0].moments
    else:
        evidence = [(reading.moments[0][0], reading.value) for reading in found if reading.moments]
        if scale:
            evidence.sort(key=lambda moment: scale.score(moment[1]))
        # Their own scatter is in the median too.
        error = math.hypot(error, MEDIAN_PER_MEAN_ERROR * stdev(values) / math.sqrt(len(values)))
    return Metric(
        value=round(value, 4),
        unit=unit,
        score=round(scale.score(value), 3) if scale else None,
        confidence=round(median(reading.confidence for reading in found), 2),
        frames_used=sum(reading.frames for reading in found),
        evidence=tuple((round(t, 3), round(v, 4)) for t, v in evidence),
        error=round(error, 4),
    )


def _repetition(look: Look, i: int, readings: dict[str, list[Reading | Missing]]) -> Repetition:
    """The i-th action."""
    assert isinstance(look.action, Action)  # noqa: S101 - only looks at actions are counted
    of_it = {name: each[i] for name, each in readings.items()}
    return Repetition(
        look.action.name,
        look.action.time_seconds,
        look.landing.time_seconds if isinstance(look.landing, Landing) else None,
        look.front_leg,
        {name: round(r.value, 4) if isinstance(r, Reading) else None for name, r in of_it.items()},
    )


def _course(look: Look, i: int, readings: dict[str, list[Reading | Missing]]) -> Course:
    """Of the i-th look."""
    of_it = {name: each[i] for name, each in readings.items()}
    curves = {name: r.curve for name, r in of_it.items() if isinstance(r, Reading) and r.curve is not None}
    if isinstance(look.landing, Missing):
        return Course(look.start, look.end, curves)
    leg = front_leg(look.poses, look.landing, float(look.poses.times[-1]))
    standing = zip(leg.times.tolist(), [SIDES[label] for label in leg.labels], strict=True)
    return Course(look.start, look.end, curves, tuple(standing))


def _absent(unit: str, reason: str) -> Metric:
    return Metric(None, unit, None, 0.0, 0, absent_reason=reason)


def _events(acted: list[Look]) -> list[Event]:
    """Every contact, release and fastest hand, in order of time."""
    events = []
    for look in acted:
        if isinstance(look.landing, Landing):
            events.append(Event("front_foot_contact", look.landing.time_seconds, 0.9 * rate_confidence(look.poses)))
        if isinstance(look.action, Action):
            events.append(Event(look.action.name, look.action.time_seconds, look.action.confidence))
    return sorted(events, key=lambda event: event.time_seconds)


def _commonest(sides: list[str | None]) -> str | None:
    known = Counter(side for side in sides if side)
    return known.most_common(1)[0][0] if known else None


def _reliability(usable_percent: float, seen_closely: bool) -> str:
    if usable_percent < shared().reliable_from_detection_rate_percent:
        return "low"
    return "high" if usable_percent >= 80 and seen_closely else "medium"


def _notes(seen: list[Look]) -> tuple[str, ...]:
    notes = []
    if isinstance(reason := seen[0].action, Missing):
        notes.append(f"Measured over the whole clip, because of this: {reason.reason}.")
    elif len(seen) > 1:
        notes.append(f"{len(seen)} actions were counted; each number is the median over them.")
    if not feet_in_view(seen[0].inside):
        notes.append("The feet are out of the picture: movement is measured against the hips and understated.")
    return tuple(notes)
