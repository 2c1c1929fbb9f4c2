"""Finds deliveries: an arm that comes over the top as a bowling arm does, with signs that agree.

    arms under one label each ─▶ passages over the top ─▶ signs of each ─▶ the likeliest of those near each other

Boundaries lie between 14 films of real and rendered deliveries and the swings of their run-ups. In the 0.3 s around
upright the arm turned 151 to 365 degrees in a delivery, up to 142 in a run-up; in 0.7 s 297 to 614 against up to 304;
no swing of a run-up reached 0.7 of its delivery's hand speed.
"""

from dataclasses import dataclass

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.actions.arm_tracks import Turning, relabel_arms, turning
from services.analyzer.biomechanics.actions.evidence import Evidenced, Sign
from services.analyzer.biomechanics.foot_contact import Landing, find_landing
from services.analyzer.biomechanics.kinematics import SIDES, Side, foot, hand_speeds, middle, torso_length, travel
from services.analyzer.pose.landmarks import Poses

HALF_SWEEP_SECONDS, HALF_ARC_SECONDS, RISE_SECONDS = 0.15, 0.35, 0.2
APART_SECONDS = 0.9
LONGEST_STEP_SECONDS = 0.25
AROUND_TOP_SECONDS = 0.5
# By eye the ball has left 0.5 to 1.3 frames (of 30 a second) after the arm was upright.
RELEASE_AFTER_UPRIGHT_SECONDS = 0.030
# The front foot is down 0.03 to 0.32 s before the arm is upright.
STEP_SECONDS = 0.45
# Two moments, or both arms, that look nearly as much like the release.
RIVAL_SHARE = 0.65
# Both arms circle in a delivery: the front arm's hand comes over the top first, and lower.
FRONT_ARM_EARLIER_SECONDS, FRONT_ARM_LOWER_TORSOS = (0.05, 0.35), 0.1
# What a first pass, which may see every third frame, must show of a moment for a second look.
WORTH_A_LOOK_DEG = 80.0


@dataclass(frozen=True)
class Passage(Evidenced):
    """One passage of an arm over the top.

    sweep: degrees in the 0.3 s around upright. height: torsos of the hand above the head. signs: evidence for a
    delivery.
    """

    release_seconds: float
    side: Side
    sweep: float
    height: float
    signs: tuple[Sign, ...]


def find_passages(poses: Poses) -> list[Passage]:
    """Every passage of an arm over the top that turns enough to be looked at, in order of time."""
    arms = relabel_arms(poses)
    going = travel(arms)
    speeds = hand_speeds(arms)
    found = []
    for side in SIDES:
        for way in (going,) if going else (1, -1):
            turn = turning(arms, side, way)
            for upright in _uprights(turn):
                if turn.turned(upright - HALF_SWEEP_SECONDS, upright + HALF_SWEEP_SECONDS) >= WORTH_A_LOOK_DEG:
                    found.append(_passage(arms, side, way, turn, upright, speeds))
    return sorted(found, key=lambda delivery: delivery.release_seconds)


def find_deliveries(passages: list[Passage]) -> list[Passage]:
    """The passages that every sign supports, in order of time; the strongest of those near each other."""
    supported = [passage for passage in passages if passage.confidence > 0]
    supported = [one for one in supported if not any(_is_front_arm_of(other, one) for other in supported)]
    return [
        one for one in supported if all(other.strength <= one.strength for other in supported if _is_near(one, other))
    ]


def has_rival(delivery: Passage, others: list[Passage]) -> bool:
    """Whether another moment of the same delivery, or the other arm, looks nearly as much like the release."""
    return any(
        other.confidence >= RIVAL_SHARE * delivery.confidence > 0
        and _is_near(delivery, other)
        and not _is_front_arm_of(delivery, other)
        and (abs(other.release_seconds - delivery.release_seconds) > HALF_SWEEP_SECONDS or other.side != delivery.side)
        for other in others
    )


def _is_front_arm_of(delivery: Passage, other: Passage) -> bool:
    """Whether the other passage is that of the arm which does not bowl: nearly as clear, but earlier and lower."""
    earliest, latest = FRONT_ARM_EARLIER_SECONDS
    return (
        other.side != delivery.side
        and earliest <= delivery.release_seconds - other.release_seconds <= latest
        and delivery.height - other.height >= FRONT_ARM_LOWER_TORSOS
        and delivery.confidence >= RIVAL_SHARE * other.confidence > 0
    )


def _is_near(one: Passage, other: Passage) -> bool:
    return one is not other and abs(one.release_seconds - other.release_seconds) <= APART_SECONDS


def _uprights(turn: Turning) -> list[float]:
    """Seconds at which the arm passes upright, by a straight line between samples."""
    found = []
    for k in range(len(turn.times) - 1):
        start, end = turn.degrees[k], turn.degrees[k + 1]
        upright = np.ceil(start / 360) * 360
        if start < upright <= end and turn.times[k + 1] - turn.times[k] <= LONGEST_STEP_SECONDS:
            part = (upright - start) / (end - start)
            found.append(float(turn.times[k] + part * (turn.times[k + 1] - turn.times[k])))
    return found


def _passage(
    poses: Poses, side: Side, way: int, turn: Turning, upright: float, speeds: tuple[Floats, Floats]
) -> Passage:
    release = upright + RELEASE_AFTER_UPRIGHT_SECONDS
    sweep = turn.turned(upright - HALF_SWEEP_SECONDS, upright + HALF_SWEEP_SECONDS)
    arc = turn.turned(upright - HALF_ARC_SECONDS, upright + HALF_ARC_SECONDS)
    height = _above_head(poses, side, upright)
    signs = (
        Sign("the arm sweeps over the top", sweep, 130.0, 190.0),
        Sign("the arm turns all the way", arc, 220.0, 290.0),
        Sign("the arm comes from behind", turn.turned(upright - RISE_SECONDS, upright), 15.0, 60.0),
        Sign("the arm follows through", turn.turned(upright, upright + RISE_SECONDS), 60.0, 100.0),
        Sign("the hand is above the head", height, -0.15, 0.25),
        Sign("the hand is fastest here", _share_of_speed(speeds, side, upright), 0.65, 0.9),
        Sign("the hands are apart", _hands_apart(poses, upright), 0.5, 0.9),
        Sign("the trunk is over a landed foot", _over_landed_foot(poses, release, way), 0.0, 0.2),
        Sign("the feet point the way of travel", _toes_ahead(poses, upright, way), -0.15, -0.02),
    )
    return Passage(release, side, sweep, height, signs)


def _around(poses: Poses, seconds: float, least: float) -> slice:
    """Frames within `least` seconds of a moment, or the two beside it where the rate is lower."""
    after = int(np.searchsorted(poses.times, seconds))
    start = min(int(np.searchsorted(poses.times, seconds - least)), after - 1)
    return slice(max(0, start), max(int(np.searchsorted(poses.times, seconds + least, "right")), after + 1))


def _above_head(poses: Poses, side: Side, upright: float) -> float:
    """Torsos by which the wrist is above the nose at most around the top."""
    near = _around(poses, upright, 0.05)
    above = (poses.point("nose") - poses.point(f"{side}_wrist"))[near, 1] / torso_length(poses)
    return float(np.nanmax(above)) if np.isfinite(above).any() else float("nan")


def _share_of_speed(speeds: tuple[Floats, Floats], side: Side, upright: float) -> float:
    """The hand's speed around the top, of the fastest that either hand has near it."""
    grid, values = speeds
    column = SIDES.index(side)
    fastest = values[np.abs(grid - upright) <= APART_SECONDS].max(initial=0)
    return float(values[np.abs(grid - upright) <= 0.1, column].max(initial=0) / fastest) if fastest else float("nan")


def _hands_apart(poses: Poses, upright: float) -> float:
    """Torsos between the wrists around the top, in the median; a bat or a club holds them together."""
    near = _around(poses, upright, 0.1)
    apart = np.linalg.norm((poses.point("left_wrist") - poses.point("right_wrist"))[near], axis=1)
    return float(np.nanmedian(apart) / torso_length(poses)) if np.isfinite(apart).any() else float("nan")


def _toes_ahead(poses: Poses, upright: float, way: int) -> float:
    """Torsos by which the toes are ahead of the heels around the top, in the median; a reversed film has them behind.

    Bowlers had 0.2 to 0.4, one whose feet were out of the picture 0.1, a reversed one -0.3.
    """
    near = _around(poses, upright, AROUND_TOP_SECONDS)
    feet = [(poses.point(f"{side}_foot_index") - poses.point(f"{side}_heel"))[near, 0] for side in SIDES]
    ahead = way * np.mean(feet, axis=0) / torso_length(poses)
    return float(np.nanmedian(ahead)) if np.isfinite(ahead).any() else float("nan")


def _over_landed_foot(poses: Poses, release: float, way: int) -> float:
    """Torsos by which the landed foot is ahead of the hips at release; NaN where no step is seen just before it.

    A landing that lies behind the hips is the rear foot's, so it says nothing of the front one.
    """
    landing = find_landing(poses, release)
    if not isinstance(landing, Landing) or not 0 <= release - landing.time_seconds <= STEP_SECONDS:
        return float("nan")
    landed = foot(poses, landing.side)[_around(poses, landing.time_seconds + 0.03, 0.02)]
    hips = middle(poses, "hip")[_around(poses, release, 0.02)]
    ahead = way * float(np.nanmedian(landed[:, 0]) - np.nanmedian(hips[:, 0])) / torso_length(poses)
    return ahead if ahead > 0 else float("nan")
