"""crease_client/reasons.py knows every ErrorInfo reason that a person's call can get."""

import re
from collections.abc import Iterator

from crease_client.reasons import ADVICE, Reason
from testing.servers.programs import ROOT

# Of calls that only the programs of Crease make.
OF_PROGRAMS = {
    "CANCEL_NOT_REQUESTED", "CLUSTER_TAKEN", "JOB_CANCELLING", "LAUNCH_ENDED", "LAUNCH_NOT_FOUND", "LAUNCH_STARTED",
    "LEASE_LOST", "NO_SUCH_RIGHT", "OTHER_CLUSTER", "OTHER_POD",
}  # fmt: skip
# Of a rule of preflight, and of a class of errors.
ELSEWHERE = {"VIDEO_NOT_ASSEMBLED"}


def raised() -> Iterator[str]:
    """The reasons in the code: `reason="…"` where an error is made."""
    for path in (ROOT / "services").rglob("*.py"):
        yield from re.findall(r'\breason="([A-Z0-9_]+)"', path.read_text())


def test_the_table_has_every_reason_of_the_code_and_no_other() -> None:
    """A reason that a service adds needs its advice for callers."""
    found = set(raised())
    assert {"JOB_NOT_FOUND", "INVALID_FIELD", "UNAUTHENTICATED", "S3_AWAY"} <= found
    assert found >= OF_PROGRAMS
    assert set(Reason) == (found - OF_PROGRAMS) | ELSEWHERE
    assert ADVICE.keys() == set(Reason)
