"""Which frames are sampled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analyzer.video.sampling import every, on_grid


@pytest.mark.parametrize(("source_fps", "frames"), [(30, 90), (25, 75), (29.97, 90), (60, 180), (50, 150), (240, 720)])
def test_ten_asked_is_ten_got_at_any_source_rate(source_fps: float, frames: int) -> None:
    """Three seconds give thirty frames, each within half a source frame of its tick."""
    times = np.arange(frames) / source_fps
    chosen = times[on_grid(times, 10)]
    assert len(chosen) == 30 if source_fps != 29.97 else len(chosen) in (30, 31)
    assert np.abs(chosen - np.arange(len(chosen)) / 10).max() <= 0.5 / source_fps + 1e-9


def test_a_slower_source_gives_every_frame_once() -> None:
    """A source of 7 fps sampled at 10 fps gives 7 fps."""
    times = np.arange(21) / 7
    assert on_grid(times, 10).tolist() == list(range(21))


def test_a_hole_in_the_video_is_not_filled_with_copies() -> None:
    """Ticks in a gap select its two edges, each once."""
    times = np.array([0.0, 0.1, 0.2, 1.2, 1.3])
    assert on_grid(times, 10).tolist() == [0, 1, 2, 3, 4]


def test_the_grid_starts_and_ends_where_it_is_told() -> None:
    """1.0 s to 1.5 s at 10 fps is six ticks, both ends included."""
    times = np.arange(300) / 30
    assert times[on_grid(times, 10, 1.0, 1.5)].round(6).tolist() == [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]


def test_one_frame_is_sampled_once() -> None:
    """A video of one picture has one sample."""
    assert on_grid(np.array([0.0]), 10).tolist() == [0]


def test_a_close_up_takes_every_frame_up_to_sixty_a_second() -> None:
    """At 30 fps all frames inside the window; at 240 those on a 60 fps grid."""
    slow, fast = np.arange(90) / 30, np.arange(720) / 240
    assert every(slow, 1.0, 2.0).tolist() == list(range(30, 61))
    assert np.diff(fast[every(fast, 1.0, 2.0)]) == pytest.approx(1 / 60)


@given(
    st.lists(st.floats(0.001, 2.0), min_size=1, max_size=60),
    st.integers(1, 30),
)
def test_samples_are_increasing_and_no_frame_is_nearer_to_their_ticks(steps: list[float], fps: int) -> None:
    """For any time stamps, the frame nearest to each tick is selected."""
    times = np.concatenate([[0.0], np.cumsum(steps)])
    chosen = on_grid(times, fps)
    assert (np.diff(chosen) > 0).all()
    for tick in np.arange(int(times[-1] * fps) + 1) / fps:
        assert np.abs(times[chosen] - tick).min() == pytest.approx(np.abs(times - tick).min(), abs=1e-9)
