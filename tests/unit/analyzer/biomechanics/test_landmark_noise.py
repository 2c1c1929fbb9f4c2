"""A number knows how far trembling joints put it off, and is absent where that is too far."""

import numpy as np
import pytest

from services.analyzer.biomechanics.landmark_noise import scatter, shaken, tremor
from services.analyzer.biomechanics.measurement import UNSTEADY, measure
from services.analyzer.pose.landmarks import INDEX
from testing.data import motions

NOISE = 0.02 * motions.BODY


@pytest.mark.parametrize("fps", [25, 30, 60])
def test_tremor_is_the_noise_and_not_the_movement(fps: float) -> None:
    """Of a bowler in noise of 5.2 px, a fifth of that at most is the delivery's own."""
    assert tremor(motions.noisy(motions.bowler(fps)))[INDEX["left_knee"]] == pytest.approx(NOISE, rel=0.2)
    assert tremor(motions.bowler(fps)).max() < 0.01


def test_what_does_not_tremble_is_not_shaken() -> None:
    """Nothing is added to the error of a clean movement."""
    assert list(shaken(motions.bowler(30))) == []
    assert scatter(1.0, []) == 0.0


def test_shaken_copies_tremble_twice_as_much_and_a_mirror_has_the_same() -> None:
    """So that a mirrored clip has the same errors and the same absent numbers."""
    poses = motions.noisy(motions.bowler(30))
    here, there = list(shaken(poses)), list(shaken(motions.mirrored(poses)))
    assert np.median(tremor(here[0])) == pytest.approx(2 * NOISE, rel=0.1)
    np.testing.assert_allclose(motions.mirrored(there[0]).image, here[1].image)


def test_an_error_grows_with_the_noise_until_the_number_is_gone() -> None:
    """The bowling elbow: 20 degrees, then more, then absent; never a wild number."""
    bowler = motions.bowler(30, elbow_deg=(150, 170))
    found = [measure(motions.noisy(bowler, share), [], "bowling") for share in (0, 0.005, 0.03)]
    clean, rough, hopeless = (each.measures["bowling_elbow_extension"] for each in found)
    assert clean.error == 20
    assert rough.error is not None
    assert rough.error > 20
    assert hopeless.value is None
    assert found[2].metrics["front_knee_brace_score"].absent_reason == UNSTEADY
