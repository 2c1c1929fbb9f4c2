"""Films of known tempo: played as they were, slower, and faster."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.tempo import may_be_at_half_speed, may_be_faster, slowed_by, sped_up_by
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.coaching.findings import find
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, Poses
from testing.data import motions


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_stroke_tells_how_much_slower_its_film_plays(factor: int) -> None:
    """By the downswing, which no batter plays at half its speed."""
    poses = motions.stroke(60)
    assert slowed_by([replace(poses, times=poses.times * factor)], [], "batting") == factor


def test_a_film_without_an_action_tells_nothing() -> None:
    """Somebody who stands or walks may be as slow as they like."""
    for poses in (motions.still(30), motions.walker(30), motions.undetected(30)):
        for discipline in ("batting", "bowling", "fielding", "wicketkeeping"):
            assert slowed_by([poses], [], discipline) == 1


def test_a_close_up_proves_real_time() -> None:
    """At 10 frames a second a quick swing looks slow; its close-up does not."""
    assert slowed_by([motions.stroke(10)], [motions.stroke(60)], "batting") == 1


@pytest.mark.parametrize(("factor", "doubtful"), [(1, False), (2, True)])
def test_a_slow_delivery_may_be_a_quick_one_at_half_speed(factor: int, doubtful: bool) -> None:
    """The arm and the trunk of a running bowler, in real time and twice slower."""
    poses = motions.delivery(60)
    # The trunk falls and rises at 24 torsos/s^2 at most.
    image = poses.image.copy()
    image[..., 1] += (24 * motions.TORSO / (2 * np.pi * 3) ** 2 * np.cos(2 * np.pi * 3 * poses.times))[:, None]
    running = replace(poses, image=image)
    assert may_be_at_half_speed([replace(running, times=poses.times * factor)]) == doubtful


LEGS = ("knee", "ankle", "heel", "foot")


def run(poses: Poses, free_falls: float) -> Poses:
    """The motion on a trunk that rises and falls three times a second, with up to so many times gravity."""
    image = poses.image.copy()
    upper = [INDEX[name] for name in LANDMARKS if not any(part in name for part in LEGS)]
    height = free_falls * 20 * motions.TORSO / (2 * np.pi * 3) ** 2
    image[:, upper, 1] += height * np.cos(2 * np.pi * 3 * poses.times)[:, None]
    return replace(poses, image=image)


def bowled(degrees_per_second: float, free_falls: float, fps: float = 60) -> Poses:
    """A delivery of this pace."""
    poses = motions.delivery(fps)
    motions.point_arm(poses, "right", np.radians(np.clip(degrees_per_second * (poses.times - 1.4), -185, 185)))
    return run(poses, free_falls)


def struck(seconds_of_downswing: float) -> Poses:
    """A stroke whose hands are lifted to the shoulders in 0.5 s and come down in so many."""
    poses = motions.stroke(60)
    top = 1.65 - seconds_of_downswing
    lifted = np.clip((poses.times - top + 0.5) / 0.5, 0, 1)
    down = np.clip((poses.times - top) / (2 * seconds_of_downswing), 0, 1)
    turn = np.radians(100 * lifted**2 * (3 - 2 * lifted) - 200 * down**2 * (3 - 2 * down))
    for side in ("left", "right"):
        motions.point_arm(poses, side, np.pi - turn)
    return poses


def at_speed(poses: Poses, speed: float) -> Poses:
    """The film of a motion, so many times as fast as life."""
    return replace(poses, times=poses.times / speed)


# Degrees a second of the arm, and free falls of the trunk: slow, usual and the quickest of real bowlers.
PACES = [(600, 0.6), (1000, 0.9), (1150, 1.5), (1450, 1.3)]


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("fps", [30, 60])
def test_no_delivery_at_its_true_speed_is_suspected(pace: tuple[float, float], fps: float) -> None:
    """Nor one that was filmed slower than life."""
    poses = bowled(*pace, fps)
    for film in (poses, at_speed(poses, 0.5)):
        assert (sped_up_by([film], "bowling"), may_be_faster([film], "bowling")) == (1, False)


@pytest.mark.parametrize("pace", PACES[1:])
@pytest.mark.parametrize("fps", [30, 60])
def test_a_delivery_at_twice_its_speed_is_noticed(pace: tuple[float, float], fps: float) -> None:
    """An arm and a fall that no bowler has, also where the arm is too quick to be followed."""
    film = at_speed(bowled(*pace, fps), 2)
    assert sped_up_by([film], "bowling") == 2
    measured = measure(film, [film], "bowling")
    assert measured.obstacle is not None
    assert "sped up about 2 times" in measured.obstacle.reason
    assert max(metric.confidence for metric in measured.everything.values()) <= 0.4
    assert find(measured, "bowling").overall_level is None
    assert measure(film, [film], "bowling", known_clock=True).obstacle != measured.obstacle


def test_one_delivery_at_its_true_speed_is_proof() -> None:
    """The film is of one tempo."""
    assert sped_up_by([at_speed(bowled(1000, 0.9), 2), bowled(1000, 0.9)], "bowling") == 1


def test_a_hand_that_shakes_the_camera_is_no_fall() -> None:
    """It moves the feet as well."""
    poses = bowled(1400, 1.0)
    shaken = poses.image + (0.04 * motions.TORSO * np.sin(2 * np.pi * 5 * poses.times))[:, None, None] * (0, 10)
    assert sped_up_by([replace(poses, image=shaken)], "bowling") == 1


def test_a_quick_bowler_or_a_slow_one_at_twice_the_speed_is_doubted() -> None:
    """Nothing in the film shows which: it is measured, but no number is sure, and no level is given for it."""
    film = bowled(1600, 1.45)
    assert (sped_up_by([film], "bowling"), may_be_faster([film], "bowling")) == (1, True)
    measured = measure(film, [film], "bowling")
    assert measured.obstacle is None
    assert measured.doubt is not None
    assert any(measured.doubt.reason in note for note in measured.notes)
    assert len(measured.present()) > 1
    assert max(event.confidence for event in measured.events) <= 0.4
    assert max(metric.confidence for metric in measured.everything.values()) <= 0.4
    known = measure(film, [film], "bowling", known_clock=True)
    assert known.doubt is None
    assert max(each.confidence for each in known.events) > 0.8


@pytest.mark.parametrize(("downswing", "speed", "doubted"), [(0.25, 1, False), (0.15, 1, False), (0.25, 2.5, True)])
def test_a_stroke_is_doubted_where_backlift_and_downswing_are_quick(
    downswing: float, speed: float, doubted: bool
) -> None:
    """A batter who hits hard lifts the bat at leisure; a film that plays faster hurries both."""
    film = at_speed(struck(downswing), speed)
    assert may_be_faster([film], "batting") == doubted
    measured = measure(film, [film], "batting")
    assert (measured.doubt is not None) == doubted
    assert (max(event.confidence for event in measured.events) <= 0.4) == doubted


def test_a_film_without_an_action_is_not_sped_up() -> None:
    """Somebody may walk fast."""
    for poses in (motions.still(30), motions.walker(60), run(motions.still(30), 5.0), motions.undetected(30)):
        for discipline in ("batting", "bowling", "fielding", "wicketkeeping"):
            assert sped_up_by([poses], discipline) == 1
            assert not may_be_faster([poses], discipline)
