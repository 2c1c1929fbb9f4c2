"""Finds the actions of a clip: strokes, throws and takes by fast hands, deliveries by the arm over the top.

    whole clip ──find_actions───────▶ fastest hands, or the arm over the top ──find_landing──▶ contact and front leg
         └──────close_up_windows──▶ (from, to) of the second pass, which poses every frame

Each search returns the action or `Missing` with its reason.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.filtering import GRID_HZ, tidy
from services.analyzer.biomechanics.foot_contact import LOWEST_RATE_FPS, TOO_FEW, Missing, find_landing
from services.analyzer.biomechanics.kinematics import (
    SIDES,
    Side,
    frame_rate,
    hand_speeds,
    hand_velocities,
    torso_length,
    travel,
)
from services.analyzer.pose.landmarks import Poses
from services.naming import Discipline

MOST_ACTIONS = 8  # bounds the second pass to about 12 s of video
LEAST_SEEN = 0.6  # share of an action or a window in which the athlete must be detected

# Strokes, throws, takes: peaks of hand speed.
SLOWEST_ACTION_TORSOS_PER_SECOND = 2.5
SHARE_OF_FASTEST = 0.5
APART_SECONDS = 1.5  # nearer peaks are a backlift and its stroke
# Or a stroke and its follow-through, which is as fast when filmed from behind: the first of two similar peaks is the
# stroke. A backlift is slower and comes earlier.
ALIKE, FOLLOW_THROUGH_SECONDS = 0.8, 0.5
# A bat keeps the hands together: 0.3 torso apart in a drive, against 0.9 and more of a balancing man.
HANDS_ON_BAT_TORSOS, AROUND_PEAK_SECONDS = 0.8, 0.1
AROUND_PEAK_STEPS = round(AROUND_PEAK_SECONDS * GRID_HZ)
# Upper bound of the hands' relative speed, over the faster hand's speed. A walker's hands also pass close to each other
# when they are fastest, but in opposite directions: their ratio is 2.
PARTING_ON_BAT = 1.0
# A take brings the hands together and keeps them together. A throw has them apart, one over its shoulder and the other
# under half as fast. Hands that are apart, pass each other and are apart again swing as in a walk.
HANDS_ON_BALL_TORSOS, SWING_SECONDS = 0.4, 0.3
PARTING_IN_A_THROW = (0.5, 1.5)
TAKE_OR_THROW_CONFIDENCE = 0.3  # not validated on a film with a known take or throw

# Deliveries: an arm over the top. Measured sweeps are 290 to 370 degrees in 0.3 s, of run-up swings under 140.
HALF_SWEEP_SECONDS = 0.15
SWEEP_DEG = (180.0, 450.0)
DELIVERIES_APART_SECONDS = 0.9
RIVAL_MARGIN = 0.4
# Read by eye: the ball leaves 0.5 to 1.3 frames (of 30 a second) after the arm is upright.
RELEASE_AFTER_UPRIGHT_SECONDS = 0.030

# Seconds before and after a moment that the second pass poses.
AROUND_CONTACT = (0.7, 0.75)
AROUND_RELEASE = (0.8, 0.65)
# Without a contact, around the fastest hands, which come about 0.3 s after it.
AROUND_HANDS = (1.0, 0.6)


class EventName(StrEnum):
    """Names of events in results.json."""

    FRONT_FOOT_CONTACT = "front_foot_contact"
    RELEASE = "release"
    FASTEST_HANDS = "fastest_hands"
    THROW = "throw"
    TAKE = "take"


@dataclass(frozen=True)
class GivenEvent:
    """A moment that the client states, in seconds of the video. It overrules detection."""

    name: EventName
    time_seconds: float


@dataclass(frozen=True)
class Event:
    """A named moment. confidence: 0..1, a judgement from frame rate and margin, not a probability.

    side: the arm of an action, or the leg of a contact. given: whether the client stated the moment.
    """

    name: EventName
    time_seconds: float
    confidence: float
    side: Side | None = None
    given: bool = False


@dataclass(frozen=True)
class Action:
    """One delivery, stroke, throw or take.

    name: RELEASE, THROW or TAKE; FASTEST_HANDS if the kind is unknown. side: the bowling arm, or the faster hand.
    strength: orders the actions of one clip. confidence: 0..1. given: whether the client stated the moment.
    """

    name: EventName
    time_seconds: float
    side: Side
    strength: float
    confidence: float
    given: bool = False


def find_actions(poses: Poses, discipline: str) -> list[Action] | Missing:
    """Every unambiguous action of a cleaned clip, in order of time, or why there is none."""
    if frame_rate(poses) < LOWEST_RATE_FPS:
        return Missing(TOO_FEW)
    found = _likely_actions(poses, discipline)
    if isinstance(found, Missing) or discipline != Discipline.BOWLING:
        return found
    candidates = _passages(poses)
    unambiguous = [action for action in found if not _has_rival(action, candidates)]
    return unambiguous or Missing("two moments, or both arms, look like the release")


def close_up_windows(whole: Poses, discipline: str) -> list[tuple[float, float]]:
    """Disjoint windows for the second pass, (from, to) in seconds of the video, in order; empty without an action.

    Includes ambiguous deliveries, and a bowler's fastest hands if no arm was detected over the top: every frame may
    resolve them. Rounded outwards to tenths of a second, so that small changes of the first pass select equal frames.
    """
    poses = tidy(whole)
    actions = _likely_actions(poses, discipline)
    if isinstance(actions, Missing) and discipline == Discipline.BOWLING:
        actions = _strongest(_fast_hands(poses, discipline))
    if isinstance(actions, Missing):
        return []
    windows: list[tuple[float, float]] = []
    for action in actions:
        start, end = _window(poses, action, discipline)
        if windows and start <= windows[-1][1]:
            start = windows.pop()[0]
        start, end = np.floor(10 * start) / 10, np.ceil(10 * end) / 10
        windows.append((max(float(start), 0.0), min(float(end), float(poses.times[-1]) + 1e-3)))
    return windows


def _likely_actions(poses: Poses, discipline: str) -> list[Action] | Missing:
    """The strongest candidates, ambiguous ones included, in order of time."""
    if poses.detected.sum() < 4:
        return Missing("too few frames with the athlete in view")
    return _strongest(_deliveries(poses) if discipline == Discipline.BOWLING else _fast_hands(poses, discipline))


def _strongest(found: list[Action] | Missing) -> list[Action] | Missing:
    if isinstance(found, Missing):
        return found
    strongest = sorted(found, key=lambda action: -action.strength)[:MOST_ACTIONS]
    return sorted(strongest, key=lambda action: action.time_seconds)


def _window(poses: Poses, action: Action, discipline: str) -> tuple[float, float]:
    if discipline == Discipline.BOWLING:
        moment, (before, after) = action.time_seconds, AROUND_RELEASE
    else:
        landing = find_landing(poses, action.time_seconds)
        if isinstance(landing, Missing):
            moment, (before, after) = action.time_seconds, AROUND_HANDS
        else:
            moment, (before, after) = landing.time_seconds, AROUND_CONTACT
    return moment - before, moment + after


def _fast_hands(poses: Poses, discipline: str) -> list[Action] | Missing:
    grid, velocity = hand_velocities(poses)
    speed = np.linalg.norm(velocity, axis=-1)
    fastest = speed.max(axis=1, initial=0)
    peaks = _peaks(fastest, discipline)
    if not peaks:
        return Missing("no action found: the hands never move fast")
    confidence = rate_confidence(poses)
    parting = np.linalg.norm(velocity[:, 0] - velocity[:, 1], axis=-1) / np.maximum(fastest, 1e-9)
    found = []
    for k in peaks:
        side = SIDES[int(np.argmax(speed[k]))]
        fast = Action(EventName.FASTEST_HANDS, float(grid[k]), side, float(fastest[k]), confidence)
        around = slice(max(0, k - AROUND_PEAK_STEPS), k + AROUND_PEAK_STEPS + 1)
        if action := _classify_hands(poses, discipline, fast, float(np.median(parting[around]))):
            found.append(action)
    how = "not together" if discipline == Discipline.BATTING else "past each other, as in a walk"
    return found or Missing(f"no action found: the hands move fast, but {how}, or the athlete is lost")


def _peaks(fastest: Floats, discipline: str) -> list[int]:
    """Grid indices of peaks of hand speed, 1.5 s or more apart; in batting of the stroke, not its follow-through."""
    from scipy.signal import find_peaks  # lazy: SciPy takes a second to import, which delays the first pose

    top = float(fastest.max(initial=0))
    high = {
        "height": max(SLOWEST_ACTION_TORSOS_PER_SECOND, SHARE_OF_FASTEST * top),
        "prominence": 0.5 * SHARE_OF_FASTEST * top,
    }
    apart, _ = find_peaks(fastest, distance=round(APART_SECONDS * GRID_HZ), **high)
    if discipline != Discipline.BATTING:
        return [int(k) for k in apart]
    near, _ = find_peaks(fastest, **high)
    soon = FOLLOW_THROUGH_SECONDS * GRID_HZ
    return [next(int(j) for j in near if k - j <= soon and fastest[j] >= ALIKE * fastest[k]) for k in apart]


def _classify_hands(poses: Poses, discipline: str, fast: Action, parting: float) -> Action | None:
    """The action of fast hands, with its kind if known; None for a mere swing or too few detections.

    parting: the hands' relative speed over the faster hand's speed.
    """
    if discipline == Discipline.BOWLING:
        return fast
    ago = poses.times - fast.time_seconds
    swing = np.abs(ago) <= SWING_SECONDS
    if poses.detected[swing].sum() < max(1, LEAST_SEEN * swing.sum()):
        return None
    between = _between_hands(poses)
    apart = np.linalg.norm(between, axis=1)
    around = np.abs(ago) <= max(AROUND_PEAK_SECONDS, 1.01 / frame_rate(poses))
    apart_at_peak = np.nanmedian(apart[around])
    if discipline == Discipline.BATTING:
        return fast if parting < PARTING_ON_BAT and apart_at_peak < HANDS_ON_BAT_TORSOS else None
    unvalidated = replace(fast, confidence=TAKE_OR_THROW_CONFIDENCE * fast.confidence)
    held = apart[(ago >= 0) & (ago <= SWING_SECONDS)] < HANDS_ON_BALL_TORSOS
    if ago[-1] >= SWING_SECONDS and 2 * held.sum() > len(held) and held[-1]:
        return replace(unvalidated, name=EventName.TAKE)
    if parting > PARTING_IN_A_THROW[1]:
        return None
    rise = (poses.point(f"{fast.side}_shoulder") - poses.point(f"{fast.side}_wrist"))[around, 1]
    over_the_shoulder = np.nanmax(rise, initial=0) > 0 and apart_at_peak > HANDS_ON_BAT_TORSOS
    if over_the_shoulder and parting > PARTING_IN_A_THROW[0]:
        return replace(unvalidated, name=EventName.THROW)
    return None if _hands_pass(between[swing]) else fast


def _hands_pass(between: Floats) -> bool:
    """Whether the hands pass each other: apart, then apart in the opposite order. between: (n, 2)."""
    known = between[np.isfinite(between).all(axis=1)]
    widest = known[np.argmax(np.linalg.norm(known, axis=1))]
    return bool((known @ widest).min() < -HANDS_ON_BALL_TORSOS * np.linalg.norm(widest))


def _between_hands(poses: Poses) -> Floats:
    """(n, 2) torsos: vector from the right wrist to the left."""
    return np.asarray((poses.point("left_wrist") - poses.point("right_wrist")) / torso_length(poses))


def _deliveries(poses: Poses) -> list[Action] | Missing:
    candidates = sorted(_passages(poses), key=lambda action: -action.strength)
    if not candidates:
        return Missing("no arm goes over the top")
    kept: list[Action] = []
    for candidate in candidates:
        near = [k for k in kept if abs(k.time_seconds - candidate.time_seconds) <= DELIVERIES_APART_SECONDS]
        if not near and (not kept or candidate.strength > SHARE_OF_FASTEST * kept[0].strength):
            kept.append(candidate)
    return kept


def _has_rival(action: Action, candidates: list[Action]) -> bool:
    """Whether another moment of the same delivery, or the other arm, is nearly as strong a candidate."""
    return any(
        action.strength - other.strength < RIVAL_MARGIN
        and (gap := abs(other.time_seconds - action.time_seconds)) <= DELIVERIES_APART_SECONDS
        and (gap > HALF_SWEEP_SECONDS or other.side != action.side)
        for other in candidates
    )


def _passages(poses: Poses) -> list[Action]:
    """Every passage of an arm over the top; strength is sweep / 360 degrees plus hand speed over the clip's fastest."""
    grid, speeds = hand_speeds(poses)
    top = float(speeds.max(initial=0)) or 1.0
    direction = travel(poses)
    found = []
    for column, side in enumerate(SIDES):
        for turn in (direction,) if direction else (1, -1):
            for upright, sweep in _over_the_top(poses, side, turn):
                near = np.abs(grid - upright) <= 0.1
                strength = sweep / 360 + float(speeds[near, column].max(initial=0)) / top
                release = upright + RELEASE_AFTER_UPRIGHT_SECONDS
                found.append(Action(EventName.RELEASE, release, side, strength, rate_confidence(poses)))
    return found


def _over_the_top(poses: Poses, side: Side, turn: int) -> list[tuple[float, float]]:
    """(seconds, degrees swept in +-0.15 s) of each upright arm, for an arm that turns right (1) or left (-1).

    The angle counts from straight up. It is unwrapped to a step of -110 to 250 degrees between samples: at 10 frames a
    second a bowling arm turns 140.
    """
    detected = poses.detected
    times = poses.times[detected]
    arm = (poses.point(f"{side}_wrist") - poses.point(f"{side}_shoulder"))[detected]
    above = (poses.point("nose") - poses.point(f"{side}_wrist"))[detected, 1]
    raw = turn * np.degrees(np.arctan2(arm[:, 0], -arm[:, 1]))
    turned = np.concatenate([raw[:1], raw[0] + np.cumsum((np.diff(raw) + 110) % 360 - 110)])
    found = []
    for k in range(len(turned) - 1):
        upright = np.ceil(turned[k] / 360) * 360
        crosses = turned[k] < upright <= turned[k + 1] and times[k + 1] - times[k] <= 0.25
        if not crosses or above[k : k + 2].max() < 0:
            continue
        part = (upright - turned[k]) / (turned[k + 1] - turned[k])
        at = times[k] + part * (times[k + 1] - times[k])
        sweep = np.interp(at + HALF_SWEEP_SECONDS, times, turned) - np.interp(at - HALF_SWEEP_SECONDS, times, turned)
        if SWEEP_DEG[0] <= sweep <= SWEEP_DEG[1]:
            found.append((float(at), float(sweep)))
    return found


def rate_confidence(poses: Poses) -> float:
    """0.9 from 24 frames a second up, falling to 0.5 at 10: about as the measured spread of event times grows."""
    return float(np.interp(frame_rate(poses), [10, 24], [0.5, 0.9]))
