"""Follows one person until others come into view, then all people; no picture is estimated a second time.

picture ─▶ the tracked person ──a check finds others, or the person leaps──▶ all people, from the next picture on

A leap is not always another person: in a film of joined parts, the same person stands elsewhere after a splice.
"""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from services.analyzer.pose.estimator import SECOND_CORE, Person, PoseEstimator
from services.analyzer.pose.multi_person import (
    SEARCH_INTERVAL_SECONDS,
    Location,
    estimate_around,
    is_at,
    locate,
    merge_duplicates,
    search_both_ends,
    with_torso_colours,
)
from services.analyzer.pose.tracking import MAX_LOOKS_COST, Track, is_leap
from services.analyzer.video.frames import RGB

# A check runs on the second core. Its result is used this many pictures later, so that every run is the same.
CHECK_PICTURES = 5

# Creates an estimator of all people. Arguments: how many are in view; the seconds and places of those known; when to
# search the whole picture.
FollowAll = Callable[[int, list[tuple[float, Location]], float], PoseEstimator]


class CrowdAwareEstimator:
    """The tracked person in each picture, all people once there are others; a PoseEstimator.

    splices: seconds of the first picture after each.
    """

    def __init__(
        self,
        tracking: PoseEstimator,
        get_detector: Callable[[], PoseEstimator],
        follow_all: FollowAll,
        interval_seconds: float,
    ) -> None:
        """tracking: tracks one person. get_detector: one without state, called at the first check."""
        self._tracking = tracking
        self._get_detector = get_detector
        self._follow_all = follow_all
        self._interval_seconds = interval_seconds
        self._all: PoseEstimator | None = None
        self._pictures = 0
        self._next_check = 0.0
        self._check: Future[list[Person]] | None = None
        self._checked_at, self._check_due = 0.0, 0
        self._most_checked = 0
        self._track = Track()
        self._last_seen: RGB | None = None
        self._lost_at: float | None = None
        self.splices: list[float] = []

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, each with the colour of their torso."""
        if self._all:
            return self._all.estimate(rgb, time_seconds)
        people = with_torso_colours(self._tracking.estimate(rgb, time_seconds), rgb)
        if time_seconds >= self._next_check and not self._check:
            self._begin_check(rgb, time_seconds)
        if people and self._leaps_to_another(people[0], rgb, time_seconds):
            known = [(self._track.times[-1], self._track.locations[-1]), (time_seconds, locate(people[0], _size(rgb)))]
            self._all = self._follow_all(2, known, time_seconds)
            return self._all.estimate(rgb, time_seconds)
        if people:
            self._track.add(self._pictures, people[0], locate(people[0], _size(rgb)), time_seconds)
            self._last_seen, self._lost_at = rgb.copy(), None
        elif self._lost_at is None:
            self._lost_at = time_seconds
        if self._check and self._pictures >= self._check_due:
            people = self._use_check(people, rgb)
        self._pictures += 1
        return people

    @property
    def is_alone(self) -> bool:
        """Whether one person has been followed so far."""
        return self._all is None

    def most_people(self) -> int:
        """The most people that a check has found; waits for the check in progress."""
        return max(self._most_checked, len(self._check.result()) if self._check else 0)

    def _begin_check(self, rgb: RGB, time: float) -> None:
        """Look for all people beside the next pictures; the first check is used at once."""
        self._check_due = self._pictures + (CHECK_PICTURES if self._pictures else 0)
        self._checked_at, self._next_check = time, time + self._interval_seconds
        self._check = SECOND_CORE.submit(self._find_all, rgb.copy(), time)

    def _find_all(self, rgb: RGB, time: float) -> list[Person]:
        detector = self._get_detector()
        return merge_duplicates([*detector.estimate(rgb, time), *search_both_ends(detector, rgb, time)], _size(rgb))

    def _use_check(self, people: list[Person], rgb: RGB) -> list[Person]:
        """Follow all people from the next picture on if there are others; the people of this picture."""
        found, self._check = self._check.result() if self._check else [], None
        self._most_checked = max(self._most_checked, len(found))
        if len(found) < 2:
            return people
        known = [(self._checked_at, locate(person, _size(rgb))) for person in found]
        self._all = self._follow_all(len(found), known, self._checked_at + SEARCH_INTERVAL_SECONDS)
        is_of_this_picture = self._pictures == 0
        return (
            merge_duplicates([*people, *with_torso_colours(found, rgb)], _size(rgb)) if is_of_this_picture else people
        )

    def _leaps_to_another(self, person: Person, rgb: RGB, time: float) -> bool:
        """Whether the tracked person is suddenly somebody else; if not, a leap is a splice.

        After a splice nobody is at the old place. Before it, as the tracked person was last seen, nobody is at the new.
        """
        if not self._track.times or self._last_seen is None:
            return False
        before, after = self._track.locations[-1], locate(person, _size(rgb))
        if not is_leap(before, after, time - self._track.times[-1]):
            return False
        others = [one for one in self._find_around(before, rgb, time) if not is_at(after, one, _size(rgb))]
        if self._last_seen.shape == rgb.shape:
            nearby = self._find_around(after, self._last_seen, time)
            others += [one for one in nearby if not is_at(before, one, _size(rgb))]
        if others or self._track.looks_cost(person, after) > MAX_LOOKS_COST:
            return True
        # After a splice the model may lose the person for some pictures, because it searches at the old place.
        self.splices.append(time if self._lost_at is None else self._lost_at)
        return False

    def _find_around(self, location: Location, rgb: RGB, time: float) -> list[Person]:
        """The people around a location; on the thread of the checks, because they share the detector."""
        return SECOND_CORE.submit(lambda: estimate_around(self._get_detector(), location, rgb, time)).result()


def _size(rgb: RGB) -> np.ndarray:
    return np.array([rgb.shape[1], rgb.shape[0]], dtype=float)
