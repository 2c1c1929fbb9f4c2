"""Each way to end has its class, which decides what happens to the job."""

from datetime import UTC, datetime

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.failure_classifier import classify
from services.controller.core.launcher import FailureReason, Observed, Phase


def ended(exit_code: int | None, reason: FailureReason | None = None) -> Observed:
    now = datetime.now(UTC)
    return Observed("analysis-job-1", "uid", Phase.FAILED, {}, now, ACCELERATOR_CPU, "", exit_code, reason)


@pytest.mark.parametrize(
    ("exit_code", "reason", "ending"),
    [
        (0, None, wire.ENDING_UNKNOWN),
        (65, None, wire.ENDING_BAD_INPUT),
        (69, None, wire.ENDING_UNKNOWN),
        (70, None, wire.ENDING_UNKNOWN),
        (75, None, wire.ENDING_LEASE_LOST),
        (78, None, wire.ENDING_IMAGE),
        (126, None, wire.ENDING_IMAGE),
        (127, None, wire.ENDING_IMAGE),
        (137, None, wire.ENDING_OUT_OF_MEMORY),
        (143, None, wire.ENDING_DISRUPTION),
        (129, None, wire.ENDING_DISRUPTION),
        (139, None, wire.ENDING_DISRUPTION),
        (1, None, wire.ENDING_UNKNOWN),
        (255, None, wire.ENDING_UNKNOWN),
        (None, FailureReason.KILLED, wire.ENDING_DISRUPTION),
        (None, FailureReason.NEVER_STARTED, wire.ENDING_DISRUPTION),
        (None, None, wire.ENDING_DISRUPTION),
        (137, FailureReason.DELETED, wire.ENDING_DISRUPTION),
    ],
)
def test_each_way_to_end_has_its_class(exit_code: int | None, reason: FailureReason | None, ending: int) -> None:
    """The class is the design's; the sentence names the exit code if that decided."""
    classification = classify(ended(exit_code, reason))
    assert classification.ending == ending
    assert reason in list(FailureReason) or exit_code is None or str(exit_code) in classification.sentence


def test_the_sentence_names_the_signal() -> None:
    """SIGTERM, not 143 alone."""
    assert classify(ended(143)).sentence == "The analyzer was ended by SIGTERM (exit code 143)"
