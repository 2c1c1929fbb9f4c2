"""The level of a report, read from the results that an analyzer submitted."""

from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """High is good. NONE: no report, or one without a level."""

    NONE = ""
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    NOT_ASSESSED = "not_assessed"


_STATED = {level.value: level for level in (Level.LOW, Level.MEDIUM, Level.HIGH)}


def level_of(results: Any) -> Level:
    """The level in a result; a row from before two-phase uploads may hold anything there."""
    findings = results.get("findings") if isinstance(results, dict) else None
    return level_of_findings(findings)


def level_of_findings(findings: Any) -> Level:
    """The level in the part `findings` of a result."""
    if not isinstance(findings, dict):
        return Level.NONE
    stated = findings.get("overall_level")
    if isinstance(stated, str) and stated in _STATED:
        return _STATED[stated]
    return Level.NOT_ASSESSED if findings.get("not_assessed_reason") else Level.NONE
