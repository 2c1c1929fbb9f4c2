"""Finds the actions of a clip: deliveries and strokes by agreeing evidence, throws and takes by fast hands.

    whole clip ──find_actions───────▶ deliveries, strokes, throws, takes ──find_landing──▶ contact and front leg
         └──────close_up_windows──▶ (from, to) of the second pass, which poses every frame

Each search returns the action or `Missing` with its reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.actions.deliveries import Passage, find_deliveries, find_passages, has_rival
from services.analyzer.biomechanics.actions.evidence import Sign, confidence, weakest
from services.analyzer.biomechanics.actions.shots import split_shots
from services.analyzer.biomechanics.actions.strokes import Swing, find_strokes, find_swings
from services.analyzer.biomechanics.filtering import GRID_HZ, tidy
from services.analyzer.biomechanics.foot_contact import LOWEST_RATE_FPS, TOO_FEW, Missing, find_landing
from services.analyzer.biomechanics.kinematics import (
    SIDES,
    Side,
    frame_rate,
    hand_velocities,
    torso_length,
)
from services.analyzer.biomechanics.landmark_noise import replicates
from services.analyzer.pose.landmarks import Poses, merge_poses, select_frames
from services.naming import Discipline

FEWEST_FRAMES = 4
MOST_ACTIONS = 8  # bounds the second pass to about 12 s of video
SHORTEST_WINDOW_SECONDS = 0.5  # a shorter one contains no action
SIGNED = (Discipline.BATTING, Discipline.BOWLING)  # their actions are claimed by signs
SAME_SECONDS = 0.1  # an action found twice is found at the same moment
LEAST_SEEN = 0.6  # share of an action or a window in which the athlete must be detected

# Throws and takes: peaks of hand speed.
SLOWEST_ACTION_TORSOS_PER_SECOND = 2.5
SHARE_OF_FASTEST = 0.5
APART_SECONDS = 1.5  # nearer peaks are one action
AROUND_PEAK_SECONDS = 0.1
# A take brings the hands together and keeps them together. A throw has them apart, one over its shoulder and the other
# under half as fast. Hands that are apart, pass each other and are apart again swing as in a walk.
HANDS_ON_BALL_TORSOS, HANDS_APART_TORSOS, SWING_SECONDS = 0.4, 0.8, 0.3
PARTING_IN_A_THROW = (0.5, 1.5)
TAKE_OR_THROW_CONFIDENCE = 0.3  # not validated on a film with a known take or throw

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

    side: the arm of an action, or the leg of a contact. given: whether the client stated the moment. frame_seconds: of
    the film's frame that shows it, the nearest one; None without a film.
    """

    name: EventName
    time_seconds: float
    confidence: float
    side: Side | None = None
    given: bool = False
    frame_seconds: float | None = None


@dataclass(frozen=True)
class Action:
    """One delivery, stroke, throw or take.

    name: RELEASE, THROW or TAKE; FASTEST_HANDS of a stroke, or if the kind is unknown. side: the bowling arm, or the
    faster hand. strength: orders the actions of one clip. confidence: 0..1. landed_by: seconds by which the front foot
    is down: the release, or the lowest point of a stroke's hands. weakest_sign: what speaks least for the action;
    evidence: 0..1 by that sign, 1 for an action that is not claimed by signs. given: whether the client stated the
    moment.
    """

    name: EventName
    time_seconds: float
    side: Side
    strength: float
    confidence: float
    landed_by: float
    weakest_sign: str = ""
    evidence: float = 1.0
    given: bool = False


def find_actions(poses: Poses, discipline: str, around: Poses | None = None) -> list[Action] | Missing:
    """Every unambiguous action of a cleaned clip, in order of time, or why there is none.

    around: the same clip with the film before and after it. A close-up may begin after the backlift.
    """
    if frame_rate(poses) < LOWEST_RATE_FPS:
        return Missing(TOO_FEW)
    if poses.detected.sum() < FEWEST_FRAMES:
        return Missing("too few frames with the athlete in view")
    match discipline:
        case Discipline.BOWLING:
            return _strongest(_deliveries(poses))
        case Discipline.BATTING:
            return _strongest(_strokes(poses, around or poses))
        case _:
            return _strongest(_fast_hands(poses))


def evidence_of_actions(poses: Poses, discipline: str) -> float:
    """How much a person's poses in a whole clip look like actions: the sum of their evidence, 0 without one."""
    actions = find_actions(tidy(poses), discipline)
    return 0.0 if isinstance(actions, Missing) else sum(action.evidence for action in actions)


def find_steady_actions(poses: Poses, discipline: str, around: Poses) -> list[Action] | Missing:
    """As `find_actions`; an action that is lost in every second frame of a close-up, or in noise, is doubtful."""
    actions = find_actions(poses, discipline, around)
    if isinstance(actions, Missing) or discipline not in SIGNED or frame_rate(poses) < 2 * LOWEST_RATE_FPS:
        return actions
    copies = {
        "half of the frames show it too": [select_frames(poses, np.arange(len(poses)) % 2 == k) for k in (0, 1)],
        "a less steady film shows it too": list(replicates(poses)),
    }
    for sign, altered in copies.items():
        found = [find_actions(copy, discipline, merge_poses(around, [copy])) for copy in altered]
        others = [[] if isinstance(each, Missing) else each for each in found]
        shown = [[any(_is_same(action, other) for other in each) for each in others] for action in actions]
        actions = [_with_steadiness(*pair, sign) for pair in zip(actions, shown, strict=True)]
    return actions


def _with_steadiness(action: Action, shown: list[bool], name: str) -> Action:
    """The action with one more sign: in how many of the altered series it shows."""
    if not shown:
        return action
    sign = Sign(name, sum(shown) / len(shown), 0.0, 1.0)
    evidence = confidence([sign])
    if evidence >= action.evidence:
        return action
    sure = action.confidence * evidence / action.evidence
    return replace(action, confidence=sure, evidence=evidence, weakest_sign=sign.name)


def _is_same(one: Action, other: Action) -> bool:
    same_arm = one.side == other.side or one.name != EventName.RELEASE
    return same_arm and abs(one.landed_by - other.landed_by) <= SAME_SECONDS


def _deliveries(poses: Poses) -> list[Action] | Missing:
    passages = find_passages(poses)
    found = find_deliveries(passages)
    if not found:
        return _missing("no arm was seen to go over the top", [passage.signs for passage in passages])
    unambiguous = [delivery for delivery in found if not has_rival(delivery, passages)]
    if not unambiguous:
        return Missing("two moments, or both arms, look like the release")
    return [_release(delivery, rate_confidence(poses)) for delivery in unambiguous]


def _release(passage: Passage, rate: float) -> Action:
    at, evidence = passage.release_seconds, passage.confidence
    sign = weakest(passage.signs).name
    return Action(EventName.RELEASE, at, passage.side, passage.strength, rate * evidence, at, sign, evidence)


def _strokes(poses: Poses, around: Poses) -> list[Action] | Missing:
    """The strokes whose hands are lowest within the times of `poses`."""
    swings = find_swings(around)
    found = [stroke for stroke in find_strokes(swings) if poses.times[0] <= stroke.bottom <= poses.times[-1]]
    if not found:
        return _missing(
            "the hands were not seen to go up and come down as in a stroke", [swing.signs for swing in swings]
        )
    return [_stroke(swing, rate_confidence(poses)) for swing in found]


def _stroke(swing: Swing, rate: float) -> Action:
    name, evidence, sign = EventName.FASTEST_HANDS, swing.confidence, weakest(swing.signs).name
    return Action(name, swing.fastest, swing.side, swing.strength, rate * evidence, swing.bottom, sign, evidence)


def _missing(without_candidate: str, candidates: list[tuple[Sign, ...]]) -> Missing:
    """Why a clip has no action: the sign that its nearest candidate lacks."""
    nearest = max((weakest(signs) for signs in candidates), key=lambda sign: sign.margin, default=None)
    return Missing(f"the nearest movement to one does not show that {nearest.name}" if nearest else without_candidate)


def close_up_windows(whole: Poses, discipline: str, cuts: Iterable[float] = ()) -> list[tuple[float, float]]:
    """Disjoint windows for the second pass, (from, to) in seconds of the video, in order; empty without a candidate.

    Includes every candidate: the second pass poses every frame and may resolve it. Rounded outwards to tenths of a
    second, so that small changes of the first pass select equal frames. cuts: seconds; each window lies in one shot.
    """
    windows: list[tuple[float, float]] = []
    candidates = _candidates(split_shots(tidy(whole), cuts), discipline)
    for shot, action in candidates:
        start, end = _window(shot, action, discipline)
        start, end = max(np.floor(10 * start) / 10, shot.times[0]), min(np.ceil(10 * end) / 10, shot.times[-1] + 1e-3)
        if windows and start <= windows[-1][1] and windows[-1][0] >= shot.times[0]:
            start, end = windows[-1][0], max(end, windows.pop()[1])
        if end - start >= SHORTEST_WINDOW_SECONDS:
            windows.append((float(start), float(end)))
    return windows


def _candidates(shots: list[Poses], discipline: str) -> list[tuple[Poses, Action]]:
    """The likeliest candidates for an action, in order of time, each with its shot.

    A delivery or stroke is also looked for around fast hands in a shot that shows none: at 10 frames a second a single
    frame shows the top of a delivery, and a wrong pose there hides it.
    """
    found: list[tuple[Poses, Action]] = []
    for shot in shots:
        if shot.detected.sum() < FEWEST_FRAMES:
            continue
        match discipline:
            case Discipline.BOWLING:
                seen = [_release(one, rate_confidence(shot)) for one in find_passages(shot)]
            case Discipline.BATTING:
                seen = [_stroke(one, rate_confidence(shot)) for one in find_swings(shot)]
            case _:
                hands = _fast_hands(shot)
                seen = [] if isinstance(hands, Missing) else hands
        if discipline in SIGNED and not any(action.evidence > 0 for action in seen):
            seen += [replace(moment, evidence=0.0) for moment in _fastest_moments(shot)]
        found += [(shot, action) for action in seen]
    likeliest = sorted(found, key=lambda candidate: (candidate[1].evidence == 0, -candidate[1].strength))[:MOST_ACTIONS]
    return sorted(likeliest, key=lambda candidate: candidate[1].time_seconds)


def _strongest(found: list[Action] | Missing) -> list[Action] | Missing:
    if isinstance(found, Missing):
        return found
    strongest = sorted(found, key=lambda action: -action.strength)[:MOST_ACTIONS]
    return sorted(strongest, key=lambda action: action.time_seconds)


def _window(poses: Poses, action: Action, discipline: str) -> tuple[float, float]:
    if discipline == Discipline.BOWLING:
        moment, (before, after) = action.time_seconds, AROUND_RELEASE
    else:
        landing = find_landing(poses, action.landed_by)
        if isinstance(landing, Missing):
            moment, (before, after) = action.landed_by, AROUND_HANDS
        else:
            moment, (before, after) = landing.time_seconds, AROUND_CONTACT
    return moment - before, moment + after


def _fast_hands(poses: Poses) -> list[Action] | Missing:
    moments = _fastest_moments(poses)
    if not moments:
        return Missing("the hands never move fast")
    found = [action for moment in moments if (action := _classify_hands(poses, moment))]
    reason = "the hands move fast, but past each other, as in a walk, or the athlete is lost"
    return found or Missing(reason)


def _fastest_moments(poses: Poses) -> list[Action]:
    """Peaks of hand speed, of whatever kind, in order of time."""
    grid, velocity = hand_velocities(poses)
    speed = np.linalg.norm(velocity, axis=-1)
    fastest, rate = speed.max(axis=1, initial=0), rate_confidence(poses)
    return [
        Action(EventName.FASTEST_HANDS, at, SIDES[int(np.argmax(speed[k]))], float(fastest[k]), rate, landed_by=at)
        for k in _peaks(fastest)
        for at in [float(grid[k])]
    ]


def _peaks(fastest: Floats) -> list[int]:
    """Grid indices of peaks of hand speed, 1.5 s or more apart."""
    from scipy.signal import find_peaks  # lazy: SciPy takes a second to import, which delays the first pose

    share = SHARE_OF_FASTEST * float(fastest.max(initial=0))
    height = max(SLOWEST_ACTION_TORSOS_PER_SECOND, share)
    peaks, _ = find_peaks(fastest, distance=round(APART_SECONDS * GRID_HZ), height=height, prominence=0.5 * share)
    return [int(k) for k in peaks]


def _classify_hands(poses: Poses, fast: Action) -> Action | None:
    """The action of fast hands, with its kind if known; None for a mere swing or too few detections."""
    ago = poses.times - fast.time_seconds
    swing = np.abs(ago) <= SWING_SECONDS
    if poses.detected[swing].sum() < max(1, LEAST_SEEN * swing.sum()):
        return None
    between = _between_hands(poses)
    apart = np.linalg.norm(between, axis=1)
    around = np.abs(ago) <= max(AROUND_PEAK_SECONDS, 1.01 / frame_rate(poses))
    apart_at_peak = np.nanmedian(apart[around])
    unvalidated = replace(fast, confidence=TAKE_OR_THROW_CONFIDENCE * fast.confidence)
    held = apart[(ago >= 0) & (ago <= SWING_SECONDS)] < HANDS_ON_BALL_TORSOS
    if ago[-1] >= SWING_SECONDS and 2 * held.sum() > len(held) and held[-1]:
        return replace(unvalidated, name=EventName.TAKE)
    parting = _parting(poses, fast.time_seconds)
    if parting > PARTING_IN_A_THROW[1]:
        return None
    rise = (poses.point(f"{fast.side}_shoulder") - poses.point(f"{fast.side}_wrist"))[around, 1]
    over_the_shoulder = np.nanmax(rise, initial=0) > 0 and apart_at_peak > HANDS_APART_TORSOS
    if over_the_shoulder and parting > PARTING_IN_A_THROW[0]:
        return replace(unvalidated, name=EventName.THROW)
    return None if _hands_pass(between[swing]) else fast


def _parting(poses: Poses, seconds: float) -> float:
    """The hands' relative speed over the faster hand's speed, around a moment, in the median."""
    grid, velocity = hand_velocities(poses)
    around = np.abs(grid - seconds) <= AROUND_PEAK_SECONDS + 0.5 / GRID_HZ
    fastest = np.linalg.norm(velocity[around], axis=-1).max(axis=1)
    apart = np.linalg.norm(velocity[around, 0] - velocity[around, 1], axis=-1)
    return float(np.median(apart / np.maximum(fastest, 1e-9)))


def _hands_pass(between: Floats) -> bool:
    """Whether the hands pass each other: apart, then apart in the opposite order. between: (n, 2)."""
    known = between[np.isfinite(between).all(axis=1)]
    widest = known[np.argmax(np.linalg.norm(known, axis=1))]
    return bool((known @ widest).min() < -HANDS_ON_BALL_TORSOS * np.linalg.norm(widest))


def _between_hands(poses: Poses) -> Floats:
    """(n, 2) torsos: vector from the right wrist to the left."""
    return np.asarray((poses.point("left_wrist") - poses.point("right_wrist")) / torso_length(poses))


def rate_confidence(poses: Poses) -> float:
    """0.9 from 24 frames a second up, falling to 0.5 at 10: about as the measured spread of event times grows."""
    return float(np.interp(frame_rate(poses), [10, 24], [0.5, 0.9]))
