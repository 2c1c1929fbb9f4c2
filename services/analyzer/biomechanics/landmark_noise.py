"""How far a number is off because the joints tremble: it is read once more off joints that tremble twice as much.

    joints ─▶ tremor of each: what is left of three differences in time ─▶ shaken copies ─▶ the same number again

Where it goes then is where it came from (simulation extrapolation: Cook and Stefanski 1994): by how much it moves is
its bias, how it scatters its error. So a number says by itself when a film is too rough for it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from services.analyzer.biomechanics.kinematics import torso_length
from services.analyzer.pose.landmarks import OTHER_SIDE, Floats, Poses

# A third difference of independent errors has this many times their variance: 1 + 9 + 9 + 1.
THIRD_DIFFERENCE_VARIANCE = 20.0
# Of a normal error, standard deviations in its median size.
MEDIAN_SIZE = 0.6745
# Noise of so many times the tremor doubles it.
DOUBLING = 3.0**0.5
COPIES, SEED = 8, 7919
LEAST_FRAMES = 8
# Torsos; a median joint that trembles less moves no number. In films it is 0.01 to 0.03 at 30 frames a second.
STEADY_TORSOS = 0.002


def tremor(poses: Poses) -> Floats:
    """(33,) pixels by which each landmark is off from frame to frame, as a standard deviation; 0 with too few frames.

    The median over time, so that a limb's own quick turn, which fills few frames, counts little.
    """
    steps = np.abs(np.diff(poses.image, n=3, axis=0))
    steps = steps[np.isfinite(steps).all(axis=(1, 2))]
    if len(steps) < LEAST_FRAMES:
        return np.zeros(poses.image.shape[1])
    return np.asarray(np.median(steps, axis=(0, 2)) / MEDIAN_SIZE / THIRD_DIFFERENCE_VARIANCE**0.5)


def shaken(poses: Poses) -> Iterator[Poses]:
    """Copies whose landmarks tremble twice as much as these do; none where they don't.

    Every other one trembles as the one before would in a mirror, so that a mirrored clip has the same copies, mirrored.
    """
    size = DOUBLING * tremor(poses)[:, None]
    if not np.median(size) > DOUBLING * STEADY_TORSOS * torso_length(poses):
        return
    random = np.random.default_rng(SEED)
    for _ in range(COPIES // 2):
        noise = random.normal(0, 1, poses.image.shape)
        for each in (noise, noise[:, OTHER_SIDE] * (-1, 1)):
            yield replace(poses, image=poses.image + size * each)


def scatter(value: float, shaken_values: list[float]) -> float:
    """By how much a value is off, in its unit, from what it became of shaken copies: bias and error together."""
    if len(shaken_values) < 2:
        return 0.0
    bias, spread = np.mean(shaken_values) - value, np.std(shaken_values, ddof=1) / DOUBLING
    return float(np.hypot(bias, spread))
