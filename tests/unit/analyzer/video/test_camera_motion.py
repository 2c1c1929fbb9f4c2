"""Cuts and pans are detected in pictures of a field that moves, changes or stays."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from services.analyzer.pose.passes import split_at_cuts
from services.analyzer.video.camera_motion import CameraMotion, CameraMotionDetector
from services.analyzer.video.frames import Picture
from testing.data.composites import batter_frames


def field(seed: int, width: int = 1600) -> np.ndarray:
    """A blotchy ground of (450, width) pixels, with as much texture as a real one."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, width // 15), dtype=np.uint8)
    return cv2.cvtColor(cv2.resize(noise, (width, 450), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)


def seen(shown: Callable[[float], np.ndarray], seconds: float = 3.0, fps: int = 10) -> CameraMotion:
    """The motion detected in a video that shows `shown(time)`."""
    camera = CameraMotionDetector()
    film = (Picture(k, k / fps, shown(k / fps)) for k in range(int(seconds * fps)))
    assert sum(1 for _ in camera.observe(film)) == int(seconds * fps)
    return camera.motion()


def with_runner(ground: np.ndarray, time: float) -> np.ndarray:
    """The ground with a runner, a quarter of the picture, who crosses it."""
    shown = ground[:, :800].copy()
    x = int(100 + 180 * time)
    shown[120:440, x : x + 150] = (200, 40, 40)
    return shown


def test_a_camera_that_stands_still_does_nothing() -> None:
    """A runner who crosses the picture is not camera motion."""
    ground = field(1)
    assert seen(lambda time: with_runner(ground, time)) == CameraMotion()


def test_a_cut_is_found_at_its_first_picture() -> None:
    """Two fields with the same runner have one cut."""
    first, second = field(1), field(2)
    assert seen(lambda time: with_runner(first if time < 1.35 else second, time)).cuts == (1.4,)


@pytest.mark.parametrize("way", [-1, 1])
def test_a_pan_is_found_and_is_no_cut(way: int) -> None:
    """A quarter of the width a second, from 1 s to 2 s, in either direction."""
    ground = field(1)

    def shown(time: float) -> np.ndarray:
        start = 400 + way * int(200 * np.clip(time - 1, 0, 1))
        return with_runner(ground[:, start : start + 800], time)

    motion = seen(shown)
    assert motion.cuts == ()
    [pan] = motion.pans
    assert pan == pytest.approx((1.0, 2.0), abs=0.11)


def test_a_hand_that_shakes_is_no_pan() -> None:
    """A picture that moves to and fro four times a second has no pan."""
    ground = field(1)

    def shown(time: float) -> np.ndarray:
        start = 400 + int(15 * np.sin(8 * np.pi * time + 0.3))
        return ground[:, start : start + 800]

    assert seen(shown).pans == ()


def test_the_rendered_batter_is_filmed_from_a_tripod() -> None:
    """A stroke in front of trees has neither a cut nor a pan."""
    frames = batter_frames()
    assert seen(lambda time: frames[round(time * 30)], seconds=3.4) == CameraMotion()


def test_a_window_is_split_at_a_cut() -> None:
    """Both sides of a cut remain, without the step of the cut and without parts too short for an action."""
    assert split_at_cuts([(1.0, 3.0)], ()) == [(1.0, 3.0)]
    assert split_at_cuts([(1.0, 3.0)], (2.0,)) == [(1.0, 1.9), (2.0, 3.0)]
    assert split_at_cuts([(1.0, 3.0), (5.0, 6.0)], (2.8, 4.0)) == [(1.0, pytest.approx(2.7)), (5.0, 6.0)]
