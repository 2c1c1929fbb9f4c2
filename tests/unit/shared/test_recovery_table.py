"""The table of recoveries in docs/operating.md: a run of `make e2e` writes its times, and each has its row."""

import re
import string

import pytest

from tests.e2e import recovery

MEASURED = {name for cell in recovery.CELLS.values() for _, name, _, _ in string.Formatter().parse(cell) if name}
TIMES = "".join(f"{number + 0.4:7.1f}s  {what}, until it is over\n" for number, what in enumerate(sorted(MEASURED)))


def test_a_run_writes_its_times_and_nothing_else() -> None:
    before = recovery.PAGE.read_text()
    after = recovery.renew(before, TIMES)
    changed = [(old, new) for old, new in zip(before.split("\n"), after.split("\n"), strict=True) if old != new]
    assert all(old.rpartition(" | ")[0] == new.rpartition(" | ")[0] for old, new in changed)
    for number, what in enumerate(sorted(MEASURED)):
        [row] = [fault for fault, cell in recovery.CELLS.items() if f"{{{what}}}" in cell]
        [line] = [line for line in after.split("\n") if line.startswith(f"| {row}")]
        assert f"{number} s" in line


def test_a_run_that_lacks_a_time_changes_nothing() -> None:
    with pytest.raises(KeyError, match="pod deleted"):
        recovery.renew(recovery.PAGE.read_text(), re.sub(".*pod deleted.*\n", "", TIMES))


def test_each_time_of_the_table_is_measured() -> None:
    source = (recovery.ROOT / "tests" / "e2e" / "test_failures.py").read_text()
    measured = re.findall(r'with timed\(f?"([^,"]+),', source)
    measured += [one.replace("{program}", program) for one in measured for program in ("jobs", "upload", "controller")]
    assert MEASURED.issubset(measured)
