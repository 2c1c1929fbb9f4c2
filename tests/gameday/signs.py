"""Which fault a reading shows, by the signs of docs/operating.md and nothing else.

A reading (reading.py) is what somebody sees who was woken: the numbers of the dashboard, `crease status`, `crease why`.
A sign is a phrase that stands in a line of the two commands, or a number of the dashboard: `Panel legend > 5`; what
has no line there is 0. After *no*, a sign must not hold. All signs of a row together are the fault's.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from testing.servers.programs import ROOT

PAGE = ROOT / "docs" / "operating.md"
READINGS = Path(__file__).parent / "readings"
NOTHING = READINGS / "nothing.txt"
COMMANDS = "# crease status"
SIGN = re.compile(r"(no )?`([^`]+)`")
NUMBER = re.compile(r"(.+) ([<>=]) ([\d.]+)")
COMPARE: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt, "=": operator.eq}


@dataclass(frozen=True)
class Sign:
    text: str
    is_absent: bool

    def found(self, reading: str) -> str:
        """How it stands in a reading; empty where it does not hold."""
        said = self._said(reading)
        if self.is_absent:
            return "" if said else f"no {self.text}"
        return said

    def _said(self, reading: str) -> str:
        number = NUMBER.fullmatch(self.text)
        if number is None:
            return next((line for line in reading.split(COMMANDS)[1].splitlines() if self.text in line), "")
        value = _numbers(reading).get(number[1], 0.0)
        return f"{number[1]}: {value:g}" if COMPARE[number[2]](value, float(number[3])) else ""


@cache
def rows() -> dict[str, list[Sign]]:
    """The faults of the page, each with its signs."""
    section = PAGE.read_text().split("\n## Naming a fault\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    return {what.strip(): [Sign(text, bool(no)) for no, text in SIGN.findall(signs)] for what, signs, *_ in cells}


def named(reading: str) -> list[str]:
    """The faults of the page whose every sign holds."""
    return [what for what, signs in rows().items() if all(sign.found(reading) for sign in signs)]


def evidence(reading: str, what: str) -> list[str]:
    """How the signs of a fault stand in a reading."""
    return [sign.found(reading) for sign in rows()[what]]


def file_of(what: str) -> Path:
    """Where the reading of a fault is kept, as it was when game days were last played."""
    return READINGS / f"{what.lower().replace(' ', '-').replace(chr(39), '')}.txt"


def _numbers(reading: str) -> dict[str, float]:
    lines = reading.split(COMMANDS)[0].splitlines()[1:]
    return {name: float(value) for name, found, value in (line.rpartition(": ") for line in lines) if found}
