"""How a launch ended decides what its job does next, by class, never by counting alone.

| ending        | next                                                       |
|---------------|------------------------------------------------------------|
| bad_input     | failed                                                     |
| disruption    | queued again, at most 5 times for this cause               |
| lease_lost    | as disruption, with a cap of its own                       |
| out_of_memory | queued once more, with 1.5 times the memory                |
| unschedulable | queued again without costing a try                         |
| image         | failed                                                     |
| deadline      | failed                                                     |
| unknown       | queued twice more, with backoff; then failed, dead-lettered |
"""

import random
from dataclasses import dataclass

from services.jobs.domain import states

MAX_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True)
class Rule:
    """`tries`: how many further launches this cause may cost; None: any number."""

    tries: int | None
    failure_code: str
    backoff_seconds: float = 0.0
    memory_factor: float = 1.0


RULES = {
    "bad_input": Rule(0, "BAD_INPUT"),
    "disruption": Rule(5, "DISRUPTED"),
    "lease_lost": Rule(5, "LEASE_LOST"),
    "out_of_memory": Rule(1, "OUT_OF_MEMORY", memory_factor=1.5),
    "unschedulable": Rule(None, "UNSCHEDULABLE"),
    "image": Rule(0, "IMAGE"),
    "deadline": Rule(0, "DEADLINE"),
    "unknown": Rule(2, states.DEAD_LETTERED, backoff_seconds=5.0),
}


@dataclass(frozen=True)
class Next:
    """What becomes of the job: queued again after a delay, or failed with a code."""

    again: bool
    failure_code: str = ""
    delay_seconds: float = 0.0
    memory_factor: float = 1.0


def following(ending: str, before: int, *, jitter: float | None = None) -> Next:
    """What follows an ending that the job has seen `before` times already; `jitter` is 0..1, random unless given."""
    rule = RULES[ending]
    if rule.tries is not None and before >= rule.tries:
        return Next(again=False, failure_code=rule.failure_code)
    spread = random.random() if jitter is None else jitter  # noqa: S311 (spreads load, guards nothing)
    delay = min(rule.backoff_seconds * 2**before * (0.5 + spread), MAX_BACKOFF_SECONDS)
    return Next(again=True, delay_seconds=delay, memory_factor=rule.memory_factor)
