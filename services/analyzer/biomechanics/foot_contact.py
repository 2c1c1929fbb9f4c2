"""Finds front-foot contact and the front leg by place, not by MediaPipe's left and right.

MediaPipe swaps the legs around the release of most bowlers, but a planted foot does not move. The search takes the two
places on which feet stand just before a moment, and follows each back to the arrival of a foot. Contact is the flat
foot, 1.5 to 3 frames (at 30 a second) after heel strike.
"""

from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.filtering import GRID_HZ, despike
from services.analyzer.biomechanics.kinematics import (
    KNEE,
    SIDES,
    Side,
    foot,
    frame_rate,
    in_view,
    knee_angle,
    landmarks_of,
    torso_length,
)
from services.analyzer.pose.landmarks import Poses, select_frames

LOWEST_RATE_FPS = 9.5  # 10 frames a second, less the jitter of real timestamps
TOO_FEW = "too few frames: under 10 a second around the action"

# Thresholds of a landing, in torsos.
STANDING_TORSOS = 0.3
HOLD_TORSOS, HOLD_DRIFT_PER_SECOND, ARRIVED_TORSOS = 0.12, 0.1, 0.07
SPIKE_TORSOS, SHORTEST_STEP_TORSOS, SHARE_OF_OTHER_STEP = 0.3, 0.5, 0.5
GAP_SECONDS, LOOK_BACK_SECONDS, STEP_SECONDS, SETTLED_SECONDS = 0.07, 0.8, 0.6, 0.1
SEED_SECONDS, SHORTEST_STAND_SECONDS = 0.15, 0.06
# Bowlers' front feet come down faster than 3; a batter's that is put down slowly, at 1 to 2.
SLOW_TORSOS_PER_SECOND = 2.5


@dataclass(frozen=True)
class Missing:
    """A value that could not be measured. reason: a sentence without its full stop."""

    reason: str


FEET_NOT_SEEN = Missing("feet not visible")


@dataclass(frozen=True)
class Landing:
    """Front-foot contact. side: the label that the foot had in most samples; step_torsos: the step before it.

    given: whether the client stated the moment.
    """

    time_seconds: float
    side: Side
    step_torsos: float
    given: bool = False


def find_landing(poses: Poses, before_seconds: float) -> Landing | Missing:
    """Front-foot contact before a moment: the last place on which a foot arrived by a step of over half a torso.

    A place counts as occupied while *either* label is on it.
    """
    if frame_rate(poses) < LOWEST_RATE_FPS:
        return Missing(TOO_FEW)
    if not _feet_in_view(poses, before_seconds):
        return FEET_NOT_SEEN
    stand = _Stand.of(poses, before_seconds)
    arrivals = [arrival for arrival in stand.arrivals() if before_seconds - arrival.time_seconds <= LOOK_BACK_SECONDS]
    longest = max((arrival.step_torsos for arrival in arrivals), default=0.0)
    if longest <= SHORTEST_STEP_TORSOS:
        return Missing("no step of the front foot seen")
    # A rear foot that is dragged also arrives late: by a short step, or at a place behind the front foot.
    steps = [a for a in arrivals if a.step_torsos > max(SHORTEST_STEP_TORSOS, SHARE_OF_OTHER_STEP * longest)]
    steps = [a for a in steps if not any(a.is_behind(other) for other in steps)]
    latest = max(steps, key=_time)
    # Many seeds lie on one place; their arrival times differ slightly, so the median decides.
    same_place = [a for a in steps if np.linalg.norm(np.subtract(a.place, latest.place)) < SHORTEST_STEP_TORSOS]
    contact = median(arrival.time_seconds for arrival in same_place)
    nearest = min(same_place, key=lambda arrival: abs(arrival.time_seconds - contact))
    return Landing(contact, nearest.side, nearest.step_torsos)


def land_at(poses: Poses, contact_seconds: float) -> Landing | Missing:
    """The contact at a moment that the client states: the front foot is the one that has come farther until then."""
    before = (poses.times >= contact_seconds - STEP_SECONDS) & (poses.times <= contact_seconds)
    after = (poses.times >= contact_seconds) & (poses.times <= contact_seconds + max(SETTLED_SECONDS, 1 / GRID_HZ))
    torso, steps = torso_length(poses), dict[Side, float]()
    for side in SIDES:
        path = foot(poses, side)
        place = path[after & poses.detected]
        earlier = path[before & poses.detected]
        if not len(place) or not len(earlier):
            return Missing(f"the player is not seen at the given contact, {contact_seconds:.2f} s")
        steps[side] = float(np.linalg.norm(earlier - np.median(place, axis=0), axis=1).max()) / torso
    front = max(SIDES, key=lambda side: steps[side])
    return Landing(contact_seconds, front, steps[front], given=True)


@dataclass(frozen=True)
class FrontLeg:
    """The leg on the landing place, sample by sample.

    times: (n,) seconds; samples: (n,) indices of the series; labels: (n,) indices of SIDES; place: (n, 2) pixels of
    the foot.
    """

    times: Floats
    samples: NDArray[np.intp]
    labels: NDArray[np.intp]
    place: Floats


def front_leg(poses: Poses, landing: Landing, until_seconds: float) -> FrontLeg:
    """The leg within 0.3 torso of the landing place, in each sample from the landing to a moment.

    Chosen by place, so swapped labels have no effect. Samples with neither foot on the place are left out.
    """
    torso = torso_length(poses)
    paths = np.stack([foot(poses, side) for side in SIDES])
    half_step = 0.5 / frame_rate(poses)
    inside = (poses.times >= landing.time_seconds - half_step) & (poses.times <= until_seconds + half_step)
    detected = np.flatnonzero(inside & poses.detected)
    samples, labels = [], []
    if len(detected):
        settled = detected[poses.times[detected] <= poses.times[detected[0]] + SETTLED_SECONDS + half_step]
        place = np.median(paths[SIDES.index(landing.side), settled], axis=0)
        for k in detected:
            distances = np.linalg.norm(paths[:, k] - place, axis=1)
            nearest = int(np.argmin(distances))
            if distances[nearest] < STANDING_TORSOS * torso:
                samples.append(k)
                labels.append(nearest)
                place = 0.8 * place + 0.2 * paths[nearest, k]  # follows a panning camera
    indices, sides = np.array(samples, dtype=np.intp), np.array(labels, dtype=np.intp)
    return FrontLeg(poses.times[indices], indices, sides, paths[sides, indices])


@dataclass(frozen=True)
class FrontKnee:
    """The front knee, sample by sample. times: (n,) seconds; degrees: (n,), in the image plane, 180 is straight.

    joints: (n,) the hip, knee and ankle that each angle was computed from.
    """

    times: Floats
    degrees: Floats
    joints: tuple[tuple[str, ...], ...]


def front_knee(poses: Poses, landing: Landing, until_seconds: float) -> FrontKnee:
    """The angle of the front knee from the landing to a moment."""
    leg = front_leg(poses, landing, until_seconds)
    degrees = np.stack([knee_angle(poses, side) for side in SIDES])[leg.labels, leg.samples]
    known = np.isfinite(degrees)
    joints = tuple(landmarks_of(SIDES[label], KNEE) for label in leg.labels[known])
    return FrontKnee(leg.times[known], degrees[known], joints)


def _feet_in_view(poses: Poses, before_seconds: float) -> bool:
    near = (poses.times >= before_seconds - LOOK_BACK_SECONDS) & (poses.times <= before_seconds)
    return any(in_view(select_frames(poses, near), landmarks_of(side, ("ankle", "foot_index"))) for side in SIDES)


@dataclass(frozen=True)
class _Arrival:
    """A foot arrives on a place. side: its label; came_from, place: x, y in torsos, before and after the step."""

    time_seconds: float
    side: Side
    came_from: Floats
    place: Floats

    @property
    def step_torsos(self) -> float:
        return float(np.linalg.norm(self.place - self.came_from))

    def is_behind(self, other: "_Arrival") -> bool:
        """Whether the other place lies over half a torso farther in the way of both steps."""
        step, others_step = self.place - self.came_from, other.place - other.came_from
        ahead = float((other.place - self.place) @ step) / self.step_torsos
        return ahead > SHORTEST_STEP_TORSOS and float(step @ others_step) > 0


def _time(arrival: _Arrival) -> float:
    return arrival.time_seconds


class _Approach(NamedTuple):
    """A foot comes near a place. sample: the first one near it. time_seconds: between samples by a straight line.

    speed: torsos a second before that sample.
    """

    sample: int
    time_seconds: float
    speed: float


@dataclass(frozen=True)
class _Stand:
    """Both feet over the detected frames.

    times: (n,) seconds; paths: (2, n, 2) torsos, left first; moment: the search looks back from here; step: seconds
    from sample to sample.
    """

    times: Floats
    paths: Floats
    moment: float
    step: float

    @classmethod
    def of(cls, poses: Poses, moment: float) -> "_Stand":
        detected = poses.detected
        torso = torso_length(poses)
        paths = np.stack([despike(foot(poses, side)[detected] / torso, SPIKE_TORSOS) for side in SIDES])
        return cls(poses.times[detected], paths, moment, 1 / frame_rate(poses))

    def arrivals(self) -> list[_Arrival]:
        """The arrival on each place on which a foot stands just before the moment.

        Each foot of each sample near the moment is a seed. One sample is not reliable: midway through a swap neither
        label is on its foot.
        """
        near = (self.times >= self.moment - max(SEED_SECONDS, 1.01 * self.step)) & (
            self.times <= self.moment + max(0.03, 0.5 * self.step)
        )
        seeds = self.paths[:, near].reshape(-1, 2)
        last = int(np.flatnonzero(near)[-1]) if near.any() else -1
        found = [self._arrival(seed, last) for seed in seeds]
        return [arrival for arrival in found if arrival is not None]

    def _arrival(self, seed: Floats, last: int) -> _Arrival | None:
        """The arrival on this place; None if a foot stood there from the start, or only passes."""
        occupied = self._occupied(seed, last)
        if len(occupied) < 2 or occupied[-1][0] == 0:
            return None
        first = occupied[-1][0]
        if self.moment - self.times[first] < min(SHORTEST_STAND_SECONDS, 0.99 * self.step):
            return None
        label = max((0, 1), key=[label for _, label in occupied].count)
        place, last = self._settled(occupied), occupied[0][0]
        approach = self._approach(first, last, place)
        if approach is None:
            return None
        landed = self._landed(approach, label, place)
        if approach.speed > SLOW_TORSOS_PER_SECOND:
            return landed
        place = self._resting(approach.sample, place)
        approach = self._approach(first, last, place)
        return landed if approach is None else max(landed, self._landed(approach, label, place), key=_time)

    def _occupied(self, place: Floats, last: int) -> list[tuple[int, int]]:
        """(sample, label of the foot on the place), latest first, back to the first sample; short gaps are allowed."""
        distances = np.linalg.norm(self.paths[:, : last + 1] - place, axis=2)
        occupied: list[tuple[int, int]] = []
        since = self.moment
        for k in range(last, -1, -1):
            ago = self.moment - self.times[k]
            label = int(np.argmin(distances[:, k]))
            if distances[label, k] < HOLD_TORSOS + HOLD_DRIFT_PER_SECOND * max(0.0, ago):
                occupied.append((k, label))
                since = self.times[k]
            elif since - self.times[k] > GAP_SECONDS + self.step or ago > LOOK_BACK_SECONDS:
                break
        return occupied

    def _settled(self, occupied: list[tuple[int, int]]) -> Floats:
        """(2,) median position of the foot in its first 0.1 s on the place."""
        first = self.times[occupied[-1][0]]
        early = [
            self.paths[label, k] for k, label in occupied if self.times[k] <= first + max(SETTLED_SECONDS, self.step)
        ]
        still = early[:-1] if len(early) > 2 else early  # in the first sample the foot often still moves
        return np.asarray(np.median(still, axis=0))

    def _resting(self, arrived: int, place: Floats) -> Floats:
        """(2,) median position of the foot in the 0.1 s after a sample in which it is near the place.

        A foot that comes down slowly is near its place for some samples before it rests there.
        """
        after = np.flatnonzero(
            (self.times > self.times[arrived]) & (self.times <= self.times[arrived] + SETTLED_SECONDS)
        )
        if not len(after):
            return place
        labels = np.linalg.norm(self.paths[:, after] - place, axis=2).argmin(axis=0)
        return np.asarray(np.median(self.paths[labels, after], axis=0))

    def _approach(self, first: int, last: int, place: Floats) -> _Approach | None:
        """How a foot comes near the place; None if no foot comes near, or the clip begins with it there.

        Either foot: while it lands, a foot may have the other label.
        """
        nearer = np.linalg.norm(self.paths - place, axis=2).min(axis=0)
        near = nearer < ARRIVED_TORSOS
        inside = np.flatnonzero(near[first : last + 1])
        if not len(inside):
            return None
        k = first + int(inside[0])
        while k > 0 and near[k - 1]:
            k -= 1
        if k == 0:
            return None
        approached, seconds = nearer[k - 1] - nearer[k], self.times[k] - self.times[k - 1]
        part = (nearer[k - 1] - ARRIVED_TORSOS) / approached
        return _Approach(k, float(self.times[k - 1] + part * seconds), float(approached / seconds))

    def _landed(self, approach: _Approach, label: int, place: Floats) -> _Arrival:
        k = approach.sample
        before = (self.times < self.times[k]) & (self.times > self.times[k - 1] - STEP_SECONDS)
        distances = np.linalg.norm(self.paths[label] - place, axis=1)
        farthest = int(np.argmax(np.where(before, distances, -1.0)))
        return _Arrival(approach.time_seconds, SIDES[label], self.paths[label, farthest], place)
