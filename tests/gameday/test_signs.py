"""The dashboard's numbers, `crease status` and `crease why` alone name the fault."""

import pytest

from tests.alerts.rules import rules
from tests.gameday.faults import FAULTS, IN_A_CLUSTER
from tests.gameday.signs import NOTHING, READINGS, file_of, named, rows


@pytest.mark.parametrize("fault", rows())
def test_a_reading_matches_the_signs_of_its_fault_and_of_no_other(fault: str) -> None:
    """The recorded readings, matched by the page's table alone."""
    assert named(file_of(fault).read_text()) == [fault]


def test_a_healthy_system_matches_no_fault() -> None:
    """The reading of a working system has all signs of no row."""
    assert named(NOTHING.read_text()) == []


def test_every_alert_is_fired_by_a_fault_that_can_be_named() -> None:
    """No alert is proved by made-up series alone."""
    faults = (*FAULTS, *IN_A_CLUSTER)
    assert {alert for fault in faults for alert in fault.alerts} == rules().keys()
    assert [fault.name for fault in faults] == [*rows()]


def test_every_reading_has_its_row() -> None:
    """And every row has its reading."""
    assert {file_of(fault) for fault in rows()} | {NOTHING} == set(READINGS.iterdir())
