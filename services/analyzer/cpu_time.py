"""CPU seconds by stage, of this process and of its decoders, since it began: where the next bottleneck is."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

# `decode` and `convert` are told by the decoders, `pose` is counted here.
SPENT: defaultdict[str, float] = defaultdict(float)
_aside = 0.0


@contextmanager
def spending(stage: str) -> Iterator[None]:
    """Count what all threads of this process take during the block, but for what is done aside."""
    began = time.process_time() - _aside
    try:
        yield
    finally:
        SPENT[stage] += time.process_time() - _aside - began


@contextmanager
def aside() -> Iterator[None]:
    """What this thread takes is none of the stage that another thread is in; for one thread at a time."""
    global _aside
    began = time.thread_time()
    try:
        yield
    finally:
        _aside += time.thread_time() - began


def by_stage() -> dict[str, float]:
    """Seconds so far; `rest` is what this process took beside the stages it counts."""
    own = sum(seconds for stage, seconds in SPENT.items() if stage not in ("decode", "convert"))
    return {**SPENT, "rest": time.process_time() - own}
