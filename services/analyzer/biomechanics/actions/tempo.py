"""Tells from the movement alone whether a film plays slower or faster than life.

    as filmed ─▶ does an athlete act as bodies do? ─no─▶ twice, four, eight times as fast ─▶ the first that does
                 └─▶ quicker than bodies are? ─yes─▶ twice, four times as slow ─▶ the first that is not

A running trunk falls with gravity: between two real run-ups and their slow motion lies a factor of its square. A film
without an action tells nothing of its tempo.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.actions.deliveries import Passage, find_deliveries, find_passages
from services.analyzer.biomechanics.actions.evidence import CLEAR_EVIDENCE
from services.analyzer.biomechanics.actions.strokes import Swing, find_strokes, find_swings
from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.biomechanics.kinematics import feet, frame_rate, middle, torso_length
from services.analyzer.pose.landmarks import Poses
from services.naming import Discipline

FACTORS = (2, 4, 8)
TRUNK_CUT_OFF_HZ = 4.0
# Torsos/s^2, half the range of the trunk's vertical acceleration. Bowlers in real time had 14 to 34, at half speed 6
# to 15; batters 4 to 8, at half speed 2 to 3. Free fall is about 20.
LEAST_OF_A_RUN, LEAST_OF_A_STROKE = 11.0, 3.5
LEAST_SWEEP_OF_REAL_TIME_DEG, LEAST_IN_REAL_TIME = 200.0, 14.5
# Pace of a delivery: thousands of degrees a second of the arm, times the root of the trunk's acceleration in free
# falls. It grows with the square of the tempo. Eleven real and two rendered bowlers had 0.4 to 1.4, at twice their
# speed 1.2 to 4.5: a slow bowler at twice the speed is as quick as a quick one.
PACE_OF_NO_BOWLER, PACE_OF_FEW = 1.9, 1.65
FASTER_FACTORS = (2, 4)
RUN_CUT_OFF_HZ, FREE_FALL = 6.0, 20.0
# An arm that is twice as quick may be lost. Then the trunk shows it alone, in free falls: 0.5 to 1.4 in bowlers,
# 2.9 and more at twice the speed of those whose arm is lost; 2.2 in a film that a hand shakes.
FREE_FALLS_OF_NO_RUN = 2.5
LEAST_RATE_FPS = 20.0
# Where the pose model loses the player, the trunk leaps: a covered film had a pace of 2.5.
LEAST_SEEN, PACE_OF_NO_BOWLER_IF_LOST = 0.97, 2.8
# Backlift and downswing of twelve rendered strokes: 3.6 torsos/s or more, and up to 6.0, in 0.33 s or more; at twice
# their speed up to 8.5 in up to 0.32 s.
QUICK_HANDS, SHORTEST_SWING_SECONDS = 6.4, 0.325
# Torsos/s of a downswing: 4.2 to 6.4 in rendered strokes, a defensive push among them.
QUICK_DOWNSWING = 3.3


def slowed_by(shots: Sequence[Poses], closeups: Sequence[Poses], discipline: str) -> int:
    """How many times slower than life a film looks: 1, 2, 4 or 8; 1 if it shows no action at any of these.

    closeups: a low rate hides the speed of a swing, so one close-up in real time is proof. Slow motion is looked for in
    whole shots, since a close-up of it holds a part of an action.
    """
    if discipline not in (Discipline.BATTING, Discipline.BOWLING):
        return 1
    if any(_is_plausible(poses, discipline) for poses in (*closeups, *shots)):
        return 1
    slower = ((factor, replace(shot, times=shot.times / factor)) for factor in FACTORS for shot in shots)
    return next((factor for factor, shot in slower if _has_quick_action(shot, discipline)), 1)


def may_be_at_half_speed(closeups: Sequence[Poses]) -> bool:
    """Whether a slow delivery may as well be a quick one at half speed: arm and trunk are as slow as in that.

    Three slow bowlers turned the arm by 151 to 221 degrees in 0.3 s, with 12.5 to 13.9 torsos/s^2 of the trunk; a quick
    one at half speed 191 degrees, with 12.2.
    """
    return any(
        delivery.sweep < LEAST_SWEEP_OF_REAL_TIME_DEG and 0 < _vertical_acceleration(poses) < LEAST_IN_REAL_TIME
        for poses in closeups
        for delivery in _clear_deliveries(poses)
    )


def sped_up_by(closeups: Sequence[Poses], discipline: str) -> int:
    """How many times faster than life a film looks: 1, 2 or 4; 1 if it shows no action, or one that a body can do."""
    pace = _pace(closeups) if discipline == Discipline.BOWLING else 0.0
    is_seen = all(poses.detected.mean() >= LEAST_SEEN for poses in closeups)
    if pace < (PACE_OF_NO_BOWLER if is_seen else PACE_OF_NO_BOWLER_IF_LOST):
        return 1
    return next((factor for factor in FASTER_FACTORS if pace / factor**2 < PACE_OF_FEW), FASTER_FACTORS[-1])


def may_be_faster(closeups: Sequence[Poses], discipline: str) -> bool:
    """Whether the action is as quick as few are: the film may play faster than life."""
    if discipline == Discipline.BOWLING:
        return _pace(closeups) >= PACE_OF_FEW
    strokes = [stroke for poses in closeups if frame_rate(poses) >= LEAST_RATE_FPS for stroke in _clear_strokes(poses)]
    return discipline == Discipline.BATTING and bool(strokes) and all(map(_is_quick, strokes))


def _is_quick(stroke: Swing) -> bool:
    return min(stroke.lifting, stroke.downswing) >= QUICK_HANDS and stroke.moving <= SHORTEST_SWING_SECONDS


def _pace(closeups: Sequence[Poses]) -> float:
    """The least pace of the deliveries in close-ups; 0 without one."""
    paces = [pace for poses in closeups if frame_rate(poses) >= LEAST_RATE_FPS for pace in _paces(poses)]
    return min(paces, default=0.0)


def _paces(poses: Poses) -> list[float]:
    """The pace of each delivery of a close-up; at half the tempo, if it shows none and the trunk is too quick."""
    falls = _free_falls(poses)
    for factor in (1, 2):
        slower = replace(poses, times=poses.times * factor)
        arms = [each.speed / 1000 for each in find_deliveries(find_passages(slower))]
        if arms or not falls > FREE_FALLS_OF_NO_RUN:
            return [float(factor * arm * np.sqrt(falls)) for arm in arms if np.isfinite(falls)]
    return []


def _free_falls(poses: Poses) -> float:
    """The trunk's vertical acceleration in free falls; against the feet if less, since a hand may shake the camera."""
    trunk = (middle(poses, "hip") + middle(poses, "shoulder")) / 2
    return min(_half_range(poses, path, RUN_CUT_OFF_HZ, 10.0) for path in (trunk, trunk - feet(poses))) / FREE_FALL


def _is_plausible(poses: Poses, discipline: str) -> bool:
    """Whether there is an action in it that a body of flesh can do at this tempo."""
    if _has_quick_action(poses, discipline):
        return True
    slow_stroke = discipline == Discipline.BATTING and bool(_clear_strokes(poses))
    return slow_stroke and _vertical_acceleration(poses) >= LEAST_OF_A_STROKE


def _has_quick_action(poses: Poses, discipline: str) -> bool:
    """Whether it has a stroke with a quick downswing, or a delivery after a run."""
    if discipline == Discipline.BATTING:
        return any(stroke.downswing >= QUICK_DOWNSWING for stroke in _clear_strokes(poses))
    return bool(_clear_deliveries(poses)) and _vertical_acceleration(poses) >= LEAST_OF_A_RUN


def _clear_strokes(poses: Poses) -> list[Swing]:
    return [stroke for stroke in find_strokes(find_swings(poses)) if stroke.confidence >= CLEAR_EVIDENCE]


def _clear_deliveries(poses: Poses) -> list[Passage]:
    return [each for each in find_deliveries(find_passages(poses)) if each.confidence >= CLEAR_EVIDENCE]


def _vertical_acceleration(poses: Poses) -> float:
    """Torsos/s^2 between which the trunk's vertical acceleration lies, half the range of its 2nd to 98th percentile."""
    return _half_range(poses, (middle(poses, "hip") + middle(poses, "shoulder")) / 2, TRUNK_CUT_OFF_HZ, 2.0)


def _half_range(poses: Poses, pixels: Floats, cut_off_hz: float, outside_percent: float) -> float:
    """Torsos/s^2: half the range of a path's vertical acceleration, without so much of it at either end."""
    grid, path = resample(poses.times, pixels[:, 1:] / torso_length(poses))
    edge = round(0.1 * GRID_HZ)  # the filter guesses at the ends
    if len(grid) <= 3 * edge:
        return float("nan")
    smooth = lowpass(path, cut_off_hz)[:, 0]
    acceleration = np.gradient(np.gradient(smooth, 1 / GRID_HZ), 1 / GRID_HZ)[edge:-edge]
    low, high = np.nanpercentile(acceleration, [outside_percent, 100 - outside_percent])
    return float(high - low) / 2
