"""One person is followed until others come into view, then all people; no picture is estimated twice."""

import numpy as np

from services.analyzer.pose.crowd_check import CrowdAwareEstimator
from services.analyzer.pose.estimator import Person, PoseEstimator
from services.analyzer.pose.multi_person import Location
from tests.unit.analyzer.pose.test_tracking import Columns, columns, standing

RATE = 10


class Tracking(Columns):
    """An estimator of the leftmost person, like a model that tracks one; `seconds` of the pictures it was given."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def estimate(self, rgb: np.ndarray, time_seconds: float) -> list[Person]:
        self.seconds.append(time_seconds)
        return super().estimate(rgb, time_seconds)[:1]


class Film:
    """A run over pictures: who was found in each, and which estimator was given which."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.tracking, self.followed = Tracking(), list[float]()
        self.known: list[tuple[int, list[int]]] = []
        self.crowd = CrowdAwareEstimator(self.tracking, Columns, self._follow_all, 3.0)
        self.found = [columns(self.crowd.estimate(rgb, k / RATE)) for k, rgb in enumerate(pictures)]
        self.times = [k / RATE for k in range(len(pictures))]

    def _follow_all(self, people: int, known: list[tuple[float, Location]], search_at: float) -> PoseEstimator:
        self.known.append((people, sorted(round(float(location.place[0])) for _, location in known)))
        film = self

        class Everyone(Columns):
            def estimate(self, rgb: np.ndarray, time_seconds: float) -> list[Person]:
                film.followed.append(time_seconds)
                return super().estimate(rgb, time_seconds)

        return Everyone()


def test_a_person_alone_is_followed_alone() -> None:
    """Every picture is estimated once, and a check finds nobody else."""
    film = Film([standing(20 + k) for k in range(50)])
    assert film.found == [[20 + k] for k in range(50)]
    assert (film.tracking.seconds, film.followed) == (film.times, [])
    assert (film.crowd.is_alone, film.crowd.most_people(), film.crowd.splices) == (True, 1, [])


def test_others_in_the_first_picture_are_followed_from_the_second_on() -> None:
    """The first check sees them, so the first picture has them too; no picture is estimated twice."""
    film = Film([standing(20, 80)] * 20)
    assert film.found == [[20, 80]] * 20
    assert [*film.tracking.seconds, *film.followed] == film.times
    assert film.known == [(2, [20, 80])]
    assert film.crowd.most_people() == 2


def test_what_was_seen_before_the_others_came_is_kept() -> None:
    """Others come at 1 s. The check at 3 s finds them, always for the same picture, and nothing is estimated twice."""
    films = [Film([standing(20, 80) if k >= 10 else standing(20) for k in range(60)]) for _ in range(2)]
    assert films[0].found == films[1].found == [[20]] * 36 + [[20, 80]] * 24
    assert [*films[0].tracking.seconds, *films[0].followed] == films[0].times


def test_a_check_in_progress_at_the_end_counts() -> None:
    """The film ends before the check's result is used."""
    film = Film([standing(20, 80) if k >= 10 else standing(20) for k in range(32)])
    assert (film.followed, film.crowd.most_people()) == ([], 2)


def test_all_are_followed_once_the_model_leaps_to_another_person() -> None:
    """It loses the left person at 1 s, whom nobody looks for before 3 s, and takes the right one."""
    film = Film([standing(20) if k < 8 else standing(20, 80) if k < 10 else standing(80) for k in range(20)])
    assert film.known == [(2, [20, 80])]
    assert film.followed == film.times[10:]
    assert film.crowd.splices == []


def test_a_person_who_stands_elsewhere_after_a_splice_is_alone() -> None:
    """Nobody stood at the new place before, and nobody stands at the old one."""
    film = Film([standing(20 if k < 10 else 80) for k in range(20)])
    assert (film.tracking.seconds, film.followed) == (film.times, [])
    assert film.crowd.splices == [1.0]


def test_a_splice_is_where_the_model_lost_the_person() -> None:
    """The model finds the person two pictures after the splice at 1 s."""
    film = Film([standing(20) if k < 10 else standing() if k < 12 else standing(80) for k in range(20)])
    assert (film.followed, film.crowd.splices) == ([], [1.0])


def test_somebody_in_another_shirt_after_a_splice_is_another_person() -> None:
    """A person of another colour is not the athlete, also if they are the only one in view."""
    light, dark = standing(20), standing(80)
    light[:, :40], dark[:, 60:] = 90, 250
    light[0], dark[0] = standing(20)[0], standing(80)[0]
    film = Film([light if k < 10 else dark for k in range(20)])
    assert film.followed == film.times[10:]
    assert not film.crowd.is_alone
