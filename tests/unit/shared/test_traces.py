"""Tracing that is off, and propagation; tests/chaos/test_watching.py tests tracing that is on."""

import subprocess
import sys

import pytest

from services import traces
from testing.servers.programs import ROOT

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
OFF = f"""
import sys
import services.serving, services.jobs.__main__, services.upload.__main__, services.controller.__main__
import services.analyzer.worker
from services import traces
traces.start("jobs", "")
traces.start_in_trace("analyzer", "http://127.0.0.1:1", "{UNSAMPLED}")
with traces.span("call", served=True) as span:
    span.add(outcome="OK")
assert traces.metadata() == (("traceparent", "{UNSAMPLED}"),)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


@pytest.mark.slow
def test_off_or_not_sampled_opentelemetry_is_not_imported() -> None:
    """In every program. A trace that is not sampled is propagated as such, so that no part of it is sampled."""
    subprocess.run([sys.executable, "-c", OFF], cwd=ROOT, check=True)


@pytest.mark.parametrize("sent", ["", "nonsense", SAMPLED + "-more", SAMPLED.upper()])
def test_a_malformed_traceparent_is_ignored(sent: str) -> None:
    """Only the exact format of W3C's header is accepted."""
    assert traces.valid_parent({"traceparent": sent}) == ""
    assert traces.valid_parent({"traceparent": SAMPLED}) == SAMPLED
