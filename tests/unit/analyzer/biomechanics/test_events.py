"""Contact, release and actions of motions, at known times."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.events import Action, EventName, close_up_windows, find_actions, find_steady_actions
from services.analyzer.biomechanics.foot_contact import TOO_FEW, Landing, Missing, find_landing, front_knee
from services.analyzer.biomechanics.kinematics import FOOT, Side
from services.analyzer.pose.landmarks import INDEX, Poses, select_frames
from testing.data import motions

RELEASE_AFTER_UPRIGHT = 0.030


def actions(poses: Poses, discipline: str) -> list[Action]:
    """The actions of a motion that has some."""
    found = find_actions(poses, discipline)
    assert not isinstance(found, Missing)
    return found


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_release_is_30_ms_after_the_arm_is_upright(fps: float, side: str) -> None:
    """Found at every rate, to 3 ms, with the arm that bowled."""
    [release] = actions(motions.delivery(fps, upright=1.413, side=side), "bowling")
    assert release.time_seconds == pytest.approx(1.413 + RELEASE_AFTER_UPRIGHT, abs=0.003)
    assert release.side == side


def test_a_mirrored_delivery_is_bowled_by_the_other_arm_at_the_same_time() -> None:
    """The direction of travel and the sign of x have no effect."""
    poses = motions.delivery(30)
    [here], [there] = actions(poses, "bowling"), actions(motions.mirrored(poses), "bowling")
    assert (here.side, there.side) == ("right", "left")
    assert there.time_seconds == pytest.approx(here.time_seconds)


def test_hanging_arms_release_nothing() -> None:
    """The arm is never over the top, and the reason says so."""
    assert find_actions(motions.still(30), "bowling") == Missing("no arm was seen to go over the top")


def test_a_swing_of_the_arm_by_the_side_is_no_release() -> None:
    """Arms of a run-up stay below the head."""
    poses = motions.still(30)
    motions.point_arm(poses, "right", np.pi + 0.8 * np.sin(2 * np.pi * 1.5 * poses.times))
    assert isinstance(find_actions(poses, "bowling"), Missing)


def test_under_10_frames_a_second_no_event_is_claimed() -> None:
    """At 5 frames a second a landing and a release are not reliable."""
    poses = motions.delivery(5)
    assert find_actions(poses, "bowling") == Missing(TOO_FEW)
    assert isinstance(find_landing(poses, 1.4), Missing)


def test_two_moments_alike_are_refused() -> None:
    """Both arms over the top half a second apart: the release is ambiguous."""
    poses = motions.delivery(30, upright=1.4)
    motions.point_arm(poses, "left", np.radians(np.clip(1000 * (poses.times - 1.9), -185, 185)))
    assert find_actions(poses, "bowling") == Missing("two moments, or both arms, look like the release")
    assert close_up_windows(poses, "bowling"), "the second pass may resolve it"


@pytest.mark.parametrize("upright", [3.40, 3.43, 3.46])
def test_a_wrong_pose_in_the_coarse_pass_hides_no_delivery(upright: float) -> None:
    """The arm hangs in any one frame of the first pass; the second pass still looks where it was upright."""
    for wrong in range(31, 38):
        poses = motions.bowler(10, upright=upright, landing=upright - 0.15, seconds=4.0)
        front = np.clip(-800 * (poses.times - upright) - 20, -180, 60)
        bowling = np.clip(1000 * (poses.times - upright), -185, 185)
        bowling[wrong] = 180
        motions.point_arm(poses, "left", np.radians(front))
        motions.point_arm(poses, "right", np.radians(bowling))
        windows = close_up_windows(poses, "bowling")
        assert any(start <= upright - 0.35 and upright + 0.35 <= end for start, end in windows), wrong


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
def test_hands_are_fastest_in_the_middle_of_the_swing(fps: float) -> None:
    """Within a frame of 30."""
    [action] = actions(motions.stroke(fps, hands=1.65), "batting")
    assert action.time_seconds == pytest.approx(1.65, abs=1 / 30)


def test_a_still_man_does_nothing() -> None:
    """No action, and no window for the second pass."""
    poses = motions.still(30)
    assert find_actions(poses, "batting") == Missing("the hands were not seen to go up and come down as in a stroke")
    assert find_actions(poses, "fielding") == Missing("the hands never move fast")
    for discipline in ("batting", "bowling", "wicketkeeping", "fielding"):
        assert close_up_windows(poses, discipline) == []


def test_an_empty_field_has_no_action() -> None:
    """It has no window either, and raises nothing."""
    assert close_up_windows(motions.undetected(30), "batting") == []
    assert isinstance(find_actions(motions.undetected(30), "bowling"), Missing)


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_contact_is_where_the_foot_stops(fps: float) -> None:
    """Within a frame, on the foot that stepped, in the mirror too."""
    poses = motions.stroke(fps, landing=1.4)
    for clip, side in ((poses, "left"), (motions.mirrored(poses), "right")):
        landing = find_landing(clip, 1.65)
        assert isinstance(landing, Landing)
        assert landing.time_seconds == pytest.approx(1.4, abs=1 / fps)
        assert landing.side == side
        assert landing.step_torsos == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("part_of_a_frame", [0.3, 0.6, 0.9])
def test_a_foot_that_comes_down_slowly_lands_when_it_is_down(part_of_a_frame: float) -> None:
    """Its place is where it rests, not where it comes down: 0.07 torso before that, 58 ms at 1.2 torsos a second."""
    down = 1.4 + part_of_a_frame / 30
    poses = motions.still(30)
    for part in FOOT:
        foot = poses.image[:, INDEX[f"left_{part}"]]
        foot[:, 0] += 200 * np.clip((poses.times - 0.9) / 0.3, 0, 1)
        foot[:, 1] -= 120 * np.clip(down - poses.times, 0, 0.3)
    landing = find_landing(poses, 1.65)
    assert isinstance(landing, Landing)
    assert landing.time_seconds == pytest.approx(down - 0.058, abs=0.7 / 30)


@pytest.mark.parametrize("fps", [30, 60])
@pytest.mark.parametrize("speed", [150, 300, 500])
def test_a_dragged_rear_foot_is_not_the_front_one(fps: float, speed: float) -> None:
    """After contact it comes up behind the front foot, at up to 5 torsos a second, and passes many places."""
    poses = motions.bowler(fps)
    for part in FOOT:
        rear = poses.image[:, INDEX[f"right_{part}"]]
        rear[:, 0] += speed * np.clip(poses.times - 8.45, 0, 0.25)
    landing = find_landing(poses, 8.63)
    assert isinstance(landing, Landing)
    assert landing.time_seconds == pytest.approx(8.45, abs=0.02)
    assert landing.side == "left"


def test_contact_survives_swapped_legs() -> None:
    """A few frames with swapped labels move it by less than a frame."""
    poses = motions.stroke(30, landing=1.4)
    other = motions.mirrored(motions.mirrored(poses))
    swapped = motions.legs_swapped(poses, 1.44, 1.55)
    there, here = find_landing(swapped, 1.65), find_landing(other, 1.65)
    assert isinstance(there, Landing)
    assert isinstance(here, Landing)
    assert there.time_seconds == pytest.approx(here.time_seconds, abs=1 / 30)


def test_a_foot_that_lands_under_the_other_label_has_landed() -> None:
    """Its first frames on the place have the other label: contact is when either label arrives."""
    poses = motions.stroke(30, landing=1.4)
    there, here = find_landing(motions.legs_swapped(poses, 1.36, 1.47), 1.65), find_landing(poses, 1.65)
    assert isinstance(there, Landing)
    assert isinstance(here, Landing)
    assert there.time_seconds == pytest.approx(here.time_seconds, abs=1 / 30)


def test_feet_that_do_not_step_do_not_land() -> None:
    """A standing figure has no contact."""
    assert find_landing(motions.still(30), 1.5) == Missing("no step of the front foot seen")


def test_feet_out_of_the_picture_do_not_land() -> None:
    """Extrapolated landmarks give no contact."""
    poses = motions.hidden(motions.stroke(30), "ankle", "heel", "foot")
    assert find_landing(poses, 1.65) == Missing("feet not visible")


def test_the_front_knee_is_read_from_the_leg_that_stands_there() -> None:
    """140 degrees as drawn, also while the legs are swapped; the joints are the labels that it was read from."""
    poses = motions.legs_swapped(motions.stroke(30, knee_deg=140), 1.54, 1.64)
    landing = find_landing(poses, 1.65)
    assert isinstance(landing, Landing)
    knee = front_knee(poses, landing, 1.7)
    assert len(knee.times) >= 8
    np.testing.assert_allclose(knee.degrees, 140, atol=0.5)
    sides = {(1.54 <= time <= 1.64, names[1]) for time, names in zip(knee.times, knee.joints, strict=True)}
    assert sides == {(False, "left_knee"), (True, "right_knee")}


def test_windows_hold_the_action_and_stay_inside_the_clip() -> None:
    """Contact -0.7 to +0.75 s; release -0.8 to +0.65 s."""
    [(start, end)] = close_up_windows(motions.stroke(10, landing=1.4), "batting")
    assert start == pytest.approx(0.7, abs=0.1)
    assert end == pytest.approx(2.15, abs=0.1)
    [(start, end)] = close_up_windows(motions.delivery(10, upright=0.6, seconds=1.0), "bowling")
    assert start == 0
    assert end == pytest.approx(1.0, abs=0.01)


def test_windows_that_overlap_become_one() -> None:
    """Two deliveries a second apart share one window, and both are found in it."""
    poses = motions.delivery(30, upright=1.0, landing=0.85, seconds=4)
    again = np.radians(np.clip(1000 * (poses.times - 2.1), -185, 185))
    late = poses.times > 1.55
    twice = motions.delivery(30, upright=1.0, landing=0.85, seconds=4)
    motions.point_arm(twice, "right", again)
    poses.image[late] = twice.image[late]
    assert len(actions(poses, "bowling")) == 2
    assert len(close_up_windows(poses, "bowling")) == 1


def test_a_gap_in_the_clip_raises_nothing() -> None:
    """The athlete may be undetected during the action."""
    poses = motions.delivery(30)
    poses.image[(poses.times > 1.2) & (poses.times < 1.7)] = np.nan
    assert isinstance(find_actions(poses, "bowling"), Missing)
    find_landing(poses, 1.43)
    close_up_windows(select_frames(poses, poses.times < 1.3), "bowling")


def test_hands_apart_play_no_stroke() -> None:
    """A walker's arms swing fast enough, but against each other; a bat keeps both hands together."""
    poses = motions.stroke(30)
    turn = motions.swing(poses.times, 1.65)
    motions.point_arm(poses, "right", np.pi + turn)
    motions.point_arm(poses, "left", np.pi - turn - 1.5)
    assert isinstance(find_actions(poses, "batting"), Missing)


@pytest.mark.parametrize("turn", [0, 30])
@pytest.mark.parametrize(("strides_hz", "swing_deg"), [(0.8, 25), (1.0, 35), (1.4, 50)])
def test_a_walker_or_runner_has_no_action(strides_hz: float, swing_deg: float, turn: float) -> None:
    """The hands pass close to each other when they are fastest, but in opposite directions."""
    walk = motions.turned(motions.walker(30, strides_hz=strides_hz, swing_deg=swing_deg), turn)
    for discipline in ("batting", "bowling", "fielding", "wicketkeeping"):
        assert isinstance(find_actions(walk, discipline), Missing), discipline


@pytest.mark.parametrize("discipline", ["fielding", "wicketkeeping"])
def test_a_throw_has_one_hand_over_its_shoulder(discipline: str) -> None:
    """The other arm hangs. Confidence is low, since no real throw was validated."""
    [throw] = actions(motions.delivery(30), discipline)
    assert (throw.name, throw.side) == (EventName.THROW, Side.RIGHT)
    assert throw.confidence < 0.3


def test_both_arms_at_once_throw_and_bowl_nothing() -> None:
    """Raised, or over the top because labels swap: one hand releases a ball."""
    poses = motions.delivery(30)
    motions.point_arm(poses, "left", np.radians(np.clip(1000 * (poses.times - 1.4), -185, 185)))
    poses.image[:, [INDEX[f"left_{part}"] for part in ("shoulder", "elbow", "wrist")], 0] += 90
    assert isinstance(find_actions(poses, "bowling"), Missing)
    [fast] = actions(poses, "fielding")
    assert fast.name == EventName.FASTEST_HANDS


@pytest.mark.parametrize("discipline", ["batting", "fielding"])
def test_an_athlete_lost_during_the_swing_has_no_action(discipline: str) -> None:
    """From the fastest moment on there is no detection."""
    stroke = motions.stroke(30)
    stroke.image[stroke.times > 1.67] = np.nan
    assert isinstance(find_actions(stroke, discipline), Missing)


def test_a_foot_that_stood_there_long_before_lands_for_no_stroke() -> None:
    """Contact lies in the 0.8 s before the action, which the close-up shows too."""
    stroke = motions.stroke(30, landing=0.7, hands=1.65)
    assert isinstance(find_landing(stroke, 1.65), Missing)
    assert isinstance(find_landing(stroke, 1.4), Landing)


def test_a_take_brings_the_hands_together() -> None:
    """And keeps them together, which a film that ends there does not show."""
    stroke = motions.stroke(30)
    [take] = actions(stroke, "wicketkeeping")
    assert take.name == EventName.TAKE
    [cut_off] = actions(motions.between(stroke, 0, take.time_seconds + 0.2), "wicketkeeping")
    assert cut_off.name == EventName.FASTEST_HANDS


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_of_two_swings_alike_the_first_is_the_stroke(fps: float) -> None:
    """The second, a little faster, is its follow-through, as filmed from behind a golfer or a batter."""
    poses = motions.stroke(fps, seconds=3.5)
    turn = motions.swing(poses.times, 1.65)
    turn += np.radians(130 / (1 + np.exp((1.95 - poses.times) / 0.04)))
    for side in ("left", "right"):
        motions.point_arm(poses, side, np.pi - turn)
    [stroke] = actions(poses, "batting")
    assert stroke.time_seconds == pytest.approx(1.65, abs=0.02)


def test_an_over_of_six_balls_is_six_deliveries() -> None:
    """Four seconds apart, each with its release to 3 ms, and a window for each."""
    balls = [motions.delivery(30, upright=1.4, landing=1.25, seconds=3.9) for _ in range(6)]
    times = np.concatenate([ball.times + 4 * k for k, ball in enumerate(balls)])
    image = np.concatenate([ball.image for ball in balls])
    over = motions.still(30, seconds=(len(times) - 1) / 30)
    over = replace(over, times=times, image=image)
    found = actions(over, "bowling")
    assert [action.time_seconds for action in found] == pytest.approx([1.43 + 4 * k for k in range(6)], abs=0.003)
    assert len(close_up_windows(over, "bowling")) == 6


@pytest.mark.parametrize(("discipline", "motion"), [("bowling", motions.delivery), ("batting", motions.stroke)])
def test_an_action_that_half_of_the_frames_do_not_show_is_less_sure(
    discipline: str, motion: Callable[[float], Poses]
) -> None:
    """Every second frame is enough to see the action; a series of it that sees nothing makes the action less sure."""
    poses = motion(30)
    steady = find_steady_actions(poses, discipline, poses)
    poses.image[::2] = np.nan
    unsteady = find_steady_actions(poses, discipline, poses)
    assert not isinstance(steady, Missing)
    assert not isinstance(unsteady, Missing)
    assert steady[0].evidence > 0.8
    assert (unsteady[0].evidence, unsteady[0].weakest_sign) == (0.7, "half of the frames show it too")
    assert unsteady[0].confidence == pytest.approx(0.7 * 0.9)
    assert unsteady[0].landed_by == pytest.approx(steady[0].landed_by, abs=0.05)


def test_an_action_that_twice_the_noise_hides_is_less_sure() -> None:
    """Noise of 4 % of a body leaves a stroke; in some copies twice that hides it."""
    poses = motions.noisy(motions.stroke(60), 0.04, seed=2)
    plain = find_actions(poses, "batting")
    steady = find_steady_actions(poses, "batting", poses)
    assert not isinstance(plain, Missing)
    assert not isinstance(steady, Missing)
    assert steady[0].evidence < plain[0].evidence
    assert steady[0].weakest_sign == "a less steady film shows it too"
