"""The metrics of `jobs` that come from an analyzer's results."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from services import metrics as shared
from services.analyzer import cpu_time
from services.jobs import metrics
from services.jobs.domain.records import Accelerator
from testing.data import jobs

NAME = "crease_analyzer_cpu_per_video_second_sum"


@pytest.fixture(autouse=True)
def _metrics_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_on", True)


def added_by(cpu_seconds: dict[str, Any], video_seconds: float = 2.0) -> dict[str, float]:
    """The increase of each stage's sum when a launch publishes these CPU seconds."""
    stages = (*metrics.CPU_STAGES, metrics.OTHER_STAGE)
    before = {stage: REGISTRY.get_sample_value(NAME, {"stage": stage}) or 0.0 for stage in stages}
    summary = {"duration_seconds": video_seconds, "run": {"accelerator": "cpu", "cpu_seconds": cpu_seconds}}
    metrics.analysed(jobs.launch(placed_on=Accelerator.CPU), {"pose": {"pose_summary": summary}})
    after = {stage: REGISTRY.get_sample_value(NAME, {"stage": stage}) or 0.0 for stage in stages}
    return {stage: after[stage] - before[stage] for stage in stages if after[stage] != before[stage]}


def test_every_reported_stage_is_counted() -> None:
    """The sum over all stages is the whole CPU time for each second of video; unknown stages share one label."""
    added = added_by({"pose": 4.0, "overlay": 2.0, "a new stage": 1.0, "another": 1.0})
    assert added == pytest.approx({"pose": 2.0, "overlay": 1.0, metrics.OTHER_STAGE: 1.0})


def test_the_labels_are_the_analyzer_s_stages() -> None:
    """Each stage of the analyzer has a label of its own."""
    assert set(metrics.CPU_STAGES) == set(cpu_time.STAGES)


def test_a_value_that_is_no_number_is_not_counted() -> None:
    """Results come from an untrusted file's analysis."""
    assert added_by({"pose": "4", "overlay": float("nan"), "rest": -1.0}) == {}
    assert added_by({"pose": 4.0}, video_seconds=0.0) == {}
