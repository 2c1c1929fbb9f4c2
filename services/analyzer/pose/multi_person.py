"""Finds all people in pictures of several: the pose model alone loses small people and people who are passed.

picture ─▶ the model on all of it ─▶ is a known person missing? ─▶ the model on a square around the last place ─▶ people
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.pose.estimator import Person, PoseEstimator
from services.analyzer.pose.landmarks import INDEX
from services.analyzer.video.frames import RGB

TRUNK = [INDEX[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
# Two detections nearer than this, in heights of the smaller, are the same person.
SAME_PERSON_HEIGHTS = 0.2
# A missing person is searched for this long, in a square of this many of their heights.
REMEMBERED_SECONDS, SQUARE_HEIGHTS = 1.0, 1.5
# They are searched in every picture for so long, and then once in each such span.
SEARCH_AGAIN_SECONDS = 0.3
# How often the whole picture is searched in parts, and a part's share of the longer side.
SEARCH_INTERVAL_SECONDS, PART_SHARE = 1.0, 0.6
# Sample points of the torso's colour, along and across the trunk, away from its edges.
ALONG, ACROSS = np.meshgrid(np.linspace(0.15, 0.85, 6), np.linspace(0.25, 0.75, 6))


@dataclass(frozen=True)
class Location:
    """Where a person is or is expected. place: (2,) pixels of the trunk's centre; height in pixels."""

    place: Floats
    height: float


# Where the athlete is expected at a time in seconds, None if unknown.
ExpectedLocation = Callable[[float], Location | None]


class MultiPersonEstimator:
    """All people in successive pictures of one video; a PoseEstimator that combines two others."""

    def __init__(
        self,
        tracking: PoseEstimator,
        detecting: PoseEstimator,
        expected: ExpectedLocation = lambda _: None,
        known: Sequence[tuple[float, Location]] = (),
        search_at: float = 0.0,
    ) -> None:
        """tracking: tracks several people through whole pictures. detecting: has no state.

        known: where people were seen before, each with the time in seconds. search_at: when to search in parts.
        """
        self._tracking = tracking
        self._detecting = detecting
        self._expected = expected
        self._known = list(known)
        self._search_at = search_at
        self._last_time = 0.0

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, in any order, each with the colour of their torso."""
        size = np.array([rgb.shape[1], rgb.shape[0]], dtype=float)
        people = merge_duplicates(self._tracking.estimate(rgb, time_seconds), size)
        if time_seconds >= self._search_at:
            self._search_at = time_seconds + SEARCH_INTERVAL_SECONDS
            people = merge_duplicates([*people, *search_both_ends(self._detecting, rgb, time_seconds)], size)
        for location in self._locations_to_check(time_seconds):
            if not any(is_at(location, person, size) for person in people):
                found = estimate_around(self._detecting, location, rgb, time_seconds)
                people = merge_duplicates([*people, *found], size)
        self._remember(people, size, time_seconds)
        self._last_time = time_seconds
        return with_torso_colours(people, rgb)

    def _locations_to_check(self, time: float) -> list[Location]:
        """The athlete's expected location, and those of people who are not missing for long, or are due again."""
        expected = self._expected(time)
        due = [location for seen, location in self._known if self._is_due(time - seen, self._last_time - seen)]
        return [*([expected] if expected else []), *due]

    def _is_due(self, missing: float, missing_before: float) -> bool:
        """Whether a person is searched. Seconds since they were seen: now, and in the picture before."""
        turns = [int(seconds / SEARCH_AGAIN_SECONDS) for seconds in (missing, missing_before)]
        return turns[0] == 0 or turns[0] > turns[1]

    def _remember(self, people: list[Person], size: Floats, time: float) -> None:
        """Keep the locations of these people, and those of missing people for REMEMBERED_SECONDS."""
        recent = [(at, location) for at, location in self._known if time - at <= REMEMBERED_SECONDS]
        missing = [(at, known) for at, known in recent if not any(is_at(known, person, size) for person in people)]
        self._known = [*missing, *((time, locate(person, size)) for person in people)]


def estimate_around(detector: PoseEstimator, location: Location, rgb: RGB, time: float) -> list[Person]:
    """The people in a square around the location."""
    size = np.array([rgb.shape[1], rgb.shape[0]], dtype=float)
    half = SQUARE_HEIGHTS * location.height / 2
    start = np.clip(location.place - half, 0, size - 1).astype(int)
    end = np.clip(location.place + half, start + 1, size).astype(int)
    return estimate_in_crop(detector, rgb, start, end, time)


def search_both_ends(detector: PoseEstimator, rgb: RGB, time: float) -> list[Person]:
    """The people in two overlapping parts of the picture, in which they look larger to the model."""
    height, width = rgb.shape[:2]
    long = np.array([width > height, height >= width])
    end = np.where(long, PART_SHARE * np.array([width, height]), (width, height)).astype(int)
    start = np.array([width, height]) - end
    first, second = (0 * end, end), (start, start + end)
    return [*estimate_in_crop(detector, rgb, *first, time), *estimate_in_crop(detector, rgb, *second, time)]


def estimate_in_crop(detector: PoseEstimator, rgb: RGB, start: Floats, end: Floats, time: float) -> list[Person]:
    """The people in the crop from `start` to `end`, (2,) pixels each; landmarks in shares of the whole picture."""
    crop = np.ascontiguousarray(rgb[start[1] : end[1], start[0] : end[0]])
    size = np.array([rgb.shape[1], rgb.shape[0]])
    return [
        replace(person, image=(person.image * (end - start) + start) / size) for person in detector.estimate(crop, time)
    ]


def with_torso_colours(people: list[Person], rgb: RGB) -> list[Person]:
    """The people, each with the colour of their torso in the picture."""
    return [replace(person, torso_colour=torso_colour(person, rgb)) for person in people]


def torso_colour(person: Person, rgb: RGB) -> Floats:
    """(3,) mean RGB at a grid of points between the shoulders and the hips."""
    size = np.array([rgb.shape[1], rgb.shape[0]])
    left, right, right_hip, left_hip = person.image[TRUNK] * size
    top = left + (right - left) * ACROSS[..., None]
    bottom = left_hip + (right_hip - left_hip) * ACROSS[..., None]
    points = np.clip(top + (bottom - top) * ALONG[..., None], 0, size - 1).astype(int)
    return np.asarray(rgb[points[..., 1], points[..., 0]].reshape(-1, 3).mean(axis=0), dtype=float)


def locate(person: Person, size: Floats) -> Location:
    """The person's location. size: (2,) width and height of the picture in pixels."""
    place = np.asarray(person.image[TRUNK].mean(axis=0) * size)
    return Location(place, max(float(np.ptp(person.image[:, 1]) * size[1]), 1.0))


def is_at(location: Location, person: Person, size: Floats) -> bool:
    actual = locate(person, size)
    distance = np.linalg.norm(actual.place - location.place)
    return bool(distance < SAME_PERSON_HEIGHTS * min(actual.height, location.height))


def merge_duplicates(people: list[Person], size: Floats) -> list[Person]:
    """Each person once: the first detection of each."""
    unique: list[Person] = []
    for person in people:
        if not any(is_at(locate(person, size), other, size) for other in unique):
            unique.append(person)
    return unique
