"""Frames that repeat the picture before are detected."""

import numpy as np

from services.analyzer.video.duplicate_frames import DuplicateDetector
from services.analyzer.video.frames import RGB, Picture


def repeats(frames: list[RGB]) -> list[int]:
    detector = DuplicateDetector()
    passed = list(detector.observe(Picture(k, k / 30, rgb) for k, rgb in enumerate(frames)))
    assert [p.index for p in passed] == list(range(len(frames)))
    return np.flatnonzero(detector.duplicates()).tolist()


def ball(x: int) -> RGB:
    """A bright square at x on grass."""
    rgb = np.full((128, 256, 3), 90, dtype=np.uint8)
    rgb[40:80, x : x + 40] = 220
    return rgb


def noisy(rgb: RGB, seed: int) -> RGB:
    noise = np.random.default_rng(seed).integers(-1, 2, rgb.shape)
    return (rgb.astype(int) + noise).astype(np.uint8)


def test_a_repeat_among_moving_frames_is_found_in_spite_of_coding_noise() -> None:
    """The third picture is the second one coded again."""
    frames = [ball(0), ball(20), noisy(ball(20), 1), ball(60), ball(80)]
    assert repeats(frames) == [2]


def test_a_repeat_between_moving_frames_is_found_however_coarsely_it_is_coded() -> None:
    """A duplicate differs by several levels everywhere, and by far less than its neighbours."""
    coarse = (ball(20).astype(int) + 6).astype(np.uint8)
    assert repeats([ball(0), ball(20), coarse, ball(60), ball(80)]) == [2]


def test_starting_to_move_is_no_repeat() -> None:
    """A small step before a movement is a standing athlete, not a duplicate."""
    standing = [(ball(20).astype(int) + 3 * k).astype(np.uint8) for k in range(3)]
    assert repeats([*standing, ball(60), ball(80)]) == []


def test_a_still_athlete_is_no_repeat() -> None:
    """All frames are kept while nothing moves."""
    assert repeats([noisy(ball(50), k) for k in range(8)]) == []


def test_the_first_frame_is_never_a_repeat_and_the_second_may_be() -> None:
    """Converted clips often begin with one picture twice."""
    assert repeats([ball(0), ball(0), ball(20), ball(40)]) == [1]


def test_no_frames_have_no_repeats() -> None:
    """An empty run is no error."""
    assert repeats([]) == []
