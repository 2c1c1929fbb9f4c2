"""Turns landmarks into the five metrics, each a number with its uncertainty or a sentence saying why there is none.

    whole clip (first pass) ──▶ torso and body lengths, detection rate
    close-ups (second pass, every frame) ──▶ actions ──▶ one `Look` an action ──▶ one `Reading` a metric and action
                                                                    └──▶ median over actions ──▶ `Metric`

Lengths are in bodies, angles in degrees of the picture, windows in seconds, so that neither camera nor frame rate is
in a number; horizontal signs never matter, so that a mirrored clip measures the same.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from services.analyzer.events import Action, Event, find_actions, rate_confidence
from services.analyzer.guidance import guidance, shared
from services.analyzer.kinematics import body_length, feet_in_view
from services.analyzer.landing import Landing, Missing, find_landing
from services.analyzer.metrics import (
    Look,
    Reading,
    balance_drift,
    elbow_drop,
    front_knee_brace,
    head_stability,
)
from services.analyzer.series import Poses
from services.analyzer.smooth import tidy

NOBODY = "nobody in view"
TIMING_REASON = "hip and shoulder rotation cannot be separated to 0.03 s from one camera with this pose model"
UNITS = {
    "head_stability_score": "body lengths",
    "balance_drift_score": "body lengths",
    "front_knee_brace_score": "deg",
    "hip_shoulder_separation_timing": "s",
    "elbow_drop_score": "body lengths",
}

READERS: dict[str, Callable[[Look], Reading | Missing]] = {
    "head_stability_score": head_stability,
    "balance_drift_score": balance_drift,
    "front_knee_brace_score": front_knee_brace,
    "hip_shoulder_separation_timing": lambda _: Missing(TIMING_REASON),
    "elbow_drop_score": elbow_drop,
}

# What each metric is measured in, about the moment: contact (batting and the rest), release (bowling).
AROUND_CONTACT = (0.3, 0.4)
AROUND_RELEASE = (0.3, 0.1)
# A stroke whose contact was not found: the hands are fastest about 0.25 s after the foot is down.
AROUND_HANDS = (0.55, 0.15)
CLIP_MARGIN_SECONDS = 0.3
FEWEST_FRAMES = 5


@dataclass(frozen=True)
class Metric:
    """One number for the coach. `value` (in `unit`) and `score` (0..1, 1 is best) are None exactly when
    `absent_reason` is set. `evidence` is (seconds of the video, value then), worst first.
    """

    value: float | None
    unit: str
    score: float | None
    confidence: float
    frames_used: int
    evidence: tuple[tuple[float, float], ...] = ()
    absent_reason: str | None = None
    plane: str = "image"

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


@dataclass(frozen=True)
class Measurements:
    """All that was measured in one video.

    actions: how many were counted. reliability: `high`, `medium` or `low`, of the whole. notes: sentences that a reader
    of the numbers must know.
    """

    metrics: dict[str, Metric]
    events: list[Event]
    front_leg: str | None
    throwing_arm: str | None
    detection_rate_percent: float
    reliability: str
    actions: int
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, object]:
        """What pose_summary says of the athlete."""
        return {
            "front_leg": self.front_leg,
            "throwing_arm": self.throwing_arm,
            "reliability": self.reliability,
            "actions": self.actions,
            "notes": list(self.notes),
            "events": [event.as_dict() for event in self.events],
        }


def measure(whole: Poses, closeups: list[Poses], discipline: str) -> Measurements:
    """Metrics, events and sides of one video from its first pass and, where it has them, its close-ups.

    Raises GuidanceError for a discipline that nobody wrote guidance for.
    """
    clip = tidy(whole)
    rate = 100.0 * float(whole.detected.mean()) if len(whole) else 0.0
    if clip.detected.sum() < FEWEST_FRAMES:
        return _nothing(discipline, rate)
    looks = _looks(clip, [tidy(closeup) for closeup in closeups], discipline)
    metrics = {name: _combine(name, [read(look) for look in looks], discipline) for name, read in READERS.items()}
    acted = [look for look in looks if isinstance(look.action, Action)]
    return Measurements(
        metrics=metrics,
        events=_events(acted),
        front_leg=_commonest([look.front_leg for look in acted]),
        throwing_arm=_commonest([look.bowling_arm for look in acted]),
        detection_rate_percent=round(rate, 1),
        reliability=_reliability(100.0 * float(clip.detected.mean()), bool(acted and closeups)),
        actions=len(acted),
        notes=_notes(looks),
    )


def _nothing(discipline: str, rate: float) -> Measurements:
    guidance(discipline)
    metrics = {name: _absent(name, TIMING_REASON if unit == "s" else NOBODY) for name, unit in UNITS.items()}
    return Measurements(metrics, [], None, None, round(rate, 1), "low", 0)


def _looks(clip: Poses, closeups: list[Poses], discipline: str) -> list[Look]:
    """One look an action, from the close-ups if there are any: what they deny, the coarser pass cannot claim.

    Without an action, one look at the whole clip.
    """
    body = _body(clip, closeups)
    why = Missing("no action found")
    looks = []
    for source in closeups or [clip]:
        actions = find_actions(source, discipline)
        if isinstance(actions, Missing):
            why = actions
        else:
            looks += [_look(source, action, discipline, body) for action in actions]
    if looks:
        return looks
    times = clip.times[clip.detected]
    start, end = float(times[0]) + CLIP_MARGIN_SECONDS, float(times[-1]) - CLIP_MARGIN_SECONDS
    return [Look(clip, start, end, discipline, body, why, why)]


def _body(clip: Poses, closeups: list[Poses]) -> float:
    """Pixels of a body: the mean of what the whole clip and the close-ups say, by equal weight.

    The first pass alone let one bowler's length drift by 6 % with its rate, where a far figure comes into view; a
    close-up alone sees a batter bent all the time, 5 % short. Together they stay within 3 %.
    """
    near = [length for closeup in closeups if np.isfinite(length := body_length(closeup))]
    return (body_length(clip) + median(near)) / 2 if near else body_length(clip)


def _look(poses: Poses, action: Action, discipline: str, body: float) -> Look:
    landing = find_landing(poses, action.time_seconds)
    if action.name == "release":
        moment, (before, after) = action.time_seconds, AROUND_RELEASE
    elif isinstance(landing, Landing):
        moment, (before, after) = landing.time_seconds, AROUND_CONTACT
    else:
        moment, (before, after) = action.time_seconds, AROUND_HANDS
    return Look(poses, moment - before, moment + after, discipline, body, action, landing)


def _combine(name: str, readings: list[Reading | Missing], discipline: str) -> Metric:
    """The median over actions. With several, the evidence lists every action: its worst moment and its value."""
    found = [reading for reading in readings if isinstance(reading, Reading)]
    if not found:
        return _absent(name, next(r.reason for r in readings if isinstance(r, Missing)))
    value = median(reading.value for reading in found)
    if len(found) == 1:
        evidence = found[0].moments
    else:
        evidence = [(reading.moments[0][0], reading.value) for reading in found if reading.moments]
    return Metric(
        value=round(value, 4),
        unit=UNITS[name],
        score=round(guidance(discipline).scales[name].score(value), 3),  # type: ignore[index]
        confidence=round(median(reading.confidence for reading in found), 2),
        frames_used=sum(reading.frames for reading in found),
        evidence=tuple((round(t, 3), round(v, 4)) for t, v in evidence),
    )


def _absent(name: str, reason: str) -> Metric:
    return Metric(None, UNITS[name], None, 0.0, 0, absent_reason=reason)


def _events(looks: list[Look]) -> list[Event]:
    """Every contact, release and fastest hand, in order of time."""
    events = []
    for look in looks:
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


def _notes(looks: list[Look]) -> tuple[str, ...]:
    notes = []
    if isinstance(reason := looks[0].action, Missing):
        notes.append(f"Measured over the whole clip, because of this: {reason.reason}.")
    elif len(looks) > 1:
        notes.append(f"{len(looks)} actions were counted; each number is the median over them.")
    if not feet_in_view(looks[0].inside()):
        notes.append("The feet are out of the picture: movement is measured against the hips and understated.")
    return tuple(notes)
