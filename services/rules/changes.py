"""Says what became of a number between two analyses: better, worse or no clear change, against what errors make."""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from services.rules.numbers import Better, better, format_rounded, label, unit_words

# Minimal detectable change with 95 % confidence: 1.96 standard errors of a difference. Weir, Journal of Strength and
# Conditioning Research 19 (2005) 231-240.
CONFIDENCE_95 = 1.96
# `1.0 times` would read as no more than errors make.
BARELY_BEYOND = 1.05


def detectable_change(one_error: float, other_error: float) -> float:
    """The largest change that the errors of two values alone make, in 95 of 100 comparisons."""
    return CONFIDENCE_95 * math.hypot(one_error, other_error)


class Verdict(StrEnum):
    """What became of a number, in words that a person reads. CHANGED: clearly, but neither direction is better."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    NO_CLEAR_CHANGE = "no clear change"
    NOT_COMPARABLE = "not comparable"


class Change(NamedTuple):
    """The change of one number from the first analysis to the last.

    value: the last less the first. detectable: by `detectable_change`.
    """

    name: str
    value: float
    detectable: float
    unit: str
    clear: bool
    absent_reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """By the number's good direction; nothing is better or worse within what errors make."""
        if self.absent_reason:
            return Verdict.NOT_COMPARABLE
        if not self.clear:
            return Verdict.NO_CLEAR_CHANGE
        match better(self.name):
            case Better.HIGHER:
                return Verdict.BETTER if self.value > 0 else Verdict.WORSE
            case Better.LOWER:
                return Verdict.BETTER if self.value < 0 else Verdict.WORSE
            case _:
                return Verdict.CHANGED

    @property
    def sentence(self) -> str:
        """`Better: 15° more, 1.8 times the 8° that errors alone make.`"""
        verdict = self.verdict
        if verdict is Verdict.NOT_COMPARABLE:
            return "Not comparable."
        opening = f"{verdict[0].upper()}{verdict[1:]}"
        reach = self._amount(self.detectable)
        if not self.value:
            return f"{opening}: the same; errors alone make up to {reach}."
        size = f"{self._amount(abs(self.value))} {'more' if self.value > 0 else 'less'}"
        if verdict is Verdict.NO_CLEAR_CHANGE:
            return f"{opening}: {size}; errors alone make up to {reach}."
        unjudged = "; neither way is better by itself" if verdict is Verdict.CHANGED else ""
        ratio = abs(self.value) / self.detectable if self.detectable else 0.0
        times = "just beyond" if ratio < BARELY_BEYOND else f"{ratio:.1f} times"
        return f"{opening}: {size}, {times} the {reach} that errors alone make{unjudged}."

    def _amount(self, value: float) -> str:
        """A change with its unit and the decimals that errors allow."""
        return f"{format_rounded(value, self.unit, self.detectable)}{unit_words(self.unit)}"


def summarize(changes: Iterable[Change], verdict: Verdict) -> str:
    """`Better: Front knee, Head.`, the numbers with one verdict; empty if no number has it."""
    names = [label(change.name) for change in changes if change.verdict is verdict]
    return f"{verdict[0].upper()}{verdict[1:]}: {', '.join(names)}." if names else ""
