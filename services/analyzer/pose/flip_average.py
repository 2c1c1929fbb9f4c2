"""Estimates each picture twice, as it is and flipped left-right, and averages both results.

The pose model is not symmetric: in a flipped picture one bowler's front knee differed by 23 degrees. The average is
the same for both facing directions, and more accurate for legs that the body hides.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from dataclasses import replace

import cv2
import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.pose.estimator import SECOND_CORE, Person, PoseEstimator
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, OTHER_SIDE
from services.analyzer.video.frames import Picture

# The model confuses left and right for all parts of such a group at once.
LIMBS = (("hip", "knee", "ankle", "heel", "foot_index"), ("shoulder", "elbow", "wrist", "pinky", "index", "thumb"))
TRUNK = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "shoulder")]


class FlipAverage:
    """Estimates flipped copies of the pictures on the second core, while another estimator sees the originals."""

    def __init__(self, create_estimator: Callable[[], PoseEstimator]) -> None:
        """create_estimator: called at once, on the second core."""
        self._estimator = SECOND_CORE.submit(create_estimator)
        self._flipped: list[Future[list[Person]]] = []

    def observe(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """Pass the pictures through in order, no faster than their flipped copies are estimated."""
        try:
            for picture in pictures:
                self._flipped.append(SECOND_CORE.submit(self._estimate_flipped, picture))
                yield picture
                wait(self._flipped[-2:-1])  # a borrowed picture stays valid until the next but one is taken
        finally:
            wait([self._estimator])
            wait(self._flipped)

    def choose(self, people_by_picture: list[list[Person]], times: list[float]) -> list[Person | None]:
        """The tracked person of each picture, averaged with the same person in the flipped copy; see `ChooseAthlete`.

        If only one of both estimators found a person, that person.
        """
        pairs = zip(people_by_picture, self._flipped, strict=True)
        return [_choose_person(people, flipped.result()) for people, flipped in pairs]

    def _estimate_flipped(self, picture: Picture) -> list[Person]:
        people = self._estimator.result().estimate(np.asarray(cv2.flip(picture.rgb, 1)), picture.time_seconds)
        return [flip(person) for person in people]


def flip(person: Person) -> Person:
    """The same person in the flipped picture: x is reversed, and left becomes right."""
    image, world = person.image[OTHER_SIDE], person.world[OTHER_SIDE]
    return replace(
        person,
        image=image * (-1, 1) + (1, 0),
        world=world * (-1, 1, 1),
        visibility=person.visibility[OTHER_SIDE],
        presence=person.presence[OTHER_SIDE],
    )


def average(one: Person, two: Person) -> Person:
    """The mean of both. If they disagree on left and right of a limb, the one with the higher visibility decides."""
    first, second = np.arange(len(LANDMARKS)), np.arange(len(LANDMARKS))
    for parts in LIMBS:
        left, right = ([INDEX[f"{side}_{part}"] for part in parts] for side in ("left", "right"))
        same, swapped = left + right, right + left
        if _distance(one, two, same, swapped) < _distance(one, two, same, same):
            corrected = second if one.visibility[same].sum() >= two.visibility[same].sum() else first
            corrected[same] = swapped
    return replace(
        one,
        image=(one.image[first] + two.image[second]) / 2,
        world=(one.world[first] + two.world[second]) / 2,
        visibility=(one.visibility[first] + two.visibility[second]) / 2,
        presence=(one.presence[first] + two.presence[second]) / 2,
    )


def _choose_person(people: list[Person], others: list[Person]) -> Person | None:
    """The first person, averaged with the nearest of the others if that is the same person by place."""
    if not (people and others):
        return next(iter([*people, *others]), None)
    person = people[0]
    trunk = _trunk(person)
    nearest = min(others, key=lambda other: float(np.linalg.norm(_trunk(other) - trunk)))
    height = float(np.ptp(person.image[:, 1]))
    return average(person, nearest) if np.linalg.norm(_trunk(nearest) - trunk) < height / 4 else person


def _trunk(person: Person) -> Floats:
    return np.asarray(person.image[TRUNK].mean(axis=0))


def _distance(one: Person, two: Person, landmarks_of_one: list[int], landmarks_of_two: list[int]) -> float:
    differences: Floats = one.image[landmarks_of_one] - two.image[landmarks_of_two]
    return float(np.linalg.norm(differences, axis=1).sum())
