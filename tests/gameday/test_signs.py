"""Somebody who reads only the dashboard's numbers, `crease status` and `crease why` can name the fault."""

import pytest

from tests.gameday.signs import NOTHING, READINGS, file_of, named, rows


@pytest.mark.parametrize("what", rows())
def test_what_was_read_fits_the_signs_of_its_fault_and_of_no_other(what: str) -> None:
    """As it was read when game days were last played; the page's table is all that is known."""
    assert named(file_of(what).read_text()) == [what]


def test_nothing_is_named_where_all_is_well() -> None:
    """A system at work has no sign of any fault."""
    assert named(NOTHING.read_text()) == []


def test_every_reading_has_its_row() -> None:
    """And what is named in a row was played."""
    assert {file_of(what) for what in rows()} | {NOTHING} == set(READINGS.iterdir())
