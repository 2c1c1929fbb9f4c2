"""Finds the moments that everything else is measured around: strokes, throws and takes, and the release of a ball.

    whole clip ──find_actions──▶ fastest hands, or the arm over the top ──find_landing──▶ contact and front leg
         └──────action_windows──▶ where the second pass looks again, at every frame

Each search ends in the moment or in `Missing`, a sentence that says why not; no answer is an answer.
"""

from dataclasses import dataclass, replace

import numpy as np

from services.analyzer.biomechanics.filtering import GRID_HZ, tidy
from services.analyzer.biomechanics.foot_contact import LOWEST_RATE_FPS, TOO_FEW, Missing, find_landing
from services.analyzer.biomechanics.kinematics import (
    SIDES,
    frame_rate,
    hand_speeds,
    hand_velocities,
    torso_length,
    travel,
)
from services.analyzer.pose.landmarks import Floats, Poses

MOST_ACTIONS = 8  # bounds the second pass: about 12 s of video
LEAST_SEEN = 0.6  # of an action or a window, to claim the one or read a number off the other

# Strokes, throws, takes: peaks of hand speed.
SLOWEST_ACTION_TORSOS_PER_SECOND = 2.5
SHARE_OF_FASTEST = 0.5
APART_SECONDS = 1.5  # nearer peaks are a backlift and its stroke
# Or a stroke and its follow-through, which seen from behind is as fast: the first of two alike is the stroke. A
# backlift comes longer before it, and is slower.
ALIKE, FOLLOW_THROUGH_SECONDS = 0.8, 0.5
# A bat holds both hands together: 0.3 torso apart in a drive, where a balancing man's are 0.9 and more.
HANDS_ON_BAT_TORSOS, AROUND_PEAK_SECONDS = 0.8, 0.1
AROUND_PEAK_STEPS = round(AROUND_PEAK_SECONDS * GRID_HZ)
# And they move as one. A walker's hands pass close by each other just when they are fastest, but opposite ways: they
# part at twice the speed of either.
PARTING_ON_BAT = 1.0
# A ball taken brings the hands together and keeps them so. Who throws has them apart, one over its shoulder, and the
# other hand goes slower than half as fast. Hands that pass each other, apart before and after, swing as in a walk.
HANDS_ON_BALL_TORSOS, SWING_SECONDS = 0.4, 0.3
PARTING_IN_A_THROW = (0.5, 1.5)
TAKE_OR_THROW_CONFIDENCE = 0.3  # no film with a known one was at hand

# Deliveries: an arm that passes over the top. Real ones sweep 290-370 degrees in 0.3 s, run-up swings under 140.
HALF_SWEEP_SECONDS = 0.15
SWEEP_DEG = (180.0, 450.0)
DELIVERIES_APART_SECONDS = 0.9
RIVAL_MARGIN = 0.4
# By eye the ball has left 0.5 to 1.3 frames (of 30 a second) after the arm was upright.
RELEASE_AFTER_UPRIGHT_SECONDS = 0.030

# What the second pass sees around a moment.
AROUND_CONTACT = (0.7, 0.75)
AROUND_RELEASE = (0.8, 0.65)
# Where no contact was found a stroke's fastest hands stand in; they come about 0.3 s after the foot.
AROUND_HANDS = (1.0, 0.6)


@dataclass(frozen=True)
class Event:
    """A named moment; `confidence` 0..1 is a judgement from rate and margin, not a probability."""

    name: str
    time_seconds: float
    confidence: float

    def as_dict(self) -> dict[str, str | float]:
        return {
            "name": self.name,
            "time_seconds": round(self.time_seconds, 3),
            "confidence": round(self.confidence, 2),
        }


@dataclass(frozen=True)
class Action:
    """One delivery, stroke, throw or take.

    name: `release`, or of fast hands `throw` and `take`, and `fastest_hands` where no more can be told. side: the arm
    that bowled, or whose hand was fastest. strength: orders actions of one clip, nothing else.
    """

    name: str
    time_seconds: float
    side: str
    strength: float
    confidence: float


def find_actions(poses: Poses, discipline: str) -> list[Action] | Missing:
    """Every action of a tidied clip in order of time, or why there is none that can be trusted."""
    if frame_rate(poses) < LOWEST_RATE_FPS:
        return Missing(TOO_FEW)
    found = _likely_actions(poses, discipline)
    if isinstance(found, Missing) or discipline != "bowling":
        return found
    candidates = _passages(poses)
    sure = [action for action in found if not _has_rival(action, candidates)]
    return sure or Missing("two moments, or both arms, look like the release")


def action_windows(whole: Poses, discipline: str) -> list[tuple[float, float]]:
    """Where the second pass should look: (from, to) in seconds of the video, in order, apart; empty without an action.

    A delivery with a rival is looked at too, and so are a bowler's fastest hands where no arm was caught at the top:
    at every frame it may become clear. Whole tenths of a second, so that what the first pass saw a little differently
    is looked at again in the same frames.
    """
    poses = tidy(whole)
    actions = _likely_actions(poses, discipline)
    if isinstance(actions, Missing) and discipline == "bowling":
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
    """The strongest candidates, in order of time; good enough to look there again."""
    if poses.detected.sum() < 4:
        return Missing("too few frames with the athlete in view")
    return _strongest(_deliveries(poses) if discipline == "bowling" else _fast_hands(poses, discipline))


def _strongest(found: list[Action] | Missing) -> list[Action] | Missing:
    if isinstance(found, Missing):
        return found
    strongest = sorted(found, key=lambda action: -action.strength)[:MOST_ACTIONS]
    return sorted(strongest, key=lambda action: action.time_seconds)


def _window(poses: Poses, action: Action, discipline: str) -> tuple[float, float]:
    if discipline == "bowling":
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
        fast = Action("fastest_hands", float(grid[k]), SIDES[int(np.argmax(speed[k]))], float(fastest[k]), confidence)
        around = slice(max(0, k - AROUND_PEAK_STEPS), k + AROUND_PEAK_STEPS + 1)
        if action := _told(poses, discipline, fast, float(np.median(parting[around]))):
            found.append(action)
    how = "not together" if discipline == "batting" else "past each other, as in a walk"
    return found or Missing(f"no action found: the hands move fast, but {how}, or the athlete is lost")


def _peaks(fastest: Floats, discipline: str) -> list[int]:
    """Where hands are fastest, well apart; of a bat's swing and a follow-through as fast, the swing."""
    from scipy.signal import find_peaks  # it brings all of SciPy: a second that the first pose need not wait for

    top = float(fastest.max(initial=0))
    high = {
        "height": max(SLOWEST_ACTION_TORSOS_PER_SECOND, SHARE_OF_FASTEST * top),
        "prominence": 0.5 * SHARE_OF_FASTEST * top,
    }
    apart, _ = find_peaks(fastest, distance=round(APART_SECONDS * GRID_HZ), **high)
    if discipline != "batting":
        return [int(k) for k in apart]
    near, _ = find_peaks(fastest, **high)
    soon = FOLLOW_THROUGH_SECONDS * GRID_HZ
    return [next(int(j) for j in near if k - j <= soon and fastest[j] >= ALIKE * fastest[k]) for k in apart]


def _told(poses: Poses, discipline: str, fast: Action, parting: float) -> Action | None:
    """What fast hands did, as far as it can be told; None where they did nothing but swing, or are lost in it."""
    if discipline == "bowling":
        return fast
    ago = poses.times - fast.time_seconds
    swing = np.abs(ago) <= SWING_SECONDS
    if poses.detected[swing].sum() < max(1, LEAST_SEEN * swing.sum()):
        return None
    between = _between_hands(poses)
    apart = np.linalg.norm(between, axis=1)
    around = np.abs(ago) <= max(AROUND_PEAK_SECONDS, 1.01 / frame_rate(poses))
    apart_then = np.nanmedian(apart[around])
    if discipline == "batting":
        return fast if parting < PARTING_ON_BAT and apart_then < HANDS_ON_BAT_TORSOS else None
    unsure = replace(fast, confidence=TAKE_OR_THROW_CONFIDENCE * fast.confidence)
    held = apart[(ago >= 0) & (ago <= SWING_SECONDS)] < HANDS_ON_BALL_TORSOS
    if ago[-1] >= SWING_SECONDS and 2 * held.sum() > len(held) and held[-1]:
        return replace(unsure, name="take")
    if parting > PARTING_IN_A_THROW[1]:
        return None
    rise = (poses.point(f"{fast.side}_shoulder") - poses.point(f"{fast.side}_wrist"))[around, 1]
    over_the_shoulder = np.nanmax(rise, initial=0) > 0 and apart_then > HANDS_ON_BAT_TORSOS
    if over_the_shoulder and parting > PARTING_IN_A_THROW[0]:
        return replace(unsure, name="throw")
    return None if _pass(between[swing]) else fast


def _pass(between: Floats) -> bool:
    """Whether hands pass each other: they are apart, then as far apart the other way round."""
    seen = between[np.isfinite(between).all(axis=1)]
    widest = seen[np.argmax(np.linalg.norm(seen, axis=1))]
    return bool((seen @ widest).min() < -HANDS_ON_BALL_TORSOS * np.linalg.norm(widest))


def _between_hands(poses: Poses) -> Floats:
    """(n, 2) torsos from the right wrist to the left."""
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
    """Whether another moment of the same delivery, or the other arm, looks nearly as much like the release."""
    return any(
        action.strength - other.strength < RIVAL_MARGIN
        and (gap := abs(other.time_seconds - action.time_seconds)) <= DELIVERIES_APART_SECONDS
        and (gap > HALF_SWEEP_SECONDS or other.side != action.side)
        for other in candidates
    )


def _passages(poses: Poses) -> list[Action]:
    """Every passage of an arm over the top that could be a delivery; strength is sweep / 360 plus relative speed."""
    grid, speeds = hand_speeds(poses)
    top = float(speeds.max(initial=0)) or 1.0
    going = travel(poses)
    found = []
    for column, side in enumerate(SIDES):
        for way in (going,) if going else (1, -1):
            for at, sweep in _over_the_top(poses, side, way):
                near = np.abs(grid - at) <= 0.1
                strength = sweep / 360 + float(speeds[near, column].max(initial=0)) / top
                at += RELEASE_AFTER_UPRIGHT_SECONDS
                found.append(Action("release", at, side, strength, rate_confidence(poses)))
    return found


def _over_the_top(poses: Poses, side: str, way: int) -> list[tuple[float, float]]:
    """(seconds, degrees swept in +-0.15 s) of each time an arm passes upright, turning to the right (1) or left (-1).

    The arm's angle is taken from straight up. Between two samples it is held to have turned by -110..250 degrees that
    way: at 10 frames a second a bowling arm turns 140.
    """
    seen = poses.detected
    times = poses.times[seen]
    arm = (poses.point(f"{side}_wrist") - poses.point(f"{side}_shoulder"))[seen]
    above = (poses.point("nose") - poses.point(f"{side}_wrist"))[seen, 1]
    raw = way * np.degrees(np.arctan2(arm[:, 0], -arm[:, 1]))
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
    """0.9 from 24 frames a second up, 0.5 at 10: the measured spread of an event's time grows about like that."""
    return float(np.interp(frame_rate(poses), [10, 24], [0.5, 0.9]))
