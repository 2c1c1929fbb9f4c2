"""The results for a picture and for its flipped copy are averaged symmetrically."""

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Event

import numpy as np
import pytest

from services.analyzer.pose.estimator import Person
from services.analyzer.pose.flip_average import LIMBS, FlipAverage, average, flip
from services.analyzer.pose.landmarks import INDEX
from services.analyzer.video.frames import RGB, Picture

PICTURE = np.zeros((4, 6, 3), dtype=np.uint8)


def person(seed: int = 0, x: float = 0.5) -> Person:
    """A person around x, 0.4 of the picture tall."""
    random = np.random.default_rng(seed)
    image = np.stack([x + random.uniform(-0.1, 0.1, 33), random.uniform(0.3, 0.7, 33)], axis=1)
    return Person(image, random.normal(size=(33, 3)), *random.uniform(0.5, 1, (2, 33)))


@dataclass
class Sees:
    """An estimator that returns these people and keeps the picture."""

    people: list[Person]
    picture: RGB | None = None

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        self.picture = rgb
        return self.people


def seen(plain: Sees, mirrored: Sees, picture: RGB = PICTURE) -> Person | None:
    """The person that both estimators give for one picture."""
    mirror = FlipAverage(lambda: mirrored)
    film = mirror.observe([Picture(0, 0.0, picture)])
    [found] = mirror.choose([plain.estimate(one.rgb, one.time_seconds) for one in film], [0.0])
    return found


def legs_swapped(one: Person) -> Person:
    image = one.image.copy()
    left, right = ([INDEX[f"{side}_{part}"] for part in LIMBS[0]] for side in ("left", "right"))
    image[left], image[right] = one.image[right], one.image[left]
    return replace(one, image=image)


def test_turning_over_twice_changes_nothing() -> None:
    """Flipping once swaps left and right, and measures x from the other edge."""
    one = person()
    back = flip(flip(one))
    np.testing.assert_allclose(back.image, one.image)
    np.testing.assert_allclose(back.world, one.world)
    assert flip(one).image[INDEX["right_wrist"], 0] == pytest.approx(1 - one.image[INDEX["left_wrist"], 0])


def test_a_mirrored_picture_gives_the_mirrored_answer_exactly() -> None:
    """For any results of the model."""
    a, b = person(1), flip(person(2))
    here, there = seen(Sees([a]), Sees([b])), seen(Sees([b]), Sees([a]))
    assert here
    assert there
    np.testing.assert_allclose(flip(there).image, here.image)
    np.testing.assert_allclose(flip(there).visibility, here.visibility)


def test_the_second_estimator_sees_the_mirror() -> None:
    """The flipped picture has reversed columns and is contiguous."""
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    turned = Sees([])
    assert seen(Sees([]), turned, picture) is None
    assert turned.picture is not None
    np.testing.assert_array_equal(turned.picture, picture[:, ::-1])
    assert turned.picture.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("more_visible", [0, 1])
def test_the_more_visible_result_decides_which_leg_is_left(more_visible: int) -> None:
    """The average of one leg and the other would be neither."""
    one = person()
    two = legs_swapped(one)
    sure = [replace(p, visibility=np.full(33, 0.9 if i == more_visible else 0.6)) for i, p in enumerate((one, two))]
    np.testing.assert_allclose(average(*sure).image, (one, two)[more_visible].image)


def test_a_person_elsewhere_is_another_person() -> None:
    """A person in only one of both results is not averaged; a person in only the flipped result is returned."""
    here, far = person(x=0.3), person(x=0.8)
    for plain, mirrored, expected in (([here], [far], here), ([], [far], far), ([here], [], here)):
        found = seen(Sees(plain), Sees([flip(person) for person in mirrored]))
        assert found
        np.testing.assert_allclose(found.image, expected.image)


def test_the_mirror_may_be_two_pictures_behind_and_no_more() -> None:
    """A faster caller waits, because each waiting picture takes memory; in the end all are estimated."""
    go, eyes = Event(), Sees([person()])
    mirror = FlipAverage(lambda: eyes if go.wait(60) else Sees([]))
    passing = mirror.observe(Picture(k, k / 30, PICTURE) for k in range(5))
    first_two = [next(passing), next(passing)]
    with ThreadPoolExecutor(1) as taker:
        rest = taker.submit(list, passing)
        assert not wait([rest], timeout=0.2).done
        go.set()
        assert [picture.index for picture in (*first_two, *rest.result(60))] == [0, 1, 2, 3, 4]
    assert all(mirror.choose([[]] * 5, []))
