"""Follows each arm through the film by what an arm can do, since the pose model swaps arms where they pass each other.

    landmarks ──relabel_arms──▶ each arm under one label ──turning──▶ its angle over time, outliers left out

In quick deliveries the model swaps the arms in 7 to 14 % of frames, mostly around the top of the action, and single
wrists leap. Limits are per second, so that they hold at any frame rate.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.kinematics import SIDES, middle, torso_length
from services.analyzer.pose.landmarks import INDEX, Poses

ARM_PARTS = ("shoulder", "elbow", "wrist", "pinky", "index", "thumb")
TRACKED_PARTS = ("wrist", "elbow", "shoulder")
# Torsos that a second of swapped labels costs: the model is right in most frames, so a swap must save a leap.
SWAPPED_PER_SECOND = 2.0
# Torsos that each exchange of labels costs, so that arms which are near each other keep theirs.
EXCHANGE = 0.3
# Torsos that one arm's leap costs at most, so that a single outlier does not decide.
LARGEST_LEAP = 2.5
# Of the last step, how much the next one is expected to repeat.
PERSISTENCE, LONGEST_STRIDE = 0.7, 1.5

# Real bowling arms turn 600 to 1,920 degrees a second in the picture, forward; backward they swing half as fast.
FORWARD_DEG_PER_SECOND, BACKWARD_DEG_PER_SECOND, SLACK_DEG = 2200.0, 1200.0, 10.0
LONGEST_GAP_SECONDS = 0.25
# What the fastest possible step costs against leaving its sample out, which costs 1.
STEP_COST = 0.15


def relabel_arms(poses: Poses) -> Poses:
    """The same series with left and right arms exchanged in the frames where the model swapped them.

    A Viterbi path over (kept, swapped): wrists, elbows and shoulders move as they moved before, and swapped labels have
    a price of their own.
    """
    at = np.flatnonzero(poses.detected)
    torso = torso_length(poses)
    if len(at) < 3 or not np.isfinite(torso):
        return poses
    centre = middle(poses, "shoulder")[at]
    # (n, 2 arms, 6) torsos from the shoulders' middle.
    arms = np.stack(
        [np.concatenate([poses.point(f"{side}_{part}")[at] - centre for part in TRACKED_PARTS], 1) for side in SIDES], 1
    )
    swapped = at[_swapped(poses.times[at], arms / torso)]
    if not len(swapped):
        return poses
    left, right = ([INDEX[f"{side}_{part}"] for part in ARM_PARTS] for side in SIDES)
    order = np.tile(np.arange(len(INDEX)), (len(poses), 1))
    order[swapped[:, None], left], order[swapped[:, None], right] = right, left
    frames = np.arange(len(poses))[:, None]
    fields: dict[str, Any] = {
        name: getattr(poses, name)[frames, order] for name in ("image", "world", "visibility", "presence")
    }
    return replace(poses, **fields)


def _swapped(times: Floats, arms: Floats) -> NDArray[np.bool_]:
    """(n,) whether the arms' labels are swapped. times: (n,) seconds, n > 2; arms: (n, 2, k) torsos."""
    both = np.stack([arms, arms[:, ::-1]], 1)  # (n, 2 labellings, 2 arms, k)
    steps = np.diff(times)
    label_cost = SWAPPED_PER_SECOND * np.concatenate([[0.0], steps])[:, None] * [0.0, 1.0]
    exchange = EXCHANGE * (1 - np.eye(2))

    def leap(a: Floats, b: Floats) -> Floats:
        return np.asarray(np.minimum(np.linalg.norm(a - b, axis=-1), LARGEST_LEAP).sum(axis=-1))

    # [k, b, c]: from labelling b to c standing still; [k, a, b, c]: as expected of a and b before.
    still = leap(both[2:, None], both[1:-1, :, None])
    stride = PERSISTENCE * np.minimum(steps[1:] / np.maximum(steps[:-1], 1e-6), LONGEST_STRIDE)
    expected = both[1:-1, None] + stride[:, None, None, None, None] * (both[1:-1, None] - both[:-2, :, None])
    moving = leap(both[2:, None, None], expected[:, :, :, None])
    cost = leap(both[1, None], both[0, :, None]) + label_cost[0][:, None] + label_cost[1][None, :] + exchange
    back = np.zeros((len(times), 2, 2), dtype=int)
    for k in range(2, len(times)):
        paths = cost[:, :, None] + np.minimum(moving[k - 2], still[k - 2][None]) + label_cost[k] + exchange
        back[k] = paths.argmin(axis=0)
        cost = paths.min(axis=0)
    b, c = np.unravel_index(int(np.argmin(cost)), cost.shape)
    labels = [int(c), int(b)]
    for k in range(len(times) - 1, 1, -1):
        labels.append(int(back[k, labels[-1], labels[-2]]))
    return np.array(labels[::-1], dtype=bool)


@dataclass(frozen=True)
class Turning:
    """How an arm turns: (n,) seconds and (n,) degrees from straight up, growing in the way of travel, unwrapped."""

    times: Floats
    degrees: Floats

    def at(self, seconds: float) -> float:
        """Degrees at a moment, by a straight line between samples; the nearest end outside them."""
        return float(np.interp(seconds, self.times, self.degrees))

    def turned(self, start: float, end: float) -> float:
        """Degrees turned from one moment to another."""
        return self.at(end) - self.at(start)


def turning(poses: Poses, side: str, way: int) -> Turning:
    """How an arm turns towards the right of the picture (way 1) or the left (-1).

    The longest chain of samples in which no step is faster than an arm can turn: a wrist that leaps is left out. Of
    two ways round, the one that takes the smaller share of its limit.
    """
    at = np.flatnonzero(poses.detected)
    arm = (poses.point(f"{side}_wrist") - poses.point(f"{side}_shoulder"))[at]
    return _chain(poses.times[at], way * np.degrees(np.arctan2(arm[:, 0], -arm[:, 1])))


def _chain(times: Floats, raw: Floats) -> Turning:
    count = len(times)
    if not count:
        return Turning(np.empty(0), np.empty(0))
    score, before, steps = np.ones(count), np.full(count, -1), np.zeros(count)
    first = np.searchsorted(times, times - LONGEST_GAP_SECONDS)
    for k in range(1, count):
        j = np.arange(first[k], k)
        if not len(j):
            continue
        seconds = times[k] - times[j]
        forward = (raw[k] - raw[j]) % 360
        backward = 360 - forward
        share_forward = forward / (FORWARD_DEG_PER_SECOND * seconds + SLACK_DEG)
        share_backward = backward / (BACKWARD_DEG_PER_SECOND * seconds + SLACK_DEG)
        goes_on = share_forward <= share_backward
        share = np.where(goes_on, share_forward, share_backward)
        reached = np.where(share <= 1, score[j] + 1 - STEP_COST * share, -np.inf)
        best = int(np.argmax(reached))
        if reached[best] > score[k]:
            score[k], before[k] = reached[best], j[best]
            steps[k] = forward[best] if goes_on[best] else -backward[best]
    chain = [int(np.argmax(score))]
    while before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    kept = np.array(chain[::-1])
    return Turning(times[kept], raw[kept[0]] + np.concatenate([[0.0], np.cumsum(steps[kept[1:]])]))
