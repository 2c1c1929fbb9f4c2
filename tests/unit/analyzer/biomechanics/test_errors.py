"""A stated error is one standard deviation: 68 % of the numbers are nearer to the truth, and 95 % within twice."""

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from services.analyzer.biomechanics.action_window import find_windows, with_moved_moments
from services.analyzer.biomechanics.events import Action
from services.analyzer.biomechanics.landmark_noise import noise_error
from services.analyzer.biomechanics.measurement import measure
from testing.data import motions


def test_errors_cover_what_the_pose_model_does() -> None:
    """Bowlers and batters with the errors that the pose model has against rendered joints: too wide fails as well."""
    deviations = []
    for seed in range(3):
        knee = float(np.random.default_rng(seed).uniform(125, 155))
        bowler = motions.bowler(30, upright=2.6, landing=2.45, seconds=3.4, knee_deg=(knee, knee + 12))
        for poses, discipline in ((bowler, "bowling"), (motions.stroke(30, knee_deg=knee), "batting")):
            exact = measure(poses, [], discipline).everything
            for name, found in measure(motions.posed(poses, seed), [], discipline).everything.items():
                if found.value is not None and found.error and (true := exact[name].value) is not None:
                    deviations.append(abs(found.value - true) / found.error)
    assert len(deviations) > 45
    assert 0.60 <= fmean(each <= 1 for each in deviations) <= 0.76
    assert fmean(each <= 2 for each in deviations) >= 0.88


def test_a_moment_adds_the_change_in_its_own_error() -> None:
    """A knee that opens by 100 degrees a second has it, beside the model's 3 degrees."""
    steady, opening = (
        measure(motions.bowler(30, upright=2.6, landing=2.45, seconds=3.4, knee_deg=(140, end)), [], "bowling")
        .measures["front_knee_at_contact"]
        .error
        for end in (140, 158)
    )
    assert steady == pytest.approx(3.0, abs=0.1)
    assert np.hypot(3.0, 1.0) <= opening <= np.hypot(3.0, 2.5)


def test_a_bias_is_a_third_of_the_shift_and_its_chance_counts_once() -> None:
    """Twice the noise is four times its variance: three times what is in the value is on top of it."""
    assert noise_error(10.0, [16.0] * 8) == pytest.approx(2.0)
    scattered = 10 + np.sqrt(3) * np.random.default_rng(1).normal(0, 1, 400)
    assert noise_error(10.0, list(scattered)) == pytest.approx(1.0, rel=0.1)


def test_a_stroke_without_a_contact_is_measured_around_the_bottom_of_its_swing() -> None:
    """The hands may be fastest in the follow-through, half a second later: the window stays."""
    without_feet = motions.hidden(motions.stroke(30), "ankle", "heel", "foot_index")
    [window] = find_windows([without_feet], [], "batting")
    assert isinstance(window.action, Action)
    assert (window.start, window.end) == pytest.approx((window.action.landed_by - 0.55, window.action.landed_by + 0.15))
    follow_through = replace(window, action=replace(window.action, time_seconds=window.action.time_seconds + 0.4))
    [(earlier, later)] = with_moved_moments(follow_through)
    assert later.start - earlier.start == pytest.approx(0.05)
