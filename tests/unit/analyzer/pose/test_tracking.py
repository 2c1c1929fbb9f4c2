"""The athlete is selected and tracked if several people are in view."""

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.analyzer.biomechanics.events import evidence_of_actions
from services.analyzer.pipeline import Analysis, AnalysisOptions
from services.analyzer.pose.estimator import Person
from services.analyzer.pose.landmarks import INDEX, Poses
from services.analyzer.pose.multi_person import Location, MultiPersonEstimator, torso_colour
from services.analyzer.pose.passes import CLEAR_CHOICE
from services.analyzer.pose.tracking import (
    AthleteSelector,
    Box,
    acting,
    build_tracks,
    candidates,
    is_leap,
    largest,
    nearest_to_box,
)
from services.analyzer.report.metadata import Metadata
from services.analyzer.settings import Accelerator, Limits, Settings
from services.analyzer.video.frames import Losses, pictures
from services.analyzer.video.probe import probe
from testing.data import motions
from testing.data.videos import BATTER, needs_model

SIZE = np.array([1000.0, 500.0])


def person(x: float, height: float = 0.5) -> Person:
    """A person with the trunk at x and half-way up, and 33 landmarks spread over their height."""
    image = np.stack([np.full(33, x), np.linspace(0.5 - height / 2, 0.5 + height / 2, 33)], axis=1)
    for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"):
        image[INDEX[name]] = (x, 0.5)
    return Person(image, np.zeros((33, 3)), *np.ones((2, 33)))


def places(chosen: list[Person | None]) -> list[float | None]:
    return [None if one is None else round(float(one.image[0, 0]), 3) for one in chosen]


def test_two_people_who_stand_apart_are_two_tracks_in_any_order() -> None:
    """The model lists people in any order; their places decide."""
    crowd = [[person(0.2), person(0.8)], [person(0.79), person(0.22)], [person(0.24), person(0.8)]]
    chains = build_tracks(crowd, [0.0, 0.1, 0.2], SIZE)
    assert sorted(len(one.members) for one in chains) == [3, 3]


def test_the_largest_over_the_clip_is_the_athlete() -> None:
    """A larger person who only walks through is not the athlete."""
    crowd = [[person(0.2, 0.4), person(0.8, 0.3)], [person(0.8, 0.3), person(0.2, 0.4)], [person(0.5, 0.9)]]
    crowd += [[person(0.2, 0.4)]]
    assert places(AthleteSelector(SIZE, largest)(crowd, [0.0, 0.1, 0.2, 0.3])) == [0.2, 0.2, None, 0.2]


def test_a_box_chooses_the_smaller_one() -> None:
    """The person nearest to the box's centre in the beginning is tracked to the end."""
    crowd = [[person(0.2, 0.8), person(0.8, 0.2)], [person(0.78, 0.2), person(0.2, 0.8)]]
    around = nearest_to_box(Box(left=0.7, top=0.3, width=0.2, height=0.4), SIZE)
    assert places(AthleteSelector(SIZE, around)(crowd, [0.0, 0.1])) == [0.8, 0.78]


def hitter(x: float, height: float, poses: Poses) -> list[Person]:
    """A person at x who moves as the poses do, one in each picture."""
    low, high = np.nanmin(poses.image[..., 1]), np.nanmax(poses.image[..., 1])
    hips = (poses.point("left_hip") + poses.point("right_hip"))[:, :1] / 2
    places = np.stack([(poses.image[..., 0] - hips) / SIZE[0], (poses.image[..., 1] - high) / SIZE[1]], axis=-1)
    places = places * height * SIZE[1] / (high - low) + (x, 0.95)
    return [Person(one, np.zeros((33, 3)), np.ones(33), np.ones(33), np.zeros(3)) for one in places]


def choose_actor(*people: list[Person]) -> tuple[list[float | None], AthleteSelector]:
    """The hips of the one who bats among people in the same pictures, ten a second."""
    times = list(motions.still(10).times)
    choose = AthleteSelector(SIZE, acting(lambda poses: evidence_of_actions(poses, "batting"), 1000, 500))
    chosen = choose([list(each) for each in zip(*people, strict=True)], times)
    return [None if one is None else round(float(one.image[INDEX["left_hip"], 0]), 2) for one in chosen], choose


def test_the_one_who_acts_is_the_athlete_not_the_largest() -> None:
    """A larger person stands nearer to the camera and does nothing."""
    batter, bystander = hitter(0.2, 0.4, motions.stroke(10)), hitter(0.7, 0.9, motions.still(10))
    for people in ((batter, bystander), (bystander, batter)):
        places, choose = choose_actor(*people)
        assert set(places) == {0.2}
        assert choose.certainty == 1


def test_of_two_who_act_neither_is_surely_the_athlete() -> None:
    """Both are candidates, each with the box that names them; the box chooses them."""
    one, other = hitter(0.2, 0.5, motions.stroke(10)), hitter(0.7, 0.5, motions.stroke(10))
    _, choose = choose_actor(one, other)
    assert choose.certainty < CLEAR_CHOICE
    _, shown = candidates(choose.candidates, SIZE)
    chosen = []
    for candidate in shown:
        named = AthleteSelector(SIZE, nearest_to_box(candidate.box, SIZE))
        track = named([list(pair) for pair in zip(one, other, strict=True)], list(motions.still(10).times))
        chosen.append({round(float(person.image[INDEX["left_hip"], 0]), 1) for person in track if person})
    assert sorted(chosen, key=min) == [{0.2}, {0.7}]


def test_a_person_who_leaves_and_comes_back_is_no_other() -> None:
    """Two tracks that are alike, and never in one picture, leave no doubt; a person of another height does."""
    for height, certain in ((0.5, True), (0.2, False)):
        crowd = [[person(0.1, 0.5)]] * 6 + [[]] * 10 + [[person(0.9, height)]] * 5
        colours = [[replace(one, torso_colour=np.zeros(3)) for one in people] for people in crowd]
        if not certain:
            colours[16:] = [[replace(one, torso_colour=np.full(3, 200.0)) for one in people] for people in colours[16:]]
        choose = AthleteSelector(SIZE, largest)
        choose(colours, [0.1 * k for k in range(len(colours))])
        assert (choose.certainty == 1) == certain


def test_empty_pictures_have_no_athlete() -> None:
    """No people, no athlete, no error."""
    assert AthleteSelector(SIZE, largest)([[], []], [0.0, 0.1]) == [None, None]


class Columns:
    """An estimator that finds a person, 20 pixels tall, at each white column of the picture."""

    def estimate(self, rgb: np.ndarray, time_seconds: float) -> list[Person]:
        height = 20 / rgb.shape[0]
        return [person((x + 0.5) / rgb.shape[1], height) for x in np.flatnonzero(rgb[0, :, 0])]


def standing(*places: int) -> np.ndarray:
    """A picture, 100 by 40, with people at these columns."""
    rgb = np.zeros((40, 100, 3), dtype=np.uint8)
    rgb[:, list(places)] = 255
    return rgb


class Shortsighted(Columns):
    """An estimator that finds only the leftmost person, like a model that loses the others."""

    def estimate(self, rgb: np.ndarray, time_seconds: float) -> list[Person]:
        return super().estimate(rgb, time_seconds)[:1]


def columns(people: list[Person]) -> list[int]:
    return sorted(int(one.image[0, 0] * 100) for one in people)


def test_a_lost_person_is_searched_at_their_last_place() -> None:
    """The tracking estimator loses the right person; the search around their last place finds them."""
    crowd = MultiPersonEstimator(Shortsighted(), Columns())
    for k in range(12):
        assert columns(crowd.estimate(standing(20, 70 + k), k / 5)) == [20, 70 + k]


class Counted(Columns):
    """Counts its pictures."""

    def __init__(self) -> None:
        self.pictures = 0

    def estimate(self, rgb: np.ndarray, time_seconds: float) -> list[Person]:
        self.pictures += 1
        return super().estimate(rgb, time_seconds)


def test_a_person_who_left_is_searched_seldom() -> None:
    """Seen to 0.5 s, forgotten at 1.5 s: searched in all 18 pictures of 0.3 s, then three times."""
    searches = Counted()
    crowd = MultiPersonEstimator(Columns(), searches)
    for k in range(120):
        crowd.estimate(standing(20, 80) if k <= 30 else standing(20), k / 60)
    of_the_whole_picture = 2 * 2
    assert 17 + 2 <= searches.pictures - of_the_whole_picture <= 18 + 3


def test_the_athlete_is_searched_at_the_expected_place() -> None:
    """Also before any detection there."""
    expected = Location(np.array([60.5, 20.0]), 10.0)
    crowd = MultiPersonEstimator(Shortsighted(), Shortsighted(), lambda _: expected)
    assert 60 in columns(crowd.estimate(standing(20, 60), 0.0))


def test_the_torso_colour_is_read_from_the_trunk() -> None:
    """The colour is red inside the trunk, for any surroundings."""
    rgb = np.full((100, 100, 3), 255, dtype=np.uint8)
    rgb[30:61, 40:61] = (200, 0, 0)
    image = np.zeros((33, 2))
    corners = {
        "left_shoulder": (0.6, 0.3),
        "right_shoulder": (0.4, 0.3),
        "left_hip": (0.6, 0.6),
        "right_hip": (0.4, 0.6),
    }
    for name, corner in corners.items():
        image[INDEX[name]] = corner
    assert torso_colour(Person(image, np.zeros((33, 3)), *np.ones((2, 33))), rgb).tolist() == [200, 0, 0]


def test_people_who_cross_keep_their_torso_colours() -> None:
    """Two people meet and continue; by place alone their tracks would swap."""
    crowd = []
    for k in range(21):
        red, blue = person(0.2 + 0.03 * k), person(0.8 - 0.03 * k)
        crowd.append(
            [replace(red, torso_colour=np.array([200.0, 0, 0])), replace(blue, torso_colour=np.array([0, 0, 200.0]))]
        )
    crowd[10] = crowd[10][:1]  # one hides the other
    for one in build_tracks(crowd, [k / 10 for k in range(21)], SIZE):
        assert len({tuple(worn) for worn in one.torso_colours}) == 1


def test_certainty_shows_how_clear_the_choice_was() -> None:
    """Two people of a size: 0. One person alone: 1. A box around one of two: over 0.9."""
    pair = [[person(0.2), person(0.8)]] * 4
    by_size = AthleteSelector(SIZE, largest)
    by_size(pair, [0.0, 0.1, 0.2, 0.3])
    assert by_size.certainty == pytest.approx(0.0, abs=0.01)
    alone = AthleteSelector(SIZE, largest)
    alone([[person(0.2)]] * 4, [0.0, 0.1, 0.2, 0.3])
    assert alone.certainty == 1.0
    by_box = AthleteSelector(SIZE, nearest_to_box(Box(left=0.7, top=0.3, width=0.22, height=0.4), SIZE))
    by_box(pair, [0.0, 0.1, 0.2, 0.3])
    assert by_box.certainty > 0.9


@pytest.mark.parametrize(("places", "found"), [((20, 22), False), ((20, 80), True)])
def test_a_leap_is_a_move_that_no_person_makes(places: tuple[int, int], found: bool) -> None:
    """A model that tracks one person jumps to another when the first is hidden."""
    before, after = (Location(np.array([x, 20.0]), 20.0) for x in places)
    assert is_leap(before, after, 0.1) == found


LARGE, SMALL = 500, 400
MIDDLE = slice(230, 730)


@pytest.fixture(scope="module")
def two_batters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of the sample's middle, and beside it the same at four fifths of the size."""
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
@pytest.mark.slow
@pytest.mark.parametrize(("box", "left"), [(None, True), (Box(0.6, 0.3, 0.35, 0.7), False)])
def test_of_two_batters_the_larger_or_the_boxed_one_is_followed(two_batters: Path, box: Box | None, left: bool) -> None:
    """In the whole clip and in the close-up the landmarks lie on that batter's side, and two people are counted."""
    analysis = Analysis(
        two_batters, AnalysisOptions(athlete_box=box), Settings(accelerator=Accelerator.cpu), Metadata()
    )
    seen = analysis.pose_passes.run_whole_clip(np.arange(0, 105, 5), lambda _: None)
    assert seen.people == 2
    near = analysis.pose_passes.run_close_ups(seen, [(1.0, 1.5)], lambda _: None).closeups[0]
    for poses in (seen.whole, near):
        assert poses.detected.mean() > 0.9
        assert ((poses.point("left_hip")[poses.detected, 0] < LARGE) == left).all()
