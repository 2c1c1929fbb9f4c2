"""`crease forget-cluster NAME`: its call, and the refusal of a cluster that reports."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from crease.jobs.v1.job_pb2 import ForgetClusterRequest
from services.cli.api.client import Services
from services.cli.commands.drain import forget_cluster
from services.cli.errors import CommandError
from testing.fakes.rpc_error import FakeRpcError


class FakeJobs:
    """Forgets any cluster but `here`."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def ForgetCluster(self, request: ForgetClusterRequest, **_: object) -> None:
        if request.cluster == "here":
            raise FakeRpcError(grpc.StatusCode.FAILED_PRECONDITION, "The controller of cluster here reported 2 s ago")
        self.forgotten.append(request.cluster)


def test_a_cluster_that_reports_is_not_forgotten(tmp_path: Path) -> None:
    """The operator reads why; another cluster is forgotten."""
    (tmp_path / "token").write_text("t")
    stub: Any = FakeJobs()
    unused: Any = None
    services = Services(unused, stub, unused, tmp_path / "token")
    with pytest.raises(CommandError, match="reported 2 s ago"):
        forget_cluster(services, "here")
    forget_cluster(services, "there")
    assert stub.forgotten == ["there"]
