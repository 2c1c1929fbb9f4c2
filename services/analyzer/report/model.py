"""Defines the types of the report's pictures: key frames, film stills and the annotations in them."""

from dataclasses import dataclass
from typing import NamedTuple

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.model import MetricSpec


class Box(NamedTuple):
    """A rectangle of an image: its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Annotation:
    """One number drawn into an image. path: SVG; label: its text, centred at `label_at` (pixels).

    degrees: the angle that a drawn arc spans; None for any other shape.
    """

    spec: MetricSpec
    value: float
    path: str
    label: str
    label_at: tuple[float, float]
    degrees: float | None = None


@dataclass(frozen=True)
class KeyFrame:
    """One image of the report with its landmarks.

    moment_seconds: the moment to show; time_seconds: of the nearest frame. points: (33, 2) pixels of the JPEG, NaN
    without a detection; visibility: (33,) 0..1. is_first: whether the page begins with it.
    """

    time_seconds: float
    jpeg: bytes
    width: int
    height: int
    points: Floats
    visibility: Floats
    moment_seconds: float
    caption: str = ""
    annotations: tuple[Annotation, ...] = ()
    is_first: bool = False


@dataclass(frozen=True)
class Still:
    """A frame of the film behind the player's skeleton. box: where it lies, as shares of the whole image."""

    time_seconds: float
    jpeg: bytes
    box: Box
