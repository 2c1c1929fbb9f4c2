"""Chooses whom an analysis is about where several people are in view, and keeps to that one.

    people in each picture ─▶ chains of the same person through time ─▶ the preferred chain

People are chained by where they are, where they were going, how tall and in what shirt, for the pose model gives
them no names. Preferred is whom the client put a box around, else the largest over the clip; in a close-up, whoever
was the athlete in the whole clip.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from services.analyzer.pose.estimator import Person
from services.analyzer.pose.landmarks import Floats, Poses
from services.analyzer.pose.multi_person import TRUNK, Expected, Spot, spot_of
from services.analyzer.pose.skeleton import skeleton_at

# How far, in own heights, a person may have come since last seen: at once, and more for each second.
REACH, REACH_PER_SECOND, FARTHEST = 0.4, 1.0, 1.5
# A shirt that differs by so many levels counts like having come all the way. Light and folds alone make 15, and who
# stands before somebody lends him their shirt altogether: it says no more than heights do.
SHIRT_LEVELS = 120.0
# As does being by a quarter taller or smaller; but one who bends or falls is nobody else for that alone.
HEIGHT_STEP, MOST_BY_HEIGHT = 0.25, 0.75
# Of all sightings of a person, those whose medians are the height and the shirt now.
LATELY = slice(-9, None)
# Beyond this, of way, height and shirt together, it is somebody else.
STRANGER = 1.6
# People keep their direction for so long, seen over as long.
COURSE_SECONDS = 0.4
# In a close-up the athlete is at most so many heights from where the whole clip has them.
ASTRAY = 0.5
# A leap, for one who is followed: as far as somebody else might be taken for the same, and half as far again.
LEAP = 1.5
# A box is around the athlete in the first frame, or where the model first sees anybody there.
BOX_SECONDS = 1.0


@dataclass(frozen=True)
class Box:
    """Around the athlete in the first frame, in shares of the upright picture."""

    left: float
    top: float
    width: float
    height: float


@dataclass
class Chain:
    """One person through time: members by picture, and beside them their times, spots and shirts."""

    members: dict[int, Person] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)
    shirts: list[Floats] = field(default_factory=list)

    def add(self, k: int, person: Person, spot: Spot, time: float) -> None:
        self.members[k] = person
        self.times.append(time)
        self.spots.append(spot)
        self.shirts.append(person.shirt)

    def unlike(self, person: Person, spot: Spot, time: float) -> float:
        """How little a person looks like this one: 0 where all fits, infinite where they cannot have come so far."""
        late = time - self.times[-1]
        reach = min(REACH + REACH_PER_SECOND * late, FARTHEST) * self.spots[-1].height
        away = float(np.linalg.norm(spot.place - self._bound_for(late))) / reach
        if away >= 1:
            return float("inf")
        height = float(np.median([spot.height for spot in self.spots[LATELY]]))
        taller = min(abs(math.log(spot.height / height)) / HEIGHT_STEP, MOST_BY_HEIGHT)
        shirt = float(np.linalg.norm(person.shirt - np.median(self.shirts[LATELY], axis=0))) / SHIRT_LEVELS
        return away + taller + (shirt if math.isfinite(shirt) else 0.0)

    def _bound_for(self, late: float) -> Floats:
        """(2,) pixels, where they would be by now on the course they were on."""
        k = next(
            (k for k, time in enumerate(self.times) if self.times[-1] - time <= COURSE_SECONDS), len(self.times) - 1
        )
        span = self.times[-1] - self.times[k]
        if span < COURSE_SECONDS / 2:
            return self.spots[-1].place
        speed = (self.spots[-1].place - self.spots[k].place) / span
        return np.asarray(self.spots[-1].place + speed * min(late, COURSE_SECONDS))


# The lower, the better; infinite: not this one.
Preference = Callable[[Chain], float]


class Follow:
    """Picks the preferred person of each picture, None where they are not seen; a `pose.Choose`.

    certainty: how clear that choice was, 0 (somebody else as good) to 1 (nobody else).
    """

    def __init__(self, size: Floats, prefer: Preference) -> None:
        """size: (2,) width and height in pixels."""
        self._size = size
        self._prefer = prefer
        self.certainty = 1.0

    def __call__(self, crowd: list[list[Person]], times: list[float]) -> list[Person | None]:
        chains = chain(crowd, times, self._size)
        ranked = sorted(((self._prefer(one), k) for k, one in enumerate(chains)))
        if not ranked or not np.isfinite(ranked[0][0]):
            self.certainty = 0.0
            return [None] * len(crowd)
        best, others = chains[ranked[0][1]], [score for score, _ in ranked[1:] if np.isfinite(score)]
        if others:
            low, high = sorted((abs(ranked[0][0]), abs(others[0])))
            self.certainty = 1.0 - low / high if high else 0.0
        return [best.members.get(k) for k in range(len(crowd))]


def chain(crowd: list[list[Person]], times: list[float], size: Floats) -> list[Chain]:
    """Everybody's chain: in each picture the likest pairs of a chain and a person first, and new ones for the rest."""
    chains: list[Chain] = []
    for k, people in enumerate(crowd):
        seen = [(person, spot_of(person, size)) for person in people]
        pairs = sorted((one.unlike(*seen[p], times[k]), c, p) for c, one in enumerate(chains) for p in range(len(seen)))
        taken: dict[int, int] = {}
        for unlike, c, p in pairs:
            if unlike < STRANGER and p not in taken and c not in taken.values():
                taken[p] = c
        for p, (person, spot) in enumerate(seen):
            if p not in taken:
                chains.append(Chain())
            chains[taken.get(p, -1)].add(k, person, spot, times[k])
    return chains


def largest(one: Chain) -> float:
    """Prefers who is large for long."""
    return -sum(spot.height for spot in one.spots)


def boxed(box: Box, size: Floats) -> Preference:
    """Prefers who was nearest to the middle of the box when first seen; those who came later are further away."""
    middle = np.array([box.left + box.width / 2, box.top + box.height / 2]) * size

    def prefer(one: Chain) -> float:
        late = max(one.times[0] - BOX_SECONDS, 0.0)
        return float(np.linalg.norm(one.spots[0].place - middle)) + late * float(size.max())

    return prefer


def known(whole: Poses) -> Preference:
    """Prefers who is where the athlete of the whole clip was, on average; nobody who never was."""
    expected = expecting(whole)

    def prefer(one: Chain) -> float:
        pairs = [(spot, there) for spot, time in zip(one.spots, one.times, strict=True) if (there := expected(time))]
        away = [float(np.linalg.norm(spot.place - there.place)) / there.height for spot, there in pairs]
        if not away or np.median(away) > ASTRAY:
            return float("inf")
        # Many frames close by beat a few that happen to be closer.
        return float(np.mean(away)) / len(away)

    return prefer


def expecting(whole: Poses) -> Expected:
    """Where the athlete of the whole clip is at a time, in between two frames too."""

    def expected(time: float) -> Spot | None:
        points, _ = skeleton_at(whole, time)
        place = points[TRUNK].mean(axis=0)
        if not np.isfinite(place).all():
            return None
        return Spot(place, max(float(np.ptp(points[:, 1])), 1.0))

    return expected


def expecting_in(box: Box, size: Floats) -> Expected:
    """Where the client says the athlete is in the beginning."""
    middle = np.array([box.left + box.width / 2, box.top + box.height / 2]) * size
    spot = Spot(middle, max(float(box.height * size[1]), 1.0))
    return lambda time: spot if time <= BOX_SECONDS else None


def one_person(whole: Poses) -> bool:
    """Whether it can be one person all along whom a model followed: nobody leaps from one frame to the next."""
    seen = whole.detected
    places, times = whole.image[seen][:, TRUNK].mean(axis=1), whole.times[seen]
    heights = np.ptp(whole.image[seen][:, :, 1], axis=1)
    if len(times) < 2:
        return True
    way = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.minimum(heights[:-1], heights[1:]).clip(1.0)
    return bool((way < np.minimum(REACH + REACH_PER_SECOND * np.diff(times), FARTHEST) * LEAP).all())
