"""Somebody who reads only the dashboard's numbers, `crease status` and `crease why` can name the fault."""

import pytest

from tests.alerts.rules import rules
from tests.gameday.faults import FAULTS, IN_A_CLUSTER
from tests.gameday.signs import NOTHING, READINGS, file_of, named, rows


@pytest.mark.parametrize("what", rows())
def test_what_was_read_fits_the_signs_of_its_fault_and_of_no_other(what: str) -> None:
    """As it was read when game days were last played; the page's table is all that is known."""
    assert named(file_of(what).read_text()) == [what]


def test_nothing_is_named_where_all_is_well() -> None:
    """A system at work has no sign of any fault."""
    assert named(NOTHING.read_text()) == []


def test_every_alert_is_fired_by_a_fault_that_can_be_named() -> None:
    """None by made up series alone."""
    faults = (*FAULTS, *IN_A_CLUSTER)
    assert {alert for fault in faults for alert in fault.alerts} == rules().keys()
    assert [fault.what for fault in faults] == [*rows()]


def test_every_reading_has_its_row() -> None:
    """And what is named in a row was played."""
    assert {file_of(what) for what in rows()} | {NOTHING} == set(READINGS.iterdir())
