"""Actions that the film hides, cuts or begins within: doubtful, whatever the joints seem to do there."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.actions.shots import jump
from services.analyzer.biomechanics.actions.sight import SEEN_THROUGHOUT, sight_of_landing
from services.analyzer.biomechanics.events import Action, EventName, find_actions
from services.analyzer.biomechanics.foot_contact import Missing
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Measurements
from services.analyzer.coaching.findings import find
from services.analyzer.pose.landmarks import Poses, merge_poses, select_frames
from testing.data import motions

# One motion of each kind of action: its discipline, the name of its moment, and seconds of it.
ACTIONS = {
    "delivery": ("bowling", EventName.RELEASE, 1.43),
    "stroke": ("batting", EventName.FASTEST_HANDS, 1.65),
    "throw": ("fielding", EventName.THROW, 1.4),
    "take": ("wicketkeeping", EventName.TAKE, 1.65),
}
each_action = pytest.mark.parametrize("kind", ACTIONS)


def motion_of(kind: str, fps: float = 30) -> Poses:
    """The motion of an action. An arm that bowls throws too, and hands that strike are together after it."""
    return motions.delivery(fps) if kind in ("delivery", "throw") else motions.stroke(fps)


def without(poses: Poses, start: float, end: float) -> Poses:
    """The motion without a detection from start to end."""
    image = poses.image.copy()
    image[(poses.times >= start) & (poses.times < end)] = np.nan
    return replace(poses, image=image)


def cut(poses: Poses, start: float, end: float) -> Poses:
    """The motion with a stretch cut out of its film."""
    left = select_frames(poses, (poses.times < start) | (poses.times >= end))
    return replace(left, times=poses.times[: len(left)])


def walking(poses: Poses, torsos_per_second: float) -> Poses:
    """The motion of a body that moves on to the right meanwhile, with a foot that stands or not."""
    return replace(poses, image=poses.image + (poses.times * torsos_per_second * motions.TORSO)[:, None, None] * (1, 0))


def the_action(poses: Poses, kind: str) -> Action:
    """The action of this kind. There is one."""
    discipline, name, _ = ACTIONS[kind]
    found = find_actions(poses, discipline)
    assert not isinstance(found, Missing), found
    [action] = [each for each in found if each.name == name]
    return action


def is_praised(measured: Measurements, discipline: str) -> bool:
    """Whether anything is claimed for sure."""
    confidences = [event.confidence for event in measured.events]
    confidences += [metric.confidence for metric in measured.everything.values()]
    return max(confidences) >= 0.5 or find(measured, discipline).overall_level is not None


@each_action
@pytest.mark.parametrize("later", [-0.05, 0.04])
def test_a_moment_that_is_not_seen_is_doubtful(kind: str, later: float) -> None:
    """Four frames around it are lost: its joints there are interpolated, and look as quick as any."""
    discipline, _, seconds = ACTIONS[kind]
    hidden = without(motion_of(kind), seconds + later - 0.07, seconds + later + 0.06)
    measured = measure(hidden, [], discipline)
    assert measured.obstacle is not None
    assert SEEN_THROUGHOUT in measured.obstacle.reason or not measured.actions
    assert not is_praised(measured, discipline)


@each_action
def test_one_lost_frame_hides_no_moment(kind: str) -> None:
    """As where a player crosses behind a stump."""
    seconds = ACTIONS[kind][2]
    seen, holed = (
        the_action(poses, kind)
        for poses in (motion_of(kind), without(motion_of(kind), seconds - 0.017, seconds + 0.016))
    )
    assert holed.evidence == pytest.approx(seen.evidence, abs=0.01)
    assert seen.evidence >= 0.8


@pytest.mark.parametrize("place", [(20.0, 700.0), (700.0, -20.0)])
@pytest.mark.parametrize("kind", ["delivery", "stroke"])
def test_hands_that_are_lost_alone_are_not_seen(kind: str, place: tuple[float, float]) -> None:
    """The body is seen; the wrists are elsewhere for four frames, in the picture or beyond its edge."""
    discipline, _, seconds = ACTIONS[kind]
    poses = motion_of(kind)
    near = np.abs(poses.times - seconds + 0.03) < 0.06
    for part in ("left_wrist", "right_wrist"):
        poses.point(part)[near] = place
    assert not is_praised(measure(poses, [], discipline), discipline)


def test_frames_of_another_rate_before_a_close_up_are_no_gap() -> None:
    """The first pass shows every third frame: a stroke that begins there is as well seen."""
    poses = motions.stroke(30)
    merged = merge_poses(motions.stroke(10), [motions.between(poses, 1.3, 2.4)])
    assert the_action(merged, "stroke").evidence == pytest.approx(the_action(poses, "stroke").evidence, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("delivery", 1.25, 1.4),
        ("delivery", 1.4, 1.6),
        ("stroke", 1.45, 1.62),
        ("stroke", 1.5, 1.72),
        ("throw", 1.3, 1.4),
    ],
)
def test_an_action_with_a_cut_inside_is_doubtful(kind: str, start: float, end: float) -> None:
    """The rest of it looks like a quicker one, and its foot lands at the cut."""
    discipline = ACTIONS[kind][0]
    hurt = walking(motion_of(kind), 2.0)
    assert jump(hurt) < 0.85
    hurt = cut(hurt, start, end)
    assert jump(hurt) > 1.0
    measured = measure(hurt, [], discipline)
    assert measured.obstacle is not None
    assert not is_praised(measured, discipline)


@pytest.mark.parametrize("motion", [motions.stroke, motions.delivery, motions.bowler, motions.walker])
@pytest.mark.parametrize("fps", [30, 60])
def test_no_movement_of_a_body_is_a_cut_inside_it(motion: Callable[[float], Poses], fps: float) -> None:
    """Nor is a frame that the camera drops, or noise, or a hand that shakes the camera."""
    poses = motion(fps)
    shaken = replace(poses, image=poses.image + (20 * np.sin(13 * poses.times))[:, None, None])
    dropped = cut(poses, 1.399, 1.399 + 1 / fps)
    for each in (poses, shaken, dropped, motions.noisy(poses, 0.01), motions.holed(poses)):
        assert jump(each) < 0.85


@each_action
@pytest.mark.parametrize("is_start", [True, False])
def test_an_action_at_the_border_of_a_shot_is_doubtful(kind: str, is_start: bool) -> None:
    """The film, or a shot of it, begins or ends within the movement."""
    discipline, _, seconds = ACTIONS[kind]
    poses = motion_of(kind)
    part = motions.between(poses, seconds - 0.09, 9) if is_start else motions.between(poses, 0, seconds + 0.09)
    measured = measure(part, [], discipline)
    assert not is_praised(measured, discipline)
    alone = motions.between(poses, 0.3 if kind in ("delivery", "throw") else 0.6, 2.4)
    assert the_action(alone, kind).evidence == pytest.approx(the_action(poses, kind).evidence)


def test_a_foot_that_is_not_seen_to_land_lands_at_an_unsure_time() -> None:
    """The player is lost for four frames around the contact, and seen at the release."""
    poses = motions.delivery(30, landing=1.1)
    hidden = without(poses, 1.03, 1.16)
    assert sight_of_landing(poses, 1.1) == 1.0
    assert sight_of_landing(hidden, 1.1) < 0.5
    seen, unseen = measure(poses, [], "bowling"), measure(hidden, [], "bowling")
    assert _confidence(seen, EventName.FRONT_FOOT_CONTACT) > 0.8
    assert _confidence(unseen, EventName.FRONT_FOOT_CONTACT) < 0.5
    assert _confidence(unseen, EventName.RELEASE) > 0.8
    assert seen.metrics["front_knee_brace_score"].confidence > 0.8
    assert unseen.metrics["front_knee_brace_score"].confidence < 0.5


def _confidence(measured: Measurements, name: EventName) -> float:
    [event] = [each for each in measured.events if each.name == name]
    return event.confidence
