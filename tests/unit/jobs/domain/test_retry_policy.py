"""The policy of retries, held against a table written by hand."""

import pytest

from services.jobs.domain import retry_policy


@pytest.mark.parametrize(
    ("ending", "before", "again"),
    [
        ("bad_input", 0, False),
        ("image", 0, False),
        ("deadline", 0, False),
        ("disruption", 4, True),
        ("disruption", 5, False),
        ("lease_lost", 4, True),
        ("out_of_memory", 0, True),
        ("out_of_memory", 1, False),
        ("unschedulable", 99, True),
        ("unknown", 1, True),
        ("unknown", 2, False),
    ],
)
def test_the_ending_decides_whether_the_job_is_queued_again(ending: str, before: int, again: bool) -> None:
    """The table at the top of retry_policy.py."""
    step = retry_policy.next_step(ending, before)
    assert step.requeue is again
    assert bool(step.failure_code) is not again


def test_out_of_memory_gets_half_as_much_again() -> None:
    """Once."""
    assert retry_policy.next_step("out_of_memory", 0).memory_factor == 1.5


def test_backoff_doubles_and_is_bounded() -> None:
    """5 s, 10 s for the unknown, with the jitter in the middle."""
    assert [retry_policy.next_step("unknown", n, jitter=0.5).delay_seconds for n in (0, 1)] == [5.0, 10.0]
