"""A number's change between analyses, from the answer of CompareJobs."""

from crease.jobs.v1.job_pb2 import MetricComparison
from services.rules.changes import Change


def change_of(metric: MetricComparison) -> Change:
    """A number's change from the first analysis to the last."""
    overall = metric.overall
    return Change(metric.name, overall.value, overall.detectable, overall.unit, overall.clear, overall.absent_reason)
