"""Divides a film into shots: at the cuts that the pictures show, and where the whole body leaps as no body can.

Two pieces of film from one tripod have nearly the same picture, so such a cut shows in the player alone.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.filtering import tidy
from services.analyzer.biomechanics.kinematics import SIDES, foot, head, middle, torso_length
from services.analyzer.pose.landmarks import Poses, select_frames

# Torsos that head, shoulders, hips and feet move in one step beyond their speed before and after it, on average. Five
# spliced films had 0.77 to 9; 22 films without a cut had at most 0.27, where the camera had dropped a frame.
# Over three, the pose model may have gone over to another person; such a cut shows in the pictures.
LEAP_TORSOS, OTHER_PERSON_TORSOS = 0.5, 3.0
# A cut inside a movement leaps less far. All four parts leap, in a step so many times as fast as those beside it; where
# the camera drops a frame, all leap twice as fast. At a lower rate a hand that shakes the camera looks the same.
JUMP_TORSOS, JUMP_RATIO, LEAST_JUMP_RATIO = 0.12, 3.5, 2.0
LONGEST_JUMP_STEP_SECONDS, SLOWEST_TORSOS_PER_SECOND = 0.045, 0.5
# The player may be lost for some frames after a cut.
SAME_CUT_SECONDS = 0.5


def find_cuts(whole: Poses, *known: tuple[float, ...]) -> tuple[float, ...]:
    """Seconds of the first frame of each shot but the first. known: cuts of file and pictures, the surest first."""
    cuts: list[float] = []
    for found in (*known, _find_leaps(tidy(whole))):
        cuts += [cut for cut in found if all(abs(cut - other) > SAME_CUT_SECONDS for other in cuts)]
    return tuple(sorted(cuts))


def _find_leaps(poses: Poses) -> tuple[float, ...]:
    """Seconds of each frame in which the player is suddenly somewhere else, and stays there."""
    at = np.flatnonzero(poses.detected)
    if len(at) < 4:
        return ()
    beyond, _ = _beyond_usual(poses, at)
    leaps = np.flatnonzero((beyond > LEAP_TORSOS) & (beyond < OTHER_PERSON_TORSOS))
    return tuple(float(time) for time in poses.times[at][leaps + 2])


def jump(poses: Poses) -> float:
    """How much a step of a cleaned series looks like a cut inside a movement: 1 or more for one; 0 at a low rate."""
    at = np.flatnonzero(poses.detected)
    if len(at) < 4 or np.median(np.diff(poses.times)) > LONGEST_JUMP_STEP_SECONDS:
        return 0.0
    beyond, ratios = _beyond_usual(poses, at)
    shares = (
        beyond / JUMP_TORSOS,
        np.median(ratios, axis=1) / JUMP_RATIO,
        ratios.min(axis=1) / LEAST_JUMP_RATIO,
    )
    return float(np.min(shares, axis=0).max())


def _beyond_usual(poses: Poses, at: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Of each step but the first and last: (n - 3,) torsos beyond the speed beside it, (n - 3, 4) times that speed."""
    steps = np.diff(poses.times[at])
    moved = _distances(poses, at)
    speeds = moved / steps[:, None]
    usual = np.maximum(speeds[:-2], speeds[2:])
    beyond = (moved[1:-1] - usual * steps[1:-1, None]).mean(axis=1)
    return beyond, speeds[1:-1] / np.maximum(usual, SLOWEST_TORSOS_PER_SECOND)


def split_shots(poses: Poses, cuts: Iterable[float]) -> list[Poses]:
    """The series of each shot, in order of time. cuts: seconds of each shot's first frame, but the first shot's."""
    edges = np.searchsorted(poses.times, sorted(cuts))
    frames = np.arange(len(poses))
    parts = np.split(frames, edges)
    return [select_frames(poses, np.isin(frames, part)) for part in parts if len(part)]


def _distances(poses: Poses, at: np.ndarray) -> Floats:
    """(n - 1, 4) torsos that head, shoulders, hips and feet move from each of the n frames `at` to the next.

    Feet whose labels are swapped have not moved.
    """
    parts = (head(poses), middle(poses, "shoulder"), middle(poses, "hip"))
    trunk = [np.linalg.norm(np.diff(part[at], axis=0), axis=1) for part in parts]
    feet = np.stack([foot(poses, side)[at] for side in SIDES], axis=1)
    kept, swapped = (np.linalg.norm(later - feet[:-1], axis=2).mean(axis=1) for later in (feet[1:], feet[1:, ::-1]))
    return np.asarray(np.stack([*trunk, np.minimum(kept, swapped)], axis=1) / torso_length(poses))
