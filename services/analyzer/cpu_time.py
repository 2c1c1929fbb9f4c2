"""Counts CPU seconds by stage, of this process and of its decoders, since the process began: shows the bottleneck."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

# The decoders report `decode` and `convert`; `rest` is computed.
# services/jobs/metrics.py has a label for each stage.
Stage = Literal["fetch", "decode", "convert", "pose", "overlay", "rest"]
STAGES: tuple[str, ...] = get_args(Stage)
DECODER_STAGES = frozenset({"decode", "convert"})
CPU_SECONDS: defaultdict[str, float] = defaultdict(float)
_excluded_seconds = 0.0


@contextmanager
def count_cpu_time(stage: Stage) -> Iterator[None]:
    """Add the CPU time of all threads of this process during the block to a stage, except what is excluded."""
    began = time.process_time() - _excluded_seconds
    try:
        yield
    finally:
        CPU_SECONDS[stage] += time.process_time() - _excluded_seconds - began


@contextmanager
def exclude_cpu_time() -> Iterator[None]:
    """Keep this thread's CPU time out of the stage that another thread counts; for one thread at a time."""
    global _excluded_seconds
    began = time.thread_time()
    try:
        yield
    finally:
        _excluded_seconds += time.thread_time() - began


def by_stage() -> dict[str, float]:
    """Seconds so far by stage; `rest` is the time of this process outside the stages that it counts."""
    own = sum(seconds for stage, seconds in CPU_SECONDS.items() if stage not in DECODER_STAGES)
    return {**CPU_SECONDS, "rest": time.process_time() - own}
