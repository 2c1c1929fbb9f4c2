"""How something ended decides what becomes of its job, so each class is told apart."""

from datetime import UTC, datetime

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.failure_classifier import judge
from services.controller.core.launcher import Phase, Reason, Seen


def ended(exit_code: int | None, reason: Reason | None = None) -> Seen:
    return Seen("analysis-job-1", "uid", Phase.FAILED, {}, datetime.now(UTC), 1, "", exit_code, reason)


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
        (None, Reason.KILLED, wire.ENDING_DISRUPTION),
        (None, Reason.NEVER_STARTED, wire.ENDING_DISRUPTION),
        (None, None, wire.ENDING_DISRUPTION),
        (137, Reason.DELETED, wire.ENDING_DISRUPTION),
    ],
)
def test_each_way_to_end_has_its_class(exit_code: int | None, reason: Reason | None, ending: int) -> None:
    """The class is the design's, and the sentence names the exit code where it decided."""
    verdict = judge(ended(exit_code, reason))
    assert verdict.ending == ending
    assert reason in list(Reason) or exit_code is None or str(exit_code) in verdict.sentence


def test_a_sentence_names_the_signal() -> None:
    """An operator reads SIGTERM, not 143 alone."""
    assert judge(ended(143)).sentence == "It was ended by SIGTERM (exit code 143)"
