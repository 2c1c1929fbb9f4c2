"""Tells from the movement alone whether a film plays slower than life.

    as filmed ─▶ does an athlete act as bodies do? ─no─▶ twice, four, eight times as fast ─▶ the first that does

A running trunk falls with gravity: between two real run-ups and their slow motion lies a factor of its square. A film
without an action tells nothing of its tempo.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.analyzer.biomechanics.actions.deliveries import find_deliveries, find_passages
from services.analyzer.biomechanics.actions.evidence import CLEAR_EVIDENCE
from services.analyzer.biomechanics.actions.strokes import Swing, find_strokes, find_swings
from services.analyzer.biomechanics.filtering import GRID_HZ, lowpass, resample
from services.analyzer.biomechanics.kinematics import middle, torso_length
from services.analyzer.pose.landmarks import Poses
from services.naming import Discipline

FACTORS = (2, 4, 8)
TRUNK_CUT_OFF_HZ = 4.0
# Torsos/s^2, half the range of the trunk's vertical acceleration. Bowlers in real time had 14 to 34, at half speed 6
# to 15; batters 4 to 8, at half speed 2 to 3. Free fall is about 20.
LEAST_OF_A_RUN, LEAST_OF_A_STROKE = 11.0, 3.5
LEAST_SWEEP_OF_REAL_TIME_DEG, LEAST_IN_REAL_TIME = 200.0, 14.5
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
        delivery.confidence >= CLEAR_EVIDENCE
        and delivery.sweep < LEAST_SWEEP_OF_REAL_TIME_DEG
        and 0 < _vertical_acceleration(poses) < LEAST_IN_REAL_TIME
        for poses in closeups
        for delivery in find_deliveries(find_passages(poses))
    )


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
    clear = any(delivery.confidence >= CLEAR_EVIDENCE for delivery in find_deliveries(find_passages(poses)))
    return clear and _vertical_acceleration(poses) >= LEAST_OF_A_RUN


def _clear_strokes(poses: Poses) -> list[Swing]:
    return [stroke for stroke in find_strokes(find_swings(poses)) if stroke.confidence >= CLEAR_EVIDENCE]


def _vertical_acceleration(poses: Poses) -> float:
    """Torsos/s^2 between which the trunk's vertical acceleration lies, half the range of its 2nd to 98th percentile."""
    height = (middle(poses, "hip") + middle(poses, "shoulder"))[:, 1:] / 2 / torso_length(poses)
    grid, path = resample(poses.times, height)
    edge = round(0.1 * GRID_HZ)  # the filter guesses at the ends
    if len(grid) <= 3 * edge:
        return float("nan")
    smooth = lowpass(path, TRUNK_CUT_OFF_HZ)[:, 0]
    acceleration = np.gradient(np.gradient(smooth, 1 / GRID_HZ), 1 / GRID_HZ)[edge:-edge]
    low, high = np.nanpercentile(acceleration, [2, 98])
    return float(high - low) / 2
