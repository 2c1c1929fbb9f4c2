"""Estimates people's landmarks in successive pictures with MediaPipe's PoseLandmarker.

In VIDEO mode a landmarker tracks a box from frame to frame. So each run of frames needs a landmarker of its own and
strictly increasing times. It runs on a GPU if one is wanted and works, else on the CPU; the reason is recorded.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.cpu_time import count_cpu_time
from services.analyzer.errors import ModelFault
from services.analyzer.malloc import keep_freed_pages, release_free_memory, share_one_arena
from services.analyzer.pose.landmarks import LANDMARKS, Poses
from services.analyzer.pose.mediapipe_runtime import install_empty_packages
from services.analyzer.pose.model import verify_model
from services.analyzer.settings import Accelerator
from services.analyzer.video.frames import RGB, Picture

share_one_arena()
keep_freed_pages()
install_empty_packages()
from mediapipe.tasks.python.core.base_options import BaseOptions  # noqa: E402
from mediapipe.tasks.python.vision.core.image import Image, ImageFormat  # noqa: E402
from mediapipe.tasks.python.vision.core.vision_task_running_mode import VisionTaskRunningMode  # noqa: E402
from mediapipe.tasks.python.vision.pose_landmarker import PoseLandmarker, PoseLandmarkerOptions  # noqa: E402

# The model leaves a second core idle. This thread runs other estimators beside it, one call after the other.
SECOND_CORE = ThreadPoolExecutor(1, "second-core")
# Device files that Linux gives a container with a GPU.
GPU_NODES = (Path("/dev/nvidia0"), Path("/dev/dri/renderD128"))


@dataclass(frozen=True)
class Person:
    """One person in a picture. image: (33, 2) shares of its width and height; world: (33, 3) m.

    visibility, presence: (33,) 0..1, the probability that a landmark is not hidden, and that it is in the picture.
    torso_colour: (3,) mean RGB of the torso, NaN if it was not measured.
    """

    image: Floats
    world: Floats
    visibility: Floats
    presence: Floats
    torso_colour: Floats = field(default_factory=lambda: np.full(3, np.nan))


# Chooses the athlete in each picture, or None. Arguments: the people in each picture, and the pictures' seconds.
ChooseAthlete = Callable[[list[list[Person]], list[float]], list[Person | None]]


class PoseEstimator(Protocol):
    """Estimates the landmarks of people in successive pictures of one video."""

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, the tracked one first."""
        ...


class Landmarker:
    """MediaPipe's pose model in VIDEO mode, which tracks people through one run of frames. A context manager."""

    mode = VisionTaskRunningMode.VIDEO

    def __init__(self, model: Path, delegate: BaseOptions.Delegate, most_people: int = 1) -> None:
        options = PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model), delegate=delegate),
            running_mode=self.mode,
            num_poses=most_people,
        )
        self._landmarker: Any = PoseLandmarker.create_from_options(options)
        self._last_ms = -1

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, at most `most_people`.

        MediaPipe rejects equal or decreasing milliseconds, so such a time becomes the last one plus 1 ms.
        """
        self._last_ms = max(self._last_ms + 1, round(time_seconds * 1000))
        return _people(self._landmarker.detect_for_video(_image(rgb), self._last_ms))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()
        release_free_memory()


class ImageLandmarker(Landmarker):
    """The same model in IMAGE mode, without tracking, for pictures that are far apart in time."""

    mode = VisionTaskRunningMode.IMAGE

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, in any order."""
        return _people(self._landmarker.detect(_image(rgb)))


class LandmarkerFactory:
    """Creates landmarkers, all on the accelerator that passed a warm-up frame.

    model: its name. accelerator: "gpu" or "cpu", the one in use. reason: why that one.
    """

    def __init__(self, model: Path, wanted: Accelerator) -> None:
        """Raises ModelFault if the model is missing, is not pinned, or does not load."""
        self.model = verify_model(model)
        self._path = model
        self._delegate = BaseOptions.Delegate.CPU
        self.accelerator = "cpu"
        self.reason = self._choose_accelerator(wanted)

    def create(self, most_people: int = 1, kind: type[Landmarker] = Landmarker) -> Landmarker:
        """A new landmarker without tracking state. More than one person costs 1.5 times as much."""
        try:
            return kind(self._path, self._delegate, most_people)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelFault(_first_line(error)) from error

    def _choose_accelerator(self, wanted: Accelerator) -> str:
        """Sets the delegate; returns the reason."""
        if wanted is Accelerator.cpu:
            return "a CPU was asked for"
        if wanted is Accelerator.auto and not any(node.exists() for node in GPU_NODES):
            return "this machine shows no GPU"
        try:
            _warm_up(self._path, BaseOptions.Delegate.GPU)
        except (RuntimeError, ValueError, OSError) as error:
            return f"the GPU could not be used: {_first_line(error)}"
        self._delegate, self.accelerator = BaseOptions.Delegate.GPU, "gpu"
        return "a GPU is there and posed a first picture"


def choose_first(people_by_picture: list[list[Person]], times: list[float]) -> list[Person | None]:
    """The first person of each picture, whom a landmarker tracks."""
    return [people[0] if people else None for people in people_by_picture]


class PoseRun:
    """One run of an estimator over the pictures of a video, in order; it can be continued."""

    def __init__(self, estimator: PoseEstimator) -> None:
        self._estimator = estimator
        self._times: list[float] = []
        self._people_by_picture: list[list[Person]] = []

    def estimate(self, pictures: Iterable[Picture]) -> None:
        """Estimate the people in the next pictures."""
        for picture in pictures:
            with count_cpu_time("pose"):
                self._people_by_picture.append(self._estimator.estimate(picture.rgb, picture.time_seconds))
            self._times.append(picture.time_seconds)

    @property
    def most_people(self) -> int:
        """The most people in one picture so far."""
        return max(map(len, self._people_by_picture), default=0)

    def poses(self, width: int, height: int, choose: ChooseAthlete = choose_first) -> Poses:
        """The athlete in all pictures so far, in pixels of a picture of width x height."""
        chosen = choose(self._people_by_picture, self._times)
        return to_poses(chosen, self._times, [len(people) for people in self._people_by_picture], width, height)


def to_poses(
    people: Sequence[Person | None], times: Sequence[float], in_view: Sequence[int], width: int, height: int
) -> Poses:
    """One person in each picture, in pixels of a picture of width x height. in_view: how many people each shows."""
    unseen = Person(np.full((33, 2), np.nan), np.full((33, 3), np.nan), *np.full((2, 33), np.nan))
    rows = [person or unseen for person in people]
    shape = (len(rows), len(LANDMARKS))
    return Poses(
        times=np.array(times, dtype=float),
        image=np.array([row.image for row in rows], dtype=float).reshape(*shape, 2) * (width, height),
        world=np.array([row.world for row in rows], dtype=float).reshape(*shape, 3),
        visibility=np.array([row.visibility for row in rows], dtype=float).reshape(shape),
        presence=np.array([row.presence for row in rows], dtype=float).reshape(shape),
        people=np.array(in_view, dtype=float),
        width=width,
        height=height,
    )


def estimate_poses(
    estimator: PoseEstimator,
    pictures: Iterable[Picture],
    width: int,
    height: int,
    choose: ChooseAthlete = choose_first,
) -> Poses:
    """The athlete in all pictures of one run, in pixels of a picture of width x height."""
    run = PoseRun(estimator)
    run.estimate(pictures)
    return run.poses(width, height, choose)


def _warm_up(model: Path, delegate: BaseOptions.Delegate) -> None:
    """Estimate one picture: a delegate that cannot work may fail only then."""
    with Landmarker(model, delegate) as landmarker:
        landmarker.estimate(np.zeros((256, 256, 3), dtype=np.uint8), 0.0)


def _image(rgb: RGB) -> Image:
    return Image(image_format=ImageFormat.SRGB, data=rgb)


def _people(found: Any) -> list[Person]:
    return [_person(*pair) for pair in zip(found.pose_landmarks, found.pose_world_landmarks, strict=True)]


def _person(image: list[Any], world: list[Any]) -> Person:
    return Person(
        image=np.array([(p.x, p.y) for p in image]),
        world=np.array([(p.x, p.y, p.z) for p in world]),
        visibility=np.array([p.visibility for p in image]),
        presence=np.array([p.presence for p in image]),
    )


def _first_line(error: BaseException) -> str:
    """The last part of an error: MediaPipe puts the names of all its nodes before it."""

    from services import logs

    return logs.error_text(error).rsplit("; ", 1)[-1][:200]
