"""A moment that the client states is measured as stated, whatever detection finds."""

from dataclasses import replace

import numpy as np
import pytest

from services.analyzer.biomechanics.action_window import with_given
from services.analyzer.biomechanics.events import EventName, GivenEvent
from services.analyzer.biomechanics.labels import claim
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Measurements
from services.naming import CONTACT_EVENT, DISCIPLINES, GIVEN_EVENTS, Discipline
from testing.data import motions

CONTACT, RELEASE, HANDS = EventName.FRONT_FOOT_CONTACT, EventName.RELEASE, EventName.FASTEST_HANDS


def moments(measured: Measurements) -> list[tuple[str, float, str | None, bool]]:
    return [(event.name, round(event.time_seconds, 3), event.side, event.given) for event in measured.events]


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_client_may_give_the_events_that_the_results_name(discipline: Discipline) -> None:
    """By the same names, and the contact in every discipline."""
    names = {EventName(name) for name in GIVEN_EVENTS[discipline]}
    assert CONTACT_EVENT == CONTACT
    assert CONTACT in names
    assert (RELEASE in names) == (discipline == "bowling")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_given_release_is_measured_with_the_arm_that_is_up(side: str) -> None:
    """It replaces the delivery that is found; the moment is the client's to the hundredth."""
    poses = motions.delivery(30, side=side)
    measured = measure(poses, [poses], "bowling", [GivenEvent(RELEASE, 1.47)])
    assert [event for event in moments(measured) if event[0] == RELEASE] == [(RELEASE, 1.47, side, True)]
    assert (measured.throwing_arm, measured.actions) == (side, 1)
    assert measured.events[-1].confidence == 1.0
    assert "Given, not found in the film: release at 1.47 s." in measured.notes
    assert claim(measured.repetitions[0]).startswith(f"Release at 1.47 s (given), {side} arm, ")


def test_a_given_contact_keeps_the_detected_stroke_and_moves_its_window() -> None:
    """The foot that stepped is in front; the knee is measured from the given moment on."""
    poses = motions.stroke(30)
    found = measure(poses, [poses], "batting")
    moved = measure(poses, [poses], "batting", [GivenEvent(CONTACT, 1.5)])
    assert moments(moved) == [(CONTACT, 1.5, "left", True), moments(found)[1]]
    assert moved.traces[0].start == pytest.approx(found.traces[0].start + 1.5 - found.events[0].time_seconds)
    assert claim(moved.repetitions[0]).endswith("at 1.65 s, left leg in front, front foot down at 1.50 s (given)")


def test_given_moments_that_were_found_change_no_number() -> None:
    """The same moments give the same numbers, given or found."""
    poses = motions.stroke(30)
    found = measure(poses, [poses], "batting")
    given = [GivenEvent(event.name, event.time_seconds) for event in found.events]
    again = measure(poses, [poses], "batting", given)
    assert {name: metric.value for name, metric in again.everything.items()} == {
        name: metric.value for name, metric in found.everything.items()
    }


def test_an_action_that_detection_misses_is_measured_where_the_client_says() -> None:
    """A player who does not move has no stroke; given one, the film is judged."""
    still = motions.still(30)
    assert measure(still, [], "batting").obstacle is not None
    measured = measure(still, [], "batting", [GivenEvent(HANDS, 1.0)])
    assert measured.obstacle is None
    assert measured.actions == 1


def test_given_actions_replace_all_that_were_found() -> None:
    """So a coach can also remove a false one."""
    poses = motions.stroke(30)
    measured = measure(poses, [poses], "batting", [GivenEvent(HANDS, 0.6), GivenEvent(HANDS, 2.4)])
    assert [event[1] for event in moments(measured) if event[0] == HANDS] == [0.6, 2.4]


def test_a_moment_without_the_player_is_not_judged_and_says_so() -> None:
    """No window is placed where nothing was seen."""
    poses = motions.delivery(30)
    image = poses.image.copy()
    image[np.abs(poses.times - 2.0) < 0.3] = np.nan
    measured = measure(replace(poses, image=image), [], "bowling", [GivenEvent(RELEASE, 2.0)])
    assert measured.obstacle
    assert (
        measured.obstacle.reason
        == "no delivery was found in this film: the player is not seen at the given release, 2.00 s"
    )
    assert "Given, but no action was measured with it: release at 2.00 s." in measured.notes


def test_an_unused_contact_is_named() -> None:
    """A contact far from every action is of no use, and the notes say so."""
    poses = motions.stroke(30)
    measured = measure(poses, [poses], "batting", [GivenEvent(CONTACT, 0.2)])
    assert not any(event.given for event in measured.events)
    assert "Given, but no action was measured with it: front foot down at 0.20 s." in measured.notes


@pytest.mark.parametrize(
    ("windows", "given", "expected"),
    [
        ([(0.6, 2.1)], 1.4, [(0.6, 2.1)]),
        ([(0.6, 2.1)], 1.5, [(0.6, 2.1)]),
        ([(0.6, 2.1)], 2.0, [(0.6, 2.75)]),
        ([(0.6, 2.1)], 6.0, [(0.6, 2.1), (5.2, 6.75)]),
        ([(5.0, 6.0)], 0.1, [(0.0, 0.85), (5.0, 6.0)]),
        ([], 9.9, [(9.1, 10.0)]),
    ],
)
def test_a_given_moment_has_a_close_up(
    windows: list[tuple[float, float]], given: float, expected: list[tuple[float, float]]
) -> None:
    """A moved moment stays in the close-up that shows it; a new one gets its own, and windows stay apart."""
    found = with_given(windows, [GivenEvent(RELEASE, given)], 10.0)
    assert np.array(found) == pytest.approx(np.array(expected))
