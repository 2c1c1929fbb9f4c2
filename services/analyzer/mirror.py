"""Looks at each picture twice, as it is and in a mirror, and takes the middle of both answers.

The pose model is not its own mirror image: turned over, one bowler's front knee came out 23 degrees different. The
middle of both is the same whichever way a player faces, and nearer to the truth at the legs that the body hides.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from services.analyzer.decode import RGB
from services.analyzer.pose import BESIDE, Person, PoseEstimator
from services.analyzer.series import INDEX, LANDMARKS, OTHER_SIDE, Floats

# Left and right of these are mixed up together, if at all.
LIMBS = (("hip", "knee", "ankle", "heel", "foot_index"), ("shoulder", "elbow", "wrist", "pinky", "index", "thumb"))
TRUNK = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "shoulder")]


@dataclass(frozen=True)
class BothWays:
    """An estimator of two: one that sees each picture as it is, another that sees it in a mirror."""

    plain: PoseEstimator
    mirrored: PoseEstimator

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people whom the plain one sees; each in the middle, where the other one sees them too."""
        turned = BESIDE.submit(self.mirrored.estimate, np.asarray(cv2.flip(rgb, 1)), time_seconds)
        people = self.plain.estimate(rgb, time_seconds)
        others = [turned_over(person) for person in turned.result()]
        if not people:
            return others
        return [_with_nearest(person, others) for person in people]


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


def _with_nearest(person: Person, others: list[Person]) -> Person:
    """Half-way to whoever stands where this person does; the person alone if nobody does."""
    if not others:
        return person
    trunk = _trunk(person)
    nearest = min(others, key=lambda other: float(np.linalg.norm(_trunk(other) - trunk)))
    tall = float(np.ptp(person.image[:, 1]))
    return middle(person, nearest) if np.linalg.norm(_trunk(nearest) - trunk) < tall / 4 else person


def _trunk(person: Person) -> Floats:
    return np.asarray(person.image[TRUNK].mean(axis=0))


def _apart(one: Person, two: Person, here: list[int], there: list[int]) -> float:
    off: NDArray[np.float64] = one.image[here] - two.image[there]
    return float(np.linalg.norm(off, axis=1).sum())
