"""Defines a claim of docs/metrics.md, and the errors that claims are made of."""

from dataclasses import dataclass

import numpy as np

from services.analyzer.biomechanics.model import Measurements, Metric, MetricSpec
from services.analyzer.biomechanics.registry import SPECS
from services.rules.changes import detectable_change


@dataclass(frozen=True)
class Claim:
    """One row: the number and the clips, the worst error and its upper bound, in a unit."""

    name: str
    error: float
    bound: float
    unit: str
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.bound + 1e-9

    def __str__(self) -> str:
        verdict = "yes" if self.ok else "**no**"
        return f"| {self.name} | {self.error:.3g} {self.unit} | {self.bound:g} {self.unit} | {verdict} | {self.note} |"


def moment(measurements: Measurements, name: str) -> float:
    """Seconds of an event; NaN if it was not found."""
    return next((event.time_seconds for event in measurements.events if event.name == name), float("nan"))


def number(measurements: Measurements, spec: MetricSpec) -> float:
    """The value of a number; NaN if it is absent."""
    return value_of(measurements.everything[spec.name])


def value_of(metric: Metric) -> float:
    return float("nan") if metric.value is None else metric.value


def percent_off(one: Measurements, other: Measurements, spec: MetricSpec) -> float:
    """By how many percent of the second the first differs; 0 if both are absent, NaN if only one is."""
    a, b = number(one, spec), number(other, spec)
    return 0.0 if np.isnan(a) and np.isnan(b) else 100 * abs(a / b - 1)


def worst(errors: list[float]) -> float:
    """The largest error; infinite if a number is absent."""
    return max((float("inf") if np.isnan(error) else abs(error) for error in errors), default=float("inf"))


def given(errors: list[float], where: bool = True) -> list[float]:
    """The errors of numbers that are not absent; all errors unless `where`, since absence is then an error too."""
    return [error for error in errors if not (where and np.isnan(error))] or [0.0]


def clear(pairs: list[tuple[Measurements, Measurements]]) -> tuple[int, int]:
    """How many numbers of two films of one movement differ beyond their scatter (95 %), and of how many."""
    differ = [
        abs(a.value - b.value) > detectable_change(a.scatter or 0, b.scatter or 0)
        for one, other in pairs
        for name in SPECS
        if (a := one.everything[name]).value is not None and (b := other.everything[name]).value is not None
    ]
    return sum(differ), len(differ)


def wrong(answers: list[bool]) -> float:
    """How many of these are false."""
    return float(len(answers) - sum(answers))


def absences(values: list[float]) -> str:
    """How many of the values are absent; empty if none is."""
    missing = int(np.isnan(values).sum())
    return f"{missing} of {len(values)} absent" if missing else ""
