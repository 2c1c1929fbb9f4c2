"""Hides faces in pictures: the athlete's by its landmarks, and other people's with everything around the athlete.

    athlete not found ─▶ hide all of the picture
    others in view    ─▶ hide all but the athlete, and the athlete's face
    alone             ─▶ hide the athlete's face

A hidden area is replaced by a few averages, so the original cannot be recovered. A face may show if the pose model
misplaces the head; the patch is 1.5 times as large as a head.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from services.analyzer.arrays import Floats, Pixels
from services.analyzer.biomechanics.kinematics import SIDES
from services.analyzer.pose.landmarks import INDEX, Poses
from services.analyzer.pose.skeleton import skeleton_at
from services.analyzer.video.frames import Picture

FACE = slice(INDEX["nose"], INDEX["mouth_right"] + 1)
LIMBS = [[INDEX[f"{side}_{part}"] for part in ends] for side in SIDES
         for ends in (("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"))]  # fmt: skip
# Shares of stature: head 0.13, trunk 0.29, thigh 0.25, shank 0.25. Drillis and Contini 1966.
FACE_RADIUS_PER_LIMB, AROUND_PER_LIMB = 0.38, 0.5
# Averages along each side of a hidden face, and of a hidden picture.
FACE_AVERAGES, PICTURE_AVERAGES = 3, 12
# Faces are hidden at these times around a frame too: a duplicate frame shows an earlier moment, and between two posed
# frames the head's place is interpolated.
SLACK_SECONDS, SLACK_STEPS = 0.05, (0.0, -1.0, -0.5, 0.5, 1.0)


class Anonymizer:
    """Hides faces in the pictures of one video. alone: whether no person but the athlete was ever in view."""

    def __init__(self, poses: Poses, *, alone: bool) -> None:
        self._poses = poses
        self._alone = alone

    def anonymize(self, planes: Sequence[Pixels], time_seconds: float) -> None:
        """Hide faces in one picture, in place. planes: of any size, (height, width) or (height, width, 3)."""
        now, *near = (skeleton_at(self._poses, time_seconds + step * SLACK_SECONDS)[0] for step in SLACK_STEPS)
        if not np.isfinite(now).all():
            for plane in planes:
                plane[:] = _average_blocks(plane, PICTURE_AVERAGES)
            return
        limb = float(np.linalg.norm(np.diff(now[LIMBS], axis=1), axis=2).max())
        faces = [points[FACE] for points in (now, *near) if np.isfinite(points).all()]
        for plane in planes:
            scale = plane.shape[1] / self._poses.width
            if not self._alone:
                _hide_around(plane, now * scale, AROUND_PER_LIMB * limb * scale)
            for face in faces:
                _hide_face(plane, face * scale, FACE_RADIUS_PER_LIMB * limb * scale)


def anonymized(picture: Picture, anonymizer: Anonymizer | None) -> Picture:
    """The same picture object, changed in place if there is an anonymizer; the caller must own its pixels."""
    if anonymizer:
        anonymizer.anonymize([picture.rgb], picture.time_seconds)
    return picture


def _hide_face(plane: Pixels, face: Floats, radius: float) -> None:
    centre = face.mean(axis=0)
    reach = max(radius, 1.5 * float(np.linalg.norm(face - centre, axis=1).max()), 2.0)
    (left, top), (right, bottom) = _corners(plane, centre - reach, centre + reach)
    patch = plane[top:bottom, left:right]
    if patch.size:
        y, x = np.ogrid[top:bottom, left:right]
        inside = np.hypot(x - centre[0], y - centre[1]) <= reach
        patch[inside] = _average_blocks(patch, FACE_AVERAGES)[inside]


def _hide_around(plane: Pixels, body: Floats, margin: float) -> None:
    (left, top), (right, bottom) = _corners(plane, body.min(axis=0) - margin, body.max(axis=0) + margin)
    kept = plane[top:bottom, left:right].copy()
    plane[:] = _average_blocks(plane, PICTURE_AVERAGES)
    plane[top:bottom, left:right] = kept


def _average_blocks(patch: Pixels, count: int) -> Pixels:
    """The patch reduced to at most `count` averages a side, then enlarged again."""
    height, width = patch.shape[:2]
    size = (min(count, width), min(count, height))
    averages = cv2.resize(np.ascontiguousarray(patch), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(averages, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _corners(plane: Pixels, low: Floats, high: Floats) -> list[list[int]]:
    """Both points as whole (x, y) pixels inside the plane."""
    size = np.array(plane.shape[1::-1])
    return [np.clip(np.floor(low), 0, size).astype(int).tolist(), np.clip(np.ceil(high), 0, size).astype(int).tolist()]
