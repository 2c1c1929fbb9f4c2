"""Filtering in time: gaps stay, slow movement stays, fast noise goes, single-frame swaps are undone."""

import numpy as np
import pytest

from services.analyzer.biomechanics.filtering import bridged, despike, lowpass, rejected, resample, tidy
from services.analyzer.pose.landmarks import INDEX
from testing.data import motions


@pytest.mark.parametrize("fps", [10, 24, 30, 59.94])
def test_resampling_hits_a_straight_line_exactly(fps: float) -> None:
    """Constant velocity gives the same line at every rate."""
    times = motions.clock(fps, 2.0)
    grid, values = resample(times, 3 * times + 1)
    np.testing.assert_allclose(values, 3 * grid + 1, atol=1e-9)
    np.testing.assert_allclose(np.diff(grid), 1 / 60)


def test_resampling_never_overshoots_a_step() -> None:
    """A foot that stops does not overshoot."""
    times = motions.clock(10, 2.0)
    _, values = resample(times, np.where(times < 1, 0.0, 1.0))
    assert values.min() >= 0
    assert values.max() <= 1


def test_a_long_gap_stays_a_gap() -> None:
    """A gap of 0.25 s is not interpolated; one of 0.2 s is."""
    times = motions.clock(30, 2.0)
    path = times.copy()
    path[(times > 0.505) & (times < 0.76)] = np.nan
    path[(times > 1.51) & (times < 1.69)] = np.nan
    grid, values = resample(times, path)
    assert np.isnan(values[(grid > 0.51) & (grid < 0.76)]).all()
    assert np.isfinite(values[(grid > 1.4) & (grid < 1.9)]).all()


def test_too_little_to_resample_gives_nothing() -> None:
    """One known sample gives an empty series."""
    grid, values = resample(np.array([0.0, 0.1]), np.array([[1.0, 2.0], [np.nan, np.nan]]))
    assert grid.size == 0
    assert values.shape == (0, 2)


def test_the_filter_keeps_slow_movement_and_shifts_nothing() -> None:
    """Half a hertz passes a 6 Hz filter, peaks where they were."""
    t = np.arange(0, 4, 1 / 60)
    slow = np.sin(2 * np.pi * 0.5 * t)
    np.testing.assert_allclose(lowpass(slow, 6.0), slow, atol=0.01)


def test_the_cut_off_is_where_both_passes_together_are_down_3_db() -> None:
    """Winter's correction: the amplitude at 6 Hz falls to 1 / sqrt(2)."""
    t = np.arange(0, 10, 1 / 60)
    out = lowpass(np.sin(2 * np.pi * 6.0 * t), 6.0)
    assert np.abs(out[120:-120]).max() == pytest.approx(1 / np.sqrt(2), abs=0.02)


def test_the_filter_never_crosses_a_gap() -> None:
    """The stretch before a gap has no effect on the one after it."""
    values = np.concatenate([np.full(60, 100.0), np.full(30, np.nan), np.zeros(60)])
    out = lowpass(values, 3.0)
    np.testing.assert_allclose(out[90:], 0, atol=1e-9)
    assert np.isnan(out[60:90]).all()


def test_a_swap_of_one_frame_is_put_right() -> None:
    """One sample on the other foot goes back between its neighbours; a real step stays."""
    path = np.zeros((9, 2))
    path[4] = (1.0, 0.0)
    np.testing.assert_allclose(despike(path, 0.3), 0)
    step = np.zeros((9, 2))
    step[4:] = (1.0, 0.0)
    np.testing.assert_allclose(despike(step, 0.3), step)


def test_lone_detections_and_headstands_are_dropped() -> None:
    """Two frames alone, and a frame with the head below the hips, become NaN; the rest stays."""
    poses = motions.still(30, 1.0)
    poses.image[5:10] = np.nan
    poses.image[12:16] = np.nan  # leaves frames 10 and 11 alone
    poses.image[20, INDEX["nose"], 1] = 600
    clean = tidy(poses)
    assert not clean.detected[[10, 11, 20]].any()
    assert clean.detected[[0, 4, 17, 25]].all()
    assert poses.detected[10], "the given series is left as it was"


@pytest.mark.parametrize("fps", [10, 30, 60])
def test_a_leap_there_and_back_is_rejected(fps: float) -> None:
    """A detection two bodies away for 0.1 s is an outlier; a sprinter is not, nor a detection that stays there."""
    poses = motions.still(fps, 3.0)
    leap = (poses.times > 0.99) & (poses.times < 1.09)
    poses.image[leap, :, 0] += 2 * motions.BODY
    poses.image[..., 0] += 8 * motions.BODY * np.maximum(poses.times - 2, 0)[:, None]
    assert rejected(poses, tidy(poses)).tolist() == leap.tolist()
    assert np.isnan(tidy(poses).presence[leap]).all()
    poses = motions.still(fps, 2.0)
    poses.image[poses.times > 0.99] += 2 * motions.BODY
    assert not rejected(poses, tidy(poses)).any()


@pytest.mark.parametrize("fps", [10, 24, 30, 59.94])
def test_short_gaps_are_marked_and_long_ones_are_not(fps: float) -> None:
    """Up to 0.2 s from one frame to the next, at any rate; frames before the first detection are no gap."""
    poses = motions.still(fps, 3.0)
    short, long = ((poses.times > start) & (poses.times < start + span) for start, span in ((1.01, 0.18), (2.01, 0.28)))
    poses.image[short | long] = np.nan
    poses.image[:3] = np.nan
    assert short.any()
    assert bridged(tidy(poses)).tolist() == short.tolist()
