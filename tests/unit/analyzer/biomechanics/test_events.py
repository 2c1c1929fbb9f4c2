"""Contact, release and actions of movements that were made to have them at known times."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.events import action_windows, find_actions
from services.analyzer.biomechanics.filtering import rows
from services.analyzer.biomechanics.foot_contact import TOO_FEW, Landing, Missing, find_landing, front_knee
from services.analyzer.pose.landmarks import INDEX
from testing.data import motions

RELEASE_AFTER_UPRIGHT = 0.030


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
@pytest.mark.parametrize("side", ["left", "right"])
def test_release_is_30_ms_after_the_arm_is_upright(fps: float, side: str) -> None:
    """Found at every rate, to 3 ms, with the arm that bowled."""
    [release] = find_actions(motions.delivery(fps, upright=1.413, side=side), "bowling")
    assert release.time_seconds == pytest.approx(1.413 + RELEASE_AFTER_UPRIGHT, abs=0.003)
    assert release.side == side


def test_a_mirrored_delivery_is_bowled_by_the_other_arm_at_the_same_time() -> None:
    """The way of travel and the sign of x don't matter."""
    poses = motions.delivery(30)
    [here], [there] = find_actions(poses, "bowling"), find_actions(motions.mirrored(poses), "bowling")
    assert (here.side, there.side) == ("right", "left")
    assert there.time_seconds == pytest.approx(here.time_seconds)


def test_hanging_arms_release_nothing() -> None:
    """No passage, a reason."""
    assert find_actions(motions.still(30), "bowling") == Missing("no arm goes over the top")


def test_a_swing_of_the_arm_by_the_side_is_no_release() -> None:
    """Arms of a run-up stay below the head."""
    poses = motions.still(30)
    motions.point_arm(poses, "right", np.pi + 0.8 * np.sin(2 * np.pi * 1.5 * poses.times))
    assert isinstance(find_actions(poses, "bowling"), Missing)


def test_under_10_frames_a_second_no_event_is_claimed() -> None:
    """At 5 a landing and a release are guesses."""
    poses = motions.delivery(5)
    assert find_actions(poses, "bowling") == Missing(TOO_FEW)
    assert isinstance(find_landing(poses, 1.4), Missing)


def test_two_moments_alike_are_refused() -> None:
    """Both arms over the top half a second apart: nobody can say which was the ball."""
    poses = motions.delivery(30, upright=1.4)
    motions.point_arm(poses, "left", np.radians(np.clip(1000 * (poses.times - 1.9), -185, 185)))
    assert find_actions(poses, "bowling") == Missing("two moments, or both arms, look like the release")
    assert action_windows(poses, "bowling"), "worth a closer look all the same"


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
def test_hands_are_fastest_in_the_middle_of_the_swing(fps: float) -> None:
    """Within a frame of 30."""
    [action] = find_actions(motions.stroke(fps, hands=1.65), "batting")
    assert action.time_seconds == pytest.approx(1.65, abs=1 / 30)


def test_a_still_man_does_nothing() -> None:
    """No action, and nothing to look at closer."""
    poses = motions.still(30)
    assert find_actions(poses, "batting") == Missing("no action found: the hands never move fast")
    for discipline in ("batting", "bowling", "wicketkeeping", "fielding"):
        assert action_windows(poses, discipline) == []


def test_nobody_does_nothing() -> None:
    """An empty field has no windows and raises nothing."""
    assert action_windows(motions.nobody(30), "batting") == []
    assert isinstance(find_actions(motions.nobody(30), "bowling"), Missing)


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


def test_contact_survives_swapped_legs() -> None:
    """A few frames in which left is called right move it by less than a frame."""
    poses = motions.stroke(30, landing=1.4)
    other = motions.mirrored(motions.mirrored(poses))
    swapped = motions.legs_swapped(poses, 1.44, 1.55)
    there, here = find_landing(swapped, 1.65), find_landing(other, 1.65)
    assert isinstance(there, Landing)
    assert isinstance(here, Landing)
    assert there.time_seconds == pytest.approx(here.time_seconds, abs=1 / 30)


def test_a_foot_that_lands_under_the_other_label_has_landed() -> None:
    """The first frames on its place are called the other foot's: contact is not as late as the label."""
    poses = motions.stroke(30, landing=1.4)
    there, here = find_landing(motions.legs_swapped(poses, 1.36, 1.47), 1.65), find_landing(poses, 1.65)
    assert isinstance(there, Landing)
    assert isinstance(here, Landing)
    assert there.time_seconds == pytest.approx(here.time_seconds, abs=1 / 30)


def test_who_does_not_step_does_not_land() -> None:
    """Feet that stand have no contact."""
    assert find_landing(motions.still(30), 1.5) == Missing("no step of the front foot seen")


def test_feet_out_of_the_picture_do_not_land() -> None:
    """However well they are guessed."""
    poses = motions.hidden(motions.stroke(30), "ankle", "heel", "foot")
    assert find_landing(poses, 1.65) == Missing("feet not visible")


def test_the_front_knee_is_read_from_the_leg_that_stands_there() -> None:
    """140 degrees as drawn, also where the legs are swapped."""
    poses = motions.legs_swapped(motions.stroke(30, knee_deg=140), 1.44, 1.55)
    landing = find_landing(poses, 1.65)
    assert isinstance(landing, Landing)
    times, degrees = front_knee(poses, landing, 1.7)
    np.testing.assert_allclose(degrees[times >= 1.4], 140, atol=0.5)


def test_windows_hold_the_action_and_stay_inside_the_clip() -> None:
    """0.7 s before contact to 0.75 after; release -0.8 to +0.65."""
    [(start, end)] = action_windows(motions.stroke(10, landing=1.4), "batting")
    assert start == pytest.approx(0.7, abs=0.1)
    assert end == pytest.approx(2.15, abs=0.1)
    [(start, end)] = action_windows(motions.delivery(10, upright=0.6, seconds=1.0), "bowling")
    assert start == 0
    assert end == pytest.approx(1.0, abs=0.01)


def test_windows_that_overlap_become_one() -> None:
    """Two deliveries a second apart are looked at once; both are found in the one window."""
    poses = motions.delivery(30, upright=1.0, landing=0.85, seconds=4)
    again = np.radians(np.clip(1000 * (poses.times - 2.1), -185, 185))
    late = poses.times > 1.55
    twice = motions.delivery(30, upright=1.0, landing=0.85, seconds=4)
    motions.point_arm(twice, "right", again)
    poses.image[late] = twice.image[late]
    assert len(find_actions(poses, "bowling")) == 2  # type: ignore[arg-type]
    assert len(action_windows(poses, "bowling")) == 1


def test_a_gap_in_the_clip_raises_nothing() -> None:
    """The athlete may vanish right where the action is."""
    poses = motions.delivery(30)
    poses.image[(poses.times > 1.2) & (poses.times < 1.7)] = np.nan
    assert isinstance(find_actions(poses, "bowling"), Missing)
    find_landing(poses, 1.43)
    action_windows(rows(poses, poses.times < 1.3), "bowling")


def test_hands_apart_play_no_stroke() -> None:
    """A walker's arms swing fast enough, against each other; a bat holds both hands."""
    poses = motions.stroke(30)
    turn = np.radians(60 - 120 / (1 + np.exp(-(poses.times - 1.65) / 0.04)))
    motions.point_arm(poses, "right", np.pi + turn)
    motions.point_arm(poses, "left", np.pi - turn - 1.5)
    why = "no action found: the hands move fast, but not together, or the athlete is lost"
    assert find_actions(poses, "batting") == Missing(why)


@pytest.mark.parametrize("turn", [0, 30])
@pytest.mark.parametrize(("strides_hz", "swing_deg"), [(0.8, 25), (1.0, 35), (1.4, 50)])
def test_who_just_walks_or_runs_does_nothing(strides_hz: float, swing_deg: float, turn: float) -> None:
    """His hands pass close by each other when they are fastest, but opposite ways."""
    walk = motions.turned(motions.walker(30, strides_hz=strides_hz, swing_deg=swing_deg), turn)
    for discipline in ("batting", "bowling", "fielding", "wicketkeeping"):
        assert isinstance(find_actions(walk, discipline), Missing), discipline


@pytest.mark.parametrize("discipline", ["fielding", "wicketkeeping"])
def test_a_throw_has_one_hand_over_its_shoulder(discipline: str) -> None:
    """The other arm hangs; little confidence, for no real one was tried."""
    [throw] = find_actions(motions.delivery(30), discipline)
    assert (throw.name, throw.side) == ("throw", "right")
    assert throw.confidence < 0.3


def test_both_arms_at_once_throw_and_bowl_nothing() -> None:
    """Raised to the sky, or over the top as labels that swap make them: a ball leaves one hand."""
    poses = motions.delivery(30)
    motions.point_arm(poses, "left", np.radians(np.clip(1000 * (poses.times - 1.4), -185, 185)))
    poses.image[:, [INDEX[f"left_{part}"] for part in ("shoulder", "elbow", "wrist")], 0] += 90
    assert isinstance(find_actions(poses, "bowling"), Missing)
    [fast] = find_actions(poses, "fielding")
    assert fast.name == "fastest_hands"


@pytest.mark.parametrize("discipline", ["batting", "fielding"])
def test_who_is_lost_in_the_middle_of_it_is_not_seen_to_act(discipline: str) -> None:
    """As one who turns over: from the fastest moment on, nobody is seen there."""
    stroke = motions.stroke(30)
    stroke.image[stroke.times > 1.67] = np.nan
    assert isinstance(find_actions(stroke, discipline), Missing)


def test_a_foot_that_stood_there_long_before_lands_for_no_stroke() -> None:
    """Contact is looked for in the 0.8 s before, as that of an action that the close look shows too."""
    stroke = motions.stroke(30, landing=0.7, hands=1.65)
    assert isinstance(find_landing(stroke, 1.65), Missing)
    assert isinstance(find_landing(stroke, 1.4), Landing)


def test_a_take_brings_the_hands_together() -> None:
    """And keeps them so, which a film that ends there does not show."""
    stroke = motions.stroke(30)
    [take] = find_actions(stroke, "wicketkeeping")
    assert take.name == "take"
    [cut_off] = find_actions(motions.between(stroke, 0, take.time_seconds + 0.2), "wicketkeeping")
    assert cut_off.name == "fastest_hands"


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_of_two_swings_alike_the_first_is_the_stroke(fps: float) -> None:
    """The second, a little faster, is its follow-through: so it looks from behind a golfer or a batter."""
    poses = motions.stroke(fps, seconds=3.5)
    turn = np.radians(60 - 120 / (1 + np.exp((1.65 - poses.times) / 0.04)))
    turn += np.radians(130 / (1 + np.exp((1.95 - poses.times) / 0.04)))
    for side in ("left", "right"):
        motions.point_arm(poses, side, np.pi - turn)
    [stroke] = find_actions(poses, "batting")
    assert stroke.time_seconds == pytest.approx(1.65, abs=0.02)


def test_an_over_of_six_balls_is_six_deliveries() -> None:
    """Four seconds apart, each with its release to 3 ms, and close looks that hold them all."""
    balls = [motions.delivery(30, upright=1.4, landing=1.25, seconds=3.9) for _ in range(6)]
    times = np.concatenate([ball.times + 4 * k for k, ball in enumerate(balls)])
    image = np.concatenate([ball.image for ball in balls])
    over = motions.still(30, seconds=(len(times) - 1) / 30)
    over = replace(over, times=times, image=image)
    found = find_actions(over, "bowling")
    assert [action.time_seconds for action in found] == pytest.approx([1.43 + 4 * k for k in range(6)], abs=0.003)  # type: ignore[union-attr]
    assert len(action_windows(over, "bowling")) == 6
