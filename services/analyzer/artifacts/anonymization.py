"""Hides who is in a picture: the athlete's face by the pose, and everybody else with all that is around the athlete.

    athlete not found ─▶ all of the picture
    others in view    ─▶ all but the athlete, and the athlete's face
    alone             ─▶ the athlete's face

What is hidden is made of a few averages, from which nothing can be brought back. Where the pose is wrong about the
place of a head, a face may show: the patch is half as large again as a head.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from services.analyzer.biomechanics.kinematics import SIDES
from services.analyzer.pose.landmarks import INDEX, Floats, Poses
from services.analyzer.pose.skeleton import skeleton_at
from services.analyzer.video.frames import RGB, Picture

FACE = slice(INDEX["nose"], INDEX["mouth_right"] + 1)
LIMBS = [[INDEX[f"{side}_{part}"] for part in ends] for side in SIDES
         for ends in (("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"))]  # fmt: skip
# A head is 0.13 of stature high, trunk, thigh and shank 0.29, 0.25 and 0.25: Drillis and Contini 1966.
FACE_RADIUS_PER_LIMB, AROUND_PER_LIMB = 0.38, 0.5
# How many averages a side stay of a patch, and of a picture.
PATCH, PICTURE = 3, 12
# A frame may show what was a moment before: films repeat frames, and between two looks a head is where it should be by
# then.
SLACK_SECONDS, SLACK_STEPS = 0.05, (0.0, -1.0, -0.5, 0.5, 1.0)


class Veil:
    """Over the pictures of one film. alone: whether nobody but the athlete was ever in view."""

    def __init__(self, poses: Poses, *, alone: bool) -> None:
        self._poses = poses
        self._alone = alone

    def hide(self, planes: Sequence[RGB], time_seconds: float) -> None:
        """Hide them in the picture of a moment, in place. planes: of any size, (height, width) or with colours."""
        now, *near = (skeleton_at(self._poses, time_seconds + step * SLACK_SECONDS)[0] for step in SLACK_STEPS)
        if not np.isfinite(now).all():
            for plane in planes:
                plane[:] = _averages(plane, PICTURE)
            return
        limb = float(np.linalg.norm(np.diff(now[LIMBS], axis=1), axis=2).max())
        faces = [points[FACE] for points in (now, *near) if np.isfinite(points).all()]
        for plane in planes:
            scale = plane.shape[1] / self._poses.width
            if not self._alone:
                _hide_around(plane, now * scale, AROUND_PER_LIMB * limb * scale)
            for face in faces:
                _hide_face(plane, face * scale, FACE_RADIUS_PER_LIMB * limb * scale)


def veiled(picture: Picture, veil: Veil | None) -> Picture:
    """The same picture, the caller's own; hidden in place where there is a veil."""
    if veil:
        veil.hide([picture.rgb], picture.time_seconds)
    return picture


def _hide_face(plane: RGB, face: Floats, radius: float) -> None:
    middle = face.mean(axis=0)
    reach = max(radius, 1.5 * float(np.linalg.norm(face - middle, axis=1).max()), 2.0)
    (left, top), (right, bottom) = _corners(plane, middle - reach, middle + reach)
    patch = plane[top:bottom, left:right]
    if patch.size:
        y, x = np.ogrid[top:bottom, left:right]
        inside = np.hypot(x - middle[0], y - middle[1]) <= reach
        patch[inside] = _averages(patch, PATCH)[inside]


def _hide_around(plane: RGB, body: Floats, margin: float) -> None:
    (left, top), (right, bottom) = _corners(plane, body.min(axis=0) - margin, body.max(axis=0) + margin)
    kept = plane[top:bottom, left:right].copy()
    plane[:] = _averages(plane, PICTURE)
    plane[top:bottom, left:right] = kept


def _averages(patch: RGB, count: int) -> RGB:
    height, width = patch.shape[:2]
    few = cv2.resize(np.ascontiguousarray(patch), (min(count, width), min(count, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _corners(plane: RGB, low: Floats, high: Floats) -> list[list[int]]:
    """Both as whole pixels inside the plane."""
    most = np.array(plane.shape[1::-1])
    return [np.clip(np.floor(low), 0, most).astype(int).tolist(), np.clip(np.ceil(high), 0, most).astype(int).tolist()]
