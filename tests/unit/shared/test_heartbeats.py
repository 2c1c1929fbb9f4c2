"""The heartbeats of background loops."""

import asyncio

import pytest

from services import metrics
from services.metrics import Loops


async def test_a_pass_that_does_not_end_in_time_is_given_up_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is late until a complete pass."""
    some = Loops(expiry=0.0)
    late_before = some["expiry"].late_seconds
    with pytest.raises(TimeoutError):
        async with some["expiry"].one_pass(limit_seconds=0.01):
            await asyncio.Event().wait()
    stalled_for = some["expiry"].late_seconds
    assert stalled_for > late_before
    monkeypatch.setattr(metrics, "STALLED_SECONDS", stalled_for)
    assert not some.are_alive()
    async with some["expiry"].one_pass():
        pass
    assert some["expiry"].late_seconds < stalled_for


async def test_a_pass_that_fails_is_not_counted() -> None:
    """The error reaches the loop, which logs it."""
    some = Loops(expiry=0.0)
    before = some["expiry"].late_seconds
    with pytest.raises(ConnectionError):
        async with some["expiry"].one_pass():
            raise ConnectionError
    assert some["expiry"].late_seconds > before


def test_each_loop_is_exported_by_its_name() -> None:
    """None is late within its interval."""
    [family] = Loops(expiry=1.0, job_watch=0.2).collect()
    assert family.name == "crease_loop_late_seconds"
    assert [sample.labels for sample in family.samples] == [{"loop": "expiry"}, {"loop": "job_watch"}]
    assert [sample.value for sample in family.samples] == [0.0, 0.0]
