"""Finds front-foot contact, and reads the leg that stands there, without trusting left and right.

MediaPipe swaps the legs around a release in most bowlers. Places don't swap: a foot that is down stays where it is, so
the two places on which feet stand just before a moment are followed back to when each was taken. Contact means the flat
foot, which is 1.5 to 3 frames (at 30 a second) later than the heel's touch.
"""

from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from services.analyzer.biomechanics.filtering import despike, rows
from services.analyzer.biomechanics.kinematics import SIDES, foot, frame_rate, in_view, knee_angle, torso_length
from services.analyzer.pose.landmarks import Floats, Poses

LOWEST_RATE_FPS = 9.5  # "10 frames a second", as real time stamps make it
TOO_FEW = "too few frames: under 10 a second around the action"

# Landing, in torsos.
STANDING_TORSOS = 0.3
HOLD_TORSOS, HOLD_DRIFT_PER_SECOND, ARRIVED_TORSOS = 0.12, 0.1, 0.07
SPIKE_TORSOS, SHORTEST_STEP_TORSOS, SHARE_OF_OTHER_STEP = 0.3, 0.5, 0.5
GAP_SECONDS, LOOK_BACK_SECONDS, STEP_SECONDS, SETTLED_SECONDS = 0.07, 0.8, 0.6, 0.1
SEED_SECONDS, SHORTEST_STAND_SECONDS = 0.15, 0.06


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
        return Missing(TOO_FEW)
    if not _feet_seen(poses, before_seconds):
        return Missing("feet not visible")
    stand = _Stand.of(poses, before_seconds)
    arrivals = [arrival for arrival in stand.arrivals() if before_seconds - arrival.time_seconds <= LOOK_BACK_SECONDS]
    longest = max((arrival.step_torsos for arrival in arrivals), default=0.0)
    if longest <= SHORTEST_STEP_TORSOS:
        return Missing("no step of the front foot seen")
    # A dragged rear foot arrives late too, but hardly moves.
    real = [a for a in arrivals if a.step_torsos > max(SHORTEST_STEP_TORSOS, SHARE_OF_OTHER_STEP * longest)]
    latest = max(real, key=lambda arrival: arrival.time_seconds)
    # Many seeds lie on one place, for what is no step away is no other; each tells a little earlier or later.
    there = [a for a in real if np.linalg.norm(np.subtract(a.place, latest.place)) < SHORTEST_STEP_TORSOS]
    at = median(arrival.time_seconds for arrival in there)
    nearest = min(there, key=lambda arrival: abs(arrival.time_seconds - at))
    return Landing(at, nearest.side, nearest.step_torsos)


@dataclass(frozen=True)
class FrontLeg:
    """The leg at the landing place: (n,) seconds, samples, labels as indices of SIDES; (n, 2) pixels of its foot."""

    times: Floats
    samples: NDArray[np.intp]
    labels: NDArray[np.intp]
    place: Floats


def front_leg(poses: Poses, landing: Landing, until_seconds: float) -> FrontLeg:
    """Each sample from landing to a moment in which a foot is within 0.3 torso of the landing place.

    By place, so that swapped legs don't matter; samples in which neither foot is there are left out.
    """
    torso = torso_length(poses)
    paths = np.stack([foot(poses, side) for side in SIDES])
    half_step = 0.5 / frame_rate(poses)
    inside = (poses.times >= landing.time_seconds - half_step) & (poses.times <= until_seconds + half_step)
    seen = np.flatnonzero(inside & poses.detected)
    samples, labels = [], []
    if len(seen):
        settled = seen[poses.times[seen] <= poses.times[seen[0]] + SETTLED_SECONDS + half_step]
        place = np.median(paths[SIDES.index(landing.side), settled], axis=0)
        for k in seen:
            off = np.linalg.norm(paths[:, k] - place, axis=1)
            nearest = int(np.argmin(off))
            if off[nearest] < STANDING_TORSOS * torso:
                samples.append(k)
                labels.append(nearest)
                place = 0.8 * place + 0.2 * paths[nearest, k]  # follows a panning camera
    at, who = np.array(samples, dtype=np.intp), np.array(labels, dtype=np.intp)
    return FrontLeg(poses.times[at], at, who, paths[who, at])


def front_knee(poses: Poses, landing: Landing, until_seconds: float) -> tuple[Floats, Floats]:
    """(n,) seconds and (n,) degrees of the front knee in the picture from landing to a moment, sample by sample."""
    leg = front_leg(poses, landing, until_seconds)
    degrees = np.stack([knee_angle(poses, side) for side in SIDES])[leg.labels, leg.samples]
    known = np.isfinite(degrees)
    return leg.times[known], degrees[known]


def _feet_seen(poses: Poses, before_seconds: float) -> bool:
    near = (poses.times >= before_seconds - LOOK_BACK_SECONDS) & (poses.times <= before_seconds)
    return any(in_view(rows(poses, near), [f"{side}_ankle", f"{side}_foot_index"]) for side in SIDES)


@dataclass(frozen=True)
class _Arrival:
    """A place taken by a foot: when, by which label, after how long a step, and where (torsos)."""

    time_seconds: float
    side: str
    step_torsos: float
    place: tuple[float, float]


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

    def arrivals(self) -> list[_Arrival]:
        """Every place on which a foot stands just before the moment, from when it was taken.

        Each foot of each sample near the moment is a seed: half-way through a swap both labels are off their foot, so
        that no single one can be trusted.
        """
        near = (self.times >= self.moment - max(SEED_SECONDS, 1.01 * self.step)) & (
            self.times <= self.moment + max(0.03, 0.5 * self.step)
        )
        seeds = self.paths[:, near].reshape(-1, 2)
        last = int(np.flatnonzero(near)[-1]) if near.any() else -1
        found = [self._arrival(seed, last) for seed in seeds]
        return [arrival for arrival in found if arrival is not None]

    def _arrival(self, seed: Floats, last: int) -> _Arrival | None:
        """When this place was taken; None if a foot always was there, or only passes by."""
        held = self._held(seed, last)
        if len(held) < 2 or held[-1][0] == 0:
            return None
        first = held[-1][0]
        if self.moment - self.times[first] < min(SHORTEST_STAND_SECONDS, 0.99 * self.step):
            return None
        who = max((0, 1), key=[label for _, label in held].count)
        place = self._settled(held)
        return self._first_near(first, held[0][0], who, place)

    def _held(self, place: Floats, last: int) -> list[tuple[int, int]]:
        """(sample, foot on the place) from the moment back to the place's first taking, short gaps forgiven."""
        off = np.linalg.norm(self.paths[:, : last + 1] - place, axis=2)
        held: list[tuple[int, int]] = []
        since = self.moment
        for k in range(last, -1, -1):
            ago = self.moment - self.times[k]
            who = int(np.argmin(off[:, k]))
            if off[who, k] < HOLD_TORSOS + HOLD_DRIFT_PER_SECOND * max(0.0, ago):
                held.append((k, who))
                since = self.times[k]
            elif since - self.times[k] > GAP_SECONDS + self.step or ago > LOOK_BACK_SECONDS:
                break
        return held

    def _settled(self, held: list[tuple[int, int]]) -> Floats:
        """(2,) where the foot was in its first 0.1 s on the place."""
        first = self.times[held[-1][0]]
        early = [self.paths[who, k] for k, who in held if self.times[k] <= first + max(SETTLED_SECONDS, self.step)]
        still = early[:-1] if len(early) > 2 else early  # the first sample there is often still arriving
        return np.asarray(np.median(still, axis=0))

    def _first_near(self, first: int, last: int, who: int, place: Floats) -> _Arrival | None:
        """Between samples, when either foot came near: its label may have been the other one while it landed."""
        away = np.linalg.norm(self.paths - place, axis=2)
        nearer = away.min(axis=0)
        near = nearer < ARRIVED_TORSOS
        inside = np.flatnonzero(near[first : last + 1])
        if not len(inside):
            return None
        k = first + int(inside[0])
        while k > 0 and near[k - 1]:
            k -= 1
        if k == 0:
            return None  # the foot was there when the picture began
        part = (nearer[k - 1] - ARRIVED_TORSOS) / (nearer[k - 1] - nearer[k])
        at = self.times[k - 1] + part * (self.times[k] - self.times[k - 1])
        lately = (self.times < self.times[k]) & (self.times > self.times[k - 1] - STEP_SECONDS)
        return _Arrival(float(at), SIDES[who], float(away[who, lately].max()), (float(place[0]), float(place[1])))
