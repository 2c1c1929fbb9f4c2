"""Signs that the film shows an action: the player is seen throughout, nothing is cut out, both its ends are there.

A moment between frames without the player is interpolated, and a cut looks like the fastest of movements. Such a sign
makes an action doubtful; it never denies one.
"""

from collections.abc import Iterable

import numpy as np

from services.analyzer.arrays import Flags, Floats
from services.analyzer.biomechanics.actions.evidence import Sign, confidence
from services.analyzer.biomechanics.actions.shots import jump
from services.analyzer.biomechanics.kinematics import SIDES, Side, landmarks_of, middle, torso_length
from services.analyzer.pose.landmarks import Poses, select_frames

SEEN_THROUGHOUT = "the player is seen throughout"
WITHOUT_A_LEAP = "the body moves without a leap"
FROM_BEFORE_TO_AFTER = "the film shows it from before to after"
SIGHT = (SEEN_THROUGHOUT, WITHOUT_A_LEAP, FROM_BEFORE_TO_AFTER)

# Seconds for which the joints are lost, beyond one frame, at least of 30 a second. Twelve deliveries and six strokes
# had none; with the upper body covered for five frames a stroke had 0.033 and 0.133.
UNSEEN_SECONDS, CLEARLY_SEEN_SECONDS = 0.03, 0.01
# Between two frames of 10 a second, the lowest rate, as stamped.
LONGEST_STEP_SECONDS, ONE_LOST_SECONDS = 0.121, 0.068
# `jump` of a series: at most 0.77 in 34 close-ups without a cut, 1.54 with 0.4 s cut out of a stroke.
JUMP, CLEARLY_NO_JUMP = 1.0, 0.85
# An arm is shorter than this, in torsos from the middle of the shoulders: a wrist farther away is no wrist.
REACH_TORSOS = 2.2
# The film begins this long before the action, and ends this long after it.
MARGIN_SECONDS = 0.05
# Around a moment: where the joints must be seen.
AROUND_SECONDS = 0.1


def signs_of_sight(poses: Poses, start: float, end: float, seen: Floats) -> tuple[Sign, ...]:
    """The `SIGHT` of an action from `start` to `end`. seen: (n,) seconds at which its joints are seen."""
    around = select_frames(poses, (poses.times >= start - AROUND_SECONDS) & (poses.times <= end + AROUND_SECONDS))
    margin = min(start - poses.times[0], poses.times[-1] - end)
    return (
        _doubt_only(SEEN_THROUGHOUT, -_unseen(poses, seen, start, end), -UNSEEN_SECONDS, -CLEARLY_SEEN_SECONDS),
        _doubt_only(WITHOUT_A_LEAP, -jump(around), -JUMP, -CLEARLY_NO_JUMP),
        _doubt_only(FROM_BEFORE_TO_AFTER, margin, 0.0, MARGIN_SECONDS),
    )


def sight_of_landing(poses: Poses, seconds: float) -> float:
    """0..1: how well the film shows a foot's landing."""
    feet = [_in_picture(poses, landmarks_of(side, ("ankle", "foot_index"))) for side in SIDES]
    seen = poses.times[np.any(feet, axis=0)]
    return confidence(signs_of_sight(poses, seconds - AROUND_SECONDS, seconds + AROUND_SECONDS / 2, seen))


def hands_seen(poses: Poses, *sides: Side) -> Floats:
    """(n,) seconds at which the wrists of these sides are in the picture, and within reach of the shoulders."""
    wrists = [f"{side}_wrist" for side in sides]
    reach = REACH_TORSOS * torso_length(poses)
    near = [np.linalg.norm(poses.point(wrist) - middle(poses, "shoulder"), axis=1) <= reach for wrist in wrists]
    return np.asarray(poses.times[_in_picture(poses, wrists) & np.all(near, axis=0)])


def _in_picture(poses: Poses, names: Iterable[str]) -> Flags:
    """(n,) whether all these landmarks are inside the picture; the pose model extrapolates beyond its edge."""
    points = np.stack([poses.point(name) for name in names], axis=1)
    return np.asarray(((points >= 0) & (points <= (poses.width, poses.height))).all(axis=(1, 2)))


def _doubt_only(name: str, value: float, boundary: float, clear: float) -> Sign:
    return Sign(name, max(value, boundary), boundary, clear)


def _unseen(poses: Poses, seen: Floats, start: float, end: float) -> float:
    """The longest time in start..end from one known sample to the next, beyond that of one lost frame."""
    known = _across(seen, start, end)
    if len(known) < 2:
        return end - start
    gaps = np.diff(known)
    lost = np.diff(np.searchsorted(poses.times, known)) - 1
    one_lost = np.maximum(2 * gaps / (lost + 1), ONE_LOST_SECONDS)
    return float((gaps - np.minimum(one_lost, np.where(lost, np.inf, LONGEST_STEP_SECONDS))).max())


def _across(times: Floats, start: float, end: float) -> Floats:
    """The samples from the last one before `start` to the first one after `end`."""
    first = max(0, int(np.searchsorted(times, start, "right")) - 1)
    return times[first : int(np.searchsorted(times, end)) + 1]
