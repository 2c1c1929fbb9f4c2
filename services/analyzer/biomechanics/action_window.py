"""One action in the series that shows it best, with the window that everything about it is measured in.

close-ups, or without an action the whole clip ──▶ actions ──▶ one `Look` an action: window, landing, body, view
"""

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np

from services.analyzer.biomechanics.events import Action, find_actions, rate_confidence
from services.analyzer.biomechanics.filtering import rows
from services.analyzer.biomechanics.foot_contact import LOWEST_RATE_FPS, TOO_FEW, Landing, Missing, find_landing
from services.analyzer.biomechanics.kinematics import body_length, frame_rate, other, stance_turn
from services.analyzer.pose.landmarks import Floats, Poses

# What each action is measured in, about its moment: contact (batting and the rest), release (bowling).
AROUND_CONTACT = (0.3, 0.4)
AROUND_RELEASE = (0.3, 0.1)
# A stroke whose contact was not found: the hands are fastest about 0.25 s after the foot is down.
AROUND_HANDS = (0.55, 0.15)
CLIP_MARGIN_SECONDS = 0.3
CLOSE_UP_WEIGHT = 0.75
RAMP_SECONDS = 0.1  # a window edge off by a frame must move little

# A bowler's foot is down for an eighth of a second before release: at 10 frames a second, one frame.
LOWEST_DELIVERY_RATE_FPS = 14.5
WHOLE_CLIP_CONFIDENCE = 0.5
# From a camera square to the pitch the feet are apart along the picture. MediaPipe's depth says so within 25 degrees.
END_ON_DEG = 60.0

TOO_FEW_FOR_A_DELIVERY = "too few frames: under 15 a second around the action"


@dataclass(frozen=True)
class Look:
    """One action, or without any the whole clip, and the window (seconds) to measure it in.

    front_leg: the leg that landed. A bowler's is the one opposite to the arm: MediaPipe often swaps legs there.
    """

    poses: Poses
    start: float
    end: float
    discipline: str
    body: float
    action: Action | Missing
    landing: Landing | Missing

    def weights(self, times: Floats) -> Floats:
        """1 inside the window, falling to 0 over the ramp outside it."""
        outside = np.maximum(self.start - times, times - self.end)
        return np.asarray(np.clip(1 - outside / RAMP_SECONDS, 0, 1))

    @cached_property
    def inside(self) -> Poses:
        """The frames of the window."""
        return rows(self.poses, (self.poses.times >= self.start) & (self.poses.times <= self.end))

    @property
    def bowling_arm(self) -> str | None:
        if isinstance(self.action, Missing) or self.action.name != "release":
            return None
        return self.action.side

    @property
    def front_leg(self) -> str | None:
        if self.bowling_arm:
            return other(self.bowling_arm)
        return None if isinstance(self.landing, Missing) else self.landing.side

    @property
    def trust(self) -> float:
        """0..1 of the moment that the window hangs on."""
        return WHOLE_CLIP_CONFIDENCE if isinstance(self.action, Missing) else rate_confidence(self.poses)

    @property
    def coarseness(self) -> float:
        """What an error grows by with a low rate: 1 from 24 frames a second up, 2 at 10."""
        return float(np.interp(frame_rate(self.poses), [10, 24], [2, 1]))

    @property
    def too_coarse(self) -> Missing | None:
        """Why not even the whole clip can be measured: an action in it would go unseen."""
        return self.action if isinstance(self.action, Missing) and self.action.reason == TOO_FEW else None

    @cached_property
    def end_on(self) -> bool | None:
        """Whether the camera looks along the pitch; None where the feet are not apart, so that nobody can say."""
        if isinstance(self.action, Missing):
            return None
        moment = self.action.time_seconds if isinstance(self.landing, Missing) else self.landing.time_seconds
        turn = stance_turn(rows(self.poses, np.abs(self.poses.times - moment) <= RAMP_SECONDS))
        return None if np.isnan(turn) else turn > END_ON_DEG


def looks(clip: Poses, closeups: list[Poses], discipline: str) -> list[Look]:
    """One look an action, from the close-ups if there are any: what they deny, the coarser pass cannot claim.

    Without an action, one look at the whole clip.
    """
    body = _body(clip, closeups)
    why = Missing("no action found")
    found = []
    for source in closeups or [clip]:
        actions = find_actions(source, discipline)
        if isinstance(actions, Missing):
            why = actions
        else:
            found += [_look(source, action, discipline, body) for action in actions]
    if found:
        return found
    if frame_rate(clip) < LOWEST_RATE_FPS:
        why = Missing(TOO_FEW)
    times = clip.times[clip.detected]
    start, end = float(times[0]) + CLIP_MARGIN_SECONDS, float(times[-1]) - CLIP_MARGIN_SECONDS
    return [Look(clip, start, end, discipline, body, why, why)]


def again(look: Look, poses: Poses) -> Look:
    """The same action in another series of the same frames; its landing and its body are looked for anew."""
    body = look.body * body_length(poses) / body_length(look.poses)
    if isinstance(look.action, Missing):
        return replace(look, poses=poses, body=body)
    return _look(poses, look.action, look.discipline, body)


def _body(clip: Poses, closeups: list[Poses]) -> float:
    """Pixels of a body, of what the whole clip and the close-ups say; the close-ups weigh more.

    The first pass alone let one bowler's length drift by 6 % with its rate, where a far figure comes into view; a
    close-up alone sees a batter bent all the time, 5 % short.
    """
    near = [length for closeup in closeups if np.isfinite(length := body_length(closeup))]
    if not near:
        return body_length(clip)
    return CLOSE_UP_WEIGHT * median(near) + (1 - CLOSE_UP_WEIGHT) * body_length(clip)


def _look(poses: Poses, action: Action, discipline: str, body: float) -> Look:
    landing = find_landing(poses, action.time_seconds)
    if action.name == "release":
        moment, (before, after) = action.time_seconds, AROUND_RELEASE
        if frame_rate(poses) < LOWEST_DELIVERY_RATE_FPS:
            landing = Missing(TOO_FEW_FOR_A_DELIVERY)
    elif isinstance(landing, Landing):
        moment, (before, after) = landing.time_seconds, AROUND_CONTACT
    else:
        moment, (before, after) = action.time_seconds, AROUND_HANDS
    return Look(poses, moment - before, moment + after, discipline, body, action, landing)
