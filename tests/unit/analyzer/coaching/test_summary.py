"""The sentences of a report, for every discipline and level, as they were read and approved.

`python -m tests.unit.analyzer.coaching.test_summary` writes them again, to be read again.
"""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from services.analyzer.biomechanics.measurement import Measurements
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.summary import compose, level
from services.analyzer.knowledge.loader import DISCIPLINES
from testing.data.reports import judged

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


def case(discipline: str, name: str) -> tuple[Measurements, dict[str, Any]]:
    """Its measurements, and {metrics, findings, report} of results."""
    measured = judged(discipline, **CASES[name])
    findings = find(measured, discipline)
    metrics = {metric: found.as_dict() for metric, found in measured.metrics.items()}
    return measured, {"metrics": metrics, "findings": findings, "report": compose(measured, findings, discipline)}


def written(discipline: str, name: str) -> str:
    """The case as text, a sentence a line."""
    _, results = case(discipline, name)
    report = results["report"]
    lines = [f"== {discipline}, {name}", level(results), report["summary"]]
    lines += [report["reliability_warning"]] if report["reliability_warning"] else []
    for day in report["one_week_plan"]:
        cue = f" “{day['cue']}”" if day["cue"] else ""
        drills = "; ".join(f"{drill['name']}, {drill['dose']}" for drill in day["drills"])
        lines.append(f"Day {day['day']}: {day['focus']}.{cue}{' ' + drills if drills else ''}")
    return "\n".join(lines) + "\n"


def everything() -> str:
    return "\n".join(written(discipline, name) for discipline in DISCIPLINES for name in CASES)


def test_the_words_are_the_ones_that_were_read() -> None:
    """Every discipline at every level."""
    assert everything() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_level_is_what_its_case_says(discipline: str, name: str) -> None:
    """In its first word, with the numbers that make it one."""
    _, results = case(discipline, name)
    first = level(results)
    assert first.startswith("Not assessed" if name == "not seen enough" else f"{name.capitalize()}: ")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_no_sentence_stands_twice(discipline: str, name: str) -> None:
    """One fault on four days of a week has four sentences, and a cue is said once."""
    _, results = case(discipline, name)
    report = results["report"]
    said = [day[key] for day in report["one_week_plan"] for key in ("focus", "cue") if day[key]]
    sentences = [*said, *re.split(r"(?<=[.!?]) ", report["summary"])]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize("name", ["medium", "low"])
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_what_is_told_is_told_with_its_number(discipline: str, name: str) -> None:
    """Each fault in the summary has its value, its error and its mark behind it."""
    measured, results = case(discipline, name)
    advice = re.findall(r"(?:First|Then|And then)[^.]*?: .*? \((.*?)\)\.", results["report"]["summary"])
    assert len(advice) == min(3, len(results["findings"]["findings"]))
    assert all("±" in number and "the mark is" in number and "worst at 1.50 s" in number for number in advice)
    assert measured.metrics[KNEE].value is not None
    assert any(f"{measured.metrics[KNEE].value:.0f}°" in number for number in chain(advice))


def test_a_film_that_shows_too_little_is_not_judged() -> None:
    """Its numbers are counted, and nobody is told that they reach or miss a mark."""
    _, results = case("batting", "not seen enough")
    assert "40 %" in results["report"]["summary"]
    assert "mark" not in results["report"]["summary"]


if __name__ == "__main__":
    GOLDEN.write_text(everything(), encoding="utf-8")
