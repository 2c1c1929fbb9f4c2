"""How people read a number: the decimals that its error allows, and one sign for below zero."""

import pytest

from services.rules.numbers import NUMBERS, Unit, format_number, format_rounded, format_value


@pytest.mark.parametrize(
    ("value", "unit", "error", "words"),
    [
        (0.0897, Unit.BODY_LENGTHS, 0.0571, "0.09 ± 0.06 body lengths"),
        (0.1238, Unit.BODY_LENGTHS, 0.0062, "0.124 ± 0.006 body lengths"),
        (0.1864, Unit.BODY_LENGTHS, 0.0191, "0.186 ± 0.019 body lengths"),
        (0.1925, Unit.BODY_LENGTHS, None, "0.19 body lengths"),
        (3.9, Unit.DEGREES, 22.4, "4° ± 22°"),
        (-2.2, Unit.DEGREES, 38.0, "0° ± 40°"),
        (131.6, Unit.DEGREES, 3.3, "132° ± 3°"),
        (0.09, Unit.PER_SECOND, 0.51, "10 % ± 50 % a second"),
        (-0.4231, Unit.PER_SECOND, 0.2104, "−42 % ± 21 % a second"),
        (0.3791, Unit.SECONDS, 0.0702, "0.38 ± 0.07 s"),
        (-0.4, Unit.DEGREES, None, "0°"),
        (-17.6, Unit.DEGREES, 6.0, "−18° ± 6°"),
    ],
)
def test_a_number_has_the_decimals_that_its_error_allows(
    value: float, unit: Unit, error: float | None, words: str
) -> None:
    """Two figures of an error up to 3.5, one above it; at most two decimals where no error is known."""
    assert format_value(value, unit, error) == words


@pytest.mark.parametrize("unit", sorted({number.unit for number in NUMBERS.values()}))
@pytest.mark.parametrize("error", [0.0004, 0.002, 0.019, 0.034, 0.036, 0.09, 0.5, 3.0, 9.9, 36.0])
def test_a_value_ends_where_its_error_ends(unit: Unit, error: float) -> None:
    """Never a digit more, and never a digit less."""
    value, stated = format_number(1.23456, unit, error).replace(unit.sign, "").split(" ± ")
    assert len(value.partition(".")[2]) == len(stated.partition(".")[2])
    assert format_rounded(1.23456, unit, error).replace(unit.sign, "") == value


def test_the_smallest_angle_says_that_it_is_smoothed() -> None:
    """The knee at the end is not: in one of five films it is a degree or two smaller than the smallest."""
    assert "smoothed" in NUMBERS["front_knee_brace_score"].meaning
    assert "smoothed" not in NUMBERS["front_knee_at_release"].meaning
