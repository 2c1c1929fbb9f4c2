"""`crease forget-cluster NAME`: its call, and the refusal of a cluster that reports."""

from typing import Any

import pytest

from crease.jobs.v1.job_pb2 import ForgetClusterRequest
from crease_client.errors import FailedPrecondition
from services.cli.api.client import Services
from services.cli.commands.drain import forget_cluster
from services.cli.errors import CommandError


class FakeJobs:
    """Forgets any cluster but `here`."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def ForgetCluster(self, request: ForgetClusterRequest, **_: object) -> None:
        if request.cluster == "here":
            raise FailedPrecondition("The controller of cluster here reported 2 s ago", reason="CLUSTER_REPORTS")
        self.forgotten.append(request.cluster)


def test_a_cluster_that_reports_is_not_forgotten() -> None:
    """The operator reads why; another cluster is forgotten."""
    stub: Any = FakeJobs()
    unused: Any = None
    services = Services(unused, stub, *[unused] * 7)
    with pytest.raises(CommandError, match="reported 2 s ago"):
        forget_cluster(services, "here")
    forget_cluster(services, "there")
    assert stub.forgotten == ["there"]
