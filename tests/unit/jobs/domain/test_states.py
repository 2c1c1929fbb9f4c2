"""The table of states, held against the drawing."""

import pytest

from services.jobs.domain import states
from services.jobs.domain.states import ResultStage, Status


def test_nothing_leaves_a_final_state() -> None:
    """done and cancelled are in no list of sources."""
    for sources in states.SOURCES.values():
        assert not sources & states.FINAL


def test_only_a_queued_job_can_be_started() -> None:
    """Neither a job that awaits its upload nor a failed one ever runs."""
    assert states.SOURCES[states.QUICK_RUNNING] == {states.QUEUED}
    assert states.SOURCES[states.DEEP_RUNNING] == {states.QUEUED, states.QUICK_DONE}


def test_every_state_that_is_not_final_can_fail_and_be_cancelled() -> None:
    """No state is a trap."""
    live = set(states.STATUSES) - states.FINAL
    assert states.SOURCES[states.FAILED] == live
    assert states.SOURCES[states.CANCELLED] == live


def test_every_state_has_its_words() -> None:
    """Stage, progress and event type for each."""
    for table in (states.STAGES, states.PROGRESS, states.EVENT_TYPES):
        assert set(table) == set(states.STATUSES)


@pytest.mark.parametrize(
    ("status", "fraction", "percent"),
    [
        (states.QUICK_RUNNING, 0.0, 1),
        (states.QUICK_RUNNING, 1.0, 49),
        (states.DEEP_RUNNING, 0.5, 75),
        (states.DEEP_RUNNING, 7.0, 99),
        (states.DEEP_RUNNING, -1.0, 51),
    ],
)
def test_progress_stays_inside_its_stage(status: Status, fraction: float, percent: int) -> None:
    """1..49 for quick, 51..99 for deep, whatever a pod says."""
    assert states.running_progress(status, fraction) == percent


def test_a_queued_job_with_its_quick_result_waits_for_deep() -> None:
    """DEEP_QUEUED at 50."""
    assert (states.stage(states.QUEUED, ResultStage.QUICK), states.progress(states.QUEUED, ResultStage.QUICK)) == (
        "DEEP_QUEUED",
        50,
    )
    assert (states.stage(states.QUEUED, None), states.progress(states.QUEUED, None)) == ("QUEUED", 0)
