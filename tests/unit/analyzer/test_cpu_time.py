"""Which stage CPU seconds are counted for."""

import time
from threading import Thread

import pytest

from services.analyzer.cpu_time import CPU_SECONDS, count_cpu_time, exclude_cpu_time


@pytest.mark.parametrize("is_aside", [False, True])
def test_what_is_done_aside_is_not_the_stage_s(is_aside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that work at the same time, the stage is charged with both unless one says that it is aside."""
    monkeypatch.setitem(CPU_SECONDS, "pose", 0.0)

    def work() -> None:
        if is_aside:
            with exclude_cpu_time():
                _burn(0.3)
        else:
            _burn(0.3)

    with count_cpu_time("pose"):
        other = Thread(target=work)
        other.start()
        other.join()
    assert (CPU_SECONDS["pose"] < 0.15) is is_aside


def _burn(seconds: float) -> None:
    """CPU time, not the clock's."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass
