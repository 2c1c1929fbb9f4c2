"""How a chaos round ends: jobs that make progress are waited for, and jobs that are stuck are described."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testing.chaos import __main__ as chaos
from testing.chaos import audit
from testing.chaos.watching import Stalls


class Pods:
    def describe(self) -> str:
        return "kind: List"


@dataclass
class Stack:
    """`events`: how many there are at each look. The jobs are final once the looks are used up."""

    folder: Path
    events: list[int]
    pods: Pods = field(default_factory=Pods)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        if statement == audit.NONE["jobs without an end"]:
            return [("job",)] if self.events else []
        return [(self.events.pop(0),)]


@pytest.mark.parametrize(("events", "all_end"), [([1, 2, 3], True), ([1, 1, 2], False), ([1, 2, 3, 4, 5], False)])
async def test_jobs_are_waited_for_while_events_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[int], *, all_end: bool
) -> None:
    """Not without end: a job may be launched again and again."""
    monkeypatch.setattr(chaos, "STUCK_SECONDS", -1.0)
    made: Any = Stack(tmp_path, events)
    assert await chaos.Round(made, Stalls(), 1, argparse.Namespace())._all_end() is all_end
    assert (tmp_path / "kubernetes.yaml").exists() is not all_end
