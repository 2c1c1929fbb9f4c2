"""CPU seconds are counted for the right stage."""

import time
from threading import Thread

import pytest

from services.analyzer.cpu_time import CPU_SECONDS, count_cpu_time, exclude_cpu_time


@pytest.mark.parametrize("is_excluded", [False, True])
def test_excluded_cpu_time_is_not_counted_for_the_stage(is_excluded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage counts the CPU time of both running threads, unless one of them excludes its own."""
    monkeypatch.setitem(CPU_SECONDS, "pose", 0.0)

    def work() -> None:
        if is_excluded:
            with exclude_cpu_time():
                _burn(0.3)
        else:
            _burn(0.3)

    with count_cpu_time("pose"):
        other = Thread(target=work)
        other.start()
        other.join()
    assert (CPU_SECONDS["pose"] < 0.15) is is_excluded


def _burn(seconds: float) -> None:
    """Use this much CPU time."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass
