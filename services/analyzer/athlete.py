"""Chooses whom an analysis is about where several people are in view, and keeps to that one.

    people in each picture ─▶ chains of the same person through time ─▶ the preferred chain

People are chained by where they are, for the pose model gives them no names. Preferred is whom the client put a box
around, else the largest over the clip; in a close-up, whoever was the athlete in the whole clip.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from services.analyzer.drawing import skeleton_at
from services.analyzer.pose import Person
from services.analyzer.series import INDEX, Floats, Poses

TRUNK = [INDEX[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
# How far, in own heights, a person may have come since last seen: at once, and more for each second.
REACH, REACH_PER_SECOND, FARTHEST = 0.4, 1.0, 1.5
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
    """One person through time: members by picture; places (2,) pixels of the trunk and heights in pixels beside."""

    members: dict[int, Person] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    places: list[Floats] = field(default_factory=list)
    heights: list[float] = field(default_factory=list)

    def away(self, place: Floats, time: float) -> float:
        """How far a place is from where this person was last, as a share of how far they can have come."""
        reach = min(REACH + REACH_PER_SECOND * (time - self.times[-1]), FARTHEST) * self.heights[-1]
        return float(np.linalg.norm(place - self.places[-1])) / reach


# The lower, the better; infinite: not this one.
Preference = Callable[[Chain], float]


def follow(crowd: list[list[Person]], times: list[float], size: Floats, prefer: Preference) -> list[Person | None]:
    """The preferred person of each picture, None where they are not seen. size: (2,) width and height in pixels."""
    chains = chain(crowd, times, size)
    best = min(chains, key=prefer, default=None)
    if best is None or not np.isfinite(prefer(best)):
        return [None] * len(crowd)
    return [best.members.get(k) for k in range(len(crowd))]


def chain(crowd: list[list[Person]], times: list[float], size: Floats) -> list[Chain]:
    """Everybody's chain: in each picture the nearest pairs of a chain and a person first, and new ones for the rest."""
    chains: list[Chain] = []
    for k, people in enumerate(crowd):
        seen = [(person, _place(person, size), _height(person, size)) for person in people]
        pairs = sorted(
            (one.away(place, times[k]), c, p) for c, one in enumerate(chains) for p, (_, place, _) in enumerate(seen)
        )
        taken: dict[int, int] = {}
        for away, c, p in pairs:
            if away < 1 and p not in taken and c not in taken.values():
                taken[p] = c
        for p, (person, place, height) in enumerate(seen):
            if p not in taken:
                chains.append(Chain())
            one = chains[taken.get(p, -1)]
            one.members[k] = person
            one.times.append(times[k])
            one.places.append(place)
            one.heights.append(height)
    return chains


def largest(one: Chain) -> float:
    """Prefers who is large for long."""
    return -sum(one.heights)


def boxed(box: Box, size: Floats) -> Preference:
    """Prefers who was nearest to the middle of the box when first seen; those who came later are further away."""
    middle = np.array([box.left + box.width / 2, box.top + box.height / 2]) * size

    def prefer(one: Chain) -> float:
        late = max(one.times[0] - BOX_SECONDS, 0.0)
        return float(np.linalg.norm(one.places[0] - middle)) + late * float(size.max())

    return prefer


def known(whole: Poses) -> Preference:
    """Prefers who is where the athlete of the whole clip was, on average."""

    def prefer(one: Chain) -> float:
        there = np.array([skeleton_at(whole, time)[0][TRUNK].mean(axis=0) for time in one.times])
        away = np.linalg.norm(there - np.array(one.places), axis=1)
        near = away[np.isfinite(away)]
        # Many frames close by beat a few that happen to be closer.
        return float(near.mean() / len(near)) if len(near) else float("inf")

    return prefer


def _place(person: Person, size: Floats) -> Floats:
    return np.asarray(person.image[TRUNK].mean(axis=0) * size)


def _height(person: Person, size: Floats) -> float:
    return max(float(np.ptp(person.image[:, 1]) * size[1]), 1.0)
