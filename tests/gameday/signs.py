"""Names the fault that a reading shows, by the signs table of docs/operating.md alone.

A reading (reading.py) holds the dashboard's numbers, `crease status` and `crease why`. A sign is a phrase in the output
of the two commands, or a number of the dashboard: `Panel legend > 5`; a number without a line is 0. A sign after *no*
must not hold. A fault is named if all signs of its row hold.
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
        """The line of the reading that shows the sign; empty if the sign does not hold."""
        line = self._line(reading)
        if self.is_absent:
            return "" if line else f"no {self.text}"
        return line

    def _line(self, reading: str) -> str:
        number = NUMBER.fullmatch(self.text)
        if number is None:
            return next((line for line in reading.split(COMMANDS)[1].splitlines() if self.text in line), "")
        value = _numbers(reading).get(number[1], 0.0)
        return f"{number[1]}: {value:g}" if COMPARE[number[2]](value, float(number[3])) else ""


@cache
def rows() -> dict[str, list[Sign]]:
    """The signs of each fault on the page."""
    section = PAGE.read_text().split("\n## Naming a fault\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    return {fault.strip(): [Sign(text, bool(no)) for no, text in SIGN.findall(signs)] for fault, signs, *_ in cells}


def named(reading: str) -> list[str]:
    """The faults of the page whose every sign holds."""
    return [fault for fault, signs in rows().items() if all(sign.found(reading) for sign in signs)]


def matching_lines(reading: str, fault: str) -> list[str]:
    """The lines of a reading that show the signs of a fault."""
    return [sign.found(reading) for sign in rows()[fault]]


def file_of(fault: str) -> Path:
    """The file with the last recorded reading of a fault."""
    return READINGS / f"{fault.lower().replace(' ', '-').replace(chr(39), '')}.txt"


def _numbers(reading: str) -> dict[str, float]:
    lines = reading.split(COMMANDS)[0].splitlines()[1:]
    return {name: float(value) for name, found, value in (line.rpartition(": ") for line in lines) if found}
