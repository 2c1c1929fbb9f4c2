"""Builds the phrases that summary and week plan share: counts, numbers with their marks, confidence words."""

from collections.abc import Collection

from services.analyzer.biomechanics.labels import format_mark, mark_name
from services.analyzer.biomechanics.model import Measurements, Metric
from services.analyzer.biomechanics.registry import METRICS, guidance
from services.analyzer.knowledge.loader import MarkOrigin, shared
from services.naming import DISCIPLINES
from services.rules.numbers import format_value

COUNT_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
HIGH_CONFIDENCE = 0.75


def count_phrase(number: int) -> str:
    """`two` for 2; digits from nine on."""
    return COUNT_WORDS[number] if number < len(COUNT_WORDS) else str(number)


def all_numbers(count: int) -> str:
    """`both numbers`, `all four numbers`."""
    return f"{'both' if count == 2 else f'all {count_phrase(count)}'} numbers"


def whose_mark(discipline: str) -> str:
    """`our mark`; `the mark` without a discipline, or if a study holds one of the discipline's."""
    if discipline not in DISCIPLINES:
        return "the mark"
    marks = [mark for spec in METRICS if (mark := guidance(discipline).mark(spec.name))]
    return "our mark" if all(mark.stated.origin is MarkOrigin.JUDGEMENT for mark in marks) else "the mark"


def reached_phrase(reached: int, measured: int, discipline: str) -> str:
    """`all four numbers reach our mark`; of numbers that are too close to call it is not said."""
    mark = whose_mark(discipline)
    if reached == 0:
        return f"no number is clear of {mark}"
    return f"{_of_all(reached, measured)} {'reaches' if reached == 1 else 'reach'} {mark}"


def missed_phrase(missed: int, measured: int, discipline: str) -> str:
    """`two of four numbers miss our mark`."""
    return f"{_of_all(missed, measured)} {'misses' if missed == 1 else 'miss'} {whose_mark(discipline)}"


def _of_all(some: int, measured: int) -> str:
    """`both numbers` of two, `three of four numbers`."""
    if some == measured:
        return "the one number" if measured == 1 else all_numbers(measured)
    return f"{count_phrase(some)} of {count_phrase(measured)} numbers"


def number_phrase(metric: Metric, discipline: str, worst_seconds: float | None = None) -> str:
    """A measured number with its error, its worst moment if given, and its mark if it has one."""
    assert metric.value is not None  # noqa: S101 - callers pass measured numbers
    mark = guidance(discipline).mark(metric.spec.name)
    worst = "" if worst_seconds is None else f", worst at {worst_seconds:.2f} s"
    aim = f"; {mark_name(mark)} is {format_mark(mark, metric.unit)}" if mark else ""
    return f"{format_value(metric.value, metric.unit, metric.error)}{worst}{aim}"


def nearest_to_mark(measurements: Measurements, discipline: str, without: Collection[Metric] = ()) -> Metric | None:
    """The metric with the least score above its mark, none of those `without`; None if no other has a mark."""
    margins: dict[str, float] = {}
    for name, metric in measurements.metrics.items():
        mark = guidance(discipline).mark(name)
        if metric not in without and metric.score is not None and mark:
            margins[name] = metric.score - mark.threshold
    return measurements.metrics[min(margins, key=lambda name: margins[name])] if margins else None


def confidence_word(confidence: float) -> str:
    """`high`, `medium` or `low` for a confidence, 0..1."""
    if confidence >= HIGH_CONFIDENCE:
        return "high"
    return "medium" if confidence >= shared().sure_from_confidence else "low"


def lower_first(text: str) -> str:
    """The text with a lower-case first letter."""
    return text[0].lower() + text[1:]
