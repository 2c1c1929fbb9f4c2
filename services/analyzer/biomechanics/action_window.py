"""Selects the series and the window that one action is measured in.

close-ups, or without an action the whole clip ──▶ actions ──▶ one `ActionWindow` each: window, landing, body, view
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.actions.sight import sight_of_landing
from services.analyzer.biomechanics.events import (
    SIGNED,
    Action,
    EventName,
    GivenEvent,
    find_steady_actions,
    rate_confidence,
)
from services.analyzer.biomechanics.foot_contact import (
    LOOK_BACK_SECONDS,
    LOWEST_RATE_FPS,
    TOO_FEW,
    Landing,
    Missing,
    find_landing,
    land_at,
)
from services.analyzer.biomechanics.kinematics import (
    SIDES,
    Side,
    body_length,
    frame_rate,
    hand_speeds,
    other,
    stance_turn,
)
from services.analyzer.pose.landmarks import Poses, merge_poses, select_frames

# Seconds before and after the moment of an action: contact (batting and the rest), release (bowling).
AROUND_CONTACT = (0.3, 0.4)
AROUND_RELEASE = (0.3, 0.1)
# A stroke without a contact: the hands are lowest 0.22 to 0.27 s after the foot is down (seven rendered strokes). They
# are fastest 0.05 to 0.5 s after it, in the downswing or in the follow-through.
AROUND_HANDS = (0.55, 0.15)
CLIP_MARGIN_SECONDS = 0.3
CLOSE_UP_WEIGHT = 0.75
RAMP_SECONDS = 0.1  # soft window edges: an edge off by a frame changes a number little

# A bowler's foot is down for an eighth of a second before release: one frame at 10 frames a second.
LOWEST_DELIVERY_RATE_FPS = 14.5
WHOLE_CLIP_CONFIDENCE = 0.4
# With the camera square to the pitch the feet are apart along the image. The model sees them turned by 1 to 19 degrees
# in actions filmed from the side (15 films), by 42 at 25 degrees to the pitch, by 86 along it.
END_ON_DEG = 30.0

# A close-up that shows this much around a given moment shows all that is measured there; a new one shows more. A frame
# this near shows the moment itself.
ENOUGH_AROUND_GIVEN, AROUND_GIVEN, NEAR_GIVEN_SECONDS = (0.45, 0.4), (0.8, 0.75), 0.06

# Standard deviations of moments, in seconds. A contact: 0.027 over ten real bowlers, without the error of reading a
# frame by eye (0.019), and 0.018 over eight rendered actions. A release: 0.014 over eleven real bowlers. The bottom of
# a swing: 0.024 over seven rendered strokes.
CONTACT_ERROR_SECONDS, RELEASE_ERROR_SECONDS, BOTTOM_ERROR_SECONDS = 0.025, 0.015, 0.025

TOO_FEW_FOR_A_DELIVERY = "too few frames: under 15 a second around the action"


@dataclass(frozen=True)
class ActionWindow:
    """One action, or the whole clip if there is none, and the window to measure it in.

    start, end: seconds. body: pixels of a body length. action, landing: `Missing` with the reason if not found.
    end_on: whether the camera looks along the pitch; None without an action, or if the feet are too near to decide.
    """

    poses: Poses
    start: float
    end: float
    discipline: str
    body: float
    action: Action | Missing
    landing: Landing | Missing
    end_on: bool | None = None

    @property
    def is_measured(self) -> bool:
        """Whether it has numbers. A bowler's or batter's film without an action has none: a run-up is no delivery."""
        return isinstance(self.action, Action) or self.discipline not in SIGNED

    @property
    def middle(self) -> float:
        """Seconds of the window's middle."""
        return (self.start + self.end) / 2

    def weights(self, times: Floats) -> Floats:
        """(n,) 1 inside the window, falling to 0 over the ramp outside it."""
        outside = np.maximum(self.start - times, times - self.end)
        return np.asarray(np.clip(1 - outside / RAMP_SECONDS, 0, 1))

    @cached_property
    def inside(self) -> Poses:
        """The frames of the window."""
        return select_frames(self.poses, (self.poses.times >= self.start) & (self.poses.times <= self.end))

    @property
    def bowling_arm(self) -> Side | None:
        """The arm of a delivery; None for any other action."""
        if isinstance(self.action, Missing) or self.action.name != EventName.RELEASE:
            return None
        return self.action.side

    @property
    def front_leg(self) -> Side | None:
        """The leg that landed. A bowler's is opposite to the bowling arm: MediaPipe often swaps legs there."""
        if self.bowling_arm:
            return other(self.bowling_arm)
        return None if isinstance(self.landing, Missing) else self.landing.side

    @cached_property
    def landing_evidence(self) -> float:
        """0..1: how well the film shows the landing; 1 without one, or for one that the client states."""
        if isinstance(self.landing, Missing) or self.landing.given:
            return 1.0
        return sight_of_landing(self.poses, self.landing.time_seconds)

    @property
    def moment_confidence(self) -> float:
        """0..1: confidence in the moments that the window is placed around."""
        if isinstance(self.action, Missing):
            return WHOLE_CLIP_CONFIDENCE
        return min(self.action.evidence, self.landing_evidence) * rate_confidence(self.poses)

    @property
    def coarseness(self) -> float:
        """Factor by which an error grows at a low frame rate: 1 from 24 frames a second up, 2 at 10."""
        return float(np.interp(frame_rate(self.poses), [10, 24], [2, 1]))

    @property
    def too_coarse(self) -> Missing | None:
        """Why not even the whole clip is measured: at this frame rate an action in it goes undetected."""
        return self.action if isinstance(self.action, Missing) and self.action.reason == TOO_FEW else None


def find_windows(
    shots: list[Poses], closeups: list[Poses], discipline: str, given: Sequence[GivenEvent] = ()
) -> list[ActionWindow]:
    """One window an action, from the close-ups if there are any: the coarser first pass does not overrule them.

    Actions that the client gives replace all others; a given contact replaces that of the action that follows it.
    Without an action, one window over the longest shot.
    """
    found, reasons = [], []
    contacts = [event.time_seconds for event in given if event.name == EventName.FRONT_FOOT_CONTACT]
    stated = [event for event in given if event.name != EventName.FRONT_FOOT_CONTACT]
    for shot in shots:
        near = [part for part in closeups if shot.times[0] <= part.times[0] <= shot.times[-1]]
        body = _body(shot, near)
        if stated:
            sources = _given_actions(shot, near, [event for event in stated if _shot_at(shots, event) is shot])
        else:
            sources = [
                (source, find_steady_actions(source, discipline, merge_poses(shot, [source])))
                for source in (near if closeups else [shot])
            ]
        reasons += [actions for _, actions in sources if isinstance(actions, Missing)]
        acting = [(source, actions) for source, actions in sources if not isinstance(actions, Missing)]
        end_on = _is_end_on(source for source, actions in acting if actions)
        found += [
            _window(source, action, discipline, body, end_on, _contact_of(action, contacts))
            for source, actions in acting
            for action in actions
        ]
    if found:
        return found
    longest = max(shots, key=lambda shot: int(shot.detected.sum()))
    reason = reasons[-1] if reasons else Missing("no action found")
    if frame_rate(longest) < LOWEST_RATE_FPS:
        reason = Missing(TOO_FEW)
    times = longest.times[longest.detected]
    start, end = float(times[0]) + CLIP_MARGIN_SECONDS, float(times[-1]) - CLIP_MARGIN_SECONDS
    return [ActionWindow(longest, start, end, discipline, _body(longest, []), reason, reason)]


def _shot_at(shots: list[Poses], event: GivenEvent) -> Poses:
    """The shot that shows a given moment, or else the last one that begins before it."""
    return next((shot for shot in reversed(shots) if shot.times[0] <= event.time_seconds), shots[0])


def _given_actions(
    clip: Poses, closeups: list[Poses], stated: Sequence[GivenEvent]
) -> list[tuple[Poses, list[Action] | Missing]]:
    """The actions at given moments, each in the close-up around it, or else in the whole clip."""
    found: list[tuple[Poses, list[Action] | Missing]] = []
    for event in sorted(stated, key=lambda event: event.time_seconds):
        around = (each for each in closeups if each.times[0] <= event.time_seconds <= each.times[-1])
        source = max(around, key=lambda each: min(event.time_seconds - each.times[0], each.times[-1]), default=clip)
        action = _action_at(source, event)
        found.append((source, action if isinstance(action, Missing) else [action]))
    return found


def _action_at(poses: Poses, event: GivenEvent) -> Action | Missing:
    """The action at a given moment: a delivery's arm is the higher one then, any other's is the faster one."""
    near = np.abs(poses.times - event.time_seconds) <= max(NEAR_GIVEN_SECONDS, 1 / frame_rate(poses))
    near &= poses.detected
    if not near.any():
        return Missing(f"the player is not seen at the given {event.name}, {event.time_seconds:.2f} s")
    if event.name == EventName.RELEASE:
        rises = [(poses.point(f"{side}_shoulder") - poses.point(f"{side}_wrist"))[near, 1] for side in SIDES]
        side = SIDES[int(np.argmax([np.median(rise) for rise in rises]))]
    else:
        grid, speeds = hand_speeds(poses)
        side = SIDES[int(np.argmax(speeds[np.argmin(np.abs(grid - event.time_seconds))]))]
    at = event.time_seconds
    return Action(event.name, at, side, strength=1.0, confidence=1.0, landed_by=at, given=True)


def _contact_of(action: Action, contacts: Sequence[float]) -> float | None:
    """The given contact that an action follows; None if there is none."""
    before = [at for at in contacts if 0 <= action.time_seconds - at <= LOOK_BACK_SECONDS]
    return max(before, default=None)


def with_given(
    windows: list[tuple[float, float]], given: Sequence[GivenEvent], end_seconds: float
) -> list[tuple[float, float]]:
    """Disjoint windows of the second pass, with one around each given moment that none of them shows, in order."""
    for event in given:
        start, end = _around(event, ENOUGH_AROUND_GIVEN, end_seconds)
        if any(a <= start and end <= b for a, b in windows):
            continue
        start, end = _around(event, AROUND_GIVEN, end_seconds)
        near = [(a, b) for a, b in windows if a <= end and start <= b]
        merged = (min([start, *(a for a, _ in near)]), max([end, *(b for _, b in near)]))
        windows = sorted([*(window for window in windows if window not in near), merged])
    return windows


def _around(event: GivenEvent, seconds: tuple[float, float], end_seconds: float) -> tuple[float, float]:
    before, after = seconds
    return max(event.time_seconds - before, 0.0), min(event.time_seconds + after, end_seconds)


def in_replicate(window: ActionWindow, poses: Poses) -> ActionWindow:
    """The same action in another series of the same frames; landing and body length are measured again."""
    body = window.body * body_length(poses) / body_length(window.poses)
    if isinstance(window.action, Missing):
        return replace(window, poses=poses, body=body)
    contact = window.landing.time_seconds if isinstance(window.landing, Landing) and window.landing.given else None
    return _window(poses, window.action, window.discipline, body, window.end_on, contact)


def with_moved_moments(window: ActionWindow) -> list[tuple[ActionWindow, ActionWindow]]:
    """The window with one of its moments earlier, and later, by that moment's error: a pair for each moment."""
    if isinstance(action := window.action, Missing):
        return []
    landing, is_delivery = window.landing, window.bowling_arm is not None
    own_error = RELEASE_ERROR_SECONDS if is_delivery else BOTTOM_ERROR_SECONDS

    def moved(by: float) -> ActionWindow:
        """With the action moved, and the window where it lies around the action."""
        at = replace(action, time_seconds=action.time_seconds + by, landed_by=action.landed_by + by)
        return _shifted(replace(window, action=at), by if is_delivery or isinstance(landing, Missing) else 0.0)

    pairs = [(moved(-own_error), moved(own_error))]
    if isinstance(landing, Landing):
        earlier, later = (
            _shifted(
                replace(window, landing=replace(landing, time_seconds=landing.time_seconds + by)),
                0.0 if is_delivery else by,
            )
            for by in (-CONTACT_ERROR_SECONDS, CONTACT_ERROR_SECONDS)
        )
        pairs.append((earlier, later))
    return pairs


def _shifted(window: ActionWindow, by: float) -> ActionWindow:
    return replace(window, start=window.start + by, end=window.end + by)


def _is_end_on(acting: Iterable[Poses]) -> bool | None:
    """Whether the camera looks along the pitch, by the feet in all series of a shot with an action.

    Before and after an action the feet stand in any direction, and one frame could mislead.
    """
    turn = stance_turn(acting)
    return None if np.isnan(turn) else turn > END_ON_DEG


def _body(clip: Poses, closeups: list[Poses]) -> float:
    """Pixels of a body length: weighted mean of close-ups and whole clip.

    Measured: the first pass alone drifted by 6 % with its rate for a bowler who is far away at first. A close-up alone
    is 5 % short for a batter who is bent throughout.
    """
    near = [length for closeup in closeups if np.isfinite(length := body_length(closeup))]
    if not near:
        return body_length(clip)
    return CLOSE_UP_WEIGHT * median(near) + (1 - CLOSE_UP_WEIGHT) * body_length(clip)


def _window(
    poses: Poses, action: Action, discipline: str, body: float, end_on: bool | None, contact: float | None = None
) -> ActionWindow:
    """The window of one action. contact: seconds of the contact, if the client gave it."""
    landing = find_landing(poses, action.landed_by) if contact is None else land_at(poses, contact)
    if action.name == EventName.RELEASE:
        moment, (before, after) = action.time_seconds, AROUND_RELEASE
        if frame_rate(poses) < LOWEST_DELIVERY_RATE_FPS:
            landing = Missing(TOO_FEW_FOR_A_DELIVERY)
    elif isinstance(landing, Landing):
        moment, (before, after) = landing.time_seconds, AROUND_CONTACT
    else:
        moment, (before, after) = action.landed_by, AROUND_HANDS
    return ActionWindow(poses, moment - before, moment + after, discipline, body, action, landing, end_on)
