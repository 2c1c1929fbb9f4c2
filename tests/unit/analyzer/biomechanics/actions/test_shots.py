"""Films cut where the picture stays the same: the player alone leaps."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.shots import find_cuts, split_shots
from services.analyzer.biomechanics.events import close_up_windows
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.pose.landmarks import Poses, merge_poses, select_frames
from testing.data import motions


def spliced(fps: float, torsos: float = 0.6) -> Poses:
    """Two strokes without the wait between them: the second begins in the stance, so many torsos away."""
    first, second = motions.between(motions.stroke(fps), 0.0, 2.39), motions.stroke(fps)
    return merge_poses(
        first, [replace(second, times=second.times + 2.4, image=second.image - (torsos * motions.TORSO, 0))]
    )


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
def test_a_body_that_leaps_shows_a_cut(fps: float) -> None:
    """The whole body is elsewhere within one frame, and stays there."""
    [cut] = find_cuts(spliced(fps), ())
    assert cut == pytest.approx(2.4)


@pytest.mark.parametrize("fps", [10, 30, 60])
def test_no_movement_of_a_body_is_a_cut(fps: float) -> None:
    """Steps, runs, quick arms and noise; a lost frame; legs whose labels are swapped."""
    delivery = motions.delivery(fps)
    for poses in (
        motions.stroke(fps), delivery, motions.bowler(fps), motions.walker(fps), motions.noisy(motions.stroke(fps)),
        motions.holed(motions.bowler(fps)), motions.legs_swapped(delivery, 1.3, 2.4),
        select_frames(delivery, np.arange(len(delivery)) != round(1.4 * fps)),
    ):  # fmt: skip
        assert find_cuts(poses, ()) == ()


def test_another_person_is_no_cut() -> None:
    """The pose model goes over to somebody who stands five torsos away."""
    assert find_cuts(spliced(30, torsos=5), ()) == ()


def test_a_cut_in_the_pictures_is_named_once() -> None:
    """The player may be lost for a moment after it; another cut in the player is another one."""
    assert find_cuts(spliced(30), (2.1, 4.8)) == (2.1, 4.8)
    assert find_cuts(spliced(30), (1.0,)) == pytest.approx((1.0, 2.4))


def test_each_shot_is_measured_by_itself() -> None:
    """Both strokes are found where they were played, no window reaches across the cut, and a note names it."""
    whole = spliced(10)
    cuts = find_cuts(whole, ())
    windows = close_up_windows(whole, "batting", cuts)
    assert len(windows) >= 2
    assert not any(start < 2.4 < end for start, end in windows)
    measured = measure(whole, [motions.between(spliced(30), *window) for window in windows], "batting", cuts=cuts)
    assert [each.time_seconds for each in measured.repetitions] == pytest.approx([1.65, 4.05], abs=0.05)
    assert "The film is cut at 2.40 s: each part was measured by itself." in measured.notes


def test_shots_have_every_frame_once() -> None:
    """In order of time, without empty ones."""
    poses = motions.still(30)
    shots = split_shots(poses, (0.0, 1.0, 2.0))
    assert [len(shot) for shot in shots] == [30, 30, len(poses) - 60]
    assert np.array_equal(np.concatenate([shot.times for shot in shots]), poses.times)
