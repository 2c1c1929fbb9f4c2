"""One measured figure, and how it prints; and what is measured in more than one bench."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Figure:
    """`value` in `unit` against `goal`, a ceiling unless `most` is false; `how` is the small print."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = True
    how: str = ""

    @property
    def ok(self) -> bool:
        """Whether the goal is met; a figure without a goal is there to be read."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.most else self.value >= self.goal

    def __str__(self) -> str:
        goal = "-" if self.goal is None else f"{'<=' if self.most else '>='}{self.goal:g}"
        return f"{self.name} {self.value:.4g} {self.unit} {goal} {'ok' if self.ok else 'short'}  {self.how}".rstrip()


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has taken so far, of all its threads."""
    times = process.cpu_times()
    return float(times.user + times.system)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was measured, never one between two.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("no values were measured")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
