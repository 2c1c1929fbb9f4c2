"""A number's error includes landmark noise, and a number is absent if the noise is too large."""

import numpy as np
import pytest

from services.analyzer.biomechanics.landmark_noise import landmark_noise, noise_error, replicates
from services.analyzer.biomechanics.measurement import UNSTEADY, measure
from services.analyzer.pose.landmarks import INDEX
from testing.data import motions

NOISE = 0.02 * motions.BODY


@pytest.mark.parametrize("fps", [25, 30, 60])
def test_landmark_noise_excludes_the_movement(fps: float) -> None:
    """A bowler in noise of 5.2 px: at most a fifth of the estimate comes from the delivery."""
    assert landmark_noise(motions.noisy(motions.bowler(fps)))[INDEX["left_knee"]] == pytest.approx(NOISE, rel=0.2)
    assert landmark_noise(motions.bowler(fps)).max() < 0.01


def test_a_clean_motion_has_no_replicates() -> None:
    """Its errors have no part from noise."""
    assert list(replicates(motions.bowler(30))) == []
    assert noise_error(1.0, []) == 0.0


def test_replicates_have_twice_the_noise_and_a_mirror_has_the_same() -> None:
    """So a mirrored clip has the same errors and the same absent numbers."""
    poses = motions.noisy(motions.bowler(30))
    here, there = list(replicates(poses)), list(replicates(motions.mirrored(poses)))
    assert np.median(landmark_noise(here[0])) == pytest.approx(2 * NOISE, rel=0.1)
    np.testing.assert_allclose(motions.mirrored(there[0]).image, here[1].image)


def test_an_error_grows_with_the_noise_until_the_number_is_absent() -> None:
    """The bowling elbow: 20 degrees, then more, then absent."""
    bowler = motions.bowler(30, elbow_deg=(150, 170))
    found = [measure(motions.noisy(bowler, share), [], "bowling") for share in (0, 0.005, 0.03)]
    clean, rough, hopeless = (each.measures["bowling_elbow_extension"] for each in found)
    assert clean.error == pytest.approx(20, abs=0.1)  # the release adds little
    assert rough.error is not None
    assert rough.error > 20
    assert hopeless.value is None
    assert found[2].metrics["front_knee_brace_score"].absent_reason == UNSTEADY
