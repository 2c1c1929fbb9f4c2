"""Finds the athlete's landmarks in pictures, one after the other.

MediaPipe's PoseLandmarker in VIDEO mode follows a box from frame to frame: one landmarker per run of frames, never
shared between two, times strictly increasing. On a GPU where one is wanted and works, else on the CPU; why is kept.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from services.analyzer.cpu_time import spending
from services.analyzer.errors import ModelFault
from services.analyzer.pose.landmarks import LANDMARKS, Floats, Poses
from services.analyzer.pose.mediapipe_runtime import empty_packages, give_back, keep_pages, one_heap
from services.analyzer.pose.model import verified
from services.analyzer.settings import Accelerator
from services.analyzer.video.frames import RGB, Picture

one_heap()
keep_pages()
empty_packages()
from mediapipe.tasks.python.core.base_options import BaseOptions  # noqa: E402
from mediapipe.tasks.python.vision.core.image import Image, ImageFormat  # noqa: E402
from mediapipe.tasks.python.vision.core.vision_task_running_mode import VisionTaskRunningMode  # noqa: E402
from mediapipe.tasks.python.vision.pose_landmarker import PoseLandmarker, PoseLandmarkerOptions  # noqa: E402

# The model leaves a second core idle: what is looked at beside it, is looked at here, one after the other.
BESIDE = ThreadPoolExecutor(1, "beside")
# Where Linux shows a GPU to a container.
GPU_NODES = (Path("/dev/nvidia0"), Path("/dev/dri/renderD128"))


@dataclass(frozen=True)
class Person:
    """One person in a picture. image: (33, 2) shares of its width and height; world: (33, 3) m.

    visibility, presence: (33,) 0..1, how likely each landmark is not hidden, and is in the picture at all.
    shirt: (3,) mean RGB of the trunk, NaN where nobody looked.
    """

    image: Floats
    world: Floats
    visibility: Floats
    presence: Floats
    shirt: Floats = field(default_factory=lambda: np.full(3, np.nan))


# Of the people in each picture, at these seconds, the athlete or nobody.
Choose = Callable[[list[list[Person]], list[float]], list[Person | None]]


class PoseEstimator(Protocol):
    """Whatever can find people in successive pictures of one video."""

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """The people in the picture, the one followed first."""
        ...


class Landmarker:
    """MediaPipe's pose model, following people through one run of frames. Use it in a `with`."""

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
        """Whom it sees, at most as many as it was made for.

        Equal or decreasing milliseconds, which MediaPipe refuses, are moved on by one.
        """
        self._last_ms = max(self._last_ms + 1, round(time_seconds * 1000))
        return _people(self._landmarker.detect_for_video(_image(rgb), self._last_ms))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()
        give_back()


class Glance(Landmarker):
    """The same model for pictures far apart in time: where the last one showed somebody says nothing about the next."""

    mode = VisionTaskRunningMode.IMAGE

    def estimate(self, rgb: RGB, time_seconds: float) -> list[Person]:
        """Whom it sees, in no promised order."""
        return _people(self._landmarker.detect(_image(rgb)))


class Posing:
    """Makes landmarkers, all on the accelerator that a warm-up frame has proved.

    model: its name. accelerator: "gpu" or "cpu", the one in use; reason: why that one.
    """

    def __init__(self, model: Path, wanted: Accelerator) -> None:
        """Raises ModelFault where the model is missing, is none that is pinned, or does not load."""
        self.model = verified(model)
        self._path = model
        self._delegate = BaseOptions.Delegate.CPU
        self.accelerator = "cpu"
        self.reason = self._settle(wanted)

    def fresh(self, most_people: int = 1, kind: type[Landmarker] = Landmarker) -> Landmarker:
        """A landmarker that has seen nothing yet. Looking for more than one person costs half as much again."""
        try:
            return kind(self._path, self._delegate, most_people)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelFault(_first_line(error)) from error

    def _settle(self, wanted: Accelerator) -> str:
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


def first(crowd: list[list[Person]], times: list[float]) -> list[Person | None]:
    """The person followed first of each picture."""
    return [people[0] if people else None for people in crowd]


class Watch:
    """One run of an estimator over the pictures of a video, in order; it can go on where it stopped."""

    def __init__(self, estimator: PoseEstimator) -> None:
        self._estimator = estimator
        self._times: list[float] = []
        self._crowd: list[list[Person]] = []

    def see(self, pictures: Iterable[Picture]) -> None:
        """Pose the next pictures."""
        for picture in pictures:
            with spending("pose"):
                self._crowd.append(self._estimator.estimate(picture.rgb, picture.time_seconds))
            self._times.append(picture.time_seconds)

    def poses(self, width: int, height: int, choose: Choose = first) -> Poses:
        """The athlete in all pictures so far. Landmarks come out in pixels of a picture of width x height."""
        nobody = Person(np.full((33, 2), np.nan), np.full((33, 3), np.nan), *np.full((2, 33), np.nan))
        rows = [person or nobody for person in choose(self._crowd, self._times)]
        shape = (len(rows), len(LANDMARKS))
        return Poses(
            times=np.array(self._times, dtype=float),
            image=np.array([row.image for row in rows], dtype=float).reshape(*shape, 2) * (width, height),
            world=np.array([row.world for row in rows], dtype=float).reshape(*shape, 3),
            visibility=np.array([row.visibility for row in rows], dtype=float).reshape(shape),
            presence=np.array([row.presence for row in rows], dtype=float).reshape(shape),
            people=np.array([len(people) for people in self._crowd], dtype=float),
            width=width,
            height=height,
        )


def watch(
    estimator: PoseEstimator, pictures: Iterable[Picture], width: int, height: int, choose: Choose = first
) -> Poses:
    """Pose all pictures of one run."""
    run = Watch(estimator)
    run.see(pictures)
    return run.poses(width, height, choose)


def _warm_up(model: Path, delegate: BaseOptions.Delegate) -> None:
    """A delegate may be created and fail at its first picture only."""
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
    """What went wrong in the end: MediaPipe puts the names of all its nodes before it."""
    from services import logs

    return logs.error_text(error).rsplit("; ", 1)[-1][:200]
