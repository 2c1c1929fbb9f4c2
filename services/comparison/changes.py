"""A number's change between analyses, from the answer of CompareJobs."""

from collections.abc import Iterable

from crease.jobs.v1.job_pb2 import MetricComparison
from services.rules.changes import Change, Verdict

WORSE_FIRST = (Verdict.WORSE, Verdict.BETTER, Verdict.CHANGED, Verdict.NO_CLEAR_CHANGE, Verdict.NOT_COMPARABLE)


def change_of(metric: MetricComparison) -> Change:
    """A number's change from the first analysis to the last."""
    overall = metric.overall
    return Change(metric.name, overall.value, overall.detectable, overall.unit, overall.clear, overall.absent_reason)


def in_order(metrics: Iterable[MetricComparison]) -> list[MetricComparison]:
    """Numbers with a score before the others, then by verdict, worse first, then by name."""

    def key(metric: MetricComparison) -> tuple[bool, int, str]:
        is_scored = any(reading.HasField("score") for reading in metric.readings)
        return not is_scored, WORSE_FIRST.index(change_of(metric).verdict), metric.name

    return sorted(metrics, key=key)
