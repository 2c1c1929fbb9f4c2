"""What becomes of a number between two analyses, for every number."""

import pytest

from services.rules.changes import Change, Verdict, summarize
from services.rules.numbers import NUMBERS, Better, format_rounded, format_value

each_number = pytest.mark.parametrize("name", NUMBERS)


def change(name: str, value: float, detectable: float = 1.0, absent_reason: str = "") -> Change:
    return Change(name, value, detectable, NUMBERS[name].unit, abs(value) > detectable, absent_reason)


@each_number
def test_a_clear_change_is_better_in_the_good_direction_of_its_number_alone(name: str) -> None:
    """A lower head is better and a lower knee angle is worse; without a direction a change is neither."""
    up, down = change(name, 5.0), change(name, -5.0)
    expected = {
        Better.HIGHER: (Verdict.BETTER, Verdict.WORSE),
        Better.LOWER: (Verdict.WORSE, Verdict.BETTER),
        Better.UNJUDGED: (Verdict.CHANGED, Verdict.CHANGED),
    }[NUMBERS[name].better]
    assert (up.verdict, down.verdict) == expected
    for each, way in ((up, "more"), (down, "less")):
        assert each.sentence.lower().startswith(f"{each.verdict}: ")
        assert f" {way}, 5.0 times the " in each.sentence


@each_number
def test_nothing_is_better_or_worse_within_what_errors_make(name: str) -> None:
    """Either way, and without any change."""
    for value in (0.9, -0.9, 0.0):
        within = change(name, value)
        assert within.verdict is Verdict.NO_CLEAR_CHANGE
        assert within.sentence.startswith("No clear change: ")


def test_a_change_that_barely_exceeds_errors_is_not_called_one_time() -> None:
    """`1.0 times` would read as no more than errors make."""
    assert (
        change("front_knee_brace_score", 8.1, 8.0).sentence
        == "Better: 8° more, just beyond the 8° that errors alone make."
    )


def test_numbers_that_are_not_comparable_have_no_direction() -> None:
    """The page gives the reason beside it."""
    assert change("stride_length", 5.0, absent_reason="two people").verdict is Verdict.NOT_COMPARABLE


def test_a_number_of_a_later_version_is_never_judged() -> None:
    """Its direction is not known here."""
    later = Change("new_number_score", 5.0, 1.0, "furlongs", True)
    assert later.verdict is Verdict.CHANGED
    assert later.sentence.startswith("Changed: 5.0 furlongs more")


def test_a_unit_of_a_later_version_is_spelt_in_one_way() -> None:
    """In a change, in a table and in a drawing: the decimals that its error allows, then its name."""
    for value, error, words in ((5.123, 1.0, "5.1 ± 1.0"), (5.0, None, "5.00"), (123.4, 52.0, "120 ± 50")):
        rounded = format_rounded(value, "furlongs", error)
        assert format_value(value, "furlongs", error) == f"{words} furlongs"
        assert words.startswith(rounded)
        if error:
            assert f" {rounded} furlongs more, " in Change("new_number", value, error, "furlongs", True).sentence
    assert format_value(1.0, "") == "1.00"


def test_the_summary_lists_the_numbers_of_one_verdict() -> None:
    """By their one name; empty without a number."""
    changes = [change("head_stability_score", 5.0), change("elbow_drop_score", 5.0), change("stride_length", 0.0)]
    assert summarize(changes, Verdict.WORSE) == "Worse: Head, Elbow."
    assert summarize(changes, Verdict.BETTER) == ""
