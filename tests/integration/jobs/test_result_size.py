"""The upper bound of a result is counted one way by the analyzer, which keeps it, and by jobs, which checks it."""

from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from services.analyzer.artifacts.results_json import row_copy
from services.rules.limits import MAX_RESULTS_BYTES, results_bytes
from testing.servers.programs import lease
from tests.integration.jobs.test_lifecycle import Road, database_url, road  # noqa: F401 (fixtures)


def results_of(size: int) -> dict[str, Any]:
    """A result that counts `size` bytes. Its whole numbers are longer as doubles: 12 becomes 12.0."""
    evidence = [{"time_seconds": number, "value": number} for number in range(1000)]
    results: dict[str, Any] = {
        "pose": {"pose_summary": {"model": ""}},
        "metrics": {"head_stability_score": {"evidence": evidence}},
        "findings": {},
        "report": {},
    }
    results["pose"]["pose_summary"]["model"] = "x" * (size - results_bytes(results))
    return results


def submit(to: Road, results: dict[str, Any]) -> None:
    launch, secret = to.started()
    request = launch_pb2.SubmitResultRequest(
        job_id=launch.job_id,
        launch_no=launch.launch_no,
        stage=job_pb2.STAGE_QUICK,
        results=json_format.ParseDict(results, struct_pb2.Struct()),
    )
    to.launches.SubmitResult(request, metadata=lease(secret))


def test_a_result_at_the_bound_is_kept_whole_and_accepted(road: Road) -> None:  # noqa: F811
    """The analyzer shortens nothing, and jobs stores it."""
    results = results_of(MAX_RESULTS_BYTES)
    assert row_copy(results) == results
    submit(road, results)


def test_a_result_one_byte_beyond_is_shortened_or_refused(road: Road) -> None:  # noqa: F811
    """The analyzer shortens it until jobs accepts it; jobs refuses it whole and names the size."""
    results = results_of(MAX_RESULTS_BYTES + 1)
    with pytest.raises(grpc.RpcError) as refused:
        submit(road, results)
    bad_request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad_request) for detail in rpc_status.from_call(refused.value).details)
    assert bad_request.field_violations[0].field == "results"
    assert str(MAX_RESULTS_BYTES + 1) in bad_request.field_violations[0].description
    shortened = row_copy(results)
    assert shortened["pose"]["pose_summary"]["shortened_to"] == 200
    submit(road, shortened)
