"""Films of known tempo: played as they were, twice and four times slower."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.tempo import may_be_at_half_speed, slowed_by
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
