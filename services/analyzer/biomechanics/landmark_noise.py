"""Estimates how far landmark noise puts a number off, by measuring it again with twice the noise.

    landmarks ─▶ noise of each: third difference in time ─▶ replicates with twice the noise ─▶ the number again

This is simulation extrapolation (Cook and Stefanski 1994). The mean shift over the replicates estimates the number's
bias, their spread its random error.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.kinematics import torso_length
from services.analyzer.pose.landmarks import OTHER_SIDE, Poses

# A third difference of independent errors has this many times their variance: 1 + 9 + 9 + 1.
THIRD_DIFFERENCE_VARIANCE = 20.0
# Median absolute value of a normal error, in standard deviations.
MEDIAN_SIZE = 0.6745
# Noise of this many times the landmark noise, added to it, doubles it.
DOUBLING = 3.0**0.5
REPLICATES, SEED = 8, 7919
LEAST_FRAMES = 8
# Torsos; a smaller median noise changes no number. Films show 0.01 to 0.03 at 30 frames a second.
STEADY_TORSOS = 0.002


def landmark_noise(poses: Poses) -> Floats:
    """(33,) pixels: standard deviation of each landmark from frame to frame; 0 with too few frames.

    The median over time: a limb's own fast turn fills few frames, and has little weight.
    """
    steps = np.abs(np.diff(poses.image, n=3, axis=0))
    steps = steps[np.isfinite(steps).all(axis=(1, 2))]
    if len(steps) < LEAST_FRAMES:
        return np.zeros(poses.image.shape[1])
    return np.asarray(np.median(steps, axis=(0, 2)) / MEDIAN_SIZE / THIRD_DIFFERENCE_VARIANCE**0.5)


def replicates(poses: Poses) -> Iterator[Poses]:
    """Copies of the series with twice its landmark noise; none if its noise is negligible.

    Every second replicate mirrors the noise of the one before, so a mirrored clip has the same replicates, mirrored.
    """
    size = DOUBLING * landmark_noise(poses)[:, None]
    if not np.median(size) > DOUBLING * STEADY_TORSOS * torso_length(poses):
        return
    random = np.random.default_rng(SEED)
    for _ in range(REPLICATES // 2):
        noise = random.normal(0, 1, poses.image.shape)
        for each in (noise, noise[:, OTHER_SIDE] * (-1, 1)):
            yield replace(poses, image=poses.image + size * each)


def noise_error(value: float, replicate_values: list[float]) -> float:
    """Bias and random error of a value together, in its unit, from its values in the replicates.

    The replicates have three times the value's own noise variance on top of it, and a bias grows with the variance: a
    third of their mean shift is the value's own bias. The shift of a few replicates is random too; that part is left
    out, because the spread holds it.
    """
    if (n := len(replicate_values)) < 2:
        return 0.0
    shift, spread = float(np.mean(replicate_values)) - value, float(np.std(replicate_values, ddof=1))
    bias = math.sqrt(max(0.0, shift**2 - spread**2 / n)) / DOUBLING**2
    return math.hypot(bias, spread / DOUBLING)
