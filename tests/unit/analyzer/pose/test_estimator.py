"""Landmarks of real pictures, and of fake estimators in place of the model."""

import json

import cv2
import numpy as np
import pytest

from services.analyzer.pose.estimator import LandmarkerFactory, Person, estimate_poses
from services.analyzer.settings import BUILT_MODEL, Accelerator
from services.analyzer.video.frames import RGB, Picture
from testing.data.videos import corpus, needs_model


class Scripted:
    """An estimator that returns given people, picture by picture."""

    def __init__(self, script: list[list[Person]]) -> None:
        self.script = script

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        return self.script.pop(0)


def someone(x: float = 0.5) -> Person:
    return Person(np.full((33, 2), (x, 0.25)), np.full((33, 3), 0.1), np.full(33, 0.9), np.full(33, 0.8))


def blank(k: int) -> Picture:
    return Picture(k, k / 10, np.zeros((90, 160, 3), dtype=np.uint8))


def test_landmarks_become_pixels_of_the_whole_picture() -> None:
    """Half the width and a quarter of the height of 1920x1080, for any size of the model's picture."""
    poses = estimate_poses(Scripted([[someone()]]), [blank(0)], 1920, 1080)
    assert poses.image[0, 0].tolist() == [960, 270]
    assert (poses.visibility[0, 0], poses.presence[0, 0]) == (0.9, 0.8)
    assert (poses.width, poses.height) == (1920, 1080)


def test_frames_without_the_athlete_stay_as_gaps() -> None:
    """Each picture has a row; one without people is NaN, not zero."""
    poses = estimate_poses(
        Scripted([[someone()], [], [someone(), someone(0.1)]]), [blank(k) for k in range(3)], 100, 100
    )
    assert poses.times.tolist() == [0.0, 0.1, 0.2]
    assert poses.detected.tolist() == [True, False, True]
    assert np.isnan(poses.visibility[1]).all()
    assert poses.people.tolist() == [1, 0, 2]


def test_no_pictures_make_an_empty_series() -> None:
    """A window without frames is no error."""
    poses = estimate_poses(Scripted([]), [], 100, 100)
    assert len(poses) == 0
    assert poses.image.shape == (0, 33, 2)


# The lite model misplaces a hidden leg by a tenth of the picture.
@pytest.mark.parametrize(("which", "off"), [("lite", 0.12), ("full", 0.02), ("heavy", 0.02)])
def test_a_photo_has_the_landmarks_that_mediapipe_expects_of_it(which: str, off: float) -> None:
    """The largest difference from the published landmarks is below the limit in each normalised coordinate."""
    model = BUILT_MODEL.with_name(f"pose_landmarker_{which}.task")
    if not model.exists():
        pytest.skip(f"the pose model is not built: {model.name}")
    expected = np.array(json.loads(corpus("pose-image/expected_landmarks.json").read_text())[which.title()])[:, :2]
    bgr = cv2.imread(str(corpus("pose-image/test_image.jpg")))
    assert bgr is not None
    rgb = np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)
    landmarkers = LandmarkerFactory(model, Accelerator.cpu)
    with landmarkers.create() as landmarker:
        found = landmarker.estimate(rgb, 0.0)
    assert (landmarkers.model, len(found)) == (model.stem, 1)
    assert np.abs(found[0].image - expected).max() < off
    assert np.median(np.abs(found[0].image - expected)) < 0.01
    assert found[0].presence.min() > 0.5


@needs_model
def test_times_that_do_not_increase_are_corrected() -> None:
    """Both of two frames within a millisecond are estimated; MediaPipe itself rejects the second."""
    with LandmarkerFactory(BUILT_MODEL, Accelerator.cpu).create() as landmarker:
        for time in (0.0, 0.0002, 0.0002, 0.001):
            assert landmarker.estimate(np.zeros((64, 64, 3), dtype=np.uint8), time) == []


@needs_model
@pytest.mark.parametrize("wanted", [Accelerator.auto, Accelerator.gpu])
def test_without_a_usable_gpu_the_cpu_is_used_and_the_reason_kept(wanted: Accelerator) -> None:
    """Without a GPU the same process estimates on the CPU."""
    landmarkers = LandmarkerFactory(BUILT_MODEL, wanted)
    if landmarkers.accelerator == "gpu":
        pytest.skip("this machine has a GPU that MediaPipe can use")
    assert "GPU" in landmarkers.reason
    with landmarkers.create() as landmarker:
        assert landmarker.estimate(np.zeros((64, 64, 3), dtype=np.uint8), 0.0) == []
