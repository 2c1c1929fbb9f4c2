"""Looks at each picture twice, as it is and in a mirror, and takes the middle of both answers.

The pose model is not its own mirror image: turned over, one bowler's front knee came out 23 degrees different. The
middle of both is the same whichever way a player faces, and nearer to the truth at the legs that the body hides.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from services.analyzer.pose.estimator import BESIDE, Person, PoseEstimator
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, OTHER_SIDE, Floats
from services.analyzer.video.frames import Picture

# Left and right of these are mixed up together, if at all.
LIMBS = (("hip", "knee", "ankle", "heel", "foot_index"), ("shoulder", "elbow", "wrist", "pinky", "index", "thumb"))
TRUNK = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "shoulder")]


class Mirror:
    """Watches pictures pass by, turned over: its estimator sees them beside the one that sees them as they are."""

    def __init__(self, estimator: Callable[[], PoseEstimator]) -> None:
        """estimator: asked for at once, beside."""
        self._estimator = BESIDE.submit(estimator)
        self._looks: list[Future[list[Person]]] = []

    def noting(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """The same pictures in the same order, no faster than they are looked at."""
        try:
            for picture in pictures:
                self._looks.append(BESIDE.submit(self._look, picture))
                yield picture
                wait(self._looks[-2:-1])  # it is lent until the next but one is asked for
        finally:
            wait([self._estimator])
            wait(self._looks)

    def first(self, crowd: list[list[Person]], times: list[float]) -> list[Person | None]:
        """Of each picture the person followed first: half-way to the same one in the mirror, else whom either saw."""
        return [_both(people, look.result()) for people, look in zip(crowd, self._looks, strict=True)]

    def _look(self, picture: Picture) -> list[Person]:
        people = self._estimator.result().estimate(np.asarray(cv2.flip(picture.rgb, 1)), picture.time_seconds)
        return [turned_over(person) for person in people]


def turned_over(person: Person) -> Person:
    """The same person in a mirror: x turned over, left called right."""
    image, world = person.image[OTHER_SIDE], person.world[OTHER_SIDE]
    return replace(
        person,
        image=image * (-1, 1) + (1, 0),
        world=world * (-1, 1, 1),
        visibility=person.visibility[OTHER_SIDE],
        presence=person.presence[OTHER_SIDE],
    )


def middle(one: Person, two: Person) -> Person:
    """Half-way between both. Where one calls left what the other calls right, the surer is believed, limb by limb."""
    first, second = np.arange(len(LANDMARKS)), np.arange(len(LANDMARKS))
    for parts in LIMBS:
        left, right = ([INDEX[f"{side}_{part}"] for part in parts] for side in ("left", "right"))
        here, there = left + right, right + left
        if _apart(one, two, here, there) < _apart(one, two, here, here):
            doubted = second if one.visibility[here].sum() >= two.visibility[here].sum() else first
            doubted[here] = there
    return replace(
        one,
        image=(one.image[first] + two.image[second]) / 2,
        world=(one.world[first] + two.world[second]) / 2,
        visibility=(one.visibility[first] + two.visibility[second]) / 2,
        presence=(one.presence[first] + two.presence[second]) / 2,
    )


def _both(people: list[Person], others: list[Person]) -> Person | None:
    """Half-way between the first and whoever of the others stands there; whoever there is, where nobody does."""
    if not (people and others):
        return next(iter([*people, *others]), None)
    person = people[0]
    trunk = _trunk(person)
    nearest = min(others, key=lambda other: float(np.linalg.norm(_trunk(other) - trunk)))
    tall = float(np.ptp(person.image[:, 1]))
    return middle(person, nearest) if np.linalg.norm(_trunk(nearest) - trunk) < tall / 4 else person


def _trunk(person: Person) -> Floats:
    return np.asarray(person.image[TRUNK].mean(axis=0))


def _apart(one: Person, two: Person, here: list[int], there: list[int]) -> float:
    off: NDArray[np.float64] = one.image[here] - two.image[there]
    return float(np.linalg.norm(off, axis=1).sum())
