"""Whom an analysis is about where several people are in view."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.analyzer.athlete import Box, boxed, chain, follow, largest
from services.analyzer.decode import Losses, Picture, pictures
from services.analyzer.pipeline import Analysis, Order
from services.analyzer.pose import Lookout, Person
from services.analyzer.probe import probe
from services.analyzer.report import About
from services.analyzer.series import INDEX
from services.analyzer.settings import Accelerator, Limits, Settings
from tests.unit.analyzer.videos import BATTER, needs_model

SIZE = np.array([1000.0, 500.0])


def person(x: float, height: float = 0.5) -> Person:
    """Someone whose trunk is at x, half-way up, with 33 landmarks spread over their height."""
    image = np.stack([np.full(33, x), np.linspace(0.5 - height / 2, 0.5 + height / 2, 33)], axis=1)
    for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"):
        image[INDEX[name]] = (x, 0.5)
    return Person(image, np.zeros((33, 3)), np.ones(33))


def places(chosen: list[Person | None]) -> list[float | None]:
    return [None if one is None else round(float(one.image[0, 0]), 3) for one in chosen]


def test_two_who_stand_apart_are_two_chains_whatever_their_order() -> None:
    """The model lists people in any order; where they are decides."""
    crowd = [[person(0.2), person(0.8)], [person(0.79), person(0.22)], [person(0.24), person(0.8)]]
    chains = chain(crowd, [0.0, 0.1, 0.2], SIZE)
    assert sorted(len(one.members) for one in chains) == [3, 3]


def test_the_largest_over_the_clip_is_the_athlete() -> None:
    """Someone larger who only walks through is not."""
    crowd = [[person(0.2, 0.4), person(0.8, 0.3)], [person(0.8, 0.3), person(0.2, 0.4)], [person(0.5, 0.9)]]
    crowd += [[person(0.2, 0.4)]]
    assert places(follow(crowd, [0.0, 0.1, 0.2, 0.3], SIZE, largest)) == [0.2, 0.2, None, 0.2]


def test_a_box_chooses_the_smaller_one() -> None:
    """Whoever is nearest to the box's middle in the beginning is followed to the end."""
    crowd = [[person(0.2, 0.8), person(0.8, 0.2)], [person(0.78, 0.2), person(0.2, 0.8)]]
    around = boxed(Box(left=0.7, top=0.3, width=0.2, height=0.4), SIZE)
    assert places(follow(crowd, [0.0, 0.1], SIZE, around)) == [0.8, 0.78]


def test_nobody_is_followed_through_empty_pictures() -> None:
    """No people, no athlete, no error."""
    assert follow([[], []], [0.0, 0.1], SIZE, largest) == [None, None]


class _Two:
    def estimate(self, rgb: np.ndarray, time_seconds: float) -> list[Person]:
        return [person(0.2), person(0.8)] if rgb.any() else [person(0.2)]


def test_the_lookout_stops_at_the_first_crowd_it_sees() -> None:
    """It looks every two seconds, so the crowd that is there from the start of the third second is seen at its end."""
    empty, crowded = np.zeros((4, 4, 3), dtype=np.uint8), np.ones((4, 4, 3), dtype=np.uint8)
    film = [Picture(k, k / 2, crowded if k >= 5 else empty) for k in range(20)]
    lookout = Lookout(_Two(), 2.0)
    assert [p.index for p in lookout.noting(film)] == list(range(8))
    assert lookout.most_people == 2


LARGE, SMALL = 500, 400
MIDDLE = slice(230, 730)


@pytest.fixture(scope="module")
def two_batters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The middle of the sample, and beside it the same at four fifths of the size."""
    path = tmp_path_factory.mktemp("crowd") / "two.mp4"
    film = pictures(probe(BATTER, Limits()), np.arange(105), Limits(), Losses())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = LARGE + SMALL, 540, "yuv420p"
        for shown in film:
            one = shown.rgb[:, MIDDLE]
            rgb = np.full((540, LARGE + SMALL, 3), one[-1, -1], dtype=np.uint8)
            rgb[:, :LARGE], rgb[-432:, LARGE:] = one, cv2.resize(one, (SMALL, 432))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return path


@needs_model
@pytest.mark.parametrize(("box", "left"), [(None, True), (Box(0.6, 0.3, 0.35, 0.7), False)])
def test_of_two_batters_the_larger_or_the_boxed_one_is_followed(two_batters: Path, box: Box | None, left: bool) -> None:
    """In the whole clip and close up the landmarks lie on that batter's side, and both are counted."""
    analysis = Analysis(two_batters, Order(athlete_box=box), Settings(accelerator=Accelerator.cpu), About())
    seen = analysis.viewer.look(np.arange(0, 105, 5), lambda _: None)
    assert seen.people == 2
    near = analysis.viewer.look_closer(seen, [(1.0, 1.5)], lambda _: None).closeups[0]
    for poses in (seen.whole, near):
        assert poses.detected.mean() > 0.9
        assert ((poses.point("left_hip")[poses.detected, 0] < LARGE) == left).all()
