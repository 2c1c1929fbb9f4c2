"""Finds strokes: two hands on one handle go up, come down and go on, over feet that step.

    height of the hands over the hips
              top
             ╱   ╲ downswing       ╱ follow-through
    backlift╱     ╲               ╱
    ───────╱       ╲─────────────╱
        stance      bottom: bat and ball meet 0.02 to 0.07 s later

Taps lift too little. A leave comes down to where the hands were before. Lowering the bat begins where a follow-through
ended. A practice swing has no step. In ten rendered strokes, leaves and swings, posed at 10 to 60 frames a second,
the hands ended 0.7 torsos or more from their stance in a stroke and under 0.25 in a leave; feet or hips moved 0.29 or
more in a stroke, under 0.11 in a practice swing.
"""

from dataclasses import dataclass

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.actions.evidence import Evidenced, Sign
from services.analyzer.biomechanics.actions.sight import hands_seen, signs_of_sight
from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.biomechanics.kinematics import SIDES, Side, foot, hand_speeds, middle, torso_length
from services.analyzer.pose.landmarks import Poses

HANDS_CUT_OFF_HZ = 6.0
SHALLOWEST_DIP_TORSOS = 0.2
LONGEST_DOWNSWING_SECONDS, LONGEST_BACKLIFT_SECONDS = 0.7, 1.3
# Of the time after the bottom: where a swing has gone on, and where the hands come to.
GOES_ON_SECONDS, FOLLOW_THROUGH_SECONDS = 0.15, 0.5
STEADY_SECONDS = 0.2
# A rise or fall of the hands begins and ends slowly: it is timed without so much of its way at either end.
SHARE_OF_WAY = 0.1
APART_SECONDS = 1.5
# The hands are fastest within this of their lowest point.
FASTEST_WITHIN_SECONDS, ALIKE = 0.3, 0.8
UNSEEN = float("nan")


@dataclass(frozen=True)
class Swing(Evidenced):
    """One stroke, in seconds: its backlift's begin and end, where the hands are lowest and where one is fastest.

    lifting, downswing: torsos a second at which the hands go up and come down at most. moving: seconds that both take,
    each from a tenth to nine tenths of its way. side: the hand that is fastest.
    """

    start: float
    top: float
    bottom: float
    fastest: float
    lifting: float
    downswing: float
    moving: float
    side: Side
    signs: tuple[Sign, ...]


def find_swings(poses: Poses) -> list[Swing]:
    """Every dip of the hands after a rise, in order of time, with its signs."""
    from scipy.signal import find_peaks  # it brings all of SciPy: a second that the first pose need not wait for

    grid, path = _path(poses)
    _, speeds = hand_speeds(poses)
    if len(grid) < GRID_HZ / 2:
        return []
    height = np.nan_to_num(path[:, UP])
    # As if the hands went up at the end: after a push they rise little, and a film may end soon.
    bottoms, _ = find_peaks(-np.append(height, height.max() + SHALLOWEST_DIP_TORSOS), prominence=SHALLOWEST_DIP_TORSOS)
    found = []
    for bottom in bottoms:
        top = _highest(height, bottom - _steps(LONGEST_DOWNSWING_SECONDS), bottom)
        after = bottom + _steps(GOES_ON_SECONDS)
        is_seen = after < len(grid) and np.isfinite(path[top : after + 1]).all()
        if is_seen and height[top] - height[bottom] >= SHALLOWEST_DIP_TORSOS:
            start = _lowest(height, top - _steps(LONGEST_BACKLIFT_SECONDS), top)
            found.append(_swing(poses, grid, path, speeds, start, top, int(bottom)))
    return found


def find_strokes(swings: list[Swing]) -> list[Swing]:
    """The swings that every sign supports, in order of time.

    A swing near the stroke before it, or one that begins where that stroke met the ball, is a follow-through or the
    lowering of the bat. It replaces the one before if it is stronger by a whole sign.
    """
    kept: list[Swing] = []
    for swing in swings:
        if swing.confidence == 0:
            continue
        if not kept or _is_another(kept[-1], swing):
            kept.append(swing)
        elif swing.strength > kept[-1].strength + 1:
            kept[-1] = swing
    return kept


def _is_another(stroke: Swing, later: Swing) -> bool:
    return later.bottom - stroke.bottom > APART_SECONDS and later.start - stroke.bottom > STEADY_SECONDS


# Columns of a path: hands over hips, hands apart, hips, feet.
ACROSS, UP, APART = 0, 1, 2
HANDS, HIPS, FEET = slice(0, 2), slice(3, 5), (slice(5, 7), slice(7, 9))


def _path(poses: Poses) -> tuple[Floats, Floats]:
    """(m,) seconds on the even grid and (m, 9) torsos; y up for the hands over the hips."""
    hands, hips = middle(poses, "wrist"), middle(poses, "hip")
    apart = np.linalg.norm(poses.point("left_wrist") - poses.point("right_wrist"), axis=1)
    columns = ((hands - hips) * (1, -1), apart, hips, *(foot(poses, side) for side in SIDES))
    grid, path = resample(poses.times, np.column_stack(columns) / torso_length(poses))
    return grid, lowpass(path, HANDS_CUT_OFF_HZ) if len(grid) else path


def _swing(poses: Poses, grid: Floats, path: Floats, speeds: Floats, start: int, top: int, bottom: int) -> Swing:
    height = path[:, UP]
    velocity = np.gradient(path[:, HANDS], 1 / GRID_HZ, axis=0)
    first = max(top, bottom - _steps(FASTEST_WITHIN_SECONDS))
    near = speeds[first : bottom + _steps(FASTEST_WITHIN_SECONDS) + 1]
    # Seen along the pitch the follow-through is as fast: of two moments alike the first is the stroke's.
    fastest = first + _first_peak(near.max(axis=1))
    swing = slice(start, bottom + _steps(STEADY_SECONDS))
    lifting = float(np.max(velocity[start : top + 1, 1]))
    downswing = -float(np.min(velocity[top : bottom + 1, 1]))
    moving = _seconds_of_most(height[start : top + 1]) + _seconds_of_most(height[top : bottom + 1][::-1])
    signs = (
        Sign("both hands hold one handle", -_percentile(path[swing, APART], 80.0), -0.7, -0.5),
        Sign("the bat is lifted", height[top] - height[start], 0.3, 0.5),
        Sign("the bat comes down", height[top] - height[bottom], 0.25, 0.45),
        Sign("the downswing is quick", downswing, 1.5, 3.0),
        Sign("the hands go on after it", _goes_on(path, start, bottom), 0.35, 0.6),
        Sign(
            "the feet or the weight move",
            max(_moved(path[:, part], start, bottom) for part in (HIPS, *FEET)),
            0.15,
            0.3,
        ),
        *signs_of_sight(
            poses,
            float(grid[start]),
            float(grid[max(bottom + _steps(GOES_ON_SECONDS), fastest)]),
            hands_seen(poses, *SIDES),
        ),
    )
    side = SIDES[int(np.argmax(speeds[fastest]))]
    began, lifted, lowest, quickest = (float(grid[k]) for k in (start, top, bottom, fastest))
    return Swing(began, lifted, lowest, quickest, lifting, downswing, moving, side, signs)


def _first_peak(speeds: Floats) -> int:
    """The first local maximum that is nearly as fast as the fastest."""
    peaks = [k for k in range(1, len(speeds) - 1) if speeds[k - 1] <= speeds[k] >= speeds[k + 1]]
    return next((k for k in peaks if speeds[k] >= ALIKE * speeds.max()), int(np.argmax(speeds)))


def _seconds_of_most(rise: Floats) -> float:
    """Seconds from the last time at a tenth of a rise to the first time after it at nine tenths."""
    if not np.isfinite(rise).all():
        return UNSEEN
    share = (rise - rise[0]) / max(rise[-1] - rise[0], 1e-9)
    left = int(np.flatnonzero(share <= SHARE_OF_WAY)[-1])
    return float(np.argmax(share[left:] >= 1 - SHARE_OF_WAY)) / GRID_HZ


def _goes_on(path: Floats, start: int, bottom: int) -> float:
    """Torsos from where the hands were in the stance to where they are after the swing."""
    stance = _median(path[max(0, start - _steps(STEADY_SECONDS / 2)) : start + _steps(STEADY_SECONDS / 2) + 1, HANDS])
    after = path[bottom + _steps(GOES_ON_SECONDS) : bottom + _steps(FOLLOW_THROUGH_SECONDS) + 1, HANDS]
    return float(np.linalg.norm(_median(after) - stance)) if len(after) else UNSEEN


def _moved(place: Floats, start: int, bottom: int) -> float:
    """Torsos between where a part of the body was before the backlift and where it is when the hands are lowest."""
    before = place[max(0, start - _steps(STEADY_SECONDS)) : start + 1]
    then = place[max(0, bottom - _steps(STEADY_SECONDS / 2)) : bottom + _steps(STEADY_SECONDS / 2) + 1]
    moved = float(np.linalg.norm(_median(then) - _median(before)))
    return moved if np.isfinite(moved) else 0.0


def _highest(values: Floats, start: int, end: int) -> int:
    start = max(0, start)
    return start + int(np.argmax(values[start : end + 1]))


def _lowest(values: Floats, start: int, end: int) -> int:
    start = max(0, start)
    return start + int(np.argmin(values[start : end + 1]))


def _median(values: Floats) -> Floats:
    return np.asarray(np.nanmedian(values, axis=0)) if np.isfinite(values).any() else np.full(values.shape[1], UNSEEN)


def _percentile(values: Floats, share: float) -> float:
    return float(np.nanpercentile(values, share)) if np.isfinite(values).any() else UNSEEN


def _steps(seconds: float) -> int:
    return round(seconds * GRID_HZ)
