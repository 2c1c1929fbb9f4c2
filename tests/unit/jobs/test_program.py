"""The program `jobs` as a whole."""

import pytest

from services.jobs import __main__ as program
from services.jobs.background import expiry
from services.jobs.settings import JobsSettings


async def test_a_sweep_that_breaks_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that no longer sweeps leases must not report healthy."""
    for name, value in (("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none"), ("ISSUERS", "[]")):
        monkeypatch.setenv(f"CREASE_{name}", value)
    monkeypatch.setenv("CREASE_LISTEN", "127.0.0.1:0")

    async def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(expiry, "run", broken)
    with pytest.raises(ExceptionGroup) as ended:
        await program.run(JobsSettings.load())
    assert ended.group_contains(RuntimeError, match="a fault of ours")
