"""The sentences of a report, for every discipline and level, compared with approved ones in words.txt.

`python -m tests.unit.analyzer.coaching.test_summary` writes words.txt; read the diff before you commit it.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from services.analyzer.biomechanics.model import Measurements
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.model import Findings, Report
from services.analyzer.coaching.summary import compose, level_sentence
from services.naming import DISCIPLINES
from testing.data.reports import with_margins

GOLDEN = Path(__file__).parent / "words.txt"
HEAD, KNEE, BALANCE, ELBOW = (
    "head_stability_score", "front_knee_brace_score", "balance_drift_score", "elbow_drop_score",
)  # fmt: skip
CASES: dict[str, dict[str, float]] = {
    "high": {HEAD: 0.05, KNEE: 0.1, BALANCE: 0.2, ELBOW: 0.15},
    "medium": {HEAD: 0.05, KNEE: -0.1, BALANCE: 0.2, ELBOW: 0.15},
    "low": {HEAD: -0.03, KNEE: -0.2, BALANCE: -0.1, ELBOW: -0.02},
    "not seen enough": {HEAD: 0.05, KNEE: -0.2, "detection_rate_percent": 40.0},
}


class Case(NamedTuple):
    """One case with its findings and its report."""

    discipline: str
    measured: Measurements
    findings: Findings
    report: Report

    @property
    def level(self) -> str:
        return level_sentence(self.measured, self.findings, self.discipline)


def case(discipline: str, name: str) -> Case:
    measured = with_margins(discipline, **CASES[name])
    findings = find(measured, discipline)
    return Case(discipline, measured, findings, compose(measured, findings, discipline))


def text(discipline: str, name: str) -> str:
    """The case as text, a sentence a line."""
    made = case(discipline, name)
    report = made.report
    lines = [f"== {discipline}, {name}", made.level, report.summary]
    lines += [report.reliability_warning] if report.reliability_warning else []
    for day in report.one_week_plan:
        cue = f" “{day.cue}”" if day.cue else ""
        drills = "; ".join(f"{drill.name}, {drill.dose}" for drill in day.drills)
        lines.append(f"Day {day.day}: {day.focus}.{cue}{' ' + drills if drills else ''}")
    return "\n".join(lines) + "\n"


def all_text() -> str:
    return "\n".join(text(discipline, name) for discipline in DISCIPLINES for name in CASES)


def test_the_sentences_are_the_approved_ones() -> None:
    """Every discipline at every level."""
    assert all_text() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_level_is_that_of_its_case(discipline: str, name: str) -> None:
    """Its first word, with the numbers that decide it."""
    expected = "Not assessed" if name == "not seen enough" else f"{name.capitalize()}: "
    assert case(discipline, name).level.startswith(expected)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_no_sentence_stands_twice(discipline: str, name: str) -> None:
    """One fault on four days of a week has four sentences, and each cue is used once."""
    report = case(discipline, name).report
    days = report.one_week_plan
    words = [words for day in days for words in (day.focus, day.cue) if words]
    sentences = [*words, *re.split(r"(?<=[.!?]) ", report.summary)]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize("name", ["medium", "low"])
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_each_fault_in_the_summary_has_its_number(discipline: str, name: str) -> None:
    """Its value, its error, its worst moment and its mark."""
    made = case(discipline, name)
    advice = re.findall(r"(?:First|Then|And then)[^.]*?: .*? \((.*?)\)\.", made.report.summary)
    assert len(advice) == min(3, len(made.findings.findings))
    assert all("±" in number and "our mark is" in number and "worst at 1.50 s" in number for number in advice)
    knee = made.measured.metrics[KNEE].value
    assert knee is not None
    assert any(f"{knee:.0f}°" in number for number in advice)


@pytest.mark.parametrize("name", ["medium", "low"])
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_every_mark_says_whose_it_is(discipline: str, name: str) -> None:
    """All of ours today: neither the level nor the summary speaks of a number's own mark."""
    made = case(discipline, name)
    text = f"{made.level} {made.report.summary}"
    assert len(re.findall(r"\bmarks?\b", text)) == len(re.findall(r"\bour marks?\b", text)) > 1


def test_a_film_with_too_few_detections_is_not_judged() -> None:
    """The summary has the detection rate, and no mark."""
    summary = case("batting", "not seen enough").report.summary
    assert "40 %" in summary
    assert "mark" not in summary


if __name__ == "__main__":
    GOLDEN.write_text(all_text(), encoding="utf-8")
