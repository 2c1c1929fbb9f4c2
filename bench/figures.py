"""One measured figure and its printed line, and measurements that several benches share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Figure:
    """`value` in `unit` against `goal`: an upper bound, or a lower bound if `most` is false. `how`: the conditions."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = True
    how: str = ""

    @property
    def ok(self) -> bool:
        """Whether the goal is met; true without a goal."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.most else self.value >= self.goal

    def __str__(self) -> str:
        goal = "-" if self.goal is None else f"{'<=' if self.most else '>='}{self.goal:g}"
        return f"{self.name} {self.value:.4g} {self.unit} {goal} {'ok' if self.ok else 'short'}  {self.how}".rstrip()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of all threads of a process so far."""
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
