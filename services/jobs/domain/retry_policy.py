"""Decides from a launch's ending whether jobs queues the job again or fails it.

| ending        | next step                                                     |
|---------------|---------------------------------------------------------------|
| bad_input     | failed                                                        |
| disruption    | queued again, at most 5 times for this ending                 |
| lease_lost    | queued again, at most 5 times for this ending                 |
| out_of_memory | queued once more, with 1.5 times the memory                   |
| unschedulable | queued again, any number of times                             |
| image         | failed                                                        |
| deadline      | failed                                                        |
| unknown       | queued twice more, with backoff; then failed and dead-lettered |
"""

import random
from dataclasses import dataclass

from services.jobs.domain import states

MAX_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True)
class Rule:
    """`retries`: how many further launches this ending allows; None: any number."""

    retries: int | None
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
class NextStep:
    """`requeue`: the job is queued again after `delay_seconds`; otherwise it fails with `failure_code`."""

    requeue: bool
    failure_code: str = ""
    delay_seconds: float = 0.0
    memory_factor: float = 1.0


def next_step(ending: str, earlier: int, *, reported_code: str = "", jitter: float | None = None) -> NextStep:
    """The next step for a job that has had this ending `earlier` times before.

    The analyzer's `reported_code` replaces the rule's failure code. It never replaces DEAD_LETTERED, which decides the
    type of the event. `jitter` is 0 to 1, random by default.
    """
    rule = RULES[ending]
    if rule.retries is not None and earlier >= rule.retries:
        is_dead_letter = rule.failure_code == states.DEAD_LETTERED
        code = rule.failure_code if is_dead_letter else reported_code or rule.failure_code
        return NextStep(requeue=False, failure_code=code)
    spread = random.random() if jitter is None else jitter  # noqa: S311 (spreads load, guards nothing)
    delay = min(rule.backoff_seconds * 2**earlier * (0.5 + spread), MAX_BACKOFF_SECONDS)
    return NextStep(requeue=True, delay_seconds=delay, memory_factor=rule.memory_factor)
