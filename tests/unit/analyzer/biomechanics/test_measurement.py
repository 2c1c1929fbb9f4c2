"""Numbers of motions with known answers: right values, no invented ones, no effect of camera or frame rate."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.action_window import TOO_FEW_FOR_A_DELIVERY
from services.analyzer.biomechanics.events import close_up_windows
from services.analyzer.biomechanics.kinematics import Side, body_length
from services.analyzer.biomechanics.labels import claim
from services.analyzer.biomechanics.measurement import NO_PLAYER, measure
from services.analyzer.biomechanics.model import Measurements, Obstacle, Reliability
from services.analyzer.biomechanics.registry import METRICS, TIMING_REASON
from services.analyzer.coaching.findings import find
from services.analyzer.film_notes import contradict_view
from services.analyzer.knowledge.loader import shared
from services.analyzer.pose.landmarks import INDEX, Poses, merge_poses
from services.rules.numbers import Unit
from testing.data import motions

DISCIPLINES = ("batting", "bowling", "wicketkeeping", "fielding")
RATES = (10, 15, 30, 60)


def both_passes(whole: Poses, full: Poses, discipline: str) -> Measurements:
    """Measured as the pipeline does: the first pass, and its windows cut out of the full rate."""
    windows = close_up_windows(whole, discipline)
    return measure(whole, [motions.between(full, start, end) for start, end in windows], discipline)


def values(measured: Measurements) -> dict[str, float]:
    return {name: metric.value for name, metric in measured.metrics.items() if metric.value is not None}


@pytest.mark.parametrize("fps", RATES)
def test_sway_is_its_root_mean_square(fps: float) -> None:
    """A sine of 0.1 body over two whole periods spreads 0.0707 body, for head and trunk, within 2 %."""
    measured = measure(motions.sway(fps, 0.1), [], "fielding")
    assert measured.metrics["head_stability_score"].value == pytest.approx(0.1 / np.sqrt(2), rel=0.02)
    assert measured.metrics["balance_drift_score"].value == pytest.approx(0.1 / np.sqrt(2), rel=0.02)


def test_a_still_player_scores_full_marks() -> None:
    """The spread is 0."""
    metric = measure(motions.still(30), [], "fielding").metrics["head_stability_score"]
    assert metric.value == pytest.approx(0, abs=1e-6)
    assert metric.score == 1.0


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_a_nearer_camera_changes_nothing(size: float) -> None:
    """Lengths are shares of the athlete's own."""
    poses = motions.stroke(30)
    larger = replace(poses, image=poses.image * size, width=int(1280 * size), height=int(720 * size))
    assert values(measure(larger, [], "batting")) == pytest.approx(values(measure(poses, [], "batting")), rel=1e-3)


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_mirrored_clip_swaps_the_sides_and_no_magnitude(discipline: str) -> None:
    """Left and right swap, all else is equal."""
    poses = motions.delivery(30) if discipline == "bowling" else motions.stroke(30)
    here = both_passes(poses, poses, discipline)
    there = both_passes(motions.mirrored(poses), motions.mirrored(poses), discipline)
    assert values(there) == pytest.approx(values(here), abs=1e-6)
    assert {here.front_leg, there.front_leg} == {Side.LEFT, Side.RIGHT}
    assert [e.name for e in here.events] == [e.name for e in there.events]


@pytest.mark.parametrize("discipline", ["batting", "bowling"])
def test_the_first_pass_rate_changes_no_number(discipline: str) -> None:
    """10 or 30 frames a second: within 5 %, since the close-up decides."""
    make = motions.delivery if discipline == "bowling" else motions.stroke
    slow, fast = (values(both_passes(make(fps), make(30), discipline)) for fps in (10, 30))
    assert len(slow) == 4
    assert slow == pytest.approx(fast, rel=0.05, abs=0.002)


def test_the_front_knee_is_its_smallest_angle_in_degrees() -> None:
    """140 as drawn, and the leg that stepped is the front one."""
    measured = both_passes(motions.stroke(10, knee_deg=140), motions.stroke(30, knee_deg=140), "batting")
    assert measured.metrics["front_knee_brace_score"].value == pytest.approx(140, abs=1)
    assert measured.metrics["front_knee_brace_score"].unit is Unit.DEGREES
    assert measured.front_leg == "left"


@pytest.mark.parametrize(("bend", "given"), [(0, True), (20, False)])
def test_a_knee_that_is_small_in_one_frame_alone_is_not_believed(bend: float, given: bool) -> None:
    """Swapped legs show a bent knee for one frame; a real leg does not bend and open by 20 px within 1/15 s."""
    poses = motions.bowler(30, knee_deg=(150, 150))
    poses.image[np.argmin(np.abs(poses.times - 8.53)), INDEX["left_knee"], 0] += bend
    assert (measure(poses, [], "bowling").metrics["front_knee_brace_score"].value is not None) == given


def test_a_knee_that_goes_straight_goes_no_further() -> None:
    """Extrapolated to the moment of release, a knee that opens to 180 would read more."""
    value = measure(motions.bowler(30, knee_deg=(150, 180)), [], "bowling").measures["front_knee_at_release"].value
    assert value == pytest.approx(180, abs=1)
    assert value is not None
    assert value <= 180


def test_an_elbow_that_hangs_is_half_an_arm_below_the_shoulder() -> None:
    """45 px: the bowler's other arm hangs."""
    measured = both_passes(motions.delivery(10), motions.delivery(30), "bowling")
    assert measured.metrics["elbow_drop_score"].value == pytest.approx(45 / body_length(motions.delivery(10)), rel=0.01)
    assert measured.throwing_arm == "right"
    assert measured.front_leg == "left"


def three_strokes(fps: float) -> list[Poses]:
    """One after the other, with knees at 120, 140 and 150 degrees."""
    return [shifted(motions.stroke(fps, knee_deg=deg), 3.1 * k) for k, deg in enumerate((120, 140, 150))]


def test_several_actions_give_their_median_and_all_as_evidence() -> None:
    """Three strokes with knees at 120, 140 and 150 degrees: 140."""
    whole, closeups = (three_strokes(fps) for fps in (10, 30))
    measured = measure(merge_poses(whole[0], whole[1:]), closeups, "batting")
    knee = measured.metrics["front_knee_brace_score"]
    assert measured.actions == 3
    assert knee.value == pytest.approx(140, abs=1)
    assert [value for _, value in knee.evidence] == pytest.approx([120, 140, 150], abs=1)


def test_worst_moments_are_apart() -> None:
    """Three at most, 0.3 s or more between any two, inside the clip."""
    evidence = measure(motions.sway(30, 0.1), [], "fielding").metrics["head_stability_score"].evidence
    times = sorted(time for time, _ in evidence)
    assert 2 <= len(times) <= 3
    assert min(np.diff(times)) >= 0.3 - 1e-3
    assert evidence[0][1] == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_without_a_player_there_is_no_number(discipline: str) -> None:
    """No metric, event or side, and the reason; also for an empty series."""
    for poses in (motions.undetected(30), motions.between(motions.undetected(30), 9, 10)):
        measured = measure(poses, [], discipline)
        assert values(measured) == {}
        assert measured.metrics["head_stability_score"].absent_reason == NO_PLAYER
        assert (measured.events, measured.front_leg, measured.throwing_arm) == ([], None, None)
        assert measured.detection_rate_percent == 0
        assert measured.reliability is Reliability.LOW


def test_legs_out_of_the_picture_leave_no_knee_but_the_others() -> None:
    """Movement is then relative to the hips, at lower confidence, and a note says so."""
    poses = motions.hidden(motions.delivery(30), "knee", "ankle", "heel", "foot")
    measured = both_passes(poses, poses, "bowling")
    assert measured.metrics["front_knee_brace_score"].absent_reason == "feet not visible"
    assert set(values(measured)) == {"head_stability_score", "balance_drift_score", "elbow_drop_score"}
    assert measured.metrics["head_stability_score"].confidence < 0.5
    assert any("feet" in note for note in measured.notes)


def test_separation_timing_is_absent_with_its_reason() -> None:
    """The pose model cannot resolve it, in any clip."""
    for poses in (motions.stroke(30), motions.undetected(30)):
        metric = measure(poses, [poses], "batting").metrics["hip_shoulder_separation_timing"]
        assert (metric.value, metric.score, metric.absent_reason) == (None, None, TIMING_REASON)


def test_a_quick_look_at_a_bowler_gives_no_knee() -> None:
    """10 frames a second are too few between landing and release."""
    metric = measure(motions.delivery(10), [], "bowling").metrics["front_knee_brace_score"]
    assert metric.absent_reason == TOO_FEW_FOR_A_DELIVERY


def test_what_the_close_up_denies_the_first_pass_cannot_claim() -> None:
    """An action of the first pass counts only if a close-up confirms it."""
    measured = measure(motions.stroke(10), [motions.still(30)], "batting")
    assert measured.actions == 0
    assert measured.events == []


@pytest.mark.parametrize("discipline", DISCIPLINES)
@pytest.mark.parametrize("hole", [0, 0.3, 0.9])
def test_every_metric_has_the_contract_s_shape(discipline: str, hole: float) -> None:
    """Five names, null value and score exactly with a reason, scores 0 to 1; also with holes."""
    poses = motions.delivery(30)
    poses.image[(poses.times > 1.4 - hole) & (poses.times < 1.4)] = np.nan
    measured = both_passes(poses, poses, discipline)
    assert list(measured.metrics) == [spec.name for spec in METRICS]
    for metric in measured.metrics.values():
        assert (metric.value is None) == (metric.score is None) == (metric.absent_reason is not None)
        assert metric.value is None or np.isfinite([metric.value, *(value for _, value in metric.evidence)]).all()
        assert metric.score is None or 0 <= metric.score <= 1
        assert 0 <= metric.confidence <= 1


def shifted(poses: Poses, seconds: float) -> Poses:
    return replace(poses, times=poses.times + seconds)


def test_each_repetition_has_its_numbers() -> None:
    """Three strokes with their moments and values; their differences are scatter, and no error of the median."""
    whole, closeups = (three_strokes(fps) for fps in (10, 30))
    measured = measure(merge_poses(whole[0], whole[1:]), closeups, "batting")
    one = measure(motions.stroke(10), closeups[:1], "batting")
    knees = [repetition.values["front_knee_brace_score"] for repetition in measured.repetitions]
    assert knees == pytest.approx([120, 140, 150], abs=1)
    assert [r.contact_seconds for r in measured.repetitions] == pytest.approx([1.4, 4.5, 7.6], abs=0.04)
    knee_of_one, knee = (m.metrics["front_knee_brace_score"] for m in (one, measured))
    assert [knee_of_one.error, knee.error] == pytest.approx([3, 3], rel=0.05)
    assert knee.scatter == pytest.approx(np.hypot(3, 1.2533 * np.std([120, 140, 150], ddof=1) / np.sqrt(3)), rel=0.05)


def test_under_10_frames_a_second_nothing_is_measured() -> None:
    """An action would go undetected, and the whole clip would be measured instead."""
    for poses, discipline in ((motions.stroke(5), "batting"), (motions.delivery(5), "bowling")):
        measured = measure(poses, [], discipline)
        assert values(measured) == {}
        assert all(
            m.absent_reason and "too few" in m.absent_reason
            for m in measured.metrics.values()
            if m.unit is not Unit.SECONDS
        )


def test_from_behind_only_the_lean_of_the_trunk_is_measured() -> None:
    """Knee, stride and drift need a camera at the side; the lean needs one along the pitch."""
    measured = measure(motions.from_behind(motions.delivery(30), 20), [], "bowling")
    for name in ("balance_drift_score", "front_knee_brace_score"):
        assert measured.metrics[name].absent_reason == "view not side-on"
    for name in ("stride_length", "run_up_speed_trend", "front_knee_change"):
        assert measured.measures[name].absent_reason == "view not side-on"
    assert measured.measures["trunk_lateral_flexion_at_release"].value == pytest.approx(20, abs=0.5)
    side_on = measure(motions.delivery(30), [], "bowling").measures["trunk_lateral_flexion_at_release"]
    assert side_on.absent_reason == "view not from the front or behind"


def test_a_moving_camera_has_no_run_up_speed() -> None:
    """A standing foot that drifts through the image shows that the camera moves."""
    poses = motions.bowler(30)
    assert measure(poses, [], "bowling").measures["run_up_speed_trend"].value == pytest.approx(1, rel=0.1)
    pan = 150 * np.clip(poses.times - 8.2, 0, None)
    panned = replace(poses, image=poses.image - np.stack([pan, 0 * pan], axis=1)[:, None])
    assert measure(panned, [], "bowling").measures["run_up_speed_trend"].absent_reason == (
        "the standing foot drifts in the picture: the foot slides, or the camera moves"
    )


@pytest.mark.parametrize(("visible", "reason"), [(0.85, "the elbow is not seen clearly"), (0.95, None), (0.99, None)])
def test_an_elbow_is_as_sure_as_it_is_seen(visible: float, reason: str | None) -> None:
    """An error of 20 degrees at best, of 35 if half hidden; absent under 0.9. It has no score."""
    poses = motions.bowler(30, elbow_deg=(150, 170))
    poses.visibility[:, INDEX["right_elbow"]] = visible
    measured = measure(poses, [], "bowling").measures["bowling_elbow_extension"]
    assert measured.absent_reason == reason
    assert measured.score is None
    error = {0.85: None, 0.95: 35, 0.99: 20}[visible]
    assert measured.error == (error and pytest.approx(error, abs=0.1))
    assert measured.confidence <= 0.4  # the error is as wide as the differences between bowlers


@pytest.mark.parametrize("discipline", ["wicketkeeping", "fielding"])
def test_no_number_of_a_throw_or_take_is_sure(discipline: str) -> None:
    """No sign proves these: a stroke in front of this camera looks like a take."""
    poses = motions.stroke(30)
    measured = measure(poses, [poses], discipline)
    assert measured.present()
    assert max(metric.confidence for metric in measured.everything.values()) < shared().sure_from_confidence
    assert find(measured, discipline).overall_level is None
    assert all(claim(each).startswith(("Perhaps a ", "Fastest hands")) for each in measured.repetitions)


def test_a_view_along_the_pitch_is_why_its_numbers_are_absent() -> None:
    """The step is there: it goes towards the camera."""
    measured = measure(motions.batter_along_pitch(30), [], "batting")
    assert measured.end_on
    for name in ("front_knee_brace_score", "stride_length", "front_knee_at_contact", "balance_drift_score"):
        assert measured.everything[name].absent_reason == "view not side-on"


def test_nothing_but_a_delivery_has_a_release_height() -> None:
    """A stroke has no release."""
    measured = measure(motions.stroke(30), [], "batting").measures
    for name in ("release_height", "run_up_speed_trend", "trunk_lateral_flexion_at_release", "bowling_elbow_extension"):
        assert measured[name].absent_reason == "no delivery"
    assert measured["stride_length"].value is not None


def test_a_leg_that_points_at_the_camera_has_no_knee_angle() -> None:
    """From 8 s on the shank has half its length in the picture."""
    poses = motions.bowler(30)
    assert measure(poses, [], "bowling").metrics["front_knee_brace_score"].value == pytest.approx(160, abs=3)
    for part in ("ankle", "heel", "foot_index"):
        poses.image[poses.times >= 8.0, INDEX[f"left_{part}"], 1] -= motions.THIGH / 2
    measured = measure(poses, [], "bowling")
    assert measured.actions == 1
    for name in ("front_knee_brace_score", "front_knee_at_contact", "front_knee_at_release", "front_knee_change"):
        assert measured.everything[name].absent_reason == "the front leg points at the camera"


@pytest.mark.parametrize(("discipline", "told"), [("batting", False), ("bowling", False), ("fielding", True)])
def test_only_a_film_that_is_measured_whole_is_said_to_be(discipline: str, told: bool) -> None:
    """Without a stroke or a delivery nothing is measured, so the notes and reasons claim no measurement."""
    measured = measure(motions.hidden(motions.still(30), "ankle", "heel", "foot"), [], discipline)
    assert bool(values(measured)) == told
    assert any("Measured over the whole clip" in note for note in measured.notes) == told
    assert any("movement is measured" in note for note in measured.notes) == told


def test_a_slowed_film_blames_its_speed_in_every_number() -> None:
    """There is a stroke in it, so no number says that there is none."""
    poses = motions.stroke(120)
    measured = measure(replace(poses, times=8 * poses.times), [], "batting")
    assert measured.obstacle
    assert "slowed" in measured.obstacle.reason
    reasons = {metric.absent_reason for metric in measured.everything.values() if not metric.spec.absent_reason}
    assert reasons == {measured.obstacle.reason}


def test_a_known_clock_is_not_doubted() -> None:
    """The client, or the file, says at which rate the camera recorded: a slow stroke is then a slow stroke."""
    poses = motions.stroke(120)
    slow = replace(poses, times=4 * poses.times)
    assert measure(slow, [], "batting").obstacle
    assert measure(slow, [], "batting", known_clock=True).obstacle != measure(slow, [], "batting").obstacle


def test_a_film_of_unknown_player_is_not_judged() -> None:
    """What it measures is of somebody, with little confidence."""
    who = Obstacle("two people are in view", "Which one?")
    measured = measure(motions.stroke(30), [], "batting", who=who)
    assert measured.obstacle == who
    assert max(metric.confidence for metric in measured.everything.values()) <= 0.4


@pytest.mark.parametrize(
    ("given", "along", "contradicted"),
    [
        ("side", True, True),
        ("front", True, False),
        ("behind", False, True),
        ("side", False, False),
        ("", True, False),
        ("side", None, False),
    ],
)
def test_a_view_that_contradicts_the_film_is_said(given: str, along: bool | None, contradicted: bool) -> None:
    """In the notes and beside the results; a film that does not show its view contradicts nobody."""
    poses = motions.stroke(30)
    for part in ("ankle", "heel", "foot_index"):
        poses.world[:, INDEX[f"left_{part}"]] = {None: (0, 0, 0), True: (0, 0, 0.8), False: (0.8, 0, 0)}[along]
    measured = contradict_view(measure(poses, [], "batting"), given)
    assert measured.end_on is along
    assert (measured.contradiction is not None) == contradicted
    assert (measured.contradiction in measured.notes) == contradicted


def test_feet_that_are_near_each_other_do_not_decide_the_view() -> None:
    """Before and after the stroke, for most of the film, the feet are 0.45 m apart along the picture."""
    poses = motions.from_behind(motions.stroke(30), 0)
    elsewhere = np.abs(poses.times - 1.4) > 0.5
    for part in ("ankle", "heel", "foot_index"):
        poses.world[elsewhere, INDEX[f"left_{part}"]] = (0.45, 0, 0)
    assert elsewhere.mean() > 0.6
    assert measure(poses, [], "batting").end_on is True


def test_the_view_is_decided_by_the_whole_film() -> None:
    """Filmed along the pitch, with a moment around contact in which the model sees the feet beside each other."""
    poses = motions.from_behind(motions.stroke(30), 0)
    contact = np.abs(poses.times - 1.4) < 0.15
    for part in ("ankle", "heel", "foot_index"):
        poses.world[contact, INDEX[f"left_{part}"]] = (0.8, 0, 0)
    measured = measure(poses, [], "batting")
    assert measured.actions == 1
    assert measured.metrics["front_knee_brace_score"].absent_reason == "view not side-on"
    assert measured.metrics["balance_drift_score"].absent_reason == "view not side-on"
    assert "Filmed along the pitch: numbers that need a view from the side are absent." in measured.notes
