"""Finds everybody where several people are in view: the pose model alone loses the smaller ones and whoever is passed.

picture ─▶ the model on all of it ─▶ nobody where somebody was? ─▶ the model on a square around that place ─▶ people
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np

from services.analyzer.pose.estimator import BESIDE, Person, PoseEstimator
from services.analyzer.pose.landmarks import INDEX, Floats
from services.analyzer.video.frames import RGB, Picture

TRUNK = [INDEX[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
# Two findings nearer than this, in heights of the smaller, are one person found twice.
SAME = 0.2
# Who was seen is looked for this long, on a square of so many of their heights.
REMEMBERED_SECONDS, SQUARE_HEIGHTS = 1.0, 1.5
# How often all of the picture is searched in parts, and how much of its longer side a part is.
SEARCH_SECONDS, PART = 1.0, 0.6
# Where, along and across the trunk, its colour is read: not at its edges.
ALONG, ACROSS = np.meshgrid(np.linspace(0.15, 0.85, 6), np.linspace(0.25, 0.75, 6))


@dataclass(frozen=True)
class Spot:
    """Where somebody is to be looked for: (2,) pixels of the trunk, and a height in pixels."""

    place: Floats
    height: float


# Where the athlete should be at a time, None where nobody knows.
Expected = Callable[[float], Spot | None]


class Crowd:
    """Everybody in successive pictures of one video; a PoseEstimator over two others."""

    def __init__(self, follower: PoseEstimator, glance: PoseEstimator, expected: Expected = lambda _: None) -> None:
        """follower: follows several people through whole pictures. glance: knows nothing of earlier pictures."""
        self._follower = follower
        self._glance = glance
        self._expected = expected
        self._seen: list[tuple[float, Spot]] = []
        self._search_at = 0.0

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, in no promised order, each with the colour of their shirt."""
        size = np.array([rgb.shape[1], rgb.shape[0]], dtype=float)
        people = _different(self._follower.estimate(rgb, time_seconds), size)
        if time_seconds >= self._search_at:
            self._search_at = time_seconds + SEARCH_SECONDS
            people = _different([*people, *search(self._glance, rgb, time_seconds)], size)
        for spot in self._wanted(time_seconds):
            if not any(_near(spot, person, size) for person in people):
                people = _different([*people, *self._look(spot, rgb, size, time_seconds)], size)
        self._remember(people, size, time_seconds)
        return [replace(person, shirt=shirt(person, rgb)) for person in people]

    def _wanted(self, time: float) -> list[Spot]:
        expected = self._expected(time)
        return [*([expected] if expected else []), *(spot for _, spot in self._seen)]

    def _look(self, spot: Spot, rgb: RGB, size: Floats, time: float) -> list[Person]:
        """Who is in a square around the spot."""
        half = SQUARE_HEIGHTS * spot.height / 2
        start = np.clip(spot.place - half, 0, size - 1).astype(int)
        end = np.clip(spot.place + half, start + 1, size).astype(int)
        return within(self._glance, rgb, start, end, time)

    def _remember(self, people: list[Person], size: Floats, time: float) -> None:
        """Those in the picture, and for a while those who were."""
        old = [(at, spot) for at, spot in self._seen if time - at <= REMEMBERED_SECONDS]
        lost = [(at, spot) for at, spot in old if not any(_near(spot, person, size) for person in people)]
        self._seen = [*lost, *((time, spot_of(person, size)) for person in people)]


class Lookout:
    """Looks up every few seconds to see whether the athlete is alone, which a model that follows one cannot tell."""

    def __init__(self, glance: Callable[[], PoseEstimator], every_seconds: float) -> None:
        """glance: asked for at the first look, so that the first pose need not wait for it."""
        self._glance = glance
        self._every_seconds = every_seconds
        self._next_look = 0.0
        self._looking: Future[int] | None = None
        self.most_people = 0

    def noting(self, pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
        """The same pictures, up to where it has seen a crowd: it looks at one while the next ones are used."""
        try:
            for picture in pictures:
                yield picture
                due = picture.time_seconds >= self._next_look
                if (due or (self._looking and self._looking.done())) and self._crowded():
                    return
                if due:
                    self._next_look = picture.time_seconds + self._every_seconds
                    self._looking = BESIDE.submit(self._count, replace(picture, rgb=picture.rgb.copy()))
        finally:
            self._crowded()

    def _crowded(self) -> bool:
        """Whether the looks so far saw a crowd, the last one waited for."""
        if self._looking:
            self.most_people = max(self.most_people, self._looking.result())
            self._looking = None
        return self.most_people > 1

    def _count(self, picture: Picture) -> int:
        rgb, time, glance = picture.rgb, picture.time_seconds, self._glance()
        size = np.array([rgb.shape[1], rgb.shape[0]], dtype=float)
        return len(_different([*glance.estimate(rgb, time), *search(glance, rgb, time)], size))


def search(glance: PoseEstimator, rgb: RGB, time: float) -> list[Person]:
    """Everybody in both ends of the picture: in a part of it people are larger to the model."""
    height, width = rgb.shape[:2]
    long = np.array([width > height, height >= width])
    end = np.where(long, PART * np.array([width, height]), (width, height)).astype(int)
    start = np.array([width, height]) - end
    return [*within(glance, rgb, 0 * end, end, time), *within(glance, rgb, start, start + end, time)]


def within(glance: PoseEstimator, rgb: RGB, start: Floats, end: Floats, time: float) -> list[Person]:
    """Who is in the part from `start` to `end`, (2,) pixels each; in shares of the whole picture."""
    part = np.ascontiguousarray(rgb[start[1] : end[1], start[0] : end[0]])
    size = np.array([rgb.shape[1], rgb.shape[0]])
    return [
        replace(person, image=(person.image * (end - start) + start) / size) for person in glance.estimate(part, time)
    ]


def shirt(person: Person, rgb: RGB) -> Floats:
    """(3,) mean colour of the trunk: the four joints span it, read at a grid of points."""
    size = np.array([rgb.shape[1], rgb.shape[0]])
    left, right, right_hip, left_hip = person.image[TRUNK] * size
    top = left + (right - left) * ACROSS[..., None]
    bottom = left_hip + (right_hip - left_hip) * ACROSS[..., None]
    at = np.clip(top + (bottom - top) * ALONG[..., None], 0, size - 1).astype(int)
    return np.asarray(rgb[at[..., 1], at[..., 0]].reshape(-1, 3).mean(axis=0), dtype=float)


def spot_of(person: Person, size: Floats) -> Spot:
    """Where a person is; size: (2,) width and height of the picture in pixels."""
    place = np.asarray(person.image[TRUNK].mean(axis=0) * size)
    return Spot(place, max(float(np.ptp(person.image[:, 1]) * size[1]), 1.0))


def _near(spot: Spot, person: Person, size: Floats) -> bool:
    there = spot_of(person, size)
    return bool(np.linalg.norm(there.place - spot.place) < SAME * min(there.height, spot.height))


def _different(people: list[Person], size: Floats) -> list[Person]:
    """Each person once, as first found."""
    once: list[Person] = []
    for person in people:
        if not any(_near(spot_of(person, size), other, size) for other in once):
            once.append(person)
    return once
