"""Prepares a key frame for the template: JPEG as a data address, bones, annotations, crop around the athlete."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.analyzer.biomechanics.labels import format_length, short_length
from services.analyzer.pose.landmarks import INDEX
from services.analyzer.pose.skeleton import BONES, side_of
from services.analyzer.report.model import Annotation, Box, KeyFrame

LEAST_VISIBILITY = 0.5
BONES_PER_WIDTH = 120
# A label in bones, with its outline; a letter and a line in heights of the label.
LABEL_BONES, LETTER_WIDTH, LINE_HEIGHT = 8, 0.72, 1.25
CROP_MARGIN = 1.4
LEAST_CROP_SHARE = 6  # the crop is at least a sixth of the image's height


@dataclass(frozen=True)
class Picture:
    """One key frame. box: `viewBox` of its crop; thick: width of a bone; bones: side, and x and y of both ends.

    label_size: height of a label's text. numbers: the annotations in words.
    """

    id: str
    moment: float
    time_seconds: float
    caption: str
    size: tuple[int, int]
    box: str
    thick: float
    label_size: float
    bones: list[tuple[str, list[float]]]
    annotations: tuple[Annotation, ...]
    numbers: str
    alt: str
    href: str
    is_first: bool = False


def picture(frame: KeyFrame, number: int, height_cm: float | None = None) -> Picture:
    """The key frame for the template; `number` makes its id unique in the page. height_cm: of the player, if known."""
    crop = _crop(frame)
    numbers = _numbers(frame.annotations, height_cm)
    annotations = [
        replace(each, label=short_length(each.value, each.spec.unit, height_cm)) for each in frame.annotations
    ]
    thick = crop.width / BONES_PER_WIDTH
    return Picture(
        id=f"frame-{number}",
        moment=frame.moment_seconds,
        time_seconds=frame.time_seconds,
        caption=frame.caption,
        size=(frame.width, frame.height),
        box=" ".join(f"{side:.0f}" for side in crop),
        thick=thick,
        label_size=thick * LABEL_BONES,
        bones=_bones(frame),
        annotations=_with_places(annotations, crop, thick * LABEL_BONES),
        numbers=numbers,
        alt=", ".join(filter(None, [frame.caption or "Key moment", numbers])),
        href="data:image/jpeg;base64," + base64.b64encode(frame.jpeg).decode(),
        is_first=frame.is_first,
    )


def _with_places(annotations: Sequence[Annotation], crop: Box, font: float) -> tuple[Annotation, ...]:
    """The annotations with their labels inside the crop, none over another; font: height of a label."""
    placed: list[Annotation] = []
    for annotation in annotations:
        half = font * LETTER_WIDTH * len(annotation.label) / 2
        x, y = annotation.label_at
        x = float(np.clip(x, crop.x + half, max(crop.x + half, crop.x + crop.width - half)))
        low, high = crop.y + font * LINE_HEIGHT / 2, crop.y + crop.height - font * LINE_HEIGHT / 2
        taken = [
            other.label_at[1]
            for other in placed
            if abs(other.label_at[0] - x) < half + font * LETTER_WIDTH * len(other.label) / 2
        ]
        heights = [y, *(at + way * font * LINE_HEIGHT for at in taken for way in (-1, 1))]
        free = [
            at for at in heights if low <= at <= high and all(abs(at - t) >= 0.99 * font * LINE_HEIGHT for t in taken)
        ]
        y = min(free, key=lambda at: abs(at - y)) if free else float(np.clip(y, low, high))
        placed.append(replace(annotation, label_at=(round(x, 1), round(y, 1))))
    return tuple(placed)


def main_picture(pictures: Sequence[Picture], moment: float | None) -> Picture | None:
    """The picture at the top: one that is to be first, or the nearest to a moment.

    Without a moment it is the picture with an angle and the most annotations.
    """
    if not pictures:
        return None
    if first := next((picture for picture in pictures if picture.is_first), None):
        return first
    if moment is not None:
        return min(pictures, key=lambda picture: abs(picture.moment - moment))
    return max(pictures, key=lambda picture: (_has_angle(picture), len(picture.annotations)))


def _has_angle(picture: Picture) -> bool:
    return any(annotation.degrees for annotation in picture.annotations)


def _bones(frame: KeyFrame) -> list[tuple[str, list[float]]]:
    """The bones with both ends visible."""
    bones = []
    for start, end in BONES:
        a, b = INDEX[start], INDEX[end]
        if np.isfinite(frame.points[[a, b]]).all() and frame.visibility[[a, b]].min() >= LEAST_VISIBILITY:
            ends = [round(float(value), 1) for value in (*frame.points[a], *frame.points[b])]
            bones.append((side_of(start, end), ends))
    return bones


def _numbers(annotations: Sequence[Annotation], height_cm: float | None) -> str:
    """The annotations in words."""
    return ", ".join(
        annotation.spec.annotation.caption.format(
            format_length(annotation.value, annotation.spec.unit, None, height_cm)
        )
        for annotation in annotations
        if annotation.spec.annotation
    )


def _crop(frame: KeyFrame) -> Box:
    """A square around the athlete with a margin; the whole image without a detection.

    Filmed from the side a cricketer often fills a tenth of the image: too little to show a knee on a phone.
    """
    points = frame.points[np.isfinite(frame.points).all(axis=1)]
    if not len(points):
        return Box(0.0, 0.0, float(frame.width), float(frame.height))
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    side = CROP_MARGIN * max(right - left, bottom - top, frame.height / LEAST_CROP_SHARE)
    width, height = min(side, frame.width), min(side, frame.height)
    x = np.clip((left + right - width) / 2, 0, frame.width - width)
    y = np.clip((top + bottom - height) / 2, 0, frame.height - height)
    return Box(float(x), float(y), float(width), float(height))
