"""How something ended, and in which sentence: by its class, since the class decides what happens to the job.

The reason that was seen is asked first: a process that we deleted and had to kill also shows 137.
"""

import signal
from dataclasses import dataclass

from crease.analysis.v1.launch_pb2 import (
    ENDING_BAD_INPUT,
    ENDING_DEADLINE,
    ENDING_DISRUPTION,
    ENDING_IMAGE,
    ENDING_LEASE_LOST,
    ENDING_OUT_OF_MEMORY,
    ENDING_UNKNOWN,
    Ending,
)
from services.controller.core.launcher import Reason, Seen


@dataclass(frozen=True)
class Verdict:
    ending: Ending.ValueType
    # For people: what was seen.
    sentence: str


BY_REASON = {
    Reason.DELETED: Verdict(ENDING_DISRUPTION, "It was deleted while it was at work"),
    Reason.KILLED: Verdict(ENDING_DISRUPTION, "It is gone and left no exit code: it was killed from outside"),
    Reason.NEVER_STARTED: Verdict(ENDING_DISRUPTION, "It was never started: whoever created it died first"),
    Reason.DISRUPTED: Verdict(ENDING_DISRUPTION, "Its node could not keep it"),
    Reason.EVICTED: Verdict(ENDING_DISRUPTION, "Its node threw it out"),
    Reason.OUT_OF_MEMORY: Verdict(ENDING_OUT_OF_MEMORY, "It took more memory than it may, and was killed"),
    Reason.DEADLINE: Verdict(ENDING_DEADLINE, "It ran longer than it may"),
    Reason.CANNOT_START: Verdict(ENDING_IMAGE, "What the image holds cannot be started"),
    Reason.INIT_FAILED: Verdict(ENDING_UNKNOWN, "What must run before it failed"),
}

# The analyzer's own codes are in the design; 78 is a setting that is missing or wrong, 126 and 127 are the shell's, 128
# the container runtime's.
BY_EXIT_CODE = {
    0: Verdict(ENDING_UNKNOWN, "It ended well (exit code 0), but its result was never submitted"),
    65: Verdict(ENDING_BAD_INPUT, "The video cannot be analysed (exit code 65)"),
    69: Verdict(ENDING_UNKNOWN, "A service it needs stayed away (exit code 69)"),
    70: Verdict(ENDING_UNKNOWN, "The analyzer broke (exit code 70)"),
    75: Verdict(ENDING_LEASE_LOST, "It had lost its lease (exit code 75)"),
    78: Verdict(ENDING_IMAGE, "A setting of the analyzer is missing or wrong (exit code 78)"),
    126: Verdict(ENDING_IMAGE, "The analyzer cannot be executed (exit code 126)"),
    127: Verdict(ENDING_IMAGE, "The analyzer was not found (exit code 127)"),
    128: Verdict(ENDING_IMAGE, "What the image holds cannot be started (exit code 128)"),
    137: Verdict(ENDING_OUT_OF_MEMORY, "It was killed, as happens when memory runs out (exit code 137)"),
}

GONE = Verdict(ENDING_DISRUPTION, "What ran for it is gone, and nothing tells how it ended")


def judge(seen: Seen) -> Verdict:
    """The verdict on something that has ended while its launch was still open."""
    if seen.reason is not None:
        return _with(BY_REASON[seen.reason], seen.message)
    if seen.exit_code is None:
        return _with(GONE, seen.message)
    return _with(BY_EXIT_CODE.get(seen.exit_code) or _of_code(seen.exit_code), seen.message)


def _with(verdict: Verdict, words: str) -> Verdict:
    return Verdict(verdict.ending, f"{verdict.sentence}: {words}") if words else verdict


def _of_code(exit_code: int) -> Verdict:
    # As the shell and the container runtimes say it: 128 and the signal's number.
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return Verdict(ENDING_UNKNOWN, f"It ended with exit code {exit_code}")
    return Verdict(ENDING_DISRUPTION, f"It was ended by {name} (exit code {exit_code})")
