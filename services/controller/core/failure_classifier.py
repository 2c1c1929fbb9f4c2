"""Classifies how a workload ended: the class decides what happens to the job, the sentence is for people.

The observed reason goes before the exit code: a process that was deleted and had to be killed also shows 137.
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
from services.controller.core.launcher import FailureReason, Observed
from services.rules import exit_codes


@dataclass(frozen=True)
class Classification:
    ending: Ending.ValueType
    # A sentence for people, without its full stop.
    sentence: str


BY_REASON = {
    FailureReason.DELETED: Classification(ENDING_DISRUPTION, "The analysis was deleted while it ran"),
    FailureReason.KILLED: Classification(ENDING_DISRUPTION, "The analysis was killed from outside, without exit code"),
    FailureReason.NEVER_STARTED: Classification(ENDING_DISRUPTION, "The controller died before the analysis started"),
    FailureReason.DISRUPTED: Classification(ENDING_DISRUPTION, "The pod was disrupted"),
    FailureReason.EVICTED: Classification(ENDING_DISRUPTION, "The node evicted the pod"),
    FailureReason.OUT_OF_MEMORY: Classification(ENDING_OUT_OF_MEMORY, "The analysis exceeded its memory limit"),
    FailureReason.DEADLINE: Classification(ENDING_DEADLINE, "The analysis exceeded its deadline"),
    FailureReason.CANNOT_START: Classification(ENDING_IMAGE, "The image's command cannot be started"),
    FailureReason.START_FAILED: Classification(ENDING_DISRUPTION, "The node failed to start the analysis"),
    FailureReason.INIT_FAILED: Classification(ENDING_UNKNOWN, "An init container failed"),
}

# 126 and 127 are the shell's, 128 is the container runtime's.
BY_EXIT_CODE = {
    exit_codes.OK: Classification(ENDING_UNKNOWN, "The analyzer succeeded, but submitted no result"),
    exit_codes.BAD_INPUT: Classification(ENDING_BAD_INPUT, "The video cannot be analysed"),
    exit_codes.UNAVAILABLE: Classification(ENDING_UNKNOWN, "A service that the analyzer needs was unavailable"),
    exit_codes.INTERNAL: Classification(ENDING_UNKNOWN, "The analyzer failed with an internal error"),
    exit_codes.LEASE_LOST: Classification(ENDING_LEASE_LOST, "The analyzer lost its lease"),
    exit_codes.CONFIGURATION: Classification(ENDING_IMAGE, "A setting of the analyzer is missing or wrong"),
    126: Classification(ENDING_IMAGE, "The analyzer cannot be executed"),
    127: Classification(ENDING_IMAGE, "The analyzer was not found"),
    128: Classification(ENDING_IMAGE, "The image's command cannot be started"),
    137: Classification(ENDING_OUT_OF_MEMORY, "The analyzer was killed, probably for lack of memory"),
}

LOST = Classification(ENDING_DISRUPTION, "The analysis disappeared, and its exit code is unknown")


def classify(observed: Observed) -> Classification:
    """Classifies a workload that ended while its launch was open."""
    if observed.failure is not None:
        return _with_details(BY_REASON[observed.failure], observed.message)
    if observed.exit_code is None:
        return _with_details(LOST, observed.message)
    known = BY_EXIT_CODE.get(observed.exit_code)
    if known is None:
        return _with_details(_by_other_exit_code(observed.exit_code), observed.message)
    return _with_details(_with_details(known, f"exit code {observed.exit_code}"), observed.message)


def _with_details(classification: Classification, details: str) -> Classification:
    if not details:
        return classification
    return Classification(classification.ending, f"{classification.sentence} ({details})")


def _by_other_exit_code(exit_code: int) -> Classification:
    # The shell and the container runtimes report a signal as 128 plus its number.
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return Classification(ENDING_UNKNOWN, f"The analyzer ended with exit code {exit_code}")
    return Classification(ENDING_DISRUPTION, f"The analyzer was ended by {name} (exit code {exit_code})")
