"""Selects the athlete if several people are in view, and keeps to that person.

    people in each picture ─▶ tracks, each of one person through time ─▶ the track with the lowest cost

The pose model gives people no identity. A track joins detections by place, direction of motion, height and torso
colour. In the whole clip the athlete is the person nearest to the client's box. Without a box it is the person who
acts, or else the largest. In a close-up the athlete is the person where the whole clip has the athlete.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.pose.estimator import Person, to_poses
from services.analyzer.pose.landmarks import Poses
from services.analyzer.pose.multi_person import TRUNK, ExpectedLocation, Location, locate
from services.analyzer.pose.skeleton import skeleton_at

# How far a person may move between two detections, in own heights: at once, more for each second, and at most.
REACH, REACH_PER_SECOND, MAX_REACH = 0.4, 1.0, 1.5
# A difference of torso colour of this many levels costs as much as the whole reach. Light and folds alone make 15
# levels, and a person who hides another gives them their own colour, so colour weighs no more than height.
TORSO_COLOUR_LEVELS = 120.0
# A quarter more or less height costs as much too, up to an upper bound: a person may bend or fall.
HEIGHT_STEP, MAX_HEIGHT_COST = 0.25, 0.75
# The detections of a track whose median gives its height and torso colour.
RECENT = slice(-9, None)
# A detection with a higher cost, the sum of distance, height and colour, is another person.
MAX_MATCH_COST = 1.6
# Height and colour alone, of one person before and after a splice.
MAX_LOOKS_COST = 1.0
# A person keeps their direction for this long. The velocity is measured over the same time.
VELOCITY_SECONDS = 0.4
# In a close-up the athlete is at most this many heights from their place in the whole clip.
MAX_OFFSET_HEIGHTS = 0.5
# A move of one person through a whole clip: the reach, and half as far again.
MAX_LEAP_REACHES = 1.5
# The box surrounds the athlete in the first frame, or where the model first detects a person there.
BOX_SECONDS = 1.0


@dataclass(frozen=True)
class Box:
    """A box around the athlete in the first frame, in shares of the upright picture."""

    left: float
    top: float
    width: float
    height: float


@dataclass
class Track:
    """One person through time. members: by picture; times, locations, torso_colours: one each a member."""

    members: dict[int, Person] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    locations: list[Location] = field(default_factory=list)
    torso_colours: list[Floats] = field(default_factory=list)

    def add(self, k: int, person: Person, location: Location, time: float) -> None:
        """Append the person of picture k."""
        self.members[k] = person
        self.times.append(time)
        self.locations.append(location)
        self.torso_colours.append(person.torso_colour)

    def match_cost(self, person: Person, location: Location, time: float) -> float:
        """How badly a detection fits this track: 0 if all agrees, infinite if the person cannot have come so far."""
        elapsed = time - self.times[-1]
        reach = min(REACH + REACH_PER_SECOND * elapsed, MAX_REACH) * self.locations[-1].height
        distance = float(np.linalg.norm(location.place - self._predict_place(elapsed))) / reach
        if distance >= 1:
            return float("inf")
        return distance + self.looks_cost(person, location)

    def looks_cost(self, person: Person, location: Location) -> float:
        """How much the height and the torso colour of a detection differ from those of this track."""
        height = float(np.median([location.height for location in self.locations[RECENT]]))
        height_cost = min(abs(math.log(location.height / height)) / HEIGHT_STEP, MAX_HEIGHT_COST)
        colour = np.median(self.torso_colours[RECENT], axis=0)
        colour_cost = float(np.linalg.norm(person.torso_colour - colour)) / TORSO_COLOUR_LEVELS
        return height_cost + (colour_cost if math.isfinite(colour_cost) else 0.0)

    def _predict_place(self, elapsed: float) -> Floats:
        """(2,) pixels, the last place moved on with the recent velocity."""
        last = len(self.times) - 1
        k = next((k for k, time in enumerate(self.times) if self.times[-1] - time <= VELOCITY_SECONDS), last)
        span = self.times[-1] - self.times[k]
        if span < VELOCITY_SECONDS / 2:
            return self.locations[-1].place
        velocity = (self.locations[-1].place - self.locations[k].place) / span
        return np.asarray(self.locations[-1].place + velocity * min(elapsed, VELOCITY_SECONDS))


@dataclass(frozen=True)
class Candidate:
    """Someone who may be the athlete. box: where they are first seen, which names them; shown: at one moment."""

    box: Box
    shown: Box


# The athlete's track is the one with the lowest cost; an infinite cost excludes a track.
TrackCost = Callable[[Track], float]


class AthleteSelector:
    """Selects the athlete of each picture, None where they are not detected; a `ChooseAthlete`.

    certainty: how clear the choice was, from 0 (another person fits as well) to 1 (there is no other). candidates: the
    athlete's track, then those of other people who fit, the best first.
    """

    def __init__(self, size: Floats, cost: TrackCost) -> None:
        """size: (2,) width and height in pixels."""
        self._size = size
        self._cost = cost
        self.certainty = 1.0
        self.candidates: list[Track] = []

    def __call__(self, people_by_picture: list[list[Person]], times: list[float]) -> list[Person | None]:
        tracks = build_tracks(people_by_picture, times, self._size)
        ranked = sorted(((self._cost(track), k) for k, track in enumerate(tracks)))
        if not ranked or not np.isfinite(ranked[0][0]):
            self.certainty = 0.0
            return [None] * len(people_by_picture)
        best = tracks[ranked[0][1]]
        others = [(cost, tracks[k]) for cost, k in ranked[1:] if np.isfinite(cost) and is_someone_else(best, tracks[k])]
        self.candidates = [best, *(track for _, track in others)]
        if others:
            low, high = sorted((abs(ranked[0][0]), abs(others[0][0])))
            self.certainty = 1.0 - low / high if high else 0.0
        return [best.members.get(k) for k in range(len(people_by_picture))]


def candidates(tracks: Sequence[Track], size: Floats) -> tuple[float, tuple[Candidate, ...]]:
    """The first moment that shows the most of these people, in seconds, and those whom it shows."""
    pictures = sorted({k for track in tracks for k in track.members})
    shown = max(pictures, key=lambda k: sum(k in track.members for track in tracks))
    present = [track for track in tracks if shown in track.members]
    seconds = present[0].times[list(present[0].members).index(shown)]
    boxes = [
        Candidate(_box_around(next(iter(track.members.values())), size), _box_around(track.members[shown], size))
        for track in present
    ]
    return seconds, tuple(boxes)


def _box_around(person: Person, size: Floats) -> Box:
    """The box whose centre is the person's place, around all landmarks."""
    centre = locate(person, size).place / size
    half = np.abs(person.image - centre).max(axis=0)
    left, top = np.clip(centre - half, 0, 1)
    right, bottom = np.clip(centre + half, 0, 1)
    return Box(float(left), float(top), float(right - left), float(bottom - top))


def build_tracks(people_by_picture: list[list[Person]], times: list[float], size: Floats) -> list[Track]:
    """One track for each person: each picture extends the best-matching tracks first and starts tracks for the rest."""
    tracks: list[Track] = []
    for k, people in enumerate(people_by_picture):
        detections = [(person, locate(person, size)) for person in people]
        pairs = sorted(
            (track.match_cost(*detections[p], times[k]), t, p)
            for t, track in enumerate(tracks)
            for p in range(len(detections))
        )
        track_of: dict[int, int] = {}
        for cost, t, p in pairs:
            if cost < MAX_MATCH_COST and p not in track_of and t not in track_of.values():
                track_of[p] = t
        for p, (person, location) in enumerate(detections):
            if p not in track_of:
                tracks.append(Track())
            tracks[track_of.get(p, -1)].add(k, person, location, times[k])
    return tracks


def is_someone_else(one: Track, other: Track) -> bool:
    """Whether two tracks are of two people: both in one picture, or unlike in height and torso colour.

    A person who leaves the picture and comes back has two tracks.
    """
    if one.members.keys() & other.members.keys():
        return True
    return one.looks_cost(next(iter(other.members.values())), other.locations[0]) > MAX_LOOKS_COST


def acting(evidence: Callable[[Poses], float], width: int, height: int) -> TrackCost:
    """A cost that prefers the person with the most evidence of an action; infinite without any. Sizes in pixels."""

    def cost(track: Track) -> float:
        people = list(track.members.values())
        found = evidence(to_poses(people, track.times, [1] * len(people), width, height))
        return -found if found > 0 else float("inf")

    return cost


def largest(track: Track) -> float:
    """A cost that prefers a person who is large for a long time."""
    return -sum(location.height for location in track.locations)


def nearest_to_box(box: Box, size: Floats) -> TrackCost:
    """A cost that prefers the person first detected nearest to the box's centre; a later first detection costs more."""
    centre = np.array([box.left + box.width / 2, box.top + box.height / 2]) * size

    def cost(track: Track) -> float:
        delay = max(track.times[0] - BOX_SECONDS, 0.0)
        return float(np.linalg.norm(track.locations[0].place - centre)) + delay * float(size.max())

    return cost


def nearest_to_athlete(whole: Poses) -> TrackCost:
    """A cost that prefers the person nearest to the whole clip's athlete; infinite for a person who never is there."""
    expected = expect_athlete(whole)

    def cost(track: Track) -> float:
        pairs = zip(track.locations, track.times, strict=True)
        both = [(location, athlete) for location, time in pairs if (athlete := expected(time))]
        offsets = [float(np.linalg.norm(location.place - athlete.place)) / athlete.height for location, athlete in both]
        if not offsets or np.median(offsets) > MAX_OFFSET_HEIGHTS:
            return float("inf")
        # Many frames close to the athlete cost less than a few frames that are closer.
        return float(np.mean(offsets)) / len(offsets)

    return cost


def expect_athlete(whole: Poses) -> ExpectedLocation:
    """The whole clip's athlete at a time, interpolated between two frames."""

    def expected(time: float) -> Location | None:
        points, _ = skeleton_at(whole, time)
        place = points[TRUNK].mean(axis=0)
        if not np.isfinite(place).all():
            return None
        return Location(place, max(float(np.ptp(points[:, 1])), 1.0))

    return expected


def expect_in_box(box: Box, size: Floats) -> ExpectedLocation:
    """The client's box during the first BOX_SECONDS, then None."""
    centre = np.array([box.left + box.width / 2, box.top + box.height / 2]) * size
    location = Location(centre, max(float(box.height * size[1]), 1.0))
    return lambda time: location if time <= BOX_SECONDS else None


def is_leap(before: Location, after: Location, elapsed: float) -> bool:
    """Whether the move exceeds the reach of a person. elapsed: seconds."""
    moved = float(np.linalg.norm(after.place - before.place)) / min(before.height, after.height)
    return moved >= min(REACH + REACH_PER_SECOND * elapsed, MAX_REACH) * MAX_LEAP_REACHES
