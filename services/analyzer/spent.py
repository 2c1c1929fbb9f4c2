"""CPU seconds by stage, of this process and of its decoders, since it began: where the next bottleneck is."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

# `decode` and `convert` are told by the decoders, `pose` is counted here.
SPENT: defaultdict[str, float] = defaultdict(float)


@contextmanager
def spending(stage: str) -> Iterator[None]:
    """Count what all threads of this process take during the block."""
    began = time.process_time()
    try:
        yield
    finally:
        SPENT[stage] += time.process_time() - began


def by_stage() -> dict[str, float]:
    """Seconds so far; `rest` is what this process took beside the stages it counts."""
    own = sum(seconds for stage, seconds in SPENT.items() if stage not in ("decode", "convert"))
    return {**SPENT, "rest": time.process_time() - own}
