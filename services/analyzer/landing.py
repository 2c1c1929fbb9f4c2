"""Finds front-foot contact, and reads the leg that stands there, without trusting left and right.

MediaPipe swaps the legs around a release in most bowlers. Places don't swap: a foot that is down stays where it is, so
the two places on which feet stand just before a moment are followed back to when each was taken. Contact means the flat
foot, which is 1.5 to 3 frames (at 30 a second) later than the heel's touch.
"""

from dataclasses import dataclass

import numpy as np

from services.analyzer.kinematics import SIDES, foot, frame_rate, in_view, knee_angle, torso_length
from services.analyzer.series import Floats, Poses
from services.analyzer.smooth import despike, rows

LOWEST_RATE_FPS = 9.5  # "10 frames a second", as real time stamps make it

# Landing, in torsos.
HOLD_TORSOS, HOLD_DRIFT_PER_SECOND, ARRIVED_TORSOS = 0.12, 0.1, 0.07
SPIKE_TORSOS, SHORTEST_STEP_TORSOS, SHARE_OF_OTHER_STEP = 0.3, 0.5, 0.5
GAP_SECONDS, LOOK_BACK_SECONDS, STEP_SECONDS, SETTLED_SECONDS = 0.07, 0.8, 0.6, 0.1


@dataclass(frozen=True)
class Missing:
    """Nothing was found, and why."""

    reason: str


@dataclass(frozen=True)
class Landing:
    """Front-foot contact: when, which label (left, right) that foot mostly had, and the step before it in torsos."""

    time_seconds: float
    side: str
    step_torsos: float


def find_landing(poses: Poses, before_seconds: float) -> Landing | Missing:
    """Front-foot contact before a moment: the place that was taken last, by a real step, is the front foot's.

    A place is held while *either* foot is on it.
    """
    if frame_rate(poses) < LOWEST_RATE_FPS:
        return Missing("under 10 frames a second around the action")
    if not _feet_seen(poses, before_seconds):
        return Missing("feet not visible")
    stand = _Stand.of(poses, before_seconds)
    arrivals = [arrival for side in range(2) if (arrival := stand.arrival(side)) is not None]
    longest = max((arrival.step_torsos for arrival in arrivals), default=0.0)
    if longest <= SHORTEST_STEP_TORSOS:
        return Missing("no step of the front foot seen")
    # A dragged rear foot arrives late too, but hardly moves.
    real = [a for a in arrivals if a.step_torsos > max(SHORTEST_STEP_TORSOS, SHARE_OF_OTHER_STEP * longest)]
    return max(real, key=lambda arrival: arrival.time_seconds)


def front_knee(poses: Poses, landing: Landing, until_seconds: float) -> tuple[Floats, Floats]:
    """(n,) seconds and (n,) degrees of the front knee in the picture from landing to a moment, sample by sample.

    Each sample is taken from the leg whose foot is within 0.3 torso of the landing place, so that swapped legs don't
    matter; samples in which neither is are left out.
    """
    torso = torso_length(poses)
    paths = np.stack([foot(poses, side) / torso for side in SIDES])
    angles = np.stack([knee_angle(poses, side) for side in SIDES])
    half_step = 0.5 / frame_rate(poses)
    inside = (poses.times >= landing.time_seconds - half_step) & (poses.times <= until_seconds + half_step)
    seen = np.flatnonzero(inside & poses.detected)
    if not len(seen):
        return np.empty(0), np.empty(0)
    settled = seen[poses.times[seen] <= poses.times[seen[0]] + SETTLED_SECONDS + half_step]
    place = np.median(paths[SIDES.index(landing.side), settled], axis=0)
    times, degrees = [], []
    for k in seen:
        off = np.linalg.norm(paths[:, k] - place, axis=1)
        nearest = int(np.argmin(off))
        if off[nearest] < 0.3 and np.isfinite(angles[nearest, k]):
            times.append(poses.times[k])
            degrees.append(angles[nearest, k])
            place = 0.8 * place + 0.2 * paths[nearest, k]  # follows a panning camera
    return np.array(times), np.array(degrees)


def _feet_seen(poses: Poses, before_seconds: float) -> bool:
    near = (poses.times >= before_seconds - LOOK_BACK_SECONDS) & (poses.times <= before_seconds)
    return any(in_view(rows(poses, near), [f"{side}_ankle", f"{side}_foot_index"]) for side in SIDES)


@dataclass(frozen=True)
class _Stand:
    """Both feet up to a moment: times (n,) and paths (2, n, 2) in torsos, left first; `step` is the sampling step."""

    times: Floats
    paths: Floats
    moment: float
    step: float

    @classmethod
    def of(cls, poses: Poses, moment: float) -> "_Stand":
        seen = poses.detected
        torso = torso_length(poses)
        paths = np.stack([despike(foot(poses, side)[seen] / torso, SPIKE_TORSOS) for side in SIDES])
        return cls(poses.times[seen], paths, moment, 1 / frame_rate(poses))

    def arrival(self, side: int) -> Landing | None:
        """When the place where this foot stands just before the moment was taken; None if it always was, or never."""
        held = self._held(side)
        if not held or held[-1][0] == 0:
            return None
        labels = [label for _, label in held]
        who = max((0, 1), key=labels.count)
        away = np.linalg.norm(self.paths[who] - self._settled(held), axis=1)
        return self._first_near(away, held[-1][0], held[0][0], who)

    def _held(self, side: int) -> list[tuple[int, int]]:
        """(sample, foot on the place) from the moment back to the place's first taking, short gaps forgiven."""
        width = max(0.1, 1.01 * self.step)
        just_before = (self.times >= self.moment - width) & (self.times <= self.moment + max(0.03, 0.5 * self.step))
        if not just_before.any():
            return []
        place = np.median(self.paths[side, just_before], axis=0)
        held: list[tuple[int, int]] = []
        last = self.moment
        for k in range(int(np.flatnonzero(just_before)[-1]), -1, -1):
            ago = self.moment - self.times[k]
            off = np.linalg.norm(self.paths[:, k] - place, axis=1)
            if off.min() < HOLD_TORSOS + HOLD_DRIFT_PER_SECOND * max(0.0, ago):
                held.append((k, int(np.argmin(off))))
                last = self.times[k]
            elif last - self.times[k] > GAP_SECONDS + self.step or ago > LOOK_BACK_SECONDS:
                break
        return held

    def _settled(self, held: list[tuple[int, int]]) -> Floats:
        """(2,) where the foot was in its first 0.1 s on the place."""
        first = self.times[held[-1][0]]
        early = [self.paths[who, k] for k, who in held if self.times[k] <= first + max(SETTLED_SECONDS, self.step)]
        still = early[:-1] if len(early) > 2 else early  # the first sample there is often still arriving
        return np.asarray(np.median(still, axis=0))

    def _first_near(self, away: Floats, first: int, last: int, who: int) -> Landing | None:
        near = away < ARRIVED_TORSOS
        inside = np.flatnonzero(near[first : last + 1])
        if not len(inside):
            return None
        k = first + int(inside[0])
        while k > 0 and near[k - 1]:
            k -= 1
        if k == 0:
            return None  # the foot was there when the picture began
        part = (away[k - 1] - ARRIVED_TORSOS) / (away[k - 1] - away[k])
        at = self.times[k - 1] + part * (self.times[k] - self.times[k - 1])
        lately = (self.times < self.times[k]) & (self.times > self.times[k - 1] - STEP_SECONDS)
        return Landing(float(at), SIDES[who], float(away[lately].max()))
